"""Trading sessions: which hours exist, and which come next.

A session hour is a UTC clock hour that holds at least one minute of a session. One step of a
forecast is one session hour; closed hours do not exist.
"""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import available_timezones

import polars as pl

from lstm_ts.errors import ConfigError
from lstm_ts.market.schedule import sessions_of_year

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
LONGEST_CLOSURE = timedelta(days=7)
Moment = str | float | datetime  # in a configuration: an ISO date or time, or a fraction of the span of the bars


def _sessions(calendar: str, start: datetime, end: datetime) -> pl.DataFrame:
    """Return a frame `opens, closes` (UTC) of every session with a minute in the span, ascending."""
    years = range((start - LONGEST_CLOSURE).year, (end + LONGEST_CLOSURE).year + 1)
    sessions = pl.concat([sessions_of_year(calendar, year) for year in years])
    return sessions.filter(pl.col("closes") > start, pl.col("opens") < end)


class Session:
    """The session calendar of one symbol, and the zone its weekly rhythm follows (New York for silver)."""

    def __init__(self, *, calendar: str, zone: str) -> None:
        self.calendar = calendar
        self.zone = zone
        if not isinstance(calendar, str):
            raise ConfigError(f"Expected a calendar's name such as NYSE, got symbol.session.calendar={calendar}")
        if not isinstance(zone, str) or zone not in available_timezones():
            raise ConfigError(f"Expected an IANA time zone such as America/New_York, got symbol.session.zone={zone}")

    def hours(self, start: datetime, end: datetime) -> pl.DataFrame:
        """Return the session hours with start <= ts < end (UTC), ascending.

        Returns   frame `ts`; `session_minutes` it holds, 1..60; `opens_at` of the first and `closes_at` of the last
        """
        sessions = _sessions(self.calendar, start, end + HOUR)
        whole = pl.datetime_ranges(pl.col("opens").dt.truncate("1h"), "closes", interval="1h", closed="left")
        ts = pl.col("ts")
        opens_at, closes_at = pl.max_horizontal(ts, "opens"), pl.min_horizontal(ts + HOUR, "closes")
        return (
            sessions.with_columns(ts=whole)
            .explode("ts")
            .filter(ts >= start, ts < end)
            .group_by("ts", maintain_order=True)
            .agg(
                session_minutes=(closes_at - opens_at).dt.total_minutes().sum(),
                opens_at=opens_at.min(),
                closes_at=closes_at.max(),
            )
            .sort("ts")
        )

    def spans(self, start: datetime, end: datetime) -> pl.DataFrame:
        """Return the sessions of the span, cut at its ends: frame `opens, closes` (UTC), ascending."""
        sessions = _sessions(self.calendar, start, end)
        return sessions.select(pl.max_horizontal("opens", pl.lit(start)), pl.min_horizontal("closes", pl.lit(end)))

    def is_open(self, at: datetime) -> bool:
        return not self.spans(at, at + MICROSECOND).is_empty()

    def time_open(self, since: datetime, until: datetime) -> timedelta:
        """Return the time that sessions were open in the span; zero if it ends before it begins."""
        spans = self.spans(since, until) if since < until else pl.DataFrame()
        return sum((closes - opens for opens, closes in spans.iter_rows()), timedelta(0))

    def next_hours(self, after: datetime, count: int) -> list[datetime]:
        """Return the `count` session hours (opens, UTC) that follow the hour opening at `after`."""
        span = timedelta(days=4) + count * 2 * HOUR
        while True:
            found = self.hours(after + HOUR, after + span)["ts"].head(count).to_list()
            if len(found) == count:
                return found
            span *= 2

    def last_hours(self, before: datetime, count: int) -> list[datetime]:
        """Return the last `count` session hours (opens, UTC) that open before a moment, ascending."""
        span = timedelta(days=4) + count * 2 * HOUR
        while True:
            found = self.hours(before - span, before)["ts"].tail(count).to_list()
            if len(found) == count:
                return found
            span *= 2

    def hour_of_week(self, ts: pl.Expr) -> pl.Expr:
        """Return the local hour of the week of each UTC open, 0 (Monday 00:00) .. 167."""
        local = ts.dt.convert_time_zone(self.zone)
        return ((local.dt.weekday() - 1).cast(pl.Int64) * 24 + local.dt.hour()).alias("hour_of_week")


def utc(text: str | datetime | date | None) -> datetime | None:
    """Parse a moment of a configuration: a date, or a time with or without an offset (then UTC)."""
    if text is None:
        return None
    try:
        ts = datetime.fromisoformat(str(text))
        return ts.replace(tzinfo=UTC) if ts.tzinfo is None else ts.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigError(f"Expected an ISO date or time such as 2015-01-01, got {text}") from None


def midnight(ts: datetime) -> datetime:
    """Return the start of the day, in the zone of `ts`."""
    return ts.replace(hour=0, minute=0, second=0, microsecond=0)


def moment(value: Moment, first: datetime, last: datetime) -> datetime:
    """Raises    ConfigError: neither a date nor a fraction"""
    if isinstance(value, float | int):
        if not 0 < value <= 1:
            raise ConfigError(f"Expected a fraction of the bars' span above 0 and at most 1, got {value}")
        return first + value * (last - first)
    ts = utc(value)
    if ts is None:
        raise ConfigError("Expected an ISO date or a fraction of the bars' span, got none")
    return ts
