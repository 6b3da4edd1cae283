"""The ledger's rows, and the tables that hold them as the revisions in `migrations/` leave them.

Legend: H steps.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Dialect


@dataclass(frozen=True)
class DecisionRow:
    name: str
    version: int
    at: datetime
    verdict: str
    experimental: bool
    champion: int | None  # the version it was judged against
    reasons: tuple[str, ...]
    span_start: datetime
    span_end: datetime
    data_sha256: str


@dataclass(frozen=True)
class AliasChange:
    at: datetime
    name: str
    alias: str
    action: str  # promote | rollback | release | found
    from_version: int | None
    to_version: int | None
    actor: str
    reason: str
    state: str  # intended | done


@dataclass(frozen=True)
class ServedPath:
    """Prices in the quote currency of the symbol."""

    target_ts_H: tuple[datetime, ...]
    median_H: tuple[float, ...]
    lower_80_H: tuple[float, ...]
    upper_80_H: tuple[float, ...]


@dataclass(frozen=True)
class ForecastRow:
    request_id: str
    arm: str  # who made it for this request, and whether its client saw it
    at: datetime
    name: str
    symbol: str
    version: int
    origin_ts: datetime
    last_close: float
    path: ServedPath
    flags: tuple[str, ...]
    latency_ms: float
    input_sha256: str


class UtcTime(sa.TypeDecorator[datetime]):
    """Aware datetimes, to the microsecond; SQLite keeps them as UTC text without a zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        assert value is not None and value.tzinfo is not None, f"Expected an aware time, got {value}"
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        assert value is not None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class JsonTuple(sa.TypeDecorator[tuple[Any, ...]]):
    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: tuple[Any, ...] | None, dialect: Dialect) -> Any:
        assert value is not None
        return list(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> tuple[Any, ...]:
        return tuple(value)


class Steps(sa.TypeDecorator[ServedPath]):
    """The columns of `ServedPath`; JSON has no NaN."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: ServedPath | None, dialect: Dialect) -> Any:
        assert value is not None
        if not all(map(math.isfinite, (*value.median_H, *value.lower_80_H, *value.upper_80_H))):
            raise ValueError(f"Expected finite prices, got {value}")
        return vars(value) | {"target_ts_H": [ts.isoformat() for ts in value.target_ts_H]}

    def process_result_value(self, value: Any, dialect: Dialect) -> ServedPath:
        columns = {name: tuple(values_H) for name, values_H in value.items()}
        return ServedPath(**columns | {"target_ts_H": tuple(map(datetime.fromisoformat, columns["target_ts_H"]))})


SCHEMA = sa.MetaData()
DECISIONS = sa.Table(
    "decisions",
    SCHEMA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("at", UtcTime),
    sa.Column("verdict", sa.Text),
    sa.Column("experimental", sa.Boolean),
    sa.Column("champion", sa.Integer),
    sa.Column("reasons", JsonTuple),
    sa.Column("span_start", UtcTime),
    sa.Column("span_end", UtcTime),
    sa.Column("data_sha256", sa.Text),
)
ALIAS_CHANGES = sa.Table(
    "alias_changes",
    SCHEMA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", UtcTime),
    sa.Column("name", sa.Text),
    sa.Column("alias", sa.Text),
    sa.Column("action", sa.Text),
    sa.Column("from_version", sa.Integer),
    sa.Column("to_version", sa.Integer),
    sa.Column("actor", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("state", sa.Text),
)
FORECASTS = sa.Table(
    "forecasts",
    SCHEMA,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("arm", sa.Text, primary_key=True),
    sa.Column("at", UtcTime, primary_key=True),
    sa.Column("name", sa.Text),
    sa.Column("symbol", sa.Text),
    sa.Column("version", sa.Integer),
    sa.Column("origin_ts", UtcTime),
    sa.Column("last_close", sa.Double),
    sa.Column("path", Steps),
    sa.Column("flags", JsonTuple),
    sa.Column("latency_ms", sa.Double),
    sa.Column("input_sha256", sa.Text),
)
ANSWERS = sa.Table(
    "answers",
    SCHEMA,
    sa.Column("symbol", sa.Text, primary_key=True),
    sa.Column("store", sa.Text, primary_key=True),
    sa.Column("span_start", UtcTime, primary_key=True),
    sa.Column("span_end", UtcTime, primary_key=True),
    sa.Column("witness", sa.Text, primary_key=True),
    sa.Column("at", UtcTime),
    sa.Column("source", sa.Text),
    sa.Column("bars", sa.Integer),
)
