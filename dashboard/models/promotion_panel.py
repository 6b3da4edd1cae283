"""Promote and roll back: what is asked for, the confirmation of it, and its result."""

from collections.abc import Callable
from functools import partial
from html import escape

import panel as pn

from dashboard.models.registry_client import Move, RegistryClient
from dashboard.models.version_tables import NONE, verdict
from dashboard.operator import actor
from dashboard.ui.blocks import html
from dashboard.ui.confirmation import OFF, Confirmation
from dashboard.ui.page_context import PageContext
from lstm_ts.registry.version import ALIASES, CHALLENGER, CHAMPION, PROMOTE, ROLLBACK, Version


class PromotionPanel:
    """`aim` says which version is meant; `moved` is called once an alias is elsewhere."""

    def __init__(self, context: PageContext, registered: RegistryClient, name: str, moved: Callable[[], None]) -> None:
        self._registered, self._name = registered, name
        self._judged = ""
        self._possible: dict[str, Move] = {}
        self._buttons = {key: pn.widgets.Button(label=key, margin=(4, 8, 4, 0)) for key in (*ALIASES, ROLLBACK)}
        for key, button in self._buttons.items():
            button.on_click(partial(self._ask, key))
        self._why = html()
        self._is_on = bool(context.settings.operator_password)
        self._confirmation = Confirmation(context.settings.operator_password, moved)
        command = f"registry action=promote{escape(context.settings.typed_paths)}"
        off = html(OFF.format("promotes or rolls back", command))
        shown = [pn.FlexBox(*self._buttons.values()), self._why, self._confirmation.view] if self._is_on else [off]
        self.view = pn.Column(*shown, sizing_mode="stretch_width", margin=0)

    def aim(self, version: Version, versions: list[Version]) -> None:
        """Offer what can be done with this version."""
        if not self._is_on:
            return
        holders = {alias: each.number for each in versions for alias in each.aliases}
        back = self._registered.rollback_of(self._name)
        possible = {alias: Move(PROMOTE, alias, holders.get(alias), version.number) for alias in ALIASES}
        self._possible = {alias: move for alias, move in possible.items() if can_assign(alias, version)}
        self._possible |= {ROLLBACK: back} if back else {}
        self._judged = verdict(version)
        why = why_not(version, can_go_back=back is not None)

        def draw() -> None:
            for alias in ALIASES:
                self._buttons[alias].label = f"Make version {version.number} {alias} …"
            self._buttons[ROLLBACK].label = f"Roll back to version {back.to} …" if back else "Roll back …"
            for key, button in self._buttons.items():
                button.disabled = key not in self._possible
            self._why.object = why
            self._confirmation.show("", None)

        pn.state.execute(draw)

    def _ask(self, key: str, _: object) -> None:
        if wanted := self._possible.get(key):
            self._confirmation.ask(question(self._name, wanted, self._judged), partial(self._move, wanted))
        else:
            self._confirmation.ask("", None)

    def _move(self, wanted: Move, reason: str) -> str:
        self._registered.move(self._name, wanted, actor=actor(), reason=reason)
        return done(self._name, wanted)


def can_assign(alias: str, version: Version) -> bool:
    return alias not in version.aliases and CHAMPION not in version.aliases


def why_not(version: Version, *, can_go_back: bool) -> str:
    """Why buttons are off, in words; empty where none is."""
    number = version.number
    reasons = [f"Version {number} is champion already, and a version has one role."] * (CHAMPION in version.aliases)
    reasons += [f"Version {number} is challenger already."] * (CHALLENGER in version.aliases)
    reasons += ["There is no earlier champion to roll back to."] * (not can_go_back)
    return f'<p class="quiet">{escape(" ".join(reasons))}</p>' if reasons else ""


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
