"""The span that a chart shows of its axis: a mouse drags and zooms it, buttons move it, within what there is."""

from collections.abc import Callable
from functools import partial
from typing import Any

import panel as pn
from bokeh.events import MouseWheel, Pinch
from bokeh.models import CustomJS, CustomJSHover, PanTool, Range1d
from bokeh.models import WheelZoomTool as Wheel
from bokeh.plotting import figure

MOVES = {"Earlier": (-0.5, 1.0), "Later": (0.5, 1.0), "Zoom in": (0.0, 0.5), "Zoom out": (0.0, 2.0)}
# A finger on the picture scrolls the page.
TOUCHED = "if (matchMedia('(pointer: coarse)').matches) tools.forEach(tool => { tool.active = false })"
# A wheel that does not keep its focus ignores the range's least interval. Only a mouse's moves are taken back: those of
# the server come edge by edge.
IS_ALLOWED = "const {start, end, min_interval, last_allowed} = range, allowed = end - start >= min_interval - 1e-6\n"
REMEMBER = IS_ALLOWED + "if (allowed) range.last_allowed = {start, end}"
TAKE_BACK = IS_ALLOWED + "if (!allowed && last_allowed) range.setv(last_allowed)"
HINT = "A mouse drags, and its wheel zooms; the buttons do the same. Closed hours are left out."
# A moment in the zones of `args`, formatted in the browser; in the second zone only if it is another time there.
MOMENT = """const day = {weekday: "short", day: "2-digit", month: "short", year: "numeric"}
const told = (zone, options) => new Date(value).toLocaleString("en-GB",
  {timeZone: zone, hour: "2-digit", minute: "2-digit", ...options})
const [first, other] = zones
const beside = other && told(other, day) !== told(first, day)
return `${told(first, day)} ${first}` + (beside ? ` (${told(other, {weekday: "short"})} ${other})` : "")"""


def moment_hover(zone: str) -> Any:
    """Formats milliseconds since 1970 in a tip, in the zone and in UTC."""
    return CustomJSHover(args={"zones": list(dict.fromkeys([zone, "UTC"]))}, code=MOMENT)


def drag_and_zoom(plot: figure) -> None:
    """A mouse drags the lower axis, and its wheel zooms it, to the range's least interval."""
    drag, wheel = PanTool(dimensions="width"), Wheel(dimensions="width", maintain_focus=False)
    plot.add_tools(drag, wheel)
    plot.toolbar.active_drag, plot.toolbar.active_scroll = drag, wheel
    for edge in ("start", "end"):
        plot.x_range.js_on_change(edge, CustomJS(args={"range": plot.x_range}, code=REMEMBER))
    for event in (MouseWheel, Pinch):
        plot.js_on_event(event, CustomJS(args={"range": plot.x_range}, code=TAKE_BACK))
    plot.js_on_change("inner_width", CustomJS(args={"tools": [drag, wheel]}, code=TOUCHED))


class TimeSpan:
    """A span of places on the lower axis of a plot."""

    def __init__(
        self,
        plot: figure,
        span: tuple[float, float],
        whole: Callable[[], tuple[float, float]],
        narrowest: float,
        *,
        moving: Callable[[], None] = lambda: None,
    ) -> None:
        """whole      what there is
        moving     called before a button or `zoom_to` changes the span
        """
        self._whole, self._narrowest, self._moving = whole, narrowest, moving
        self.range = Range1d(start=span[0], end=span[1], bounds=whole(), min_interval=narrowest)
        plot.x_range = self.range
        drag_and_zoom(plot)
        self.buttons = [pn.widgets.Button(name=name, margin=(22, 8, 4, 0)) for name in (*MOVES, "Whole span")]
        for button, move in zip(self.buttons, MOVES.values(), strict=False):
            button.on_click(partial(self._move, *move))
        self.buttons[-1].on_click(self._show_whole)

    @property
    def seen(self) -> tuple[float, float]:
        start, end = self.range.start, self.range.end
        assert isinstance(start, float | int) and isinstance(end, float | int)
        return start, end

    def zoom_to(self, start: float, end: float) -> float:
        """Show the span as far as there is something, no narrower than the eye needs; return where it begins."""
        self._moving()
        start, end = clip(start, end, self._whole(), self._narrowest)
        pn.state.execute(lambda: self.range.update(start=start, end=end))
        return start

    def _show_whole(self, _: object) -> None:
        self.zoom_to(*self._whole())

    def grow(self) -> None:
        """Let it be moved as far as there is something by now."""
        self.range.bounds = self._whole()

    def _move(self, shift: float, factor: float, _: object) -> None:
        """shift    of the span that is seen; factor: of its length"""

        def move() -> None:  # from what is seen when it is this click's turn: clicks may come faster than they are done
            start, end = self.seen
            middle, length = (start + end) / 2 + shift * (end - start), factor * (end - start)
            self.zoom_to(middle - length / 2, middle + length / 2)

        pn.state.execute(move)


def clip(start: float, end: float, whole: tuple[float, float], narrowest: float) -> tuple[float, float]:
    """The span of that length, or of what there is, that lies within it and nearest to the wanted one."""
    first, last = whole
    length = min(max(end - start, narrowest), last - first)
    start = min(max((start + end - length) / 2, first), last - length)
    return start, start + length
