"""Trading sessions: which hours exist, which come next, and what a wrong time zone looks like.

A session hour is a UTC clock hour that holds at least one minute of a session. One step of a
forecast is one session hour; closed hours do not exist.
"""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import available_timezones

import polars as pl

from lstm_ts.errors import ConfigError, WrongZone
from lstm_ts.market.schedule import sessions_of_year

HOUR, MICROSECOND = timedelta(hours=1), timedelta(microseconds=1)
LONGEST_CLOSURE = timedelta(days=7)
ZONES_DIFFER = timedelta(hours=14)
SHORT_BARS = 10  # in an hour
HALF_FULL = 0.3, 0.7  # of the bars of a usual hour
SHIFTED_EDGES = 0.25  # of the closures: a zone without the market's summer time is off in a third of the year
Moment = str | float | datetime  # in a configuration: an ISO date or time, or a fraction of the span of the bars


def _sessions(calendar: str, start: datetime, end: datetime) -> pl.DataFrame:
    """Frame `opens, closes` (UTC) of every session with a minute in the span, ascending."""
    years = range((start - LONGEST_CLOSURE).year, (end + LONGEST_CLOSURE).year + 1)
    sessions = pl.concat([sessions_of_year(calendar, year) for year in years])
    return sessions.filter(pl.col("closes") > start, pl.col("opens") < end)


@dataclass(frozen=True)
class Mismatch:
    """Bars against the sessions of their span."""

    closed_bars: float  # share of the bars that lie in closed hours
    bare_hours: float  # share of the open hours without a bar
    checkable: bool = True  # there are closed hours about the bars, so a wrong zone would show

    @property
    def total(self) -> float:
        return self.closed_bars + self.bare_hours

    def __str__(self) -> str:
        if not self.checkable:
            return (
                f"no hour about theirs is closed, so the zone of stamps without one cannot be checked; "
                f"{100 * self.bare_hours:.2f} % of the open hours bare"
            )
        return (
            f"{100 * self.closed_bars:.2f} % of them in closed hours and "
            f"{100 * self.bare_hours:.2f} % of the open hours bare"
        )


class Session:
    """The session calendar of one symbol, and the zone its weekly rhythm follows (New York for silver)."""

    def __init__(self, *, calendar: str, zone: str) -> None:
        self.calendar = calendar
        self.zone = zone
        if zone not in available_timezones():
            raise ConfigError(f"Expected an IANA time zone such as America/New_York, got symbol.session.zone={zone}")

    def hours(self, start: datetime, end: datetime) -> pl.DataFrame:
        """Session hours with start <= ts < end (UTC), ascending.

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
        """Sessions of the span, the first and the last cut at its ends: frame `opens, closes` (UTC), ascending."""
        sessions = _sessions(self.calendar, start, end)
        return sessions.select(pl.max_horizontal("opens", pl.lit(start)), pl.min_horizontal("closes", pl.lit(end)))

    def is_open(self, at: datetime) -> bool:
        return not self.spans(at, at + MICROSECOND).is_empty()

    def time_open(self, since: datetime, until: datetime) -> timedelta:
        """How long sessions were open in the span; none where it ends before it begins."""
        spans = self.spans(since, until) if since < until else pl.DataFrame()
        return sum((closes - opens for opens, closes in spans.iter_rows()), timedelta(0))

    def next_hours(self, after: datetime, count: int) -> list[datetime]:
        """The `count` session hours (opens, UTC) that follow the hour opening at `after`."""
        span = timedelta(days=4) + count * 2 * HOUR
        while True:
            found = self.hours(after + HOUR, after + span)["ts"].head(count).to_list()
            if len(found) == count:
                return found
            span *= 2

    def last_hours(self, before: datetime, count: int) -> list[datetime]:
        """The last `count` session hours (opens, UTC) that open before a moment, ascending."""
        span = timedelta(days=4) + count * 2 * HOUR
        while True:
            found = self.hours(before - span, before)["ts"].tail(count).to_list()
            if len(found) == count:
                return found
            span *= 2

    def check_zone(self, counts: pl.DataFrame, *, max_mismatch: float, remedy: str = "") -> Mismatch:
        """How far the bars are from the sessions; a wrong time zone puts them into closed hours and bares open ones.

        counts   frame `ts, bars`: bars per UTC clock hour, an hour may come more than once
        remedy   what else to do than another zone or session, at the end of the error
        Raises   WrongZone: too many bars lie in closed hours, or stamps a few hours off would fit twice as well
        """
        found = replace(self._mismatch(counts, 0), checkable=self._has_closed_hours(counts))
        if found.total <= max_mismatch:
            self._check_edges(counts, max_mismatch, remedy)
            return found
        nearest, left = self._nearest_shift(counts)
        explained = left.total < found.total / 2
        if not explained and found.closed_bars <= max_mismatch:
            return found
        when = f"{abs(nearest)} hours {'later' if nearest > 0 else 'earlier'}"
        advice = (
            f"stamps {when} would leave {left}; {_zone_key(nearest, counts)}, or" if explained else "set source.zone or"
        )
        raise WrongZone(
            f"Expected bars that fit the sessions of {self.calendar}, got {found} "
            f"(a week opens {self._week_opening(counts)}); {advice} another session{remedy}"
        )

    def _has_closed_hours(self, counts: pl.DataFrame) -> bool:
        """Whether the market closes within the span of the bars, and as far about it as zones differ."""
        first, last = counts["ts"].min(), counts["ts"].max()
        assert isinstance(first, datetime) and isinstance(last, datetime)
        start, end = first - ZONES_DIFFER, last + HOUR + ZONES_DIFFER
        return self.hours(start, end).height < (end - start) // HOUR

    def _check_edges(self, counts: pl.DataFrame, max_mismatch: float, remedy: str) -> None:
        """A market that closes once a week has too few closed hours for shares of bars to show an hour's shift.

        Raises   WrongZone: before and after closures of a day or more, the bars lie as many hours off
        """
        off = self._edge_shifts(counts)
        shift = next(iter(off.filter(off != 0).mode().sort()), 0.0)
        share = (off == shift).mean() if shift else 0.0
        if isinstance(share, float) and share > max(SHIFTED_EDGES, max_mismatch):
            when = f"{abs(shift):g} hours {'late' if shift > 0 else 'early'}"
            raise WrongZone(
                f"Expected bars that fit the sessions of {self.calendar}, got bars that end and begin {when} at "
                f"{100 * share:.0f} % of its long closures (a week opens {self._week_opening(counts)}); "
                f"{_zone_key(-shift, counts)}, or another session{remedy}"
            )

    def _edge_shifts(self, counts: pl.DataFrame) -> pl.Series:
        """Hours by which bars end too late, and begin too late, at each closure of a day or more; 0 where they differ.

        Half an hour too many are those that end an hour later than they begin, where both hours are half full; of bars
        of half an hour that could be their stamps. Of bars that hold no such closure, those of the one before and the
        one behind them.
        """
        bars = counts.group_by(bar="ts").agg(pl.col("bars").sum()).sort("bar")
        usual = pl.when(pl.col("bars").median() >= SHORT_BARS).then(pl.col("bars").median())
        bars = bars.select("bar", share=(pl.col("bars") / usual).fill_null(1.0))
        first, last = bars["bar"][0], bars["bar"][-1]
        opens = self.hours(first - LONGEST_CLOSURE, last + LONGEST_CLOSURE)["ts"]
        closures = pl.DataFrame({"end": opens.shift(1), "begin": opens}).filter(
            pl.col("begin") - pl.col("end") > pl.duration(days=1)
        )
        closures = closures.with_columns(middle=pl.col("end") + (pl.col("begin") - pl.col("end")) / 2).sort("middle")
        found = closures.join_asof(bars, left_on="middle", right_on="bar").join_asof(
            bars, left_on="middle", right_on="bar", strategy="forward", suffix="_after"
        )
        ends = found.select(late_end=(pl.col("bar") - pl.col("end")).dt.total_hours(), last="share")
        begins = found.select(late_begin=(pl.col("bar_after") - pl.col("begin")).dt.total_hours(), first="share_after")
        whole = pl.concat([ends, begins], how="horizontal").drop_nulls()
        if whole.is_empty():
            whole = pl.concat([ends.drop_nulls().head(1), begins.drop_nulls().tail(1)], how="horizontal").drop_nulls()
        late_end, late_begin = pl.col("late_end"), pl.col("late_begin")
        half = (
            (late_end - late_begin == 1)
            & pl.col("last").is_between(*HALF_FULL)
            & pl.col("first").is_between(*HALF_FULL)
        )
        off = pl.when((late_end == late_begin) | half).then((late_end + late_begin) / 2).otherwise(0.0)
        return whole.select(off=off).to_series()

    def shift_hours(self, counts: pl.DataFrame, *, max_mismatch: float) -> int:
        """How much later stamps would have to be for bars that lie in closed hours; 0 where no shift explains them.

        For a day or less: hours without bars prove nothing then, nor do bars on a holiday that the calendar knows.
        """
        found = self._mismatch(counts, 0)
        if found.closed_bars <= max_mismatch:
            return 0
        nearest, left = self._nearest_shift(counts)
        return nearest if left.total < found.total / 2 else 0

    def _nearest_shift(self, counts: pl.DataFrame) -> tuple[int, Mismatch]:
        """The hours later that would fit the sessions best, and what would be left."""
        shifts = {hours: self._mismatch(counts, hours) for hours in sorted(range(-14, 15), key=abs)}
        nearest = min(shifts, key=lambda hours: shifts[hours].total)
        return nearest, shifts[nearest]

    def _mismatch(self, counts: pl.DataFrame, shift_hours: int) -> Mismatch:
        """The mismatch of the bars with the sessions of their span, were every stamp `shift_hours` later."""
        shifted = counts.select(pl.col("ts") + pl.duration(hours=shift_hours), "bars")
        open_hours = self.hours(shifted["ts"].min(), shifted["ts"].max() + HOUR)  # type: ignore[arg-type, operator]
        closed = int(shifted.join(open_hours, on="ts", how="anti")["bars"].sum()) / int(counts["bars"].sum())
        bare = open_hours.join(shifted, on="ts", how="anti").height / max(open_hours.height, 1)
        return Mismatch(closed, bare)

    def _week_opening(self, counts: pl.DataFrame) -> str:
        """The usual local weekday and hour of the first bar after a closure of more than a day."""
        hours = counts.select("ts").unique().sort("ts")
        openings = hours.filter(pl.col("ts").diff() > pl.duration(days=1)) if hours.height > 1 else hours
        local = (openings if openings.height else hours).select(pl.col("ts").dt.convert_time_zone(self.zone))
        return f"{local['ts'].dt.strftime('%A %H:00').mode().sort()[0]} {self.zone}"

    def hour_of_week(self, ts: pl.Expr) -> pl.Expr:
        """Local hour of the week of each UTC open, 0 (Monday 00:00) .. 167."""
        local = ts.dt.convert_time_zone(self.zone)
        return ((local.dt.weekday() - 1).cast(pl.Int64) * 24 + local.dt.hour()).alias("hour_of_week")


def _zone_key(shift_hours: float, counts: pl.DataFrame) -> str:
    """Name the options that would shift the bars so: source.stamps shifts each by its own length."""
    hourly = counts.group_by("ts").agg(pl.col("bars").sum())["bars"].median() == 1
    at_close = ", or source.stamps=close if these bars are stamped when they close"
    at_close = at_close if shift_hours == -1 and hourly else ""
    return f"set source.zone{at_close}"


def utc(text: str | datetime | date | None) -> datetime | None:
    """A moment from a configuration value: a date, or a time with or without an offset (then UTC)."""
    if text is None:
        return None
    try:
        ts = datetime.fromisoformat(str(text))
        return ts.replace(tzinfo=UTC) if ts.tzinfo is None else ts.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigError(f"Expected an ISO date or time such as 2015-01-01, got {text}") from None


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
