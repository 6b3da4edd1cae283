"""The ledger's rows, and the tables that hold them as the revisions in `migrations/` leave them.

Legend: H steps.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from io import BytesIO
from types import UnionType
from typing import Any, get_args, get_origin

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
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
        assert value is None or value.tzinfo is not None, f"Expected an aware time, got {value}"
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


class JsonTuple(sa.TypeDecorator[tuple[Any, ...]]):
    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: tuple[Any, ...] | None, dialect: Dialect) -> Any:
        assert value is not None
        return list(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> tuple[Any, ...]:
        return tuple(value)


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


TYPES: Mapping[Any, Any] = {
    str: sa.Text,
    int: sa.Integer,
    bool: sa.Boolean,
    float: sa.Double,
    datetime: UtcTime,
    tuple: JsonTuple,
    dict: sa.JSON,
    np.ndarray: ArrayBytes,
    ServedPath: Steps,
}


def columns_of(row: type[Any], *key: str) -> list[sa.Column[Any]]:
    """Make a table's columns of the fields of its row; `key` names those of the primary key."""
    kinds = {f.name: get_args(f.type)[0] if isinstance(f.type, UnionType) else f.type for f in fields(row)}
    return [sa.Column(name, TYPES[get_origin(kind) or kind], primary_key=name in key) for name, kind in kinds.items()]


SCHEMA = sa.MetaData()
DECISIONS = sa.Table("decisions", SCHEMA, *columns_of(DecisionRow, "name", "version"))
ALIAS_CHANGES = sa.Table(
    "alias_changes", SCHEMA, sa.Column("id", sa.Integer, primary_key=True), *columns_of(AliasChange)
)
FORECASTS = sa.Table("forecasts", SCHEMA, *columns_of(ForecastRow, "request_id", "arm", "at"))
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
