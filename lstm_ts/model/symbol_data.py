"""The bars of one symbol, laid out for training: grid, windows, and statistics of its training hours alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import polars as pl
from numpy.typing import NDArray

from lstm_ts.errors import ConfigError, NotEnoughBars
from lstm_ts.market.bars import hash_bars
from lstm_ts.market.symbol import Symbol
from lstm_ts.model.baselines import Reference, fit_reference
from lstm_ts.model.features import Array, compute_returns_GH, make_grid
from lstm_ts.model.scaler import Scaler, fit_scaler
from lstm_ts.model.windows import Origins, WindowSpec, find_origins, in_span, make_windows


@dataclass(frozen=True)
class SymbolBars:
    symbol: Symbol
    hourly_bars: pl.DataFrame
    source: str  # what delivered them; says so where they are synthetic

    @property
    def decisive(self) -> list[str]:
        """What of it decides a model: the bars, hashed, and their sessions."""
        return [hash_bars(self.hourly_bars), self.symbol.session.calendar, self.symbol.session.zone]


@dataclass(frozen=True)
class ScalerSettings:
    """Settings of the statistics, in session hours; see `fit_scaler`.    Raises    ConfigError: one is not above 0"""

    half_life_hours: float
    half_lives_hours: Sequence[float]
    memory_hours: float
    season_half_life_hours: float
    season_prior_returns: float

    def __post_init__(self) -> None:
        numbers = [*self.half_lives_hours, self.half_life_hours, self.memory_hours]
        numbers += [self.season_half_life_hours, self.season_prior_returns]
        if not self.half_lives_hours or min(numbers) <= 0:
            raise ConfigError(
                f"Expected data.half_lives_hours, half_life_hours, memory_hours, season_half_life_hours and "
                f"season_prior_returns above 0, got {list(self.half_lives_hours)}, {', '.join(map(str, numbers[-4:]))}"
            )


class SymbolData:
    """Windows that end before `valid_from`, for training, and from there to `test_from`, for validation."""

    def __init__(
        self,
        bars: SymbolBars,
        *,
        spec: WindowSpec,
        valid_from: datetime,
        test_from: datetime,
        settings: ScalerSettings,
        kept_scaler: Scaler | None,
    ) -> None:
        """kept_scaler   of an earlier model, instead of one fitted to this training part
        Raises        NotEnoughBars: no window for training or for validation
        """
        self.bars, self.spec = bars, spec
        self.valid_from, self.test_from = valid_from, test_from
        self.grid = make_grid(bars.hourly_bars, bars.symbol.session, ahead=spec.horizon)
        self.train_origins = find_origins(self.grid, spec, end=valid_from, purge=True)
        self.valid_origins = find_origins(self.grid, spec, start=valid_from, end=test_from, purge=True)
        self._check_size("training", self.train_origins, f"before {valid_from}")
        self._check_size("validation", self.valid_origins, f"from {valid_from} to {test_from}")
        self.train_G = in_span(self.grid.origin_ts_G, None, valid_from)
        self.scaler = kept_scaler or fit_scaler(
            self.grid, self.train_G, tsteps=spec.tsteps, horizon=spec.horizon, levels=spec.levels, **vars(settings)
        )
        states = self.scaler.season_states(self.grid, tsteps=spec.tsteps)
        self.train_windows = make_windows(self.grid, self.scaler, self.train_origins.rows_N, spec, states)

    @property
    def name(self) -> str:
        return self.bars.symbol.name

    @cached_property
    def reference(self) -> Reference:
        """Statistics of the training targets."""
        return fit_reference(self.train_windows, self._train_returns_NH, self.spec.levels)

    @property
    def train_closes(self) -> Array:
        return self.grid.close_G[self.train_G]

    @property
    def _train_returns_NH(self) -> NDArray[Any]:
        return compute_returns_GH(self.grid, horizon=self.spec.horizon)[self.train_origins.rows_N]

    def _check_size(self, part: str, origins: Origins, where: str) -> None:
        if not len(origins.rows_N):
            tsteps, horizon = self.spec.tsteps, self.spec.horizon
            bars = int((~self.grid.missing_G).sum())
            raise NotEnoughBars(
                f"Expected at least {tsteps + horizon} session hours (tsteps {tsteps} + horizon {horizon}) "
                f"for one {part} window of {self.name}, got none {where} among {bars} bars; "
                f"ingest more, or move the borders between training, validation and test"
            )
