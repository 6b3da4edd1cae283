"""The view of what a visitor has selected, such as a symbol."""

from collections.abc import Callable
from typing import Any

import panel as pn
from panel.viewable import Viewable

from dashboard.ui.blocks import ButtonChoice, Choice, problem, waiting
from dashboard.ui.loading import Coalesced, asking


class SelectedView:
    """Built in a thread from the widgets' values. Of several selections in a row, the last one's view is shown.

    build     takes the widgets' values; a view that is expensive to build is kept by the caller
    """

    def __init__(self, build: Callable[..., Viewable], *widgets: Choice | ButtonChoice, min_height: int) -> None:
        self._build, self._widgets, self._refill = build, widgets, Coalesced(self._fill)
        self.view = pn.Column(sizing_mode="stretch_width", margin=0, min_height=min_height)
        for widget in widgets:
            widget.param.watch(lambda _: self._change(), "value")
        self._fill()

    @property
    def values(self) -> tuple[Any, ...]:
        return tuple(widget.value for widget in self._widgets)

    def _change(self) -> None:
        self.view[:] = [waiting()]  # not what belongs to another selection
        self._refill()

    def _fill(self) -> None:
        values = self.values
        with asking(self.view, lambda text: self._show(values, problem(text))):
            self._show(values, self._build(*values))

    def _show(self, values: tuple[Any, ...], view: Viewable) -> None:
        def draw() -> None:
            if values == self.values:
                self.view[:] = [view]

        pn.state.execute(draw)
