"""`python -m benchmarks.ingestion speed | faults [SEEDS] [DAYS] | memory [POLLS]`: source=ib against the simulated TWS.

speed    bars a second without pacing, at first and when the same span is requested again
faults   all faults at random, and kills of the ingesting process: what is stored and proven, compared with the truth
memory   resident memory over hourly polling, each poll on a connection of its own
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import hydra
import polars as pl
from omegaconf import DictConfig

from lstm_ts.configuration.parts import CONF, construct, raw_store
from lstm_ts.errors import LstmTsError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.bars import PRICES, Broker
from lstm_ts.market.completeness import classify, coverage
from lstm_ts.market.session import Session
from lstm_ts.sources.backfill import Backfill, BackfillResult
from lstm_ts.sources.stored_series import SeriesLimits
from tests.tws import Tws

START = datetime(2014, 3, 2, tzinfo=UTC)  # a Sunday
KILLS = 8  # of each seed, at random moments of its first runs
MOST_RUNS = 60  # that a seed may take
QUICK = (
    "source=ib",
    "source.pacing.scale=0",
    "source.answer_s=0.5",
    "source.outage_s=2",
    "source.retries={attempts: 8, first_s: 0.05, longest_s: 0.5, closed_s: 0}",
    "hydra/job_logging=disabled",
)


def compose(folder: Path, *overrides: str) -> DictConfig:
    with hydra.initialize_config_dir(CONF, version_base="1.3"):
        return hydra.compose("ingest", [f"paths.data={folder}/data", f"paths.outputs={folder}/outputs", *overrides])


def make_truth(folder: Path, days: int) -> pl.DataFrame:
    end = START + timedelta(days=days)
    cfg = compose(folder, f"source.start={START:%Y-%m-%d}", f"source.end={end:%Y-%m-%d}", "source.start_price=16")
    bars: pl.DataFrame = pl.concat([batch.bars for batch in construct(cfg.source).read_batches()])
    return bars.with_columns(volume=pl.lit(None, pl.Float64))


def fill(folder: Path, port: int, end: datetime, *, again: bool = False, commit_s: float = 0.0) -> BackfillResult:
    cfg = compose(folder, *QUICK, f"source.port={port}", f"again={again}", f"commit_s={commit_s}")
    return ask(cfg, construct(cfg.source), construct(cfg.symbol.session), end)


def ask(cfg: DictConfig, broker: Broker, session: Session, end: datetime) -> BackfillResult:
    with closing(Ledger(cfg.registry.ledger)) as ledger:
        return Backfill(
            broker=broker,
            raw=raw_store(cfg),
            session=session,
            ledger=ledger,
            symbol=cfg.symbol.name,
            commit_s=cfg.commit_s,
            limits=SeriesLimits(
                max_reject_share=cfg.max_reject_share,
                max_mismatch=cfg.max_mismatch,
                allow_level_change=cfg.allow_level_change,
                allow_revisions=cfg.allow_revisions,
            ),
            rejects_csv=Path(cfg.paths.outputs) / "rejects.csv",
        ).run(START, end, again=cfg.again)


@dataclass(frozen=True)
class StoreCheck:
    """Content of the store and of the ledger, compared with the truth."""

    lost: int  # said to be there or proven empty, and not so
    invented: int  # stored, and not in the truth, nor once told as a revision of it
    revised: int  # stored as a bar that was told with other values once
    states: dict[str, int]


def compare(folder: Path, truth: pl.DataFrame, delivered: pl.DataFrame, end: datetime) -> StoreCheck:
    """delivered   all bars that the server ever delivered with other values than the truth"""
    cfg = compose(folder)
    raw, session = raw_store(cfg), construct(cfg.symbol.session)
    with closing(Ledger(cfg.registry.ledger)) as ledger:
        answers = ledger.answers(cfg.symbol.name, raw.id)
    segments = classify(session.spans(START, end), raw.read_stamps(), answers)
    stored = raw.read() if raw.read_stamps().len() else truth.clear()
    bar = ["ts", *PRICES]
    other = stored.join(truth, on=bar, how="anti", nulls_equal=True)
    lacking = truth.join(stored, on="ts", how="anti").sort("ts")
    at = lacking.join_asof(segments.sort("start"), left_on="ts", right_on="start", strategy="backward")
    claimed = at.filter(pl.col("ts") < pl.col("end"), pl.col("state").is_in(["present", "empty"]))
    total = coverage(segments).drop("month").sum()
    return StoreCheck(
        lost=claimed.height,
        invented=other.join(delivered.select(bar).cast(truth.select(bar).schema), on=bar, how="anti").height,
        revised=other.height,
        states={name: int(total[name].sum()) for name in total.columns},
    )


@contextmanager
def filling(folder: Path, port: int, end: datetime) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "benchmarks.ingestion", "fill", str(folder), str(port), end.isoformat()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        yield process


def survive(seed: int, days: int) -> tuple[StoreCheck, Counter[str]]:
    """Ingest, with kills and restarts, until nothing is left to request; then request everything again without faults.

    Raises    AssertionError: after any of the runs something is lost or invented
    """
    draws, end = random.Random(seed), START + timedelta(days=days)
    happened: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="ingestion_") as name:
        folder = Path(name)
        truth = make_truth(folder, days)
        with Tws(truth, faults="all,fatal", seed=seed, rate=0.01, pace=0, outage=0.1) as tws:
            for run in range(MOST_RUNS):
                ended = _run(folder, tws.port, end, draws.uniform(0, 1 + days / 25) if run < KILLS else None)
                happened[ended] += 1
                found = compare(folder, truth, tws.revised(), end)
                assert found.lost == found.invented == 0, (seed, run, found)
                if ended == "nothing to ask":
                    break
            happened.update(f"fault {met['fault']}" for met in tws.status().faults)
            assert tws.status().orders == ()
            tws.set_faults("")
            fill(folder, tws.port, end, again=True)
            found = compare(folder, truth, tws.revised(), end)
            assert found.lost == found.invented == found.revised == 0, (seed, found)
    return found, happened


def _run(folder: Path, port: int, end: datetime, kill_after_s: float | None) -> str:
    with filling(folder, port, end) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has loaded
        try:
            process.wait(timeout=kill_after_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            return "killed"
        return process.stdout.read().decode().strip() or "died"


def measure_faults(seeds: int, days: int) -> None:
    total: Counter[str] = Counter()
    for seed in range(seeds):
        started = time.perf_counter()
        found, happened = survive(seed, days)
        total += happened
        print(f"seed {seed:2d}: {found.states}, {time.perf_counter() - started:.0f} s", flush=True)
    print(f"{seeds} seeds of {days} days: nothing lost, nothing invented")
    print(", ".join(f"{name} {count}" for name, count in sorted(total.items())))


def measure_speed(days: int = 250) -> None:
    end = START + timedelta(days=days)
    with tempfile.TemporaryDirectory(prefix="ingestion_") as name:
        truth = make_truth(Path(name), days)
        with Tws(truth, pace=0) as tws:
            for what in ("from nothing", "all of it again"):
                started = time.perf_counter()
                result = fill(Path(name), tws.port, end, again=True, commit_s=10.0)
                took_s = time.perf_counter() - started
                bars = result.new + result.same
                print(f"{what:<16} {bars:,} bars, {result.asked} requests: {took_s:.1f} s, {bars / took_s:,.0f} bars/s")


def measure_memory(polls: int) -> None:
    """Poll 4 minutes after each session hour has closed, in this process; another process holds the truth."""
    with tempfile.TemporaryDirectory(prefix="ingestion_") as name:
        session = construct(compose(Path(name)).session)
        hours = session.hours(START, START + timedelta(days=366))["ts"].head(polls)
        with Tws(make_truth(Path(name), 366), pace=0) as tws:
            cfg = compose(Path(name), *QUICK, f"source.port={tws.port}", "commit_s=0")
            broker = construct(cfg.source)
            for poll, hour in enumerate(hours):
                ask(cfg, broker, session, hour + timedelta(minutes=64))
                if poll % 500 == 0 or poll == len(hours) - 1:
                    print(f"poll {poll:5d}  {_resident_mib():6.1f} MiB", flush=True)


def _resident_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def _fill_once(folder: Path, port: int, end: datetime) -> None:
    print("ready", flush=True)
    try:
        result = fill(folder, port, end)
    except LstmTsError as error:
        print(type(error).__name__)
    else:
        print("finished" if result.asked else "nothing to ask")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    match sys.argv[1:]:
        case ["speed"]:
            measure_speed()
        case ["faults", *numbers]:
            measure_faults(*map(int, [*numbers, *("20", "250")[len(numbers) :]]))
        case ["memory", *numbers]:
            measure_memory(int([*numbers, "6000"][0]))
        case ["fill", folder_name, port_number, until]:
            _fill_once(Path(folder_name), int(port_number), datetime.fromisoformat(until))
        case other:
            sys.exit(f"Expected speed, faults or memory, got {' '.join(other) or 'nothing'}")
