"""Checks that bars arrive as the session calendar expects, and look like a market's. Pure."""

import math
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from lstm_ts.errors import ConfigError
from lstm_ts.market.prices import positional
from lstm_ts.market.session import HOUR, MINUTE, Session
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.scoring.tables import percent

FEED = ("data_stale", "data_quality")  # rules whose subject is the symbol, whichever model forecasts it
MIN_BARS = 30  # for a usual move
STUCK_HOURS = 2  # bars in a row at one price, at least: single hours of a quiet holiday are
NEW_HOURS = 24  # whose spread is compared
NEW_SPREADS, USUAL_SPREADS = 12, 240  # hours with a spread, at least: among these, and before them
STATUS = "python -m lstm_ts.ingest action=status symbol={symbol}"


@dataclass(frozen=True)
class FeedLimits:
    stale_hours: int  # session hours that have closed since the last bar
    grace_minutes: int  # after the close of an hour, within which its bar may arrive
    recent_hours: int  # session hours that are checked
    missing_share: float  # share of them without a bar
    stuck_minutes: int  # bars in a row at one price
    spike_sizes: float  # size, in usual moves, of a bar's move that the next bar reverses
    spread_sizes: float  # median spread of a day over that of the weeks before

    def __post_init__(self) -> None:
        least = {"stale_hours": 1, "grace_minutes": 0, "recent_hours": 1, "stuck_minutes": 2}
        least |= {"missing_share": 0, "spike_sizes": 1, "spread_sizes": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ConfigError(f"Expected feed.{name} of at least {value}, got {getattr(self, name)}")
        if self.missing_share > 1:
            raise ConfigError(f"Expected feed.missing_share of at most 1, got {self.missing_share}")


def check_staleness(
    symbol: str, last_ts: datetime | None, session: Session, now: datetime, limits: FeedLimits
) -> Finding:
    """Check how many session hours have closed since the last bar; `last_ts` is its open, None without bars."""
    health = Health.UNKNOWN
    if last_ts is None:
        sentence = f"No bar of {symbol} is stored."
    elif last_ts + HOUR > now:
        sentence = (
            f"By this clock it is {now:%Y-%m-%d %H:%M} UTC, and no stored hour of {symbol} has closed; the last one "
            f"opens at {last_ts:%Y-%m-%d %H:%M} UTC: the clock is wrong, LSTM_TS_CLOCK if that is set."
        )
    else:
        expected_by = max(now - limits.grace_minutes * MINUTE, last_ts + HOUR)
        late = session.hours(last_ts + HOUR, expected_by).filter(pl.col("closes_at") <= expected_by).height
        sentence = (
            f"The last hourly bar of {symbol} closed at {last_ts + HOUR:%Y-%m-%d %H:%M} UTC, and {late} session hours "
            f"have closed since (limit {limits.stale_hours})."
        )
        health = Health.BAD if late >= limits.stale_hours else Health.GOOD
    return Finding("data_stale", symbol, health, sentence, STATUS.format(symbol=symbol))


def check_quality(
    symbol: str,
    hourly_bars: pl.DataFrame,
    minute_bars: pl.DataFrame,
    session: Session,
    now: datetime,
    limits: FeedLimits,
) -> Finding:
    """hourly_bars   of the last weeks: at least `ts, high, low, close, spread`
    minute_bars   of the last days; none where only hours are stored, which then are looked at instead
    """
    hour_stamps = hourly_bars["ts"]
    hours = _recent_hours(session, hour_stamps, limits)
    bars, unit, stuck = minute_bars, "minute", limits.stuck_minutes
    if minute_bars.is_empty():
        bars, unit = hourly_bars.filter(pl.col("ts").is_in(hours["ts"].implode())), "hour"
        stuck = max(STUCK_HOURS, math.ceil(limits.stuck_minutes / 60))
    problems = [
        _find_missing(hours, hour_stamps, limits),
        _find_stuck(bars, unit, stuck),
        _find_spikes(bars, unit, limits),
        _find_wide_spread(hourly_bars, limits),
        _find_future(minute_bars, now),
    ]
    command = STATUS.format(symbol=symbol)
    if hours.is_empty():
        return Finding("data_quality", symbol, Health.UNKNOWN, f"No hour of {symbol} to judge by.", command)
    if found := [problem for problem in problems if problem]:
        return Finding("data_quality", symbol, Health.BAD, f"Bars of {symbol}: {'; '.join(found)}.", command)
    price = "price" if unit == "minute" else "hourly price"
    sentence = f"Bars of {symbol}: the last {hours.height} session hours are there, and no {price} is stuck or jumps."
    return Finding("data_quality", symbol, Health.GOOD, sentence, command)


def _recent_hours(session: Session, hour_stamps: pl.Series, limits: FeedLimits) -> pl.DataFrame:
    """Return the last session hours up to the last bar; later ones belong to `check_staleness`."""
    if hour_stamps.is_empty():
        return pl.DataFrame(schema={"ts": pl.Datetime("us", "UTC")})
    last = hour_stamps[-1]
    return session.hours(max(hour_stamps[0], last - 3 * limits.recent_hours * HOUR), last + HOUR).tail(
        limits.recent_hours
    )


def _find_missing(hours: pl.DataFrame, hour_stamps: pl.Series, limits: FeedLimits) -> str | None:
    missing = hours.filter(~pl.col("ts").is_in(hour_stamps.implode())).height
    if missing <= limits.missing_share * hours.height:
        return None
    return (
        f"{missing} of the last {hours.height} session hours have no bar ({percent(missing / hours.height)}, limit "
        f"{percent(limits.missing_share)})"
    )


def _find_stuck(bars: pl.DataFrame, unit: str, limit: int) -> str | None:
    """Find as many bars in a row as the limit that open, trade and close at one and the same price."""
    flat = bars.select("ts", "close", still=pl.col("high") == pl.col("low"))
    runs = (
        flat.with_columns(run=pl.struct("close", "still").rle_id())
        .filter(pl.col("still"))
        .group_by("run")
        .agg(pl.len(), pl.col("ts").first(), pl.col("close").first())
    )
    if runs.is_empty():
        return None
    longest = runs.sort("len", "ts").row(-1, named=True)
    if longest["len"] < limit:
        return None
    close, ts = positional(longest["close"]), longest["ts"]
    return f"{longest['len']} {unit}s in a row are at {close}, from {ts:%Y-%m-%d %H:%M} UTC on"


def _find_spikes(bars: pl.DataFrame, unit: str, limits: FeedLimits) -> str | None:
    close = bars["close"].to_numpy()
    if len(close) < MIN_BARS:
        return None
    move = np.diff(np.log(close))
    usual = float(np.abs(move[move != 0]).mean()) if (move != 0).any() else 0.0
    there, back = move[:-1], move[1:]
    taken_back = (np.abs(there) > limits.spike_sizes * usual) & (np.abs(there + back) < np.abs(there) / 4)
    if usual == 0 or not taken_back.any():
        return None
    first = int(np.flatnonzero(taken_back)[0]) + 1
    return (
        f"{int(taken_back.sum())} price(s) that the next {unit} reverses, the first {positional(close[first])} at "
        f"{bars['ts'][first]:%Y-%m-%d %H:%M} UTC"
    )


def _find_wide_spread(hourly_bars: pl.DataFrame, limits: FeedLimits) -> str | None:
    """Return None if the spread is usual, or too few hours have one."""
    shares = hourly_bars.select(pl.col("spread") / pl.col("close")).to_series()
    newest, before = shares.tail(NEW_HOURS).drop_nulls(), shares.head(-NEW_HOURS).drop_nulls()
    if len(newest) < NEW_SPREADS or len(before) < USUAL_SPREADS:
        return None
    new, usual = (float(np.median(part.to_numpy())) for part in (newest, before))
    if usual == 0 or new <= limits.spread_sizes * usual:
        return None
    return (
        f"the spread of the last {NEW_HOURS} hours is {1e4 * new:.3g} bps of the price in the median, after "
        f"{1e4 * usual:.3g} bps in the weeks before (limit {limits.spread_sizes:g} times)"
    )


def _find_future(minute_bars: pl.DataFrame, now: datetime) -> str | None:
    ahead = minute_bars.filter(pl.col("ts") > now + MINUTE)["ts"]
    if ahead.is_empty():
        return None
    return (
        f"the last minute opens at {ahead[-1]:%Y-%m-%d %H:%M} UTC, in the future: "
        "a clock is wrong, here or at the source"
    )
