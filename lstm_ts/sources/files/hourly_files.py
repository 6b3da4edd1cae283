"""Hours of a source that is read as a whole and stored nowhere."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import polars as pl

from lstm_ts.errors import ConfigError, DataError, WrongZone
from lstm_ts.market.bars import Source
from lstm_ts.market.close_stamps import warn_of_close_stamps
from lstm_ts.market.hours import check_hours
from lstm_ts.market.session import Session
from lstm_ts.sources.files.source import Files

log = logging.getLogger(__name__)

T = TypeVar("T")


def read_hourly_bars(
    source: Source, session: Session, *, min_minutes_share: float, max_mismatch: float
) -> tuple[pl.DataFrame, int]:
    """Hourly bars of a file of hourly or minute bars, and how many of its rows are bad.

    Raises    as `check_hours`
    """

    def attempt() -> tuple[pl.DataFrame, int]:
        return _read(source, session, min_minutes_share, max_mismatch)

    return in_either_zone(attempt, source)


def in_either_zone(attempt: Callable[[], T], source: Source) -> T:
    """Take stamps in UTC that do not fit the sessions as clock times of source.zone, if these do.

    MetaTrader's epochs count by the clock of its server.

    attempt   reads the source and checks its bars
    Raises    as `attempt`
    """
    try:
        return attempt()
    except WrongZone as error:
        if not isinstance(source, Files) or not source.zone_is_unread:
            raise
        source.utc_is_local = True
        try:
            return attempt()
        except WrongZone:
            raise WrongZone(
                f"{error}; the stamps count from 1970 or carry a zone, and as clock times of source.zone={source.zone} "
                "they fit no better: correct that zone, or leave it out of the stamps"
            ) from None


def _read(source: Source, session: Session, min_minutes_share: float, max_mismatch: float) -> tuple[pl.DataFrame, int]:
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
