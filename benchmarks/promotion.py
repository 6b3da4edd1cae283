"""`python -m benchmarks.promotion [PAIRS]`: how often the gate promotes, where it should not and where it should.

A pair is a first model and one trained on three months more, both judged on the same three held-out months of
seeded synthetic bars. On a random walk nothing can be forecast: whatever shows skill or is promoted there is
a false alarm. `silver` has volatility to forecast, `planted_ar` the next hour.
"""

import logging
import multiprocessing
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import torch
from omegaconf import DictConfig

from benchmarks import compose
from lstm_ts.configuration.parts import construct
from lstm_ts.market.bars import make_hourly_bars
from lstm_ts.market.session import utc
from lstm_ts.model.datamodule import Split
from lstm_ts.model.evaluation import Span, evaluate
from lstm_ts.model.symbol_data import SymbolBars
from lstm_ts.scoring import metrics
from lstm_ts.scoring.decision import Decision, Verdict
from lstm_ts.scoring.gate import Criteria, decide
from lstm_ts.scoring.records import ForecastRecord
from lstm_ts.sources.synthetic import Signal, Synthetic
from lstm_ts.training.forecasters import fit, make_data
from lstm_ts.training.trainer import build_trainer

START, END = "2018-01-01", "2019-04-01"
FIRST = Split(valid_from="2018-08-01", test_from="2018-10-01", test_until=None)
SECOND = Split(valid_from="2018-11-01", test_from="2019-01-01", test_until=None)
HELD_OUT = Span(utc("2019-01-01"), None)
SIGNALS: tuple[Signal, ...] = ("random_walk", "planted_ar", "silver")
AR_COEFFICIENT = 0.3
PAIRS, PROCESSES = 100, 2
SMALL = (
    *("tsteps=24", "horizon=6", "net.hidden=16", "net.decoder=16", "weight_averaging=0.9"),
    *("trainer.max_epochs=5", "trainer.precision=32-true", "trainer.accelerator=cpu"),
    "trainer.enable_progress_bar=false",
)


@dataclass(frozen=True)
class Pair:
    first: Decision
    second: Decision


def make_bars(cfg: DictConfig, signal: Signal, seed: int) -> pl.DataFrame:
    session = construct(cfg.symbol.session)
    source = Synthetic(
        session=session, start=START, end=END, seed=seed, start_price=20.0, signal=signal,
        ar_coefficient=AR_COEFFICIENT,
    )  # fmt: skip
    minute_bars = pl.concat([batch.bars for batch in source.read_batches()])
    return make_hourly_bars(
        minute_bars, session.hours(source.start, source.end), min_minutes_share=cfg.min_minutes_share
    )


def record_of(cfg: DictConfig, hourly_bars: pl.DataFrame, split: Split) -> ForecastRecord:
    """Held-out forecasts of a model trained as the split says."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(cfg, Path(folder))
        fitted = fit(cfg, make_data(cfg, [SymbolBars(construct(cfg.symbol), hourly_bars, "synthetic")], split), trainer)
    return evaluate(fitted.forecaster, hourly_bars, HELD_OUT)


def judge_pair(signal: Signal, seed: int) -> Pair:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    torch.set_num_threads(1)
    cfg = compose(*SMALL, "+gate=default", f"seed={seed}")
    cfg.logger = None
    criteria: Criteria = construct(cfg.gate)
    hourly_bars = make_bars(cfg, signal, seed)
    first, second = (record_of(cfg, hourly_bars, split) for split in (FIRST, SECOND))
    return Pair(decide(first, None, criteria, fresher=True), decide(second, first, criteria, fresher=True))


def lines(signal: str, pairs: Sequence[Pair]) -> Iterator[str]:
    counts = {
        "the first shows skill": sum(
            pair.first.verdict is Verdict.PROMOTE and not pair.first.experimental for pair in pairs
        ),
        "the second is promoted": sum(pair.second.verdict is Verdict.PROMOTE for pair in pairs),
        "the second is rejected": sum(pair.second.verdict is Verdict.REJECT for pair in pairs),
    }
    for event, count in counts.items():
        low, high = metrics.wilson_interval(count / len(pairs), len(pairs))
        yield f"{signal:<12} {event:<26} {count:>4} of {len(pairs)}   {low:6.1%} to {high:.1%}"
    for check in pairs[0].second.checks:
        passed = [next(c.passed for c in pair.second.checks if c.name == check.name) for pair in pairs]
        yield f"{'':<12}   {check.name:<24} {passed.count(True):>4} passed, {passed.count(None)} open"


def main(pairs: int) -> None:
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        for signal in SIGNALS:
            started = time.perf_counter()
            judged = list(pool.map(judge_pair, [signal] * pairs, range(pairs)))
            print(*lines(signal, judged), sep="\n")
            print(f"{'':<12}   {(time.perf_counter() - started) / pairs:.1f} s a pair", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS)
