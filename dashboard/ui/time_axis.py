"""An axis of times on which closed hours are left out.

Legend: P moments, ascending, each at a place of its own: hours, or candles.
"""

from collections.abc import Sequence
from datetime import datetime, tzinfo
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from bokeh.models import CustomJSTicker, CustomJSTickFormatter
from bokeh.plotting import figure

Floats = npt.NDArray[np.float64]
MINUTES = (1, 5, 15, 60, 180, 360, 720)  # of the day: a label at the first moment that lies in another part of it
DAY, WEEK, MONTH, YEAR = range(len(MINUTES) + 1, len(MINUTES) + 5)  # ranks, above those of MINUTES
LABEL_PX, MOST = 88, 9  # the room of a label; how many of them
# Labels by rank, as far as none is near another; from the first moment on, so that they stay while one moves about.
TICKS = """if (plot.properties.inner_width.is_unset) return []
const most = Math.max(1, Math.min(most_labels, Math.floor(plot.inner_width / room)))
const {start, end} = cb_data, apart = (end - start) / most, taken = []
const edge = end - (end - start) * room / 2.5 / plot.inner_width // where a label would be cut off
for (const at of order) {
  const x = places[at]
  if (x < start || x > edge || taken.some(other => Math.abs(other - x) < apart)) continue
  taken.push(x)
}
return taken"""
LABEL = "return labels[places.indexOf(tick)] ?? ''"


def rank(before: datetime, at: datetime) -> int:
    """The longest part of the calendar that begins between two moments."""
    if before.date() != at.date():
        if before.year != at.year:
            return YEAR
        if before.month != at.month:
            return MONTH
        return WEEK if before.isocalendar().week != at.isocalendar().week else DAY
    first, second = (60 * moment.hour + moment.minute for moment in (before, at))
    return max((number for number, each in enumerate(MINUTES, start=1) if first // each != second // each), default=0)


def label(at: datetime, of_rank: int, *, within_days: bool) -> str:
    """Two lines: what has begun, and of what it is a part.

    within_days    the moments are parts of days
    """
    if of_rank >= MONTH and not within_days:
        return f"{at:%Y}" if of_rank == YEAR else f"{at:%b}\n{at:%Y}"
    return f"{at:%a %d}\n{at:%b %Y}" if of_rank >= DAY else f"{at:%H:%M}\n{at:%a %d %b}"


class TimeAxis:
    """The lower axis of a plot, which names the zone; `show` changes it in place."""

    def __init__(self, plot: figure, zone: tzinfo) -> None:
        self._zone = zone
        self._ticker = CustomJSTicker(
            args={"plot": plot, "places": [], "order": [], "room": LABEL_PX, "most_labels": MOST}, major_code=TICKS
        )
        self._formatter = CustomJSTickFormatter(args={"places": [], "labels": []}, code=LABEL)
        plot.xaxis.axis_label = str(zone)
        plot.xaxis.ticker, plot.xaxis.formatter = self._ticker, self._formatter

    def show(self, place_P: Floats, moments: Sequence[datetime]) -> None:
        local = [ts.astimezone(self._zone) for ts in moments]
        ranks = [rank(before, at) for before, at in pairwise([*local[:1], *local])]
        order = np.argsort(-np.array(ranks), kind="stable").tolist()
        within_days = any(0 < of_rank < DAY for of_rank in ranks)
        labels = [label(at, of_rank, within_days=within_days) for at, of_rank in zip(local, ranks, strict=True)]
        places = place_P.tolist()
        self._formatter.args = {"places": places, "labels": labels}
        self._ticker.args = {**self._ticker.args, "places": places, "order": order}
