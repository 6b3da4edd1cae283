"""Incidents and silences as tables."""

from collections.abc import Sequence
from html import escape
from zoneinfo import ZoneInfo

from dashboard.monitoring.watched import Alarms
from dashboard.ui.blocks import prose, table
from dashboard.ui.text import short
from lstm_ts.ledger.alert_rows import DeliveryRow, IncidentRow, SilenceRow
from lstm_ts.monitoring.alerts import Severity
from lstm_ts.monitoring.messages import find_silence, format_span
from lstm_ts.monitoring.silences import describe_scope

NONE = (
    '<p class="quiet">No alert has been raised. One stands here once a check has found something wrong for as long as '
    "its rule in conf/alerts asks, and who was notified.</p>"
)


def incidents_view(alarms: Alarms, zone: ZoneInfo) -> str:
    """HTML."""
    if not alarms.incidents:
        return NONE
    told = [row for row in alarms.open if row.severity != Severity.NONE]
    groups = {
        "Open alerts": told,
        "Recorded, not sent": [row for row in alarms.open if row.severity == Severity.NONE],
        "Past alerts, the newest first": [row for row in alarms.incidents if row.ended_at],
    }
    tables = [incidents_table(caption, rows, alarms, zone) for caption, rows in groups.items() if rows]
    return f"<p><strong>{count_words(len(told))}</strong></p>{''.join(tables)}"


def count_words(count: int) -> str:
    return f"{count} alert{'s are' if count > 1 else ' is'} open." if count else "No alert is open."


def incidents_table(caption: str, rows: Sequence[IncidentRow], alarms: Alarms, zone: ZoneInfo) -> str:
    cells = [
        (
            f'<div class="name">{escape(describe_scope(row))}<br>'
            f"<small>{row.number}, {escape(row.severity)}</small></div>",
            prose(row.sentence, row.command),
            since_words(row, zone),
            receivers_html(row, alarms, zone),
        )
        for row in rows
    ]
    heads = ("Alert", "What was found", f"Since, {escape(zone.key)}", "Told")
    return table(caption, heads, cells, text=(1, 2, 3))


def since_words(row: IncidentRow, zone: ZoneInfo) -> str:
    """HTML."""
    ended = f"<br><small>for {format_span(row.ended_at - row.began_at)}</small>" if row.ended_at else ""
    return short(row.began_at, zone) + ended


def receivers_html(incident: IncidentRow, alarms: Alarms, zone: ZoneInfo) -> str:
    """Return HTML: the deliveries to each receiver, and a silence in force."""
    silence = None if incident.ended_at else find_silence(incident, alarms.silences)
    lines = [f"silenced until {short(silence.until, zone)}"] if silence else []
    lines += [delivery_words(row, zone) for row in alarms.deliveries if row.number == incident.number]
    return "<br>".join(map(escape, lines or ["nobody"]))


def delivery_words(row: DeliveryRow, zone: ZoneInfo) -> str:
    if row.sent_at:
        return f"{row.receiver}: {row.kind}, {short(row.sent_at, zone)}"
    return f"{row.receiver}: {row.kind}, not delivered ({row.trouble or 'cut off'}; {row.attempts} attempts)"


def silences_table(silences: Sequence[SilenceRow], zone: ZoneInfo) -> str:
    """Return HTML; empty without silences."""
    cells = [
        (
            escape(describe_scope(row)),
            short(row.until, zone),
            escape(row.actor),
            prose(row.reason),
        )
        for row in silences
    ]
    heads = ("Silenced", f"Until, {escape(zone.key)}", "Who", "Why")
    return table("Silences in force", heads, cells, text=(1, 2, 3)) if cells else ""
