"""Rows of the monitor, and the tables that hold them. Unlike the ledger's decisions they are folded into sums by day
and removed once they are older than what is kept.

Legend: H steps, S steps that are scored, B baselines, Q levels.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from lstm_ts.ledger.rows import SCHEMA, columns_of


@dataclass(frozen=True)
class HourlyForecast:
    """A version's forecast at one origin, from stored bars; log returns as float32."""

    name: str
    version: int
    origin_ts: datetime
    symbol: str
    at: datetime  # when it was computed
    last_close: float
    volatility: float  # of the window; 1 is as in the training hours
    hour_of_day: int  # of the origin, in the session's zone
    levels: tuple[float, ...]
    target_ts_H: NDArray[np.datetime64]
    q_HQ: NDArray[np.float32]
    baselines: tuple[str, ...]
    steps: tuple[int, ...]
    baseline_q_BSQ: NDArray[np.float32]
    input_sha256: str


@dataclass(frozen=True)
class Outcome:
    symbol: str
    target_ts: datetime  # the close of the hour
    revision: int  # 0: as the hour was when it was complete, which scores are based on
    at: datetime
    close: float


@dataclass(frozen=True)
class Score:
    """Score of one forecast at one step against its outcome; log returns."""

    name: str
    version: int
    origin_ts: datetime
    step: int
    at: datetime
    y: float
    losses: dict[str, float]  # pinball, mean over the levels; the model's first
    low: float  # the model's 80 % interval
    high: float
    levels_below: int  # of the model's quantiles, those below y
    hour_of_day: int
    volatility: str  # tercile


@dataclass(frozen=True)
class DailyScore:
    name: str
    version: int
    day: str  # of the origins, ISO, UTC
    step: int
    sums: dict[str, Any]  # see `monitoring.daily`


@dataclass(frozen=True)
class MonitorState:
    """State from which a test of one version continues."""

    name: str
    version: int
    kind: str
    at: datetime
    state: dict[str, Any]


@dataclass(frozen=True)
class FindingRow:
    rule: str
    subject: str
    at: datetime
    since: datetime  # of the health
    health: str
    sentence: str
    command: str


HOURLY_FORECASTS = sa.Table("hourly_forecasts", SCHEMA, *columns_of(HourlyForecast, "name", "version", "origin_ts"))
OUTCOMES = sa.Table("outcomes", SCHEMA, *columns_of(Outcome, "symbol", "target_ts", "revision"))
SCORES = sa.Table("scores", SCHEMA, *columns_of(Score, "name", "version", "origin_ts", "step"))
DAILY_SCORES = sa.Table("daily_scores", SCHEMA, *columns_of(DailyScore, "name", "version", "day", "step"))
MONITOR_STATES = sa.Table("monitor_states", SCHEMA, *columns_of(MonitorState, "name", "version", "kind"))
FINDINGS = sa.Table("findings", SCHEMA, *columns_of(FindingRow, "rule", "subject"))
