"""Panel to silence an alert for a while or end a silence; needs the operator password."""

from collections.abc import Callable
from functools import partial
from html import escape

import panel as pn

from dashboard.monitoring.incidents import silences_table
from dashboard.monitoring.watched import Alarms, WatchedLedger
from dashboard.operator import actor
from dashboard.ui.blocks import Choice, html, kept, set_options
from dashboard.ui.confirmation import OFF, Confirmation
from dashboard.ui.page_context import PageContext
from dashboard.ui.text import short
from lstm_ts import clock
from lstm_ts.ledger.alert_rows import SilenceRow
from lstm_ts.market.session import DAY, HOUR
from lstm_ts.monitoring.alerts import RULES
from lstm_ts.monitoring.silences import describe_scope

SPANS = {"1 hour": HOUR, "4 hours": 4 * HOUR, "1 day": DAY, "1 week": 7 * DAY, "4 weeks": 28 * DAY}
Scope = tuple[str, str | None]  # rule and subject, None for any


class SilencePanel:
    """The panel; `offer` sets the alerts to choose from, `changed` is called after a silence began or ended."""

    def __init__(self, context: PageContext, ledger: WatchedLedger, changed: Callable[[], None]) -> None:
        self._zone, self._ledger = context.zone, ledger
        self._silences: dict[int, SilenceRow] = {}
        self._table = html()
        self._scope = Choice(label="Alert to silence", width=280, margin=(4, 16, 4, 0))
        self._span = Choice(label="For", options=list(SPANS), value="4 hours", width=110, margin=(4, 16, 4, 0))
        silence = pn.widgets.Button(label="Silence …", margin=(26, 16, 4, 0))
        silence.on_click(lambda _: self._ask())
        self._ended = Choice(label="Silence to end", width=280, margin=(4, 16, 4, 0), visible=False)
        self._end = pn.widgets.Button(label="End it …", margin=(26, 0, 4, 0), visible=False)
        self._end.on_click(lambda _: self._ask_end())
        password = context.settings.operator_password
        self._confirmation = Confirmation(password, changed)
        widgets = pn.FlexBox(self._scope, self._span, silence, self._ended, self._end)
        off = html(OFF.format("silences alerts", f"alerts action=silence{escape(context.settings.typed_paths)}"))
        shown = [widgets, self._confirmation.view] if password else [off]
        self.view = pn.Column(self._table, *shown, sizing_mode="stretch_width", margin=0)

    def update(self, alarms: Alarms) -> None:
        """Call it where the document may be changed."""
        self._table.object = silences_table(alarms.silences, self._zone)
        open_ones: list[Scope] = [(row.rule, row.subject) for row in alarms.open]
        rules = dict.fromkeys([rule for rule, _ in open_ones] + list(RULES))
        scopes = dict.fromkeys(open_ones + [(rule, None) for rule in rules])
        options = {f"{rule} of {subject or 'any subject'}": (rule, subject) for rule, subject in scopes}
        set_options(self._scope, options, kept(self._scope, options))
        self._silences = {row.number: row for row in alarms.silences}
        ends = {f"{describe_scope(row)} ({number})": number for number, row in self._silences.items()}
        set_options(self._ended, ends, kept(self._ended, ends))
        self._ended.visible = self._end.visible = bool(self._silences)

    def _ask(self) -> None:
        (rule, subject), span = self._scope.value, self._span.value
        scope = escape(f"{rule} of {subject or 'any subject'}")
        question = f"<p><strong>For {span}, alerts of {scope} are silenced.</strong> They are still shown here.</p>"
        self._confirmation.ask(question, partial(self._silence, (rule, subject), span))

    def _silence(self, scope: Scope, span: str, reason: str) -> str:
        now = clock.now()
        row = SilenceRow(0, *scope, now, now + SPANS[span], actor(), reason, ended_at=None, ended_by=None)
        self._ledger.silence(row)
        return f"Alerts of {describe_scope(row)} are silenced until {short(row.until, self._zone)} ({self._zone.key})."

    def _ask_end(self) -> None:
        if row := self._silences.get(self._ended.value):
            question = f"<p><strong>Alerts of {escape(describe_scope(row))} are no longer silenced.</strong></p>"
            self._confirmation.ask(question, partial(self._unsilence, row.number))

    def _unsilence(self, number: int, reason: str) -> str:
        row = self._ledger.unsilence(number, at=clock.now(), by=actor(), reason=reason)
        return f"Alerts of {describe_scope(row)} are no longer silenced."
