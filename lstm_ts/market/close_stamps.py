"""Bars that are stamped when they close instead of when they open, recognised at the edges of the sessions."""

import logging
from collections.abc import Iterable
from datetime import timedelta

import polars as pl

from lstm_ts.market.bars import TS
from lstm_ts.market.session import Session

log = logging.getLogger(__name__)
SEVERAL = 3  # openings, and closings, that have such bars; of a market that closes for days alone, one says as much
WEEK = timedelta(days=7)


def describe_close_stamps(bars: Iterable[tuple[int, pl.Series]], session: Session) -> list[str]:
    """Return a sentence for each spacing whose bars seem to be stamped when they close.

    bars   minutes of a bar and stamps of some of that spacing
    """
    stamps: dict[int, list[pl.Series]] = {}
    for minutes, ts in bars:
        stamps.setdefault(minutes, []).append(ts)
    return [
        f"No session of {session.calendar} has a bar at its opening, and most have one at their close: the "
        f"bars of {minutes} minutes seem to be stamped when they close"
        for minutes, parts in stamps.items()
        if stamped_at_close(pl.concat([pl.Series("ts", [], TS), *parts]), session, minutes=minutes)
    ]


def warn_of_close_stamps(bars: Iterable[tuple[int, pl.Series]], session: Session, *, key: str) -> None:
    """key   name of the option that shifts the bars"""
    for sentence in describe_close_stamps(bars, session):
        log.warning("%s; add %s=close to shift them", sentence, key)


def stamped_at_close(ts: pl.Series, session: Session, *, minutes: int) -> bool:
    """Return whether no opening has a bar stamped at it, but most have the next bar, and most closings have one.

    ts   bars of `minutes` each, any order
    """
    stamps = ts.unique().sort()
    if stamps.is_empty():
        return False
    bar, first, last = timedelta(minutes=minutes), stamps[0], stamps[-1]
    opens, closes = _edges(session.spans(first - WEEK, last + WEEK), bar)
    pauses = (opens[1:] - closes[:-1]).dt.total_days()
    several = SEVERAL if (pauses == 0).any() else 1
    opens, closes = opens.filter(opens.is_between(first - bar, last)), closes.filter(closes.is_between(first, last))
    opening, after, closing = (edges.is_in(stamps.implode()) for edges in (opens, opens + bar, closes))
    return not opening.any() and all(found.sum() >= max(several, len(found) / 2) for found in (after, closing))


def _edges(sessions: pl.DataFrame, bar: timedelta) -> tuple[pl.Series, pl.Series]:
    """First bar's open after each pause and last bar's close before it; sessions without a pause between are one."""
    closes = (pl.col("closes") + bar - timedelta(microseconds=1)).dt.truncate(bar)
    rounded = sessions.select(pl.col("opens").dt.truncate(bar), closes)
    pause = rounded["opens"].shift(-1) > rounded["closes"]  # null behind the last session
    before, after = pause.fill_null(True), pause.shift(1).fill_null(True)
    return rounded["opens"].filter(after), rounded["closes"].filter(before)
