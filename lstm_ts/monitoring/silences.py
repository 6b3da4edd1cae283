"""An alert silenced, or a silence ended, by a person: kept in the ledger, and logged in the audit."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from lstm_ts.ledger.alert_rows import IncidentRow, SilenceRow
from lstm_ts.ledger.alert_tables import add_silence, end_silence, read_silences
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.logs import audit
from lstm_ts.monitoring.messages import format_time


def silence(ledger: Ledger, row: SilenceRow) -> None:
    with ledger.transaction() as connection:
        add_silence(connection, row)
    message = f"{row.actor} silenced {describe_scope(row)} until {format_time(row.until)}: {row.reason}"
    facts: dict[str, Any] = {"actor": row.actor, "reason": row.reason, "until": row.until}
    audit("alert_silenced", message, rule=row.rule, subject=row.subject, **facts)


def unsilence(
    ledger: Ledger, wanted: Callable[[SilenceRow], bool], *, at: datetime, by: str, reason: str | None = None
) -> list[SilenceRow]:
    """Those in force that were wanted, ended.    reason    None: that of the silence"""
    with ledger.transaction() as connection:
        found = [row for row in read_silences(connection, at=at) if wanted(row)]
        for row in found:
            end_silence(connection, row, at=at, by=by)
    for row in found:
        why = reason or row.reason
        message = f"{by} ended the silence of {describe_scope(row)} by {row.actor}: {why}"
        audit("silence_ended", message, rule=row.rule, subject=row.subject, actor=by, reason=why)
    return found


def describe_scope(row: SilenceRow | IncidentRow) -> str:
    return f"{row.rule} of {row.subject or 'any subject'}"
