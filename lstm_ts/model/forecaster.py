"""The one path from hourly bars to a forecast.

Legend: N windows, H steps, Q levels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lstm_ts.errors import ArtifactError, NotEnoughBars
from lstm_ts.market.levels import CloseRange, close_range, describe_jump_within
from lstm_ts.market.prices import Quote
from lstm_ts.market.session import Session
from lstm_ts.model.baselines import Reference
from lstm_ts.model.features import Array, Bars, Grid, make_grid
from lstm_ts.model.location import weigh_median
from lstm_ts.model.network import Network
from lstm_ts.model.scaler import Scaler
from lstm_ts.model.season import NO_STATES, SeasonStates
from lstm_ts.model.windows import Windows, WindowSpec, make_windows

MAX_MOVE = 1e4  # usual returns or ranges: no quantile of returns is that far out, and NaN is not below it


@dataclass(frozen=True)
class Provenance:
    """The origin of a model, in JSON types."""

    symbol: str
    source: str  # of the bars; marks synthetic ones
    data_start: str  # the first hourly bar seen in training, ISO
    data_end: str  # neither training nor validation has seen a bar from here on
    data_sha256: str
    trained_until: str  # no statistic and no weight has seen a bar from here on
    seed: int
    created: str
    code_revision: str
    versions: Mapping[str, str]
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Forecast:
    """The next hours of one symbol, as seen from one origin."""

    symbol: str
    origin_ts: datetime
    last_close: float
    levels: tuple[float, ...]
    target_ts_H: list[datetime]
    q_HQ: Array  # cumulative log return
    missing_hours: int  # in the window
    volatility: float  # of the window; 1 is as in the training hours
    quote: Quote | None  # of its prices; None: unknown
    level_jump: str  # within the window, or from the training hours to it, in words; empty where markets move so
    season_day: datetime | None = None  # up to when bars have changed the profile of the week; None: none have

    def price_HL(self, *levels: float) -> Array:
        """Return the prices at some of the levels; raises ArtifactError where the model has not learnt one."""
        missing = [level for level in levels if level not in self.levels]
        if missing:
            raise ArtifactError(
                f"Expected a model with the level {missing[0]}, got {list(self.levels)}; train one with it"
            )
        columns = [self.levels.index(level) for level in levels]
        return np.asarray(self.last_close * np.exp(self.q_HQ[:, columns]))


@dataclass(frozen=True)
class Forecaster:
    network: Network
    scaler: Scaler
    reference: Reference
    spec: WindowSpec
    session: Session
    provenance: Provenance
    scores: Mapping[str, Any]
    closes: CloseRange | None = None  # of the training hours; models of format 1 do not know theirs
    quote: Quote | None = None  # of the symbol; None: unknown
    location_weight: float = 1.0  # of the network's median, see `location.py`
    learnt: tuple[Provenance, ...] = ()  # the network's own, if it is applied to a symbol that it was not trained on

    @property
    def seen_until(self) -> datetime | None:
        """The first moment from which on the model has seen no bar of any symbol; None: it does not know its span."""
        ends = (each.data_end for each in (self.provenance, *self.learnt))
        return max((datetime.fromisoformat(end) for end in ends if end), default=None)

    def __repr__(self) -> str:
        return f"<{self.network.name} of {self.provenance.symbol}, trained until {self.provenance.trained_until}>"

    def grid(self, hourly_bars: pl.DataFrame | Bars) -> Grid:
        return make_grid(hourly_bars, self.session, ahead=self.spec.horizon)

    def season_states(self, grid: Grid) -> SeasonStates:
        """Return the daily factors on the profile that result from the bars of the grid."""
        return self.scaler.season_states(grid, tsteps=self.spec.tsteps)

    def windows(
        self, grid: Grid, origins_N: NDArray[np.int64], states: SeasonStates = NO_STATES
    ) -> Windows[NDArray[Any]]:
        """Return the windows that end at the grid rows `origins_N`."""
        return make_windows(grid, self.scaler, origins_N, self.spec, states)

    def quantiles(self, windows: Windows[NDArray[Any]]) -> Array:
        """Return q_NHQ, log returns."""
        z_NHQ = weigh_median(self.network.quantiles(windows), self.location_weight, self.spec.levels)
        z_NHQ += windows.drift_NH[..., None]
        if not (np.abs(z_NHQ) < MAX_MOVE).all():
            raise ArtifactError(
                f"Expected finite forecasts of {self.provenance.symbol}, got others by its weights; train again"
            )
        return np.asarray(z_NHQ * windows.scale_NH.astype(np.float64)[..., None])

    def forecast(self, hourly_bars: pl.DataFrame | Bars, states: SeasonStates = NO_STATES) -> Forecast:
        """Forecast the hours after the last bar, from the `tsteps` session hours that end with it.

        states   factors on the profile from longer history; without them, the profile is that of the training hours
        Raises    NotEnoughBars: fewer session hours than `tsteps`, too many of them missing, or moves beyond any price
                  ArtifactError: the weights give no finite forecast
        """
        spec, bars = self.spec, Bars.of(hourly_bars)
        grid = self.grid(bars)
        last = len(grid.ts_G) - spec.horizon - 1
        missing = self._count_missing(grid, last, bars.ts_N[-1])
        window = self.windows(grid, np.array([last]), states)
        utc = [ts.replace(tzinfo=UTC) for ts in grid.origin_ts_G[last:].tolist()]
        forecast = Forecast(
            symbol=self.provenance.symbol,
            origin_ts=utc[0],
            last_close=float(grid.close_G[last]),
            levels=spec.levels,
            target_ts_H=utc[1:],
            q_HQ=self.quantiles(window)[0],
            missing_hours=missing,
            volatility=float(window.volatility_G[last]),
            season_day=states.day_at(grid.origin_ts_G[last]),
            quote=self.quote,
            level_jump=self._find_level_jump(grid, last, utc[0]),
        )
        with np.errstate(over="ignore"):
            finite = np.isfinite(forecast.price_HL(*forecast.levels)).all()
            if not finite or forecast.volatility > MAX_MOVE:
                raise NotEnoughBars(
                    "Expected bars that a market could have made, got moves beyond any price; correct them"
                )
        return forecast

    def window_ts(self, hourly_bars: pl.DataFrame) -> datetime:
        """Return the first hour of the window that `forecast` reads.    Raises    NotEnoughBars, as `forecast`"""
        grid = self.grid(hourly_bars)
        last = len(grid.ts_G) - self.spec.horizon - 1
        self._count_missing(grid, last, grid.ts_G[last])
        first: datetime = grid.ts_G[last + 1 - self.spec.tsteps].item()
        return first.replace(tzinfo=UTC)

    def _count_missing(self, grid: Grid, last: int, last_ts: np.datetime64) -> int:
        """Count missing hours of the window that ends at the row `last`.    Raises    NotEnoughBars"""
        spec = self.spec
        if last + 1 < spec.tsteps:
            raise NotEnoughBars(
                f"Expected at least {spec.tsteps} session hours for one window, got {last + 1}; give earlier bars too"
            )
        missing = int(grid.missing_G[last + 1 - spec.tsteps : last + 1].sum())
        if grid.missing_G[last]:
            raise NotEnoughBars(
                f"Expected the last bar to be of an open hour of {self.session.calendar}, got {last_ts}; "
                f"leave bars of closed hours out"
            )
        if missing > spec.max_missing:
            raise NotEnoughBars(
                f"Expected at most {spec.max_missing} of the last {spec.tsteps} session hours to be missing, "
                f"got {missing}; fill the gap"
            )
        return missing

    def _find_level_jump(self, grid: Grid, last: int, origin_ts: datetime) -> str:
        """Describe a jump within the window that ends at row `last`, or else from the training hours to it."""
        window = slice(last + 1 - self.spec.tsteps, last + 1)
        known = np.flatnonzero(~grid.missing_G[window]) + window.start
        close_N = grid.close_G[known]
        within = describe_jump_within(grid.ts_G[known], close_N * np.exp(-grid.body_G[known]), close_N)
        if within or self.closes is None:
            return within
        gap = origin_ts - datetime.fromisoformat(self.provenance.trained_until)
        return self.closes.describe_jump(close_range(close_N), abs(gap.total_seconds()))
