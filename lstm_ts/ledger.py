"""What the gate decided, who moved which alias when, what was forecast, and which minutes a source answered for:
rows that are only ever added, kept so by triggers.

Legend: H steps.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Dialect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError, StatementError

from lstm_ts.bars import Answer
from lstm_ts.database import Database
from lstm_ts.errors import LedgerError, RowRefused


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
    action: str  # promote | rollback | found
    from_version: int | None
    to_version: int | None
    actor: str
    reason: str
    state: str  # intended | done


@dataclass(frozen=True)
class ServedPath:
    """Prices in USD."""

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


class Sentences(sa.TypeDecorator[tuple[str, ...]]):
    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, dialect: Dialect) -> Any:
        assert value is not None
        return list(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> tuple[str, ...]:
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


# As the revisions in `lstm_ts/migrations` leave them.
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
    sa.Column("reasons", Sentences),
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
    sa.Column("at", UtcTime),
    sa.Column("name", sa.Text),
    sa.Column("symbol", sa.Text),
    sa.Column("version", sa.Integer),
    sa.Column("origin_ts", UtcTime),
    sa.Column("last_close", sa.Double),
    sa.Column("path", Steps),
    sa.Column("flags", Sentences),
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
# A row whose key is there changes nothing.
RECORD = {
    (table.name, dialect): insert(table).on_conflict_do_nothing()
    for table in (DECISIONS, FORECASTS, ANSWERS)
    for dialect, insert in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))
}


class Ledger:
    """Every method raises LedgerError when the database does not answer."""

    def __init__(self, url: str) -> None:
        """Raises    LedgerError: also where the database has a newer schema"""
        self._database = Database(url)

    def close(self) -> None:
        self._database.close()

    def record_decision(self, row: DecisionRow) -> None:
        """A second decision about the same version changes nothing."""
        with self._database.transaction() as connection:
            connection.execute(RECORD["decisions", connection.dialect.name], vars(row))

    def decisions(self, name: str) -> list[DecisionRow]:
        """Oldest first."""
        table = DECISIONS
        wanted = sa.select(table).where(table.c.name == name).order_by(table.c.at, table.c.version)
        with self._database.transaction() as connection:
            return [DecisionRow(**row._mapping) for row in connection.execute(wanted)]

    def record_alias(self, change: AliasChange) -> None:
        with self._database.transaction() as connection:
            connection.execute(sa.insert(ALIAS_CHANGES), vars(change))

    def alias_changes(self, name: str, alias: str) -> list[AliasChange]:
        """In the order they were recorded, both states."""
        columns = {column.name: column for column in ALIAS_CHANGES.columns}
        number = columns.pop("id")
        wanted = sa.select(*columns.values()).where(columns["name"] == name, columns["alias"] == alias)
        with self._database.transaction() as connection:
            return [AliasChange(**row._mapping) for row in connection.execute(wanted.order_by(number))]

    def record_forecasts(self, rows: Sequence[ForecastRow]) -> None:
        """All of them or none; one of a request and arm that is there changes nothing.

        Raises    RowRefused: the database answers, and will not have one of them
        """
        if not rows:
            return
        try:
            with self._database.transaction() as connection:
                connection.execute(RECORD["forecasts", connection.dialect.name], [vars(row) for row in rows])
        except (LedgerError, StatementError, ValueError, OverflowError) as error:
            cause = error.__cause__ if isinstance(error, LedgerError) else error
            if isinstance(error, LedgerError) and not isinstance(cause, DataError | IntegrityError):
                raise
            said = " ".join(str(cause.orig if isinstance(cause, StatementError) else cause).split())
            raise RowRefused(f"Expected forecasts that a database can hold, got one it refuses: {said}") from error

    def forecasts(self, name: str, *, since: datetime, until: datetime) -> list[ForecastRow]:
        """Those with since <= at < until, oldest first."""
        table = FORECASTS
        wanted = sa.select(table).where(table.c.name == name, table.c.at >= since, table.c.at < until)
        with self._database.transaction() as connection:
            found = connection.execute(wanted.order_by(table.c.at, table.c.request_id, table.c.arm))
            return [ForecastRow(**row._mapping) for row in found]

    def record_answers(self, symbol: str, store_id: str, source: str, answers: Sequence[Answer]) -> None:
        """All of them or none; the same span from the same witness changes nothing. Only once their bars are stored.

        store_id   `BarStore.id` of the store that holds their bars: about another one they prove nothing
        """
        assert store_id, "Expected a store that has committed"
        if not answers:
            return
        rows = [
            {"symbol": symbol, "store": store_id, "source": source, "span_start": answer.start, "span_end": answer.end}
            | {"at": answer.at, "witness": answer.witness, "bars": answer.bars}
            for answer in answers
        ]
        with self._database.transaction() as connection:
            connection.execute(RECORD["answers", connection.dialect.name], rows)

    def answers(self, symbol: str, store_id: str) -> list[Answer]:
        """Those about this store, by their start."""
        columns = ANSWERS.c
        wanted = sa.select(columns.span_start, columns.span_end, columns.at, columns.witness, columns.bars)
        wanted = wanted.where(columns.symbol == symbol, columns.store == store_id)
        wanted = wanted.order_by(columns.span_start, columns.at, columns.witness)
        with self._database.transaction() as connection:
            return [Answer(*row) for row in connection.execute(wanted)]

    def answered_at(self, symbol: str, source: str, *, since: datetime) -> list[datetime]:
        """When a source has answered, whatever the store: each moment once, ascending."""
        at = ANSWERS.c.at
        wanted = sa.select(at).where(ANSWERS.c.symbol == symbol, ANSWERS.c.source == source, at >= since)
        with self._database.transaction() as connection:
            return list(connection.scalars(wanted.distinct().order_by(at)))

    def exclusive_ingestion(self, symbol: str) -> AbstractContextManager[None]:
        """As `exclusive`, of what a broker is asked for."""
        return self._database.locked(f"the ingestion of {symbol}")

    def exclusive(self, name: str) -> AbstractContextManager[None]:
        """Hold the model alone, over all processes and threads; not reentrant. A killed holder frees it."""
        return self._database.locked(f"the model {name}")
