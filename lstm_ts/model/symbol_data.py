"""The bars of one symbol, laid out for training: grid, windows, and statistics of its training hours alone."""

import logging
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import polars as pl
from numpy.typing import NDArray

from lstm_ts.errors import NotEnoughBars
from lstm_ts.market.bars import hash_bars
from lstm_ts.market.symbol import Symbol
from lstm_ts.model.baselines import Reference, fit_reference
from lstm_ts.model.features import Array, compute_returns_GH, make_grid
from lstm_ts.model.location import weigh_drift
from lstm_ts.model.scaler import Scaler, ScalerSettings
from lstm_ts.model.scaler_fit import fit_scaler
from lstm_ts.model.windows import Origins, Windows, WindowSpec, find_origins, in_span, make_windows

MIN_WINDOWS = 1000  # about nine weeks, for a profile by hour of the week

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SymbolBars:
    symbol: Symbol
    hourly_bars: pl.DataFrame
    source: str  # of the bars; marks synthetic ones

    @property
    def decisive(self) -> list[str]:
        """Values that determine a model: the hash of the bars, and the calendar and zone of their sessions."""
        return [hash_bars(self.hourly_bars), self.symbol.session.calendar, self.symbol.session.zone]


class SymbolData:
    """Windows that end before `valid_from`, for training, and from there to `test_from`, for validation.

    There are none of the latter where the two are the same.
    """

    def __init__(
        self,
        bars: SymbolBars,
        *,
        spec: WindowSpec,
        valid_from: datetime,
        test_from: datetime,
        settings: ScalerSettings,
        kept_scaler: Scaler | None,
        drift_weight: float | None,
    ) -> None:
        """kept_scaler   of an earlier model, instead of one fitted to this training part
        drift_weight  found on hours that are now trained on; None: find it on those of the validation
        Raises        NotEnoughBars: no window for training or for validation, or too few known hours for statistics
        """
        self.bars, self.spec = bars, spec
        self.valid_from, self.test_from = valid_from, test_from
        self.grid = make_grid(bars.hourly_bars, bars.symbol.session, ahead=spec.horizon)
        self.train_origins = find_origins(self.grid, spec, end=valid_from, purge=True)
        self.valid_origins = find_origins(self.grid, spec, start=valid_from, end=test_from, purge=True)
        self._check_size("training", self.train_origins, f"before {valid_from}")
        if valid_from < test_from:
            self._check_size("validation", self.valid_origins, f"from {valid_from} to {test_from}")
        self.train_G = in_span(self.grid.origin_ts_G, None, valid_from)
        self._check_statistics()
        self.scaler = kept_scaler or fit_scaler(
            self.grid, self.train_G, settings, tsteps=spec.tsteps, horizon=spec.horizon, levels=spec.levels
        )
        self.drift_weight = None if kept_scaler else drift_weight  # None: the drift of the kept scaler
        if kept_scaler is None and drift_weight is None:
            self._warn_of_few_windows()
            self.train_windows = self._make_windows()
            self.drift_weight = weigh_drift(self.valid_windows, self.reference.start_HQ, spec.levels)
        if self.drift_weight is not None:
            self.scaler = replace(self.scaler, drift_D=self.drift_weight * self.scaler.drift_D)
        self.train_windows = self._make_windows()

    def _make_windows(self) -> Windows[NDArray[Any]]:
        states = self.scaler.season_states(self.grid, tsteps=self.spec.tsteps)
        return make_windows(self.grid, self.scaler, self.train_origins.rows_N, self.spec, states)

    @property
    def name(self) -> str:
        return self.bars.symbol.name

    @property
    def valid_windows(self) -> Windows[NDArray[Any]]:
        return self.train_windows.at(self.valid_origins.rows_N)

    @cached_property
    def reference(self) -> Reference:
        """Statistics of the training targets."""
        y_NH = compute_returns_GH(self.grid, horizon=self.spec.horizon)[self.train_origins.rows_N]
        return fit_reference(self.train_windows, y_NH, self.spec.levels)

    @property
    def train_closes(self) -> Array:
        return self.grid.close_G[self.train_G]

    def _check_statistics(self) -> None:
        known, tsteps = int((self.train_G & ~self.grid.missing_G).sum()), self.spec.tsteps
        if known <= tsteps:
            raise NotEnoughBars(
                f"Expected bars of more than {tsteps} hours of {self.name} before {self.valid_from} for its "
                f"statistics, got {known}; ingest more, or move the borders between training, validation and test"
            )

    def _warn_of_few_windows(self) -> None:
        if (windows := len(self.train_origins.rows_N)) < MIN_WINDOWS:
            log.warning(
                "%d windows of %s before %s are few for statistics by hour of the week, which take about %d: its "
                "forecasts may be poor; ingest earlier bars, or begin the validation later",
                *(windows, self.name, f"{self.valid_from:%Y-%m-%d %H:%M}", MIN_WINDOWS),
            )

    def _check_size(self, part: str, origins: Origins, where: str) -> None:
        if not len(origins.rows_N):
            tsteps, horizon = self.spec.tsteps, self.spec.horizon
            bars = int((~self.grid.missing_G).sum())
            raise NotEnoughBars(
                f"Expected at least {tsteps + horizon} session hours (tsteps {tsteps} + horizon {horizon}) "
                f"for one {part} window of {self.name}, got none {where} among {bars} bars; "
                f"ingest more, or move the borders between training, validation and test"
            )
