"""Promote and roll back: what is asked for, the confirmation of it, and what came of it."""

from collections.abc import Callable
from functools import partial
from html import escape
from time import monotonic
from typing import Any

import panel as pn

from dashboard.models.operator import operator_of
from dashboard.models.registry_client import Move, RegistryClient
from dashboard.models.version_tables import NONE, verdict
from dashboard.ui.blocks import Reason, Secret, alert, html
from dashboard.ui.loading import asking
from dashboard.ui.page_context import PageContext
from lstm_ts.errors import ConfigError
from lstm_ts.registry.registry import ALIASES
from lstm_ts.registry.version import PROMOTE, ROLLBACK, Version

OFF = (
    '<p class="quiet">Nobody promotes or rolls back here: no operator password is set. To switch it on, set '
    "<code>LSTM_TS_OPERATOR_PASSWORD</code> and start the dashboard again; "
    "<code>python -m lstm_ts.registry action=promote</code> does the same on a command line.</p>"
)


class PromotionPanel:
    """`aim` says which version is meant; `moved` is called once an alias is elsewhere."""

    def __init__(self, context: PageContext, registered: RegistryClient, name: str, moved: Callable[[], None]) -> None:
        self._registered, self._name, self._moved = registered, name, moved
        self._password = context.settings.operator_password
        self._wanted: Move | None = None
        self._judged = ""
        self._possible: dict[str, Move] = {}
        self._buttons = {key: pn.widgets.Button(label=key, margin=(4, 8, 4, 0)) for key in (*ALIASES, ROLLBACK)}
        for key, button in self._buttons.items():
            button.on_click(partial(self._ask, key))
        self._question, self._said = html(), html()
        self._reason = Reason(label="Reason, which is kept", max_length=500, sizing_mode="stretch_width", margin=(4, 0))
        self._secret = Secret(label="Operator password", width=240, margin=(4, 0))
        confirm = pn.widgets.Button(label="Confirm", color="primary", margin=(4, 8, 4, 0))
        cancel = pn.widgets.Button(label="Cancel", margin=(4, 8, 4, 0))
        confirm.on_click(lambda _: self._confirm())
        cancel.on_click(partial(self._ask, None))
        self._form = pn.Column(
            self._question, self._reason, self._secret, pn.FlexBox(confirm, cancel),
            sizing_mode="stretch_width", margin=0, visible=False,
        )  # fmt: skip
        self.view = pn.Column(sizing_mode="stretch_width", margin=0)
        self.view[:] = [pn.FlexBox(*self._buttons.values()), self._form, self._said] if self._password else [html(OFF)]

    def aim(self, version: Version, versions: list[Version]) -> None:
        """Offer what can be done with this version."""
        if not self._password:
            return
        holders = {alias: each.number for each in versions for alias in each.aliases}
        back = self._registered.rollback_of(self._name)
        possible = {alias: Move(PROMOTE, alias, holders.get(alias), version.number) for alias in ALIASES}
        self._possible = {alias: move for alias, move in possible.items() if move.current != move.to}
        self._possible |= {ROLLBACK: back} if back else {}
        self._judged = verdict(version)

        def draw() -> None:
            for alias in ALIASES:
                self._buttons[alias].label = f"Make version {version.number} {alias} …"
            self._buttons[ROLLBACK].label = f"Roll back to version {back.to} …" if back else "Roll back …"
            for key, button in self._buttons.items():
                button.disabled = key not in self._possible
            self._show(None)

        pn.state.execute(draw)

    def _ask(self, key: str | None, _: object) -> None:
        self._said.object = ""
        self._show(self._possible.get(key) if key else None)

    def _show(self, wanted: Move | None) -> None:
        self._wanted = wanted
        self._secret.value, self._form.visible = "", wanted is not None
        if wanted:
            self._question.object = question(self._name, wanted, self._judged)

    def _confirm(self) -> None:
        moved = ""
        with asking(self._form, lambda text: self._say(moved + alert(text))):
            wanted, reason = self._wanted, (self._reason.value or "").strip()
            if wanted is None:  # a second click
                return
            if not reason:
                raise ConfigError(
                    "Expected a reason for it, got none; it is kept with the move, for those who come later."
                )
            secret, self._secret.value = self._secret.value or "", ""
            operator_of(self._password).check(secret, address=_address(), now=monotonic())
            try:
                self._registered.move(self._name, wanted, reason=reason, user=pn.state.user)
                self._reason.value, moved = "", f'<p role="status">{escape(done(self._name, wanted))}</p>'
            finally:
                self._moved()  # what is offered may be another, too, where the move was refused
            self._say(moved)

    def _say(self, text: str) -> None:
        pn.state.execute(lambda: setattr(self._said, "object", text))


def _address() -> str:
    """The visitor's address."""
    context: Any = pn.state.curdoc.session_context if pn.state.curdoc else None
    return context.request.remote_ip if context else ""


def question(name: str, move: Move, judged: str) -> str:
    what = "Roll back" if move.action == ROLLBACK else "Promote"
    gate = f" The gate said of version {move.to}: {escape(judged)}." if move.action == PROMOTE else ""
    return (
        f"<p><strong>{what}: the {move.alias} of {escape(name)} goes from version {move.current or NONE} to version "
        f"{move.to}.</strong>{gate} A running service follows within seconds.</p>"
    )


def done(name: str, move: Move) -> str:
    again = " again" * (move.action == ROLLBACK)
    return f"The {move.alias} of {name} is version {move.to}{again}, no longer {move.current or 'none'}."
