"""`python -m benchmarks.canary FOLDER [half=first] [verdict.KEY=VALUE ...]`: verdicts on challengers, right and wrong.

FOLDER as in `benchmarks/out_of_sample.py`. Champion and challenger are two seeds. Runs of 26 weeks are drawn from real
hours in blocks of a week, after three months of held-out hours; each hour is judged. The *equal* challenger has its
place taken by the champion and back at random from week to week. The *worse* one has a loss 5 % above the champion's,
planted on its forecasts (see `degrade`), from the held-out hours on or only live. The *better* one meets such a
champion.
"""

import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import compose
from benchmarks.out_of_sample import (
    BLOCK_HOURS,
    GATE_HOURS,
    HOURS,
    MINUTES,
    degrade,
    draw_rows,
    store_bars,
    take_half,
    train_sample,
)
from lstm_ts.configuration.parts import construct
from lstm_ts.monitoring.ruling import HOURS_OF_WEEK, decide
from lstm_ts.monitoring.verdict import ChallengeVerdict, VerdictSettings, start, update
from lstm_ts.scoring import metrics
from lstm_ts.scoring.comparison import Pairs, compute_pairs
from lstm_ts.scoring.records import ForecastRecord

EQUAL_RUNS, OTHER_RUNS = 200, 100
WORSE = 0.05
SESSION_HOURS_OF_WEEK = 115
Outcome = tuple[ChallengeVerdict, int]  # and after how many live hours


def select(pairs: Pairs, rows_N: NDArray[np.int64]) -> Pairs:
    return Pairs(
        pairs.origin_ts_N[rows_N],
        pairs.difference_N[rows_N],
        pairs.bound_N[rows_N],
        pairs.champion_loss_N[rows_N],
    )


def judge(held_out: Pairs, live: Pairs, settings: VerdictSettings) -> Outcome:
    state, silent, hour = start(held_out, settings), 0, 0
    while True:
        difference, bound = live.difference_N[hour], live.bound_N[hour]
        state = update(state, float(difference), float(bound), settings)
        hour, silent = hour + 1, silent + 1 if np.isnan(difference) else 0
        age = hour * HOURS_OF_WEEK / SESSION_HOURS_OF_WEEK
        ruling = decide(state, settings, age_hours=age, hours_without_outcome=silent, hours_without_request=None)
        if ruling.verdict.final:
            return ruling.verdict, hour


def judge_runs(held_out: Pairs, live: Pairs, settings: VerdictSettings, runs: int = OTHER_RUNS) -> list[Outcome]:
    rng, found = np.random.default_rng(0), []
    hours = int(settings.bound_weeks * SESSION_HOURS_OF_WEEK) + 1
    for _ in range(runs):
        rows_N = draw_rows(rng, len(live.bound_N), GATE_HOURS + hours)
        found.append(judge(select(held_out, rows_N[:GATE_HOURS]), select(live, rows_N[GATE_HOURS:]), settings))
    return found


def show(name: str, found: Sequence[Outcome]) -> None:
    hours_of: dict[ChallengeVerdict, list[int]] = defaultdict(list)
    for verdict, hour in found:
        hours_of[verdict].append(hour)
    cells = []
    for verdict, hours in sorted(hours_of.items()):
        low, high = metrics.wilson_interval(len(hours) / len(found), len(found))
        median, late = np.quantile(hours, [0.5, 0.9])
        cells.append(
            f"{verdict} {len(hours)} of {len(found)} ({low:.1%} to {high:.1%}) after {median:.0f} h (p90 {late:.0f})"
        )
    print(f"  {name:<36}", "; ".join(cells), flush=True)


def flip_signs_by_week(pairs: Pairs) -> Pairs:
    weeks_N = np.arange(len(pairs.bound_N)) // BLOCK_HOURS
    sign_N = np.random.default_rng(0).choice([-1.0, 1.0], weeks_N[-1] + 1)[weeks_N]
    return replace(pairs, difference_N=sign_N * pairs.difference_N)


def score(champion: ForecastRecord, challenger: ForecastRecord, settings: VerdictSettings) -> None:
    equal = flip_signs_by_week(compute_pairs(challenger, champion))
    show("equal", judge_runs(equal, equal, settings, EQUAL_RUNS))
    for kind, bad in degrade(champion, WORSE):
        worse = compute_pairs(bad, champion)
        show(f"worse, {kind}", judge_runs(worse, worse, settings))
        show(f"worse live only, {kind}", judge_runs(equal, worse, settings))
        better = compute_pairs(champion, bad)
        show(f"better, the champion {kind}", judge_runs(better, better, settings))


def main(data: str, *arguments: str) -> None:
    half = "first" if "half=first" in arguments else "second"
    overrides = [argument for argument in arguments if argument != "half=first"]
    settings = construct(compose("+verdict=default", *overrides).verdict)
    with tempfile.TemporaryDirectory() as folder:
        store_bars(Path(data), Path(folder))
        for name in (MINUTES, HOURS):
            champion, challenger = (train_sample(Path(folder), name, seed=seed).record for seed in (0, 1))
            print(name)
            score(take_half(champion, half), take_half(challenger, half), settings)


if __name__ == "__main__":
    main(*sys.argv[1:])
