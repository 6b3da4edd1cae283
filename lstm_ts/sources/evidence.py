"""Evidence of files about minutes without a bar, which must not depend on how the files are cut.

Between two stored minutes at most `SILENCE` session minutes apart nothing happened, whether or not one file holds both.
A longer stretch without a bar is a hole, about which no file proves anything.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from lstm_ts.market.bars import TS, AnsweredSpan
from lstm_ts.market.spacing import MINUTE_US

SILENCE = 240  # session minutes: in five years of silver the longest without a tick, but for 7 holes


def join_to_stored(answers: Sequence[AnsweredSpan], stored: pl.Series, sessions: pl.DataFrame) -> list[AnsweredSpan]:
    """Return one file's answers, extended to the stored bars around it, without its holes.

    answers    cut where a bad row leaves its minute unknown
    stored     stamps of all bars, those of the file among them, ascending
    sessions   `opens, closes` of their span
    """
    if not answers:
        return []
    ts = stored.to_physical().to_numpy()
    silent = _session_minutes_between(ts, sessions) <= SILENCE
    first, last = (
        pl.Series([edge], dtype=TS).to_physical()[0]
        for edge in (min(answer.start for answer in answers), max(answer.end for answer in answers))
    )
    before, after = np.searchsorted(ts, first), np.searchsorted(ts, last)
    joined = []
    for answer in answers:
        start, end = pl.Series([answer.start, answer.end], dtype=TS).to_physical()
        if start == first and 0 < before < len(ts) and silent[before - 1]:
            start = int(ts[before - 1]) + MINUTE_US
        if end == last and 0 < after < len(ts) and silent[after - 1]:
            end = int(ts[after])
        for begin, stop in _without_holes(start, end, ts[:-1][~silent] + MINUTE_US, ts[1:][~silent]):
            count = int(np.searchsorted(ts, stop) - np.searchsorted(ts, begin))
            edges = pl.Series([begin, stop]).cast(TS)
            joined.append(replace(answer, start=edges[0], end=edges[1], bars=count))
    return joined


def _session_minutes_between(ts: np.ndarray, sessions: pl.DataFrame) -> np.ndarray:
    """Return the session minutes between each bar and the next one, both excluded."""
    opens, closes = (sessions[name].to_physical().to_numpy() // MINUTE_US for name in ("opens", "closes"))
    total = np.append(0, np.cumsum(closes - opens))

    def before(minutes: np.ndarray) -> np.ndarray:
        begun = np.searchsorted(opens, minutes, "right")
        last_close = np.append(0, closes)[begun]
        return np.asarray(total[begun] - np.maximum(last_close - minutes, 0) * (begun > 0))

    minutes = ts // MINUTE_US
    return np.asarray(before(minutes[1:]) - before(minutes[:-1] + 1))


def _without_holes(start: int, end: int, from_H: np.ndarray, until_H: np.ndarray) -> Iterator[tuple[int, int]]:
    for hole_start, hole_end in zip(from_H.tolist(), until_H.tolist(), strict=True):
        if hole_end > start and hole_start < end:
            if start < hole_start:
                yield start, hole_start
            start = hole_end
    if start < end:
        yield start, end
