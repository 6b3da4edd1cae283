"""Hours of a source that is read as a whole and stored nowhere."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl

from lstm_ts.errors import ConfigError, DataError
from lstm_ts.market.bars import Source
from lstm_ts.market.close_stamps import warn_of_close_stamps
from lstm_ts.market.hours import check_hours
from lstm_ts.market.session import Session

log = logging.getLogger(__name__)


def read_hourly_bars(
    source: Source, session: Session, *, min_minutes_share: float, max_mismatch: float
) -> tuple[pl.DataFrame, int]:
    """Hourly bars of a file of hourly or minute bars, and how many of its rows are bad.

    Raises    as `check_hours`
    """
    batches = list(source.read_batches())
    for note in (note for batch in batches for note in batch.notes):
        log.warning(note)
    warn_of_close_stamps([(batch.minutes, batch.bars["ts"]) for batch in batches], session, key="stamps")
    hourly_bars = check_hours(
        batches, session, source.name, min_minutes_share=min_minutes_share, max_mismatch=max_mismatch
    )
    return hourly_bars, sum(batch.rejects.height for batch in batches)


@contextmanager
def own_keys() -> Iterator[None]:
    """Name the keys of this command where those of `ingest` are meant: zone, not source.zone; none for a span."""
    try:
        yield
    except (ConfigError, DataError) as error:
        text = re.sub(r"\bsource\.(\w+)", lambda key: "bars" if key[1] == "paths" else key[1], str(error))
        text = re.sub(r"add span\.start=(\S+) to .*", r"give those from \1 UTC on alone", text)
        text = re.sub(r"add span\.end=(\S+) to .*", r"give those before \1 UTC alone", text)
        raise type(error)(text) from error
