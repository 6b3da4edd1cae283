"""`python -m benchmarks.drift FOLDER [half=first] [drift.KEY=VALUE ...]`: false alarms and delays of concept drift.

FOLDER as in `benchmarks/out_of_sample.py`. Runs are drawn from real hours in blocks of a week: three months for the
gate's record, which the reference is made of, then what is monitored. A worse model is planted 500 hours later, 1,950
with those of the gate, on its forecasts (see `degrade`). Then the regimes, in their order: 2014, calmer and cheaper
than the three months of 2013 that its reference is of, and 2022 at twice its prices.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks import compose
from benchmarks.out_of_sample import (
    GATE_HOURS,
    HOURS,
    MINUTES,
    Sample,
    degrade,
    draw_rows,
    store_bars,
    take,
    take_half,
    train_sample,
)
from lstm_ts.configuration.parts import construct
from lstm_ts.market.session import utc
from lstm_ts.model.windows import in_span
from lstm_ts.monitoring.concept_drift import Detector, DriftSettings, DriftState, compute_d_N, make_reference
from lstm_ts.monitoring.regime import Hours, RegimeSettings, check_regime, read_hours
from lstm_ts.scoring import metrics
from lstm_ts.scoring.records import ForecastRecord

QUIET_RUNS, QUIET_HOURS = 500, 5_000
PLANTED_RUNS, BEFORE_HOURS, AFTER_HOURS = 200, 500, 2_000
RISES = (0.10, 0.15)
LAST_OF_2013, LAST_OF_2021 = ("2013-07-01", "2013-10-01"), ("2021-07-01", "2021-10-01")
PRICES = ("open", "high", "low", "close")


def find_alarm(detector: Detector, state: DriftState, record: ForecastRecord) -> tuple[DriftState, int | None]:
    """The state at the first alarm and its hour, or at the end."""
    for hour, d in enumerate(compute_d_N(record, detector.reference.baseline).tolist(), start=1):
        state = detector.update(state, d)
        if state.alarm:
            return state, hour
    return state, None


def count_false_alarms(record: ForecastRecord, settings: DriftSettings) -> int:
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(QUIET_RUNS):
        rows_N = draw_rows(rng, record.n, GATE_HOURS + QUIET_HOURS)
        detector = Detector(make_reference(take(record, rows_N[:GATE_HOURS]), settings), settings)
        alarms += find_alarm(detector, detector.start(), take(record, rows_N[GATE_HOURS:]))[1] is not None
    return alarms


def measure_delays(record: ForecastRecord, worse: ForecastRecord, settings: DriftSettings) -> list[int]:
    """Hours from the change to the alarm; runs with an alarm before the change are left out."""
    rng, delays = np.random.default_rng(1), []
    change = GATE_HOURS + BEFORE_HOURS
    for _ in range(PLANTED_RUNS):
        rows_N = draw_rows(rng, record.n, change + AFTER_HOURS)
        detector = Detector(make_reference(take(record, rows_N[:GATE_HOURS]), settings), settings)
        state, alarm = find_alarm(detector, detector.start(), take(record, rows_N[GATE_HOURS:change]))
        if alarm is None:
            delays.append(find_alarm(detector, state, take(worse, rows_N[change:]))[1] or AFTER_HOURS)
    return delays


def score(sample: Sample, half: str, settings: DriftSettings) -> None:
    record = take_half(sample.record, half)
    alarms = count_false_alarms(record, settings)
    low, high = metrics.wilson_interval(alarms / QUIET_RUNS, QUIET_RUNS)
    print(f"{sample.name}: {alarms} of {QUIET_RUNS} runs of {QUIET_HOURS:,} h alarm ({low:.1%} to {high:.1%})")
    for rise in RISES:
        for kind, worse in degrade(record, rise):
            delays = measure_delays(record, worse, settings)
            median, late = np.quantile(delays, [0.5, 0.9])
            print(f"  loss +{rise:.0%}, {kind:<15}: found after {median:4.0f} h (p90 {late:4.0f})", flush=True)


def show_drift(name: str, gate: ForecastRecord, live: ForecastRecord, settings: DriftSettings) -> None:
    detector = Detector(make_reference(gate, settings), settings)
    state, most, alarm = detector.start(), -np.inf, None
    for hour, d in enumerate(compute_d_N(live, detector.reference.baseline).tolist(), start=1):
        state = detector.update(state, d)
        most, alarm = max(most, state.evidence[0]), alarm or (hour if state.alarm else None)
    found = f"alarm after {alarm} h" if alarm else f"no alarm in {live.n:,} h, evidence at most 10^{most:.1f}"
    print(f"{name}: {found} (of 10^{state.evidence[1]:.1f})")


def hours_of(sample: Sample, bars: pl.DataFrame, start: str | None, end: str) -> Hours:
    grid = sample.forecaster.grid(bars)
    windows = sample.forecaster.windows(grid, np.empty(0, dtype=np.int64))
    return read_hours(grid, windows, in_span(grid.origin_ts_G, utc(start), utc(end)))


def show_regime(name: str, training: Hours, recent: Hours, settings: RegimeSettings) -> None:
    told = [check.sentence for check in check_regime(training, recent, settings) if check.outside]
    print(f"  {name}:", " ".join(told) or "nothing to tell")


def double(bars: pl.DataFrame, since: str) -> pl.DataFrame:
    after = pl.col("ts") >= utc(since)
    return bars.with_columns(
        pl.when(after).then(2 * pl.col(name)).otherwise(pl.col(name)).alias(name) for name in PRICES
    )


def score_2014(sample: Sample, drift: DriftSettings, regime: RegimeSettings) -> None:
    bars, training = sample.hourly_bars, hours_of(sample, sample.hourly_bars, None, LAST_OF_2013[1])
    gate, live = (sample.evaluate(bars, *span) for span in (("2013-10-01", "2014-01-01"), ("2014-01-01", "2015-01-01")))
    show_drift("2013 -> 2014", gate, live, drift)
    for quarter in ("2014-04-01", "2014-07-01", "2014-10-01", "2015-01-01"):
        show_regime(f"regime at {quarter}", training, hours_of(sample, bars, LAST_OF_2013[1], quarter), regime)


def score_doubled(sample: Sample, drift: DriftSettings, regime: RegimeSettings) -> None:
    """Silver of 2022 as it was, twice as dear throughout, and twice as dear from one hour to the next."""
    bars, training = sample.hourly_bars, hours_of(sample, sample.hourly_bars, None, LAST_OF_2021[1])
    gate = sample.evaluate(bars, "2021-10-01", "2022-01-01")
    for name, since in (
        ("as it was", "2023-01-01"),
        ("twice as dear", "2021-10-01"),
        ("doubled at once", "2022-03-01"),
    ):
        dear = double(bars, since)
        show_drift(f"2022 {name}", gate, sample.evaluate(dear, "2022-01-01", "2022-12-31"), drift)
        show_regime("regime at 2022-07-01", training, hours_of(sample, dear, LAST_OF_2021[1], "2022-07-01"), regime)


def main(data: str, *arguments: str) -> None:
    half = "first" if "half=first" in arguments else "second"
    overrides = [argument for argument in arguments if argument != "half=first"]
    cfg = compose("+drift=default", "+regime=default", *overrides)
    drift, regime = construct(cfg.drift), construct(cfg.regime)
    with tempfile.TemporaryDirectory() as folder:
        store_bars(Path(data), Path(folder))
        for name in (MINUTES, HOURS):
            score(train_sample(Path(folder), name), half, drift)
        score_2014(train_sample(Path(folder), MINUTES, dates=LAST_OF_2013), drift, regime)
        score_doubled(train_sample(Path(folder), HOURS, dates=LAST_OF_2021), drift, regime)


if __name__ == "__main__":
    main(*sys.argv[1:])
