"""Spacing of the bars of a file, determined from all of its stamps, whatever their order.

The spacing is the most frequent difference of successive stamps. It may change on the way: a segment of bars further
apart counts as one where finer bars would hardly fall on its grid by chance. Times are microseconds since 1970.

Legend: N stamps, D differences of successive stamps.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

SECOND_US = 1_000_000
MINUTE_US, HOUR_US = 60 * SECOND_US, 3600 * SECOND_US
SIZES = (7 * 24 * HOUR_US, 24 * HOUR_US, HOUR_US, MINUTE_US, SECOND_US)
UNITS = tuple(zip(SIZES, ("week", "day", "hour", "minute", "second"), strict=True))
PERIOD = re.compile(
    r"(?:^|\s|PT|_)(?P<before>[MHD]?)(?P<count>\d+) ?"
    r"(?P<behind>m|T|[Mm]in(?:ute)?s?|[Hh](?:ou)?r?s?|[Dd](?:ays?)?)?$"
)
ON_GRID = 0.9  # of the stamps; the others are damaged rows
SURE = 1e3  # to one that finer bars would not all have fallen on the grid
SURE_OF_A_CHANGE = 1e9  # the same for a segment that may begin at any bar of a file
SURE_AT_AN_EDGE = 1e5  # the same for one that begins with the first bar, or ends with the last
FREQUENT = 3  # differences that make a spacing
CANDIDATES = 12
MOST_EXPORTS = 10  # joined in one file, beside the first
SHORT_RUN = 8  # differences in a row that are damaged rows within a segment, not a segment of their own

Times = NDArray[np.int64]


@dataclass(frozen=True)
class Segment:
    first: int  # stamp
    spacing: int
    certain: bool  # False: too few bars to be sure
    phase: int  # of the stamps within the spacing, or within the hour where it is longer
    mixed: int = 0  # another spacing that bars off the grid have
    likely: int = MINUTE_US  # the spacing of bars that are too few to be certain of it

    @property
    def usable(self) -> bool:
        """True if the bars are minutes, or hours can be made of them."""
        return HOUR_US % self.spacing == 0 and self.spacing % MINUTE_US == 0 and not self.phase and not self.mixed

    def __str__(self) -> str:
        apart = f"bars {format_duration(self.spacing)} apart"
        if self.mixed:
            return f"{apart}, some of them {format_duration(self.mixed)}"
        if self.phase and HOUR_US % self.spacing == 0:
            full = "hour" if self.spacing == HOUR_US else "one"
            return f"{apart} that open {format_duration(self.phase)} past the full {full}"
        return apart


def format_duration(span: int) -> str:
    """Format a duration in the largest unit that divides it: 90 minutes, 1 day."""
    size, unit = next(((size, unit) for size, unit in UNITS if span % size == 0), (SECOND_US, "second"))
    count = span / size
    return f"{count:g} {unit}{'s' * (count != 1)}"


def parse_period(text: str) -> int | None:
    """Parse M5, 5m, 5 min, 5, H1, 1h or D1 to microseconds; None for other words."""
    found = PERIOD.search(text.strip())
    if found is None or (found["before"] and found["behind"]):
        return None
    count, unit = int(found["count"]), (found["before"] or found["behind"] or "")[:1].lower()
    if not unit:  # minutes, of which vendors count at most an hour so
        return count * MINUTE_US if count and 60 % count == 0 else None
    return count * {"m": MINUTE_US, "t": MINUTE_US, "h": HOUR_US, "d": 24 * HOUR_US}[unit]


def at_minute(stamp: int) -> str:
    return datetime.fromtimestamp(stamp / 1e6, UTC).strftime("%Y-%m-%d %H:%M")


def find_segments(stamps_N: Times) -> list[Segment]:
    """stamps_N   ascending and unique"""
    gaps_D = np.diff(stamps_N)
    spacing_D = _segment_spacings(gaps_D)
    starts = np.append(0, np.flatnonzero(np.diff(spacing_D)) + 1)
    segments = []
    for start, end in zip(starts, [*starts[1:], len(spacing_D)], strict=True):
        # The difference across a border belongs to the coarser side, whose last bar it follows or precedes.
        first = start + 1 if start and spacing_D[start - 1] > spacing_D[start] else start
        last = end if end < len(spacing_D) and spacing_D[end] > spacing_D[start] else end + 1
        segments.append(_segment(stamps_N[first : max(last, first + 1)]))
    return segments or [_segment(stamps_N)]


def _segment_spacings(gaps_D: Times) -> Times:
    """Return the spacing of the segment of each difference; 0 for all if fewer than two spacings are frequent."""
    values, counts = np.unique(gaps_D, return_counts=True)
    frequent = np.sort(values[counts >= FREQUENT][np.argsort(counts[counts >= FREQUENT])[-CANDIDATES:]])
    spacing_D = np.zeros(len(gaps_D), np.int64)
    if len(frequent) < 2:
        return spacing_D
    for candidate in frequent[:0:-1]:
        inside, at_edge = (
            _gaps_to_be_sure(candidate, frequent[0], odds) for odds in (SURE_OF_A_CHANGE, SURE_AT_AN_EDGE)
        )
        on_grid = gaps_D % candidate == 0 if candidate <= HOUR_US else gaps_D >= 0.9 * candidate
        for start, end in _runs((spacing_D == 0) & on_grid, at_least=max(at_edge, FREQUENT)):
            long_enough = end - start >= inside or start == 0 or end == len(gaps_D)
            if long_enough and 2 * (gaps_D[start:end] == candidate).sum() >= end - start:
                spacing_D[start:end] = candidate
    _absorb_short_runs(spacing_D)
    finer = gaps_D[spacing_D == 0]
    if len(finer):
        spacing_D[spacing_D == 0] = _mode(finer)
    return spacing_D


def _gaps_to_be_sure(spacing: int, finer: int, odds: float) -> int:
    """Return how many gaps on the grid of a spacing bars of a finer one leave by chance once in `odds`."""
    return int(np.ceil(np.log(odds) / np.log(spacing / finer)))


def find_longer_run(stamps_N: Times, spacing: int) -> Segment | None:
    """Return bars further apart than those of their file, as of another export behind it; None if there are none.

    stamps_N   in the order of the file, in which an export begins where time goes back
    """
    gaps_D = np.diff(stamps_N)
    forward_D = gaps_D >= 0 if 2 * (gaps_D < 0).sum() <= len(gaps_D) else gaps_D <= 0
    if not 0 < (~forward_D).sum() <= MOST_EXPORTS:  # more: rows in another order
        return None
    for start, end in _runs(forward_D, at_least=FREQUENT):
        part_N = np.unique(stamps_N[start : end + 1])
        part = _segment(part_N)
        even = 2 * (np.diff(part_N) == part.spacing).sum() >= len(part_N) - 1
        longer = part.certain and part.spacing > spacing and even
        if longer and len(part_N) > _gaps_to_be_sure(part.spacing, spacing, SURE_OF_A_CHANGE):
            return part
    return None


def contradicts(stamps_N: Times, segment: Segment, named: int) -> bool:
    """Return whether bars of the spacing that their file names would hardly be as far apart as a segment's."""
    longer = segment.certain and segment.spacing > named
    return longer and len(stamps_N) > _gaps_to_be_sure(segment.spacing, named, SURE_OF_A_CHANGE)


def _absorb_short_runs(spacing_D: Times) -> None:
    if not spacing_D.any():
        return
    for start, end in _runs(spacing_D == 0):
        if end - start < SHORT_RUN and end - start < len(spacing_D):
            spacing_D[start:end] = spacing_D[start - 1] if start else spacing_D[end]


def _runs(flags_D: NDArray[np.bool_], at_least: int = 1) -> list[tuple[int, int]]:
    """Return the starts and ends of the runs of at least `at_least` flags."""
    edges = np.flatnonzero(np.diff(flags_D, prepend=False, append=False)).reshape(-1, 2)
    return [(start, end) for start, end in edges[edges[:, 1] - edges[:, 0] >= at_least].tolist()]


def _mode(gaps_D: Times) -> int:
    values, counts = np.unique(gaps_D, return_counts=True)
    return int(values[counts.argmax()])


def _segment(stamps_N: Times) -> Segment:
    gaps_D, first = np.diff(stamps_N), int(stamps_N[0])
    if not len(gaps_D):
        return Segment(first, MINUTE_US, certain=False, phase=0, likely=int(np.gcd(first, HOUR_US)))
    spacing = _mode(gaps_D)
    if spacing == MINUTE_US:
        return Segment(first, MINUTE_US, certain=True, phase=0)
    grid = int(np.gcd(spacing, HOUR_US)) if spacing > HOUR_US else spacing
    phases, counts = np.unique(stamps_N % grid, return_counts=True)
    whole = (gaps_D % spacing == 0).mean()  # bars of 7 minutes restart each day
    phase, on_grid = int(phases[counts.argmax()]), max(counts.max() / len(stamps_N), whole)
    if spacing < MINUTE_US:
        return Segment(first, spacing, certain=len(gaps_D) >= FREQUENT, phase=0)
    finest = int(np.gcd.reduce(gaps_D))
    sure = len(gaps_D) * np.log(spacing / MINUTE_US) >= np.log(SURE)
    if on_grid >= ON_GRID:
        # One minute bar an hour may also be a thin file of minutes, where there are only two of them.
        if sure:
            return Segment(first, spacing, True, phase)
        usual = not phase and (HOUR_US % spacing == 0 or spacing % HOUR_US == 0)
        return Segment(first, MINUTE_US, certain=False, phase=0, likely=spacing if usual else MINUTE_US)
    if finest <= MINUTE_US or not sure:
        return Segment(first, MINUTE_US, certain=finest == MINUTE_US, phase=0)
    return Segment(first, spacing, certain=True, phase=0, mixed=int(gaps_D.min()))
