"""Warnings about a forecast: how its window differs from the training hours, and how old it is. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lstm_ts.errors import ConfigError
from lstm_ts.market.announcements import describe_unknown
from lstm_ts.market.bars import is_synthetic
from lstm_ts.market.session import HOUR

if TYPE_CHECKING:
    from lstm_ts.model.forecaster import Forecast, Provenance


@dataclass(frozen=True)
class Flags:
    """Limits beyond which a forecast is flagged, and the flags in words."""

    stale_hours: int
    missing_share: float
    volatility: Sequence[float]

    def __post_init__(self) -> None:
        low, high = self.volatility if len(self.volatility) == 2 else (0.0, 0.0)
        if self.stale_hours < 1 or not 0 <= self.missing_share <= 1 or not 0 < low < high:
            raise ConfigError(
                f"Expected flags.stale_hours >= 1, missing_share in 0..1 and two ascending borders of volatility, "
                f"got {self.stale_hours}, {self.missing_share} and {list(self.volatility)}"
            )

    def find(self, forecast: "Forecast", tsteps: int, now: datetime) -> list[str]:
        return [*self.of_window(forecast, tsteps), *self.of_age(forecast, now)]

    def of_window(self, forecast: "Forecast", tsteps: int) -> list[str]:
        found, volatility, (low, high) = [], forecast.volatility, self.volatility
        if not low <= volatility <= high:
            found.append(
                f"out of the training range: the window is {volatility:.2g} times as volatile as the training hours"
            )
        if forecast.level_jump:
            found.append(f"another price level than that of the training hours: {forecast.level_jump}")
        if missing := forecast.missing_hours:
            many = "unusually many " * (missing > self.missing_share * tsteps)
            found.append(f"{many}missing hours: {missing} of the window's {tsteps}")
        return [*found, *describe_unknown(forecast.origin_ts, forecast.target_ts_H[-1])]

    def of_age(self, forecast: "Forecast", now: datetime) -> list[str]:
        found = []
        if forecast.origin_ts > now:
            found.append(f"bars in the future: the last one closes at {forecast.origin_ts:%Y-%m-%dT%H:%M:%SZ}")
        closed = sum(ts <= now for ts in forecast.target_ts_H)
        if closed >= min(self.stale_hours, len(forecast.target_ts_H)):
            found.append(f"stale input: {_age(forecast, closed, now)}")
        return found


def of_training(provenance: "Provenance", source: str) -> list[str]:
    """Return a flag if a model of synthetic bars gets bars of another, or of an unknown, source.

    source   of the bars; empty: unknown
    """
    learnt = provenance.source
    if not is_synthetic(learnt) or is_synthetic(source):
        return []
    given = f"given bars from {source}" if source else "not usable on market prices"
    return [f"a demonstration model: trained on {learnt}, {given}"]


def _age(forecast: "Forecast", closed: int, now: datetime) -> str:
    """Describe the age of the last bar; the session hours since then are known up to the horizon only."""
    if closed < len(forecast.target_ts_H):
        return f"{closed} session hours have closed since the last bar"
    hours = (now - forecast.origin_ts) // HOUR
    return f"the last bar is {hours // 24} days old" if hours >= 48 else f"the last bar is {hours} hours old"
