"""A question that an operator confirms with a reason and the password; without both nothing is done."""

from collections.abc import Callable
from html import escape
from time import monotonic

import panel as pn

from dashboard.operator import operator_of, visitor_address
from dashboard.ui.blocks import Reason, Secret, alert, html, set_html
from dashboard.ui.loading import asking
from lstm_ts.errors import ConfigError

OFF = (
    '<p class="quiet">Nobody {} here: no operator password is set. To switch it on, set '
    "<code>LSTM_TS_OPERATOR_PASSWORD</code> and start the dashboard again; "
    "<code>python -m lstm_ts.{}</code> does the same on a command line.</p>"
)
Act = Callable[[str], str]  # the reason -> what was done, as text


class Confirmation:
    def __init__(self, password: str, after: Callable[[], None]) -> None:
        """after     called after each attempt, which may have changed what can be offered"""
        self._password, self._after = password, after
        self._act: Act | None = None
        self._question, self._said = html(), html()
        self._reason = Reason(label="Reason, which is kept", max_length=500, sizing_mode="stretch_width", margin=(4, 0))
        self._secret = Secret(label="Operator password", width=240, margin=(4, 0))
        confirm = pn.widgets.Button(label="Confirm", color="primary", margin=(4, 8, 4, 0))
        cancel = pn.widgets.Button(label="Cancel", margin=(4, 8, 4, 0))
        confirm.on_click(lambda _: self._confirm())
        cancel.on_click(lambda _: self.ask("", None))
        self._form = pn.Column(
            self._question, self._reason, self._secret, pn.FlexBox(confirm, cancel),
            sizing_mode="stretch_width", margin=0, visible=False,
        )  # fmt: skip
        self.view = pn.Column(self._form, self._said, sizing_mode="stretch_width", margin=0)

    def ask(self, question: str, act: Act | None) -> None:
        """Ask a question (HTML), and do `act` once it is confirmed; None removes the question."""
        self._said.object = ""
        self.show(question, act)

    def show(self, question: str, act: Act | None) -> None:
        """Show a question as `ask` does, but keep the message about the last one."""
        self._act = act
        self._secret.value, self._form.visible = "", act is not None
        self._question.object = question

    def _confirm(self) -> None:
        done = ""
        with asking(self._form, lambda text: self._set_message(done + alert(text))):
            act, reason = self._act, (self._reason.value or "").strip()
            if act is None:  # a second click
                return
            if not reason:
                raise ConfigError("Expected a reason for it, got none; it is kept with it, for those who come later.")
            secret, self._secret.value = self._secret.value or "", ""
            operator_of(self._password).check(secret, address=visitor_address(), now=monotonic())
            try:
                done = f'<p role="status">{escape(act(reason))}</p>'
                self._reason.value = ""
            finally:
                self._after()
                pn.state.execute(lambda: self.show("", None))
            self._set_message(done)

    def _set_message(self, text: str) -> None:
        set_html(self._said, text)
