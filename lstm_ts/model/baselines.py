"""Baseline forecasts, which every table shows beside the model's. Pure.

A new one takes a class with `fit` and `quantiles`, and an entry in BASELINES: tables, pictures, gate and report follow.

Legend: N windows, H steps, Q levels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from lstm_ts.model.features import Array
from lstm_ts.model.windows import Windows
from lstm_ts.scoring.metrics import pinball_NH
from lstm_ts.scoring.records import PERSISTENCE, ROLLING_HAR

VOLATILITY = "volatility"


class Baseline(Protocol):
    """A frozen dataclass of arrays whose names end in their axes, a letter each; the manifest of a model keeps them.

    H and Q have the sizes of the windows; an array whose last axis is Q ascends along it.
    """

    @classmethod
    def fit(cls, windows: Windows[NDArray[Any]], y_NH: Array, levels: Sequence[float]) -> Self:
        """y_NH    log returns that followed the windows, NaN where a target is missing"""

    def quantiles(self, windows: Windows[NDArray[Any]]) -> Array:
        """Return q_NHQ, log returns."""


@dataclass(frozen=True)
class Persistence:
    """Forecast of the last close at every level."""

    zero_HQ: Array

    @classmethod
    def fit(cls, windows: Windows[NDArray[Any]], y_NH: Array, levels: Sequence[float]) -> Self:
        return cls(np.zeros((y_NH.shape[1], len(levels))))

    def quantiles(self, windows: Windows[NDArray[Any]]) -> Array:
        return np.zeros((len(windows), *self.zero_HQ.shape))


@dataclass(frozen=True)
class Climatology:
    """The quantiles of the training returns."""

    q_HQ: Array

    @classmethod
    def fit(cls, windows: Windows[NDArray[Any]], y_NH: Array, levels: Sequence[float]) -> Self:
        return cls(np.nanquantile(y_NH, levels, axis=0).T)

    def quantiles(self, windows: Windows[NDArray[Any]]) -> Array:
        return np.broadcast_to(self.q_HQ, (len(windows), *self.q_HQ.shape))


@dataclass(frozen=True)
class Scaled:
    """The quantiles of the training returns in units of a scale, times that scale."""

    z_HQ: Array

    @staticmethod
    def scale_NH(windows: Windows[NDArray[Any]]) -> Array:
        raise NotImplementedError

    @classmethod
    def fit(cls, windows: Windows[NDArray[Any]], y_NH: Array, levels: Sequence[float]) -> Self:
        return cls(np.nanquantile(y_NH / cls.scale_NH(windows), levels, axis=0).T)

    def quantiles(self, windows: Windows[NDArray[Any]]) -> Array:
        return self.scale_NH(windows)[..., None] * self.z_HQ


class Volatility(Scaled):
    """The window's one volatility, times the profile of the target hours."""

    @staticmethod
    def scale_NH(windows: Windows[NDArray[Any]]) -> Array:
        return windows.volatility_scale_NH.astype(np.float64)


class Har(Scaled):
    """Heterogeneous autoregressive volatility, see `har.py`, times the profile of the target hours."""

    @staticmethod
    def scale_NH(windows: Windows[NDArray[Any]]) -> Array:
        return windows.har_scale_NH.astype(np.float64)


class RollingHar(Scaled):
    """`Har` with a profile that keeps updating, see `season.py`, and with announcements."""

    @staticmethod
    def scale_NH(windows: Windows[NDArray[Any]]) -> Array:
        return windows.scale_NH.astype(np.float64)


BASELINES: Mapping[str, type[Baseline]] = {
    PERSISTENCE: Persistence,
    "climatology": Climatology,
    VOLATILITY: Volatility,
    "har": Har,
    ROLLING_HAR: RollingHar,
}


@dataclass(frozen=True)
class Reference:
    """Baselines and statistics of the returns that followed the training windows."""

    baselines: Mapping[str, Baseline]
    start_pinball_H: Array  # training loss of the forecast that the network starts at, in units of the scale
    mase_scale_H: Array  # MAE of persistence, log return

    @property
    def start_HQ(self) -> Array:
        """Forecast that a network starts at, in units of the window's scale."""
        start = self.baselines.get(ROLLING_HAR, self.baselines[VOLATILITY])  # the latter before format 4
        assert isinstance(start, Scaled)
        return start.z_HQ

    def quantiles(self, windows: Windows[NDArray[Any]]) -> dict[str, Array]:
        """Return q_NHQ, log returns, by baseline."""
        return {name: baseline.quantiles(windows) for name, baseline in self.baselines.items()}


def fit_reference(windows: Windows[NDArray[Any]], y_NH: Array, levels: Sequence[float]) -> Reference:
    """windows   of the training
    y_NH      log returns that followed them; a missing one is NaN and is left out
    """
    baselines = {name: kind.fit(windows, y_NH, levels) for name, kind in BASELINES.items()}
    reference = Reference(baselines, np.empty(0), np.nanmean(np.abs(y_NH), axis=0))
    z_NH = y_NH / RollingHar.scale_NH(windows)
    return replace(reference, start_pinball_H=np.nanmean(pinball_NH(z_NH, reference.start_HQ[None], levels), axis=0))
