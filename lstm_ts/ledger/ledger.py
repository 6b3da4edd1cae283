"""Ledger of the gate's decisions, alias changes, served forecasts, and the minutes that a source answered for.

Rows of these are only ever added, which triggers enforce; `served_days` alone removes old forecasts.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.exc import DataError, IntegrityError, StatementError

from lstm_ts.errors import LedgerError, RowRefused
from lstm_ts.ledger.alert_rows import HEARTBEATS, Heartbeat
from lstm_ts.ledger.database import Database
from lstm_ts.ledger.rows import (
    ALIAS_CHANGES,
    ANSWERS,
    DECISIONS,
    FORECASTS,
    AliasChange,
    DecisionRow,
    ForecastRow,
)
from lstm_ts.ledger.upserts import add_rows, put_rows
from lstm_ts.market.bars import AnsweredSpan


class Ledger(Database):
    """Operations ledger; every method raises LedgerError when the database does not answer."""

    def check(self) -> None:
        """Raises    LedgerError: it is unreachable, or replaced by another one"""
        with self.transaction():
            pass

    def record_decision(self, row: DecisionRow) -> None:
        """Record the gate's decision; a second one about the same version changes nothing."""
        with self.transaction() as connection:
            add_rows(connection, DECISIONS, [row])

    def decisions(self, name: str) -> list[DecisionRow]:
        """Return the decisions about a model, oldest first."""
        table = DECISIONS
        wanted = sa.select(table).where(table.c.name == name).order_by(table.c.at, table.c.version)
        with self.transaction() as connection:
            return [DecisionRow(**row._mapping) for row in connection.execute(wanted)]

    def names(self) -> set[str]:
        """Return the names of the models that decisions or changes of aliases are about."""
        wanted = sa.union(sa.select(DECISIONS.c.name), sa.select(ALIAS_CHANGES.c.name))
        with self.transaction() as connection:
            return set(connection.scalars(wanted))

    def record_alias(self, change: AliasChange) -> None:
        with self.transaction() as connection:
            connection.execute(sa.insert(ALIAS_CHANGES), vars(change))

    def alias_changes(self, name: str, alias: str) -> list[AliasChange]:
        """Return the changes of an alias in both states, in the order in which they were recorded."""
        columns = {column.name: column for column in ALIAS_CHANGES.columns}
        number = columns.pop("id")
        wanted = sa.select(*columns.values()).where(columns["name"] == name, columns["alias"] == alias)
        with self.transaction() as connection:
            return [AliasChange(**row._mapping) for row in connection.execute(wanted.order_by(number))]

    def record_forecasts(self, rows: Sequence[ForecastRow]) -> None:
        """Record all rows or none; a row with a request, arm and time that are recorded already changes nothing.

        Raises    RowRefused: the database answers, and refuses one of them
        """
        if not rows:
            return
        try:
            with self.transaction() as connection:
                add_rows(connection, FORECASTS, rows)
        except (LedgerError, StatementError, ValueError, OverflowError) as error:
            cause = error.__cause__ if isinstance(error, LedgerError) else error
            if isinstance(error, LedgerError) and not isinstance(cause, DataError | IntegrityError):
                raise
            message = " ".join(str(cause.orig if isinstance(cause, StatementError) else cause).split())
            raise RowRefused(f"Expected forecasts that a database can hold, got one it refuses: {message}") from error

    def forecasts(self, name: str, *, since: datetime, until: datetime) -> list[ForecastRow]:
        """Return the forecasts with since <= at < until, oldest first."""
        table = FORECASTS
        wanted = sa.select(table).where(table.c.name == name, table.c.at >= since, table.c.at < until)
        with self.transaction() as connection:
            found = connection.execute(wanted.order_by(table.c.at, table.c.request_id, table.c.arm))
            return [ForecastRow(**row._mapping) for row in found]

    def has_forecast(self, request_id: str, arm: str, at: datetime) -> bool:
        table = FORECASTS.c
        key = table.request_id == request_id, table.arm == arm, table.at == at
        with self.transaction() as connection:
            return connection.execute(sa.select(sa.literal(1)).where(*key)).first() is not None

    def last_answer(self, name: str, version: int) -> datetime | None:
        """Return the time of the last request that a version answered; None: there is none."""
        table = FORECASTS.c
        of_version = table.name == name, table.version == version
        wanted = sa.select(table.at).where(*of_version).order_by(table.at.desc()).limit(1)
        with self.transaction() as connection:
            at: datetime | None = connection.scalar(wanted)
            return at

    def record_answers(self, symbol: str, store_id: str, source: str, answers: Sequence[AnsweredSpan]) -> None:
        """Record all spans or none, once their bars are stored; a repeated span of the same observer changes nothing.

        store_id   `BarStore.id` of the store that holds their bars: about another one they prove nothing
        """
        assert store_id, "Expected a store that has committed"
        if not answers:
            return
        rows = [
            {"symbol": symbol, "store": store_id, "source": source, "span_start": answer.start, "span_end": answer.end}
            | {"at": answer.at, "witness": answer.observer, "bars": answer.bars}
            for answer in answers
        ]
        with self.transaction() as connection:
            add_rows(connection, ANSWERS, rows)

    def answers(self, symbol: str, store_id: str) -> list[AnsweredSpan]:
        """Return the answered spans of this store, ascending by start."""
        columns = ANSWERS.c
        wanted = sa.select(columns.span_start, columns.span_end, columns.at, columns.witness, columns.bars)
        wanted = wanted.where(columns.symbol == symbol, columns.store == store_id)
        wanted = wanted.order_by(columns.span_start, columns.at, columns.witness)
        with self.transaction() as connection:
            return [AnsweredSpan(*row) for row in connection.execute(wanted)]

    def answered_at(self, symbol: str, source: str, *, since: datetime) -> list[datetime]:
        """Return the times of a source's answers for any store: each once, ascending."""
        at = ANSWERS.c.at
        wanted = sa.select(at).where(ANSWERS.c.symbol == symbol, ANSWERS.c.source == source, at >= since)
        with self.transaction() as connection:
            return list(connection.scalars(wanted.distinct().order_by(at)))

    def record_heartbeat(self, beat: Heartbeat) -> None:
        """Record a heartbeat in place of the previous one of its component and subject."""
        with self.transaction() as connection:
            put_rows(connection, HEARTBEATS, [beat])

    def heartbeats(self) -> list[Heartbeat]:
        """Return the latest heartbeat of each component and subject."""
        wanted = sa.select(HEARTBEATS).order_by(HEARTBEATS.c.component, HEARTBEATS.c.subject)
        with self.transaction() as connection:
            return [Heartbeat(**row._mapping) for row in connection.execute(wanted)]

    def exclusive_alerts(self) -> AbstractContextManager[None]:
        """Lock incidents and the messages about them, as `exclusive` locks a model."""
        return self.locked("the alerts")

    def exclusive(self, name: str) -> AbstractContextManager[None]:
        """Lock a model over all processes and threads; not reentrant. The lock of a killed holder is released."""
        return self.locked(f"the model {name}")
