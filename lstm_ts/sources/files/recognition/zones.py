"""Zones of stamps that carry no offset."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from lstm_ts.errors import WrongZone


@dataclass(frozen=True)
class Zone:
    """An IANA zone, and by how much the file's clock runs ahead of it.

    `America/New_York+7h` is the clock of most MetaTrader servers: GMT+2, GMT+3 on US DST dates, so that the
    trading day ends at its midnight.
    """

    name: str
    ahead: timedelta

    def __str__(self) -> str:
        return self.name + (f"{self.ahead // timedelta(hours=1):+d}h" if self.ahead else "")

    def to_utc(self, local: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
        """UTC of naive local stamps, null for those that the spring change skips; and, of those in the hour that
        autumn repeats, UTC of its second pass, otherwise null.
        """
        wall = local - self.ahead
        early, late = (
            wall.dt.replace_time_zone(self.name, ambiguous=side, non_existent="null").dt.convert_time_zone("UTC")
            for side in ("earliest", "latest")
        )
        return early, pl.when(early != late).then(late)


MOST_HOURS = 14  # that a clock is ahead of another one, as Kiritimati's of UTC


def parse_zone(text: str) -> Zone:
    """Raises   WrongZone: not a name of the time zone database, with or without a shift such as +7h"""
    text = str(text)  # in YAML it may be a number
    shifted = re.fullmatch(r"(.+)([+-]\d{1,2})h", text)
    name, hours = (shifted[1], int(shifted[2])) if shifted else (text, 0)
    if abs(hours) > MOST_HOURS:
        raise WrongZone(f"Expected a shift of at most {MOST_HOURS} hours, got source.zone={text}")
    try:
        pl.Series([datetime(2000, 1, 1)]).dt.replace_time_zone(name)
    except pl.exceptions.ComputeError:
        raise WrongZone(
            f"Expected an IANA zone such as Europe/London or America/New_York+7h, got source.zone={text}"
        ) from None
    return Zone(name, timedelta(hours=hours))
