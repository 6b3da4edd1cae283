"""Tables of the monitor, read and written in a transaction of `Ledger.transaction`: several calls are one change."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from lstm_ts.ledger.monitor_rows import (
    DAILY_SCORES,
    FINDINGS,
    HOURLY_FORECASTS,
    MONITOR_STATES,
    OUTCOMES,
    SCORES,
    DailyScore,
    FindingRow,
    HourlyForecast,
    MonitorState,
    Outcome,
    Score,
)
from lstm_ts.ledger.upserts import add_rows, put_rows


def add_forecasts(connection: Connection, rows: Sequence[HourlyForecast]) -> None:
    """Add forecasts; an existing one of the same version and origin stays as it is."""
    add_rows(connection, HOURLY_FORECASTS, rows)


def add_outcomes(connection: Connection, rows: Sequence[Outcome]) -> None:
    add_rows(connection, OUTCOMES, rows)


def add_scores(connection: Connection, rows: Sequence[Score]) -> None:
    add_rows(connection, SCORES, rows)


def put_daily_scores(connection: Connection, rows: Sequence[DailyScore]) -> None:
    put_rows(connection, DAILY_SCORES, rows)


def put_states(connection: Connection, rows: Sequence[MonitorState]) -> None:
    put_rows(connection, MONITOR_STATES, rows)


def put_findings(connection: Connection, rows: Sequence[FindingRow]) -> None:
    put_rows(connection, FINDINGS, rows)


def first_origin(connection: Connection, name: str, version: int) -> datetime | None:
    """Find the origin of the earliest forecast that is kept; None: there is none."""
    return _find_origin(connection, name, version, HOURLY_FORECASTS.c.origin_ts.asc())


def last_origin(connection: Connection, name: str, version: int) -> datetime | None:
    """Find the origin of the latest forecast; None: there is none."""
    return _find_origin(connection, name, version, HOURLY_FORECASTS.c.origin_ts.desc())


def _find_origin(
    connection: Connection, name: str, version: int, order: sa.UnaryExpression[datetime]
) -> datetime | None:
    table = HOURLY_FORECASTS.c
    wanted = sa.select(table.origin_ts).where(table.name == name, table.version == version).order_by(order).limit(1)
    origin_ts: datetime | None = connection.scalar(wanted)
    return origin_ts


def read_forecasts(connection: Connection, name: str, version: int, *, since: datetime) -> list[HourlyForecast]:
    """Return the forecasts with origins from `since` on, ascending."""
    table = HOURLY_FORECASTS
    wanted = sa.select(table).where(table.c.name == name, table.c.version == version, table.c.origin_ts >= since)
    return [HourlyForecast(**row._mapping) for row in connection.execute(wanted.order_by(table.c.origin_ts))]


def find_forecast(connection: Connection, name: str, version: int, origin_ts: datetime) -> HourlyForecast | None:
    table = HOURLY_FORECASTS
    wanted = sa.select(table).where(table.c.name == name, table.c.version == version, table.c.origin_ts == origin_ts)
    row = connection.execute(wanted).first()
    return HourlyForecast(**row._mapping) if row else None


def read_outcomes(connection: Connection, symbol: str, *, since: datetime) -> list[Outcome]:
    """Return all revisions of outcomes with targets from `since` on, ascending."""
    table = OUTCOMES
    wanted = sa.select(table).where(table.c.symbol == symbol, table.c.target_ts >= since)
    found = connection.execute(wanted.order_by(table.c.target_ts, table.c.revision))
    return [Outcome(**row._mapping) for row in found]


def read_scores(connection: Connection, name: str, version: int, *, since: datetime) -> list[Score]:
    """Return the scores of origins from `since` on, ascending by origin and step."""
    table = SCORES
    wanted = sa.select(table).where(table.c.name == name, table.c.version == version, table.c.origin_ts >= since)
    return [Score(**row._mapping) for row in connection.execute(wanted.order_by(table.c.origin_ts, table.c.step))]


def read_daily_scores(
    connection: Connection, name: str, version: int, *, step: int | None = None, since: str = ""
) -> list[DailyScore]:
    """Return sums of days from `since` on, ascending by day and step; `step` None: of all steps."""
    table = DAILY_SCORES
    wanted = sa.select(table).where(table.c.name == name, table.c.version == version, table.c.day >= since)
    if step is not None:
        wanted = wanted.where(table.c.step == step)
    return [DailyScore(**row._mapping) for row in connection.execute(wanted.order_by(table.c.day, table.c.step))]


def read_daily_losses(connection: Connection, name: str, version: int) -> list[DailyScore]:
    """Return days with `n` and `losses` alone, ascending by day and step: the other sums of years take long to read."""
    table = DAILY_SCORES.c
    parts = table.sums["n"].as_integer().label("n"), table.sums["losses"].label("losses")
    wanted = sa.select(table.day, table.step, *parts).where(table.name == name, table.version == version)
    found = connection.execute(wanted.order_by(table.day, table.step))
    return [DailyScore(name, version, row.day, row.step, {"n": row.n, "losses": row.losses}) for row in found]


def last_scored_day(connection: Connection, name: str, version: int) -> str | None:
    """Find the last day that has sums; None: no forecast was ever scored."""
    table = DAILY_SCORES.c
    wanted = sa.select(sa.func.max(table.day)).where(table.name == name, table.version == version)
    day: str | None = connection.scalar(wanted)
    return day


def read_states(connection: Connection, name: str, version: int) -> dict[str, Mapping[str, Any]]:
    """Return the states of a version by kind."""
    table = MONITOR_STATES.c
    wanted = sa.select(table.kind, table.state).where(table.name == name, table.version == version)
    return {row.kind: row.state for row in connection.execute(wanted)}


def read_state_rows(connection: Connection, kind: str, versions: Collection[tuple[str, int]]) -> list[MonitorState]:
    """Return states of versions, given by name and number; versions without one are left out."""
    table = MONITOR_STATES
    wanted = sa.select(table).where(table.c.kind == kind, sa.tuple_(table.c.name, table.c.version).in_(versions))
    return [MonitorState(**row._mapping) for row in connection.execute(wanted)]


def read_findings(connection: Connection) -> list[FindingRow]:
    wanted = sa.select(FINDINGS).order_by(FINDINGS.c.rule, FINDINGS.c.subject)
    return [FindingRow(**row._mapping) for row in connection.execute(wanted)]


def remove_findings(connection: Connection, keys: Sequence[tuple[str, str]]) -> None:
    """keys    rule and subject of each"""
    for rule, subject in keys:
        connection.execute(sa.delete(FINDINGS).where(FINDINGS.c.rule == rule, FINDINGS.c.subject == subject))


def list_watched(connection: Connection) -> list[tuple[str, int]]:
    """Return names and versions that have a forecast or a score, ascending."""
    wanted = (sa.select(table.c.name, table.c.version) for table in (HOURLY_FORECASTS, DAILY_SCORES))
    return sorted((name, version) for name, version in connection.execute(sa.union(*wanted)))


def last_run(connection: Connection, name: str) -> datetime | None:
    """Return the time at which the monitor last recorded its progress with a name; None: never."""
    table = MONITOR_STATES.c
    newest = sa.select(table.at).where(table.name == name).order_by(table.at.desc()).limit(1)
    at: datetime | None = connection.scalar(newest)
    return at


def remove_old(connection: Connection, name: str, symbol: str, *, before: datetime) -> None:
    """Remove forecasts, scores and outcomes of hours before `before`; their sums by day stay."""
    for table in (HOURLY_FORECASTS, SCORES):
        connection.execute(sa.delete(table).where(table.c.name == name, table.c.origin_ts < before))
    connection.execute(sa.delete(OUTCOMES).where(OUTCOMES.c.symbol == symbol, OUTCOMES.c.target_ts < before))
