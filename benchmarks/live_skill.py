"""`python -m benchmarks.live_skill FOLDER`: how often the interval of live skill ever leaves the true skill out.

FOLDER as in `benchmarks/out_of_sample.py`. Days of real forecasts are drawn in blocks of 20, so that forecasts 24 hours
ahead overlap as they do; the skill of all days drawn from is the true one. It is looked at every day for two years.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import compose
from benchmarks.out_of_sample import HOURS, MINUTES, store_bars, train_sample
from lstm_ts.configuration.parts import construct
from lstm_ts.monitoring.confidence import DailyLosses, SkillSettings, estimate_skill
from lstm_ts.scoring.records import ROLLING_HAR, SHOWN_STEPS, ForecastRecord

PATHS, DAYS, BLOCK_DAYS = 200, 500, 20


def sum_days(record: ForecastRecord, step: int) -> DailyLosses:
    known_N = ~np.isnan(record.y_NH[:, step - 1])
    day_D, day_N = np.unique(record.origin_ts_N[known_N].astype("datetime64[D]"), return_inverse=True)
    model_D, baseline_D = (
        np.bincount(day_N, record.pinball_NH[name][known_N, step - 1]).astype(np.float64)
        for name in (record.model, ROLLING_HAR)
    )
    return DailyLosses(day_D, np.bincount(day_N), model_D, baseline_D)


def select(days: DailyLosses, rows_D: np.ndarray) -> DailyLosses:
    return DailyLosses(days.day_D[rows_D], days.n_D[rows_D], days.model_D[rows_D], days.baseline_D[rows_D])


def misses(days: DailyLosses, true: float, settings: SkillSettings) -> bool:
    looks = range(settings.min_days, len(days.day_D) + 1)
    found = (estimate_skill(select(days, np.arange(count)), settings) for count in looks)
    return any(not skill.low <= true <= skill.high for skill in found)


def score(name: str, record: ForecastRecord, settings: SkillSettings) -> None:
    for step in SHOWN_STEPS:
        days, rng = sum_days(record, step), np.random.default_rng(0)
        count, missed = len(days.day_D), 0
        whole = estimate_skill(days, settings)
        for _ in range(PATHS):
            starts = rng.integers(count, size=DAYS // BLOCK_DAYS)
            rows_D = (starts[:, None] + np.arange(BLOCK_DAYS)).ravel() % count
            missed += misses(select(days, rows_D), whole.skill, settings)
        print(
            f"{name}, {step:>2} h: {missed} of {PATHS} miss the true skill over {ROLLING_HAR} of {whole.skill:+.2%}; "
            f"interval of all {count} days {whole.low:+.2%} to {whole.high:+.2%}",
            flush=True,
        )


def main(data: str) -> None:
    settings = construct(compose("+live_skill=default").live_skill)
    with tempfile.TemporaryDirectory() as folder:
        store_bars(Path(data), Path(folder))
        for name in (MINUTES, HOURS):
            score(name, train_sample(Path(folder), name).record, settings)


if __name__ == "__main__":
    main(*sys.argv[1:])
