"""Synthetic minutes, for demonstrations and for controls whose answer is known.

    silver        volatility clusters and follows New York's day: the next hour's scale can be forecast, its sign not
    random_walk   Gaussian steps of one size: nothing can be forecast
    planted_ar    the same, but the returns of session hours follow an AR(1): the next hour can be forecast

The figures of `silver` are rounded from real silver, 2011-2015. Legend: H session hours, M minutes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.signal import lfilter

from lstm_ts import clock
from lstm_ts.errors import ConfigError
from lstm_ts.market.bars import BAR_SCHEMA, FIRST_YEAR, AnsweredSpan, BarBatch
from lstm_ts.market.session import Session, utc

Signal = Literal["silver", "random_walk", "planted_ar"]
Floats = npt.NDArray[np.float64]

OBSERVER = "synthetic"  # whatever the signal and the seed
PRICE_DECIMALS = 3
MINUTE_SD = 35e-4 / 60**0.5  # an hour's return has a standard deviation of 35 bps
# Mean |return| of the local hours 0..23 over that of all; 8 to 11 New York is the morning of the COMEX and of US data.
# fmt: off
DAY_PROFILE = np.array([
    0.70, 0.85, 0.95, 1.15, 0.95, 0.90, 1.00, 1.10, 1.75, 1.75, 1.70, 1.35,
    1.10, 1.00, 0.90, 0.95, 0.55, 0.55, 0.75, 0.60, 0.80, 0.95, 0.65, 0.55,
])
# fmt: on
# Log volatility is the sum of three AR(1), each of standard deviation 0.35, that forget in hours, days and months:
# with them |hourly return| keeps an autocorrelation of about 0.3 after 1 hour, 0.2 after a day, 0.15 after a week.
MEMORY_HOURS = (3.0, 60.0, 1000.0)
LOG_VOLATILITY_SD = 0.35
BODY_FREEDOM = 4  # Student-t degrees of freedom of a minute's return
GAP_FREEDOM = 3
GAP_SCALE = 10e-4  # of the jump over one closed hour; over a weekend four times as much
GAP_EXPONENT = 0.35
# Ticks a minute are negative binomial. A minute without one has no bar: 2 % of silver's, 0.3 % of a walk's.
TICKS_MEAN = 22.0
TICKS_SHAPE = 2.5


class _Streams(NamedTuple):
    """A generator for each kind of draw, so that a later `end` adds bars and changes none."""

    volatility: np.random.Generator
    body: np.random.Generator
    gap: np.random.Generator
    extremes: np.random.Generator
    ticks: np.random.Generator


@dataclass(frozen=True)
class _Grid:
    ts_M: npt.NDArray[np.int64]  # microseconds since 1970
    hour_M: npt.NDArray[np.intp]  # which of the H session hours
    first_H: npt.NDArray[np.intp]  # row of each hour's first minute
    minutes_H: npt.NDArray[np.int64]
    closed_hours_H: Floats  # closed before this hour; 0 inside a session
    local_hour_H: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Moves:
    """Log returns: the jump from the last close to the open, and open to close with its standard deviation."""

    gap_M: Floats
    body_M: Floats
    sd_M: Floats


class Synthetic:
    """Seeded minutes of the session hours with start <= ts < end; the same arguments give the same bars.

    ar_coefficient   of the hourly returns of `planted_ar`, -1..1; the other signals leave it unused
    """

    def __init__(
        self,
        *,
        session: Session,
        start: str,
        end: str,
        seed: int,
        start_price: float,
        signal: Signal,
        ar_coefficient: float,
    ) -> None:
        first, last = utc(start), utc(end)
        now = clock.now()
        if first is None or last is None or not first < min(last, now):
            raise ConfigError(
                f"Expected source.start before source.end and before now, got {start} and {end}; move one of them"
            )
        if first.year < FIRST_YEAR:
            raise ConfigError(f"Expected source.start from {FIRST_YEAR} on, got {start}; move it")
        if not isinstance(seed, int) or seed < 0:
            raise ConfigError(f"Expected source.seed as a whole number of at least 0, got {seed}")
        if signal not in get_args(Signal):
            raise ConfigError(f"Expected source.signal one of {', '.join(get_args(Signal))}, got {signal}")
        if not 0 < start_price < math.inf:
            raise ConfigError(f"Expected source.start_price as a number above 0, got {start_price}")
        if not -1 < ar_coefficient < 1:
            raise ConfigError(f"Expected source.ar_coefficient between -1 and 1, got {ar_coefficient}")
        self.session = session
        self.start, self.end = first, min(last, now)  # no market has later ones
        self.seed = seed
        self.start_price = start_price
        self.signal = signal
        self.ar_coefficient = ar_coefficient

    @property
    def name(self) -> str:
        return f"synthetic {self.signal}, seed {self.seed}"

    def read_batches(self, start: datetime | None = None, end: datetime | None = None) -> Iterator[BarBatch]:
        """Yield all bars in batches of one month, whatever `start` and `end`."""
        bars = self._compute_bars()
        months = [month for _, month in bars.group_by(pl.col("ts").dt.truncate("1mo"), maintain_order=True)]
        yield from map(BarBatch, months[:-1])
        if months:
            answer = AnsweredSpan(self.start, self.end, clock.now(), observer=OBSERVER, bars=bars.height)
            yield BarBatch(months[-1], answers=(answer,))

    def _compute_bars(self) -> pl.DataFrame:
        grid = _compute_grid(self.session.hours(self.start, self.end), self.session)
        streams = _Streams(*np.random.default_rng(self.seed).spawn(len(_Streams._fields)))
        if self.signal == "silver":
            moves = _compute_silver(grid, streams)
        else:
            moves = _compute_walk(grid, streams, self.ar_coefficient if self.signal == "planted_ar" else 0.0)
        ticks_mean_M = TICKS_MEAN * moves.sd_M / MINUTE_SD
        ticks_M = streams.ticks.negative_binomial(TICKS_SHAPE, TICKS_SHAPE / (TICKS_SHAPE + ticks_mean_M))
        prices = _compute_prices(moves, self.start_price, streams.extremes)
        return (
            pl.DataFrame({"ts": grid.ts_M, **prices, "volume": ticks_M, "spread": None})
            .cast(BAR_SCHEMA)
            .filter(pl.col("volume") > 0, pl.col("ts") < self.end)
        )


def _compute_grid(hours: pl.DataFrame, session: Session) -> _Grid:
    """Return every minute of the session hours. A part-hour is open from its start, unless it begins a session."""
    ts_H = hours["ts"].to_physical().to_numpy()
    minutes_H = hours["session_minutes"].to_numpy()
    closed_hours_H = np.diff(ts_H, prepend=ts_H[:1] - 3_600_000_000) / 3.6e9 - 1
    opens_late_H = (closed_hours_H > 0) & (np.append(closed_hours_H[1:], 0) == 0)
    hour_M = np.repeat(np.arange(len(ts_H)), minutes_H)
    first_H = np.cumsum(minutes_H) - minutes_H
    minute_M = np.arange(len(hour_M)) - first_H[hour_M] + np.where(opens_late_H, 60 - minutes_H, 0)[hour_M]
    return _Grid(
        ts_M=ts_H[hour_M] + 60_000_000 * minute_M,
        hour_M=hour_M,
        first_H=first_H,
        minutes_H=minutes_H,
        closed_hours_H=closed_hours_H,
        local_hour_H=hours.select(session.hour_of_week(pl.col("ts")) % 24).to_series().to_numpy(),
    )


def _compute_silver(grid: _Grid, streams: _Streams) -> _Moves:
    volatility_H = _compute_volatility(len(grid.minutes_H), streams.volatility)
    sd_M = (MINUTE_SD * volatility_H * DAY_PROFILE[grid.local_hour_H])[grid.hour_M]
    unit_t = streams.body.standard_t(BODY_FREEDOM, len(sd_M)) / (BODY_FREEDOM / (BODY_FREEDOM - 2)) ** 0.5
    gap_scale_H = GAP_SCALE * grid.closed_hours_H**GAP_EXPONENT * volatility_H
    gap_M = np.zeros(len(sd_M))
    gap_M[grid.first_H] = gap_scale_H * streams.gap.standard_t(GAP_FREEDOM, len(gap_scale_H))
    return _Moves(gap_M, sd_M * unit_t, sd_M)


def _compute_volatility(hours: int, stream: np.random.Generator) -> Floats:
    """Return the volatility of each hour; its mean square is 1."""
    noise = stream.standard_normal((hours, len(MEMORY_HOURS)))
    log_volatility_H = np.zeros(hours)
    for column, memory in enumerate(MEMORY_HOURS):
        decay = np.exp(-1 / memory)
        log_volatility_H += lfilter([(1 - decay**2) ** 0.5], [1, -decay], noise[:, column])
    log_volatility_H *= LOG_VOLATILITY_SD
    mean_square = np.exp(2 * len(MEMORY_HOURS) * LOG_VOLATILITY_SD**2)
    return np.asarray(np.exp(log_volatility_H) / mean_square**0.5)


def _compute_walk(grid: _Grid, streams: _Streams, ar_coefficient: float) -> _Moves:
    """Return Gaussian minutes; the part of a return due to the hour before is spread evenly over the hour's minutes."""
    shock_M = MINUTE_SD * streams.body.standard_normal(len(grid.hour_M))
    shock_H = np.add.reduceat(shock_M, grid.first_H)
    return_H = lfilter([1], [1, -ar_coefficient], shock_H)
    drift_H = (return_H - shock_H) / grid.minutes_H
    return _Moves(np.zeros(len(shock_M)), shock_M + drift_H[grid.hour_M], np.full(len(shock_M), MINUTE_SD))


def _compute_prices(moves: _Moves, start_price: float, stream: np.random.Generator) -> dict[str, Floats]:
    """Return open, high, low and close.

    High and low are those of a Brownian bridge from open to close (Glasserman 2003, Monte Carlo Methods in
    Financial Engineering, section 6.4): maximum = (b + sqrt(b^2 - 2 sd^2 ln U)) / 2 above the open, b the body.
    """
    close = np.log(start_price) + np.cumsum(moves.gap_M + moves.body_M)
    open_ = close - moves.body_M
    bridge = -2 * moves.sd_M[:, None] ** 2 * np.log1p(-stream.random((len(close), 2)))
    reach = np.sqrt(moves.body_M[:, None] ** 2 + bridge)
    middle = (open_ + close) / 2
    logs = {"open": open_, "high": middle + reach[:, 0] / 2, "low": middle - reach[:, 1] / 2, "close": close}
    decimals = max(PRICE_DECIMALS, PRICE_DECIMALS - math.floor(math.log10(start_price)))
    return {name: np.round(np.exp(log), decimals) for name, log in logs.items()}
