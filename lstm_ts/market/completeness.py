"""The state of every session minute; minutes while the market is closed have none.

    present   a bar of it is stored
    empty     two independent answers (`observer`) cover it, and neither brought a bar
    waiting   one answer covers it: the broker may leave out part of an answer without an error
    unknown   no answer covers it, or the bars of the answer are no longer stored

States are segments between the borders of sessions, runs of bars and answers, never a row per minute.
Legend: B stored bars, A answers, P borders; times are microseconds since 1970.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import polars as pl

from lstm_ts.market.bars import TS, AnsweredSpan
from lstm_ts.market.spacing import MINUTE_US

OBSERVERS = 2  # independent answers that prove a minute empty
BRIDGED = 2  # minutes between stored ones, as where one file ends and the next begins: too few to cut an hour
SEGMENTS = pl.Schema({"start": TS, "end": TS, "state": pl.String(), "minutes": pl.Int64()})

Times = npt.NDArray[np.int64]


class State(StrEnum):
    PRESENT = "present"
    EMPTY = "empty"
    WAITING = "waiting"
    UNKNOWN = "unknown"


MISSING = (State.EMPTY, State.WAITING, State.UNKNOWN)


def classify(sessions: pl.DataFrame, bars_ts: pl.Series, answers: Sequence[AnsweredSpan]) -> pl.DataFrame:
    """Split the session minutes into segments of one state, none of which crosses the border of a month (UTC).

    sessions   frame `opens, closes`, ascending
    bars_ts    of the stored bars, ascending and unique
    Returns    SEGMENTS, ascending
    """
    ts_B = bars_ts.to_physical().to_numpy()
    opens, closes = (sessions[name].to_physical().to_numpy() for name in ("opens", "closes"))
    run_starts, run_ends = _runs(ts_B)
    starts, ends = _standing(answers, ts_B)
    border_P = np.unique(np.concatenate([opens, closes, run_starts, run_ends, starts, ends, _months(opens, closes)]))
    at_P = border_P[:-1]
    observers = _depth(starts, ends, at_P)
    state = np.select(
        [_depth(run_starts, run_ends, at_P) > 0, observers >= OBSERVERS, observers > 0],
        [State.PRESENT.value, State.EMPTY.value, State.WAITING.value],
        State.UNKNOWN.value,
    )
    segments = pl.DataFrame({"start": at_P, "end": border_P[1:], "state": state.astype(object)}, strict=False)
    return (
        segments.filter(_depth(opens, closes, at_P) > 0)
        .with_columns(minutes=(pl.col("end") - pl.col("start")) // MINUTE_US)
        .cast(SEGMENTS)
    )


def _runs(ts_B: Times) -> tuple[Times, Times]:
    """Return stretches of consecutive minutes, as starts and ends."""
    breaks = np.flatnonzero(np.diff(ts_B) != MINUTE_US)
    return ts_B[np.append(0, breaks + 1)[: len(ts_B)]], ts_B[np.append(breaks, len(ts_B) - 1)[: len(ts_B)]] + MINUTE_US


def _standing(answers: Sequence[AnsweredSpan], ts_B: Times) -> tuple[Times, Times]:
    """Return starts and ends of the answers whose bars are still stored; those of one observer are merged.

    An answer whose bars are missing proves nothing: the store was restored from an older copy.
    """
    answers_A = pl.DataFrame(
        [(answer.start, answer.end, answer.observer, answer.bars) for answer in answers],
        schema={"start": TS, "end": TS, "observer": pl.String, "bars": pl.Int64},
        orient="row",
    ).with_columns(pl.col("start", "end").to_physical())
    stored_A = np.searchsorted(ts_B, answers_A["end"].to_numpy()) - np.searchsorted(ts_B, answers_A["start"].to_numpy())
    reached = pl.col("end").cum_max().shift(1).over("observer")
    merged = (
        answers_A.filter(pl.Series(stored_A) >= answers_A["bars"])
        .sort("observer", "start")
        .with_columns(run=(pl.col("start") > reached).fill_null(True).cum_sum())
        .group_by("run")
        .agg(pl.col("start").min(), pl.col("end").max())
    )
    return np.sort(merged["start"].to_numpy()), np.sort(merged["end"].to_numpy())


def _depth(starts: Times, ends: Times, at_P: Times) -> Times:
    """Return how many spans hold each moment."""
    return np.searchsorted(np.sort(starts), at_P, "right") - np.searchsorted(np.sort(ends), at_P, "right")


def _months(opens: Times, closes: Times) -> Times:
    if not len(opens):
        return opens
    first, last = (pl.Series([edge]).cast(TS) for edge in (opens[0], closes[-1]))
    months = pl.datetime_range(first.dt.month_start()[0].replace(hour=0, minute=0), last[0], "1mo", eager=True)
    return months.cast(TS).to_physical().to_numpy()


def coverage(segments: pl.DataFrame) -> pl.DataFrame:
    """Return a frame with `month` (as 2015-03) and the minutes of each state, ascending."""
    minutes = [pl.col("minutes").filter(pl.col("state") == state).sum().alias(state) for state in State]
    return segments.group_by(month=pl.col("start").dt.strftime("%Y-%m")).agg(minutes).sort("month")


def merge(segments: pl.DataFrame, states: Sequence[State]) -> pl.DataFrame:
    """Return stretches of session minutes in any of the states: frame `start, end, minutes`, ascending.

    A stretch continues over closed hours, of which `minutes` counts none.
    """
    wanted = pl.col("state").is_in([str(state) for state in states])
    return (
        segments.with_columns(wanted=wanted, run=wanted.rle_id())
        .filter(pl.col("wanted"))
        .group_by("run", maintain_order=True)
        .agg(pl.col("start").first(), pl.col("end").last(), pl.col("minutes").sum())
        .drop("run")
    )


def count_within(segments: pl.DataFrame, starts: pl.Series, ends: pl.Series) -> pl.Series:
    """Return the minutes of the segments that lie in each span."""
    from_S, until_S = (segments[name].to_physical().to_numpy() for name in ("start", "end"))
    total = np.append(0, np.cumsum(until_S - from_S))

    def before(moments: pl.Series) -> Times:
        at = moments.to_physical().to_numpy()
        begun = np.searchsorted(from_S, at, "right")
        last_end = np.append(np.iinfo(np.int64).min, until_S)[begun]
        return np.asarray(total[begun] - np.maximum(last_end - at, 0) * (begun > 0))

    return pl.Series((before(ends) - before(starts)) // MINUTE_US)


def known_hours(hours: pl.DataFrame, segments: pl.DataFrame, *, max_unknown_share: float) -> pl.DataFrame:
    """Return the session hours whose first and last minute are known, and all others but a share.

    An unknown edge counts as known within a short gap that has a stored minute on either side.

    hours   frame as from `session.Session.hours`
    """
    unknown = segments.filter(pl.col("state") == State.UNKNOWN)
    open_ended = _wide(segments)
    opens_at, closes_at, minute = hours["opens_at"], hours["closes_at"], timedelta(minutes=1)
    first, last = (opens_at, opens_at + minute), (closes_at - minute, closes_at)
    edges = count_within(open_ended, *first) + count_within(open_ended, *last)
    share = count_within(unknown, opens_at, closes_at) / hours["session_minutes"]
    return hours.filter((edges == 0) & (share <= max_unknown_share))


def _wide(segments: pl.DataFrame) -> pl.DataFrame:
    """Return the unknown stretches, except short ones between stored minutes."""
    state, run = pl.col("state"), pl.col("state").rle_id()
    runs = segments.group_by(run=run, maintain_order=True).agg(
        state.first(), pl.col("start").first(), pl.col("end").last(), pl.col("minutes").sum()
    )
    between = (state.shift(1) == State.PRESENT) & (state.shift(-1) == State.PRESENT)
    bridged = between.fill_null(False) & (pl.col("minutes") <= BRIDGED)
    return runs.filter((state == State.UNKNOWN) & ~bridged).drop("run")


def unanswered(sessions: pl.DataFrame, answers: Sequence[AnsweredSpan]) -> pl.Series:
    """Return for each session (`opens, closes`) whether no answer covers any of its minutes."""
    starts, ends = (pl.Series([getattr(answer, edge) for answer in answers], dtype=TS) for edge in ("start", "end"))
    begun = np.searchsorted(starts.sort().to_physical().to_numpy(), sessions["closes"].to_physical().to_numpy())
    over = np.searchsorted(ends.sort().to_physical().to_numpy(), sessions["opens"].to_physical().to_numpy(), "right")
    return pl.Series(begun == over)


def span_of(bars_ts: pl.Series, answers: Sequence[AnsweredSpan]) -> tuple[datetime, datetime] | None:
    """Return the span from the first minute stored or answered for to the end of the last."""
    starts = [*bars_ts.head(1), *(answer.start for answer in answers)]
    ends = [*(ts + timedelta(minutes=1) for ts in bars_ts.tail(1)), *(answer.end for answer in answers)]
    return (min(starts), max(ends)) if starts else None
