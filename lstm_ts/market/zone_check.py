"""Check the time zone of bars against the sessions of their market."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import polars as pl

from lstm_ts.errors import WrongZone
from lstm_ts.market.session import HOUR, LONGEST_CLOSURE, Session

ZONES_DIFFER = timedelta(hours=14)
SHORT_BARS = 10  # in an hour
SHORT_MINUTES = 10  # of bars whose stamps show a shift by a quarter of an hour
QUARTERS = (-45, -30, -15, 15, 30, 45)  # minutes by which zones differ, beside hours
FEW_BARS = 30  # of a day, in closed hours: a feed may begin some minutes early
HALF_FULL = 0.3, 0.7  # of the bars of a usual hour
SHIFTED_EDGES = 0.25  # of the closures: a zone without the market's summer time is off in a third of the year
SHIFTED_RUN = 3  # ends and begins of weeks in succession: not even two are, in 20 real years of metals, oil, currencies


@dataclass(frozen=True)
class Mismatch:
    """Mismatch of bars with the sessions of their span."""

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


def check_zone(session: Session, counts: pl.DataFrame, *, max_mismatch: float, remedy: str = "") -> Mismatch:
    """Compare the bars with the sessions; a wrong time zone puts bars into closed hours and leaves open hours bare.

    counts   frame `ts, bars`: bars per UTC clock hour, an hour may come more than once; `part` where they are of
             several files, each of which is checked by its weeks too
    remedy   advice beside another zone or session, at the end of the error
    Raises   WrongZone: too many bars lie in closed hours, or stamps a few hours off would fit twice as well
    """
    found = replace(_mismatch(session, counts, 0), checkable=_has_closed_hours(session, counts))
    if found.total <= max_mismatch:
        closures = _find_closures(session, counts)
        _check_edges(session, closures, counts, max_mismatch, remedy)
        parts = counts.partition_by("part", as_dict=True) if "part" in counts.columns else {}
        for (part,), own in parts.items() if len(parts) > 1 else ():
            _check_edges(session, closures, own, max_mismatch, f"{remedy} (of {part})")
        return found
    nearest, left = _nearest_shift(session, counts)
    explained = left.total < found.total / 2
    if not explained and found.closed_bars <= max_mismatch:
        return found
    when = f"{abs(nearest)} hours {'later' if nearest > 0 else 'earlier'}"
    advice = (
        f"stamps {when} would leave {left}; {_zone_key(nearest, counts)}, or" if explained else "set source.zone or"
    )
    raise WrongZone(
        f"Expected bars that fit the sessions of {session.calendar}, got {found} "
        f"(a week opens {_week_opening(session, counts)}); {advice} another session{remedy}"
    )


def check_minutes(session: Session, ts: list[tuple[int, pl.Series]], *, max_mismatch: float, remedy: str = "") -> None:
    """Compare bars of at most SHORT_MINUTES with the sessions: their hours do not show a shift by half an hour.

    ts       minutes of a bar, and of each such bar its stamp, in any order
    Raises   WrongZone: too many lie outside, and stamps up to 45 minutes off would lie inside and reach both edges
    """
    short = [stamps for minutes, stamps in ts if minutes <= SHORT_MINUTES]
    if not any(map(len, short)):
        return
    bars_ts = pl.concat(short).unique().sort()
    outside, _ = _find_outside(session, bars_ts, 0)
    if outside <= max_mismatch * len(bars_ts):
        return
    found = {shift: _find_outside(session, bars_ts, shift) for shift in QUARTERS}
    shift = min(found, key=lambda shift: (found[shift][0], -found[shift][1]))
    left, at_edges = found[shift]
    if left < outside / 2 <= at_edges:
        raise WrongZone(
            f"Expected bars that fit the sessions of {session.calendar}, got {100 * outside / len(bars_ts):.2f} % "
            f"of the bars outside; stamps {abs(shift)} minutes {'later' if shift > 0 else 'earlier'} would leave "
            f"{100 * left / len(bars_ts):.2f} %; set source.zone, or another session{remedy}"
        )


def _find_outside(session: Session, stamps: pl.Series, shift: int) -> tuple[int, int]:
    """Return how many bars lie outside if all were `shift` minutes later, and how many as near to both edges."""
    bars = stamps.dt.offset_by(f"{shift}m").to_frame("ts")
    spans = session.spans(bars["ts"][0] - LONGEST_CLOSURE, bars["ts"][-1] + LONGEST_CLOSURE)
    within = bars.join_asof(spans, left_on="ts", right_on="opens").filter(pl.col("ts") < pl.col("closes"))
    edge = pl.duration(minutes=abs(shift))
    first, last = (pl.col("ts") < pl.col("opens") + edge).sum(), (pl.col("ts") >= pl.col("closes") - edge).sum()
    return bars.height - within.height, min(within.select(first.alias("first"), last.alias("last")).row(0))


def _has_closed_hours(session: Session, counts: pl.DataFrame) -> bool:
    """Return whether the market closes within the span of the bars, extended by ZONES_DIFFER on both sides."""
    first, last = counts["ts"].min(), counts["ts"].max()
    assert isinstance(first, datetime) and isinstance(last, datetime)
    start, end = first - ZONES_DIFFER, last + HOUR + ZONES_DIFFER
    return session.hours(start, end).height < (end - start) // HOUR


def _check_edges(
    session: Session, closures: pl.DataFrame, counts: pl.DataFrame, max_mismatch: float, remedy: str
) -> None:
    """Check the bars before and after long closures.

    A market that closes once a week has too few closed hours for shares of bars to show a shift by an hour.

    Raises   WrongZone: before and after closures of a day or more, the bars are shifted by the same hours
    """
    edges = _find_edges(closures, counts)
    off = _edge_shifts(edges)
    shift = next(iter(off.filter(off != 0).mode().sort()), 0.0)
    share = (off == shift).mean() if shift else 0.0
    if isinstance(share, float) and share > max(SHIFTED_EDGES, max_mismatch):
        when = f"{abs(shift):g} hours {'late' if shift > 0 else 'early'}"
        raise WrongZone(
            f"Expected bars that fit the sessions of {session.calendar}, got bars that end and begin {when} at "
            f"{100 * share:.0f} % of its long closures (a week opens {_week_opening(session, counts)}); "
            f"{_zone_key(-shift, counts)}, or another session{remedy}"
        )
    _check_weeks(session, edges, max_mismatch, remedy)


def _check_weeks(session: Session, edges: pl.DataFrame, max_mismatch: float, remedy: str) -> None:
    """Raises   WrongZone: some weeks begin and end shifted by the same hours, as a part in another zone does"""
    hours = edges.select(pl.concat_list("late_end", "late_begin").explode()).to_series()
    runs = hours.rle().struct.unnest().with_columns(until=pl.col("len").cum_sum())
    shifted = runs.filter((pl.col("value") != 0) & (pl.col("len") >= SHIFTED_RUN))
    if shifted.is_empty() or max_mismatch >= SHIFTED_EDGES:
        return
    length, shift, until = shifted.row(0)
    since = edges["begin"][(until - length) // 2]
    raise WrongZone(
        f"Expected bars that fit the sessions of {session.calendar}, got some that end and begin {abs(shift)} hours "
        f"{'late' if shift > 0 else 'early'} in weeks about {since:%Y-%m-%d}; set source.zone to one with the summer "
        f"time of all bars, or give those weeks by themselves in their zone{remedy}"
    )


def _find_closures(session: Session, counts: pl.DataFrame) -> pl.DataFrame:
    """Return the closures of a day or more about the bars: frame `end, begin` of the weeks about each, `middle`."""
    first, last = counts["ts"].min(), counts["ts"].max()
    assert isinstance(first, datetime) and isinstance(last, datetime)
    opens = session.hours(first - LONGEST_CLOSURE, last + LONGEST_CLOSURE)["ts"]
    end, begin = pl.col("end"), pl.col("begin")
    closures = pl.DataFrame({"end": opens.shift(1), "begin": opens}).filter(begin - end > pl.duration(days=1))
    return closures.with_columns(middle=end + (begin - end) / 2).sort("middle")


def _find_edges(closures: pl.DataFrame, counts: pl.DataFrame) -> pl.DataFrame:
    """Return the closures about the bars: `begin` of the week after each, `late_end` and `late_begin`, the hours by
    which the bars end and begin too late, null without bars, `last` and `first`, how full these hours are.
    """
    bars = counts.group_by(bar="ts").agg(pl.col("bars").sum()).sort("bar")
    usual = pl.when(pl.col("bars").median() >= SHORT_BARS).then(pl.col("bars").median())
    bars = bars.select("bar", share=(pl.col("bars") / usual).fill_null(1.0))
    first, last = bars["bar"][0], bars["bar"][-1]
    closures = closures.filter(pl.col("end") >= first - LONGEST_CLOSURE, pl.col("begin") < last + LONGEST_CLOSURE)
    found = closures.join_asof(bars, left_on="middle", right_on="bar").join_asof(
        bars, left_on="middle", right_on="bar", strategy="forward", suffix="_after"
    )
    ends = found.select("begin", late_end=(pl.col("bar") - pl.col("end")).dt.total_hours(), last="share")
    begins = found.select(late_begin=(pl.col("bar_after") - pl.col("begin")).dt.total_hours(), first="share_after")
    return pl.concat([ends, begins], how="horizontal")


def _edge_shifts(edges: pl.DataFrame) -> pl.Series:
    """Return the hours by which bars end and begin too late at each closure; 0 where the two differ.

    Bars that end an hour later than they begin, with both hours half full, are half an hour late; bars of half an hour
    are not, since their stamps could explain it. If the bars span no closure, the end of the one before them is beside
    the start of the one after them.
    """
    whole = edges.drop_nulls()
    if whole.is_empty():
        ends, begins = edges.select("late_end", "last"), edges.select("late_begin", "first")
        whole = ends.drop_nulls().head(1).join(begins.drop_nulls().tail(1), how="cross")
    late_end, late_begin = pl.col("late_end"), pl.col("late_begin")
    half = (late_end - late_begin == 1) & pl.col("last").is_between(*HALF_FULL) & pl.col("first").is_between(*HALF_FULL)
    off = pl.when((late_end == late_begin) | half).then((late_end + late_begin) / 2).otherwise(0.0)
    return whole.select(off=off).to_series()


def find_shift_hours(session: Session, counts: pl.DataFrame, *, max_mismatch: float) -> int:
    """Return the hours by which the stamps of bars in closed hours are too early; 0 if no shift explains the bars.

    For bars of a day or less: hours without bars prove nothing then, nor do those on a holiday of the calendar, which
    fit the sessions of the week before or after.
    """
    found = _mismatch(session, counts, 0)
    weeks = found, *(_mismatch(session, _in_weeks(session, counts, weeks), 0) for weeks in (-1, 1))
    few = found.closed_bars * int(counts["bars"].sum()) < FEW_BARS
    if few or min(week.closed_bars for week in weeks) <= max_mismatch:
        return 0
    nearest, left = _nearest_shift(session, counts)
    return nearest if left.total < found.total / 2 else 0


def _in_weeks(session: Session, counts: pl.DataFrame, weeks: int) -> pl.DataFrame:
    """Return the counts of the same local hours so many weeks later."""
    local = pl.col("ts").dt.convert_time_zone(session.zone).dt.replace_time_zone(None) + pl.duration(weeks=weeks)
    later = local.dt.replace_time_zone(session.zone, ambiguous="earliest", non_existent="null")
    return counts.with_columns(ts=later.dt.convert_time_zone("UTC").fill_null(pl.col("ts")))


def _nearest_shift(session: Session, counts: pl.DataFrame) -> tuple[int, Mismatch]:
    """Return the hours by which later stamps would fit the sessions best, and the mismatch that would remain."""
    shifts = {hours: _mismatch(session, counts, hours) for hours in sorted(range(-14, 15), key=abs)}
    nearest = min(shifts, key=lambda hours: shifts[hours].total)
    return nearest, shifts[nearest]


def _mismatch(session: Session, counts: pl.DataFrame, shift_hours: int) -> Mismatch:
    """Return the mismatch of the bars with the sessions of their span if every stamp were `shift_hours` later."""
    shifted = counts.select(pl.col("ts") + pl.duration(hours=shift_hours), "bars")
    open_hours = session.hours(shifted["ts"].min(), shifted["ts"].max() + HOUR)  # type: ignore[arg-type, operator]
    closed = int(shifted.join(open_hours, on="ts", how="anti")["bars"].sum()) / int(counts["bars"].sum())
    bare = open_hours.join(shifted, on="ts", how="anti").height / max(open_hours.height, 1)
    return Mismatch(closed, bare)


def _week_opening(session: Session, counts: pl.DataFrame) -> str:
    """Return the usual local weekday and hour of the first bar after a closure of more than a day."""
    hours = counts.select("ts").unique().sort("ts")
    openings = hours.filter(pl.col("ts").diff() > pl.duration(days=1)) if hours.height > 1 else hours
    local = (openings if openings.height else hours).select(pl.col("ts").dt.convert_time_zone(session.zone))
    return f"{local['ts'].dt.strftime('%A %H:00').mode().sort()[0]} {session.zone}"


def _zone_key(shift_hours: float, counts: pl.DataFrame) -> str:
    """Name the options that shift the bars by `shift_hours`; source.stamps shifts each by its own length."""
    hourly = counts.group_by("ts").agg(pl.col("bars").sum())["bars"].median() == 1
    at_close = ", or source.stamps=close if these bars are stamped when they close"
    return f"set source.zone{at_close if shift_hours == -1 and hourly else ''}"
