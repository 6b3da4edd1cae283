"""A TWS on loopback that serves minute bars from a file, and misbehaves on demand: ingestion without an account.

    python -m tests.tws --bars ../shared/data/xagusd_m1_2015.parquet --port 7497 --faults all --seed 7

It speaks the protocol of server version 176 to the unmodified ib_insync 0.9.86, and 178 to ib_async 2.1. The first line
it prints says where it listens, each fault is logged as it happens, and at the end (SIGINT, SIGTERM, --lifetime) it
prints what happened as one line of JSON. Every order message is refused (321, as in TWS's read-only mode) and recorded
there. The account is a paper one, and empty.

History follows the vendor's pages: bars [end - duration, end) by the clock, as far as they have begun by IB's clock;
the minute still forming has its first price only; an empty span is error 162; IB's three rules of pacing. At IB `1 D`
is one trading day, so a real answer may begin before the span asked for: the fault `earlier` is that, nothing else is.

A client can know of most faults (the table says how), but not of the lies: `no_data`, `part` and `revised` look like
answers. A missing minute is kept from one connection, on one day, and never from a second one: so two empty answers
from different connections or days prove that there is no bar. `Tws.revised` lists the bars that were given with other
values, and asking again gives the true ones. `wrong_zone` shows in bars outside the sessions or after the span; an
hour's answer in the middle of a session may look right.

In a test, `Tws` is the same in a process of its own:

    with Tws(bars, faults="silence@2,cut:0.1", seed=7, pace=0, outage=0.2) as tws:
        ...                                # a client on tws.port
        assert not tws.status().orders
"""

from .faults import parse_faults
from .process import Status, Tws

__all__ = ["Status", "Tws", "parse_faults"]
