"""Rows of the monitor, and the tables that hold them. Unlike the ledger's decisions they are folded into sums by day
and removed once they are older than what is kept.

Legend: H steps, S steps that are scored, B baselines, Q levels.
"""

from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import Dialect

from lstm_ts.ledger.rows import SCHEMA, JsonTuple, UtcTime


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


class ArrayBytes(sa.TypeDecorator[NDArray[Any]]):
    """Column type of an array in NumPy's own format, without pickle."""

    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: NDArray[Any] | None, dialect: Dialect) -> bytes:
        assert value is not None
        np.save(buffer := BytesIO(), value, allow_pickle=False)
        return buffer.getvalue()

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> NDArray[Any]:
        assert value is not None
        array: NDArray[Any] = np.load(BytesIO(value), allow_pickle=False)
        return array


HOURLY_FORECASTS = sa.Table(
    "hourly_forecasts",
    SCHEMA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("origin_ts", UtcTime, primary_key=True),
    sa.Column("symbol", sa.Text),
    sa.Column("at", UtcTime),
    sa.Column("last_close", sa.Double),
    sa.Column("volatility", sa.Double),
    sa.Column("hour_of_day", sa.Integer),
    sa.Column("levels", JsonTuple),
    sa.Column("target_ts_H", ArrayBytes),
    sa.Column("q_HQ", ArrayBytes),
    sa.Column("baselines", JsonTuple),
    sa.Column("steps", JsonTuple),
    sa.Column("baseline_q_BSQ", ArrayBytes),
    sa.Column("input_sha256", sa.Text),
)
OUTCOMES = sa.Table(
    "outcomes",
    SCHEMA,
    sa.Column("symbol", sa.Text, primary_key=True),
    sa.Column("target_ts", UtcTime, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("at", UtcTime),
    sa.Column("close", sa.Double),
)
SCORES = sa.Table(
    "scores",
    SCHEMA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("origin_ts", UtcTime, primary_key=True),
    sa.Column("step", sa.Integer, primary_key=True),
    sa.Column("at", UtcTime),
    sa.Column("y", sa.Double),
    sa.Column("losses", sa.JSON),
    sa.Column("low", sa.Double),
    sa.Column("high", sa.Double),
    sa.Column("levels_below", sa.Integer),
    sa.Column("hour_of_day", sa.Integer),
    sa.Column("volatility", sa.Text),
)
DAILY_SCORES = sa.Table(
    "daily_scores",
    SCHEMA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("day", sa.Text, primary_key=True),
    sa.Column("step", sa.Integer, primary_key=True),
    sa.Column("sums", sa.JSON),
)
MONITOR_STATES = sa.Table(
    "monitor_states",
    SCHEMA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("at", UtcTime),
    sa.Column("state", sa.JSON),
)
FINDINGS = sa.Table(
    "findings",
    SCHEMA,
    sa.Column("rule", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("at", UtcTime),
    sa.Column("since", UtcTime),
    sa.Column("health", sa.Text),
    sa.Column("sentence", sa.Text),
    sa.Column("command", sa.Text),
)
