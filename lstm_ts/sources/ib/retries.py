"""Retries of requests to TWS, and the shortest wait before reconnecting."""

from dataclasses import dataclass

from lstm_ts.errors import ConfigError
from lstm_ts.sources.retries import Retries


@dataclass(frozen=True)
class TwsRetries(Retries):
    closed_s: float  # the shortest wait before connecting again while the market is closed

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.closed_s < 0:
            raise ConfigError(f"Expected source.retries.closed_s of at least 0, got {self.closed_s}")
