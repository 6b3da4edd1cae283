"""Sums of scores by day, which stay when the scores are removed. Pure.

The sums of one day and step:
    n                 scores
    losses            pinball by forecaster, summed; the model's is `model`
    interval_score    of the model's 80 % interval, summed (Gneiting & Raftery 2007)
    levels_below      how many scores had 0, 1, … of the model's quantiles below the outcome, those that had any
    hours, terciles   by hour of day and by volatility: n, inside (the 80 % interval), losses
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from lstm_ts.ledger.monitor_rows import DailyScore, Score
from lstm_ts.monitoring.hourly import INTERVAL

MISS_COST = 2 / (1 - (INTERVAL[1] - INTERVAL[0]))


def day_of(score: Score) -> str:
    return score.origin_ts.date().isoformat()


def sum_days(scores: Iterable[Score]) -> list[DailyScore]:
    """Sum the scores of one version by day and step; they hold all scores of each day."""
    groups: dict[tuple[str, int], list[Score]] = defaultdict(list)
    for score in scores:
        groups[day_of(score), score.step].append(score)
    return [
        DailyScore(day[0].name, day[0].version, key, step, _sum(day)) for (key, step), day in sorted(groups.items())
    ]


def _sum(scores: Sequence[Score]) -> dict[str, Any]:
    return {
        **_slice(scores),
        "interval_score": sum(map(interval_score, scores)),
        "levels_below": dict(sorted(Counter(str(score.levels_below) for score in scores).items())),
        "hours": _slices(scores, "hour_of_day"),
        "terciles": _slices(scores, "volatility"),
    }


def _slices(scores: Sequence[Score], key: str) -> dict[str, Any]:
    groups: dict[str, list[Score]] = defaultdict(list)
    for score in scores:
        groups[str(getattr(score, key))].append(score)
    return {name: _slice(group) for name, group in sorted(groups.items())}


def _slice(scores: Sequence[Score]) -> dict[str, Any]:
    return {
        "n": len(scores),
        "inside": sum(score.low <= score.y <= score.high for score in scores),
        "losses": {name: sum(score.losses[name] for score in scores) for name in scores[0].losses},
    }


def interval_score(score: Score) -> float:
    missed = max(score.low - score.y, score.y - score.high, 0.0)
    return score.high - score.low + MISS_COST * missed
