"""`python -m benchmarks.skill FOLDER [OVERRIDE ...]`: skill beside every baseline, on real silver and three others.

FOLDER holds silver's minutes of 2011 to 2015 (`xagusd_m1_<year>.parquet`) and hours of 2018 to 2022 of silver, gold,
NZD/USD and Brent (`h1/<symbol>_h1_2018_2022.parquet`). With the commands of docs/quickstart.md, in a temporary folder:

minutes   trained before 2015 and scored on it, seeds 0 to 2, LightGBM beside the first; then refitted every quarter
          from 2013 to 2015
hours     trained before 2021 and scored on 2021 and 2022, seeds 0 to 2: one network for all; and silver alone, by the
          default, without final epochs; then one network for all refitted every quarter of these two years

OVERRIDEs go to every training; with logger=wandb, Weights & Biases gets the same.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

SEEDS = (0, 1, 2)
STEPS = ("1", "6", "24")
SYMBOLS = ("XAGUSD", "XAUUSD", "NZDUSD", "UKOIL")
HOURS = ("split.valid_from=2020-09-01", "split.test_from=2021-01-01")


def run(module: str, *arguments: str) -> str:
    """The last line that the command prints."""
    command = (sys.executable, "-m", f"lstm_ts.{module}", *arguments)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout.splitlines()[-1]


def read_scores(path: str | Path) -> dict[str, Any]:
    scores: dict[str, Any] = json.loads(Path(path).read_text())
    return scores


def show(name: str, scores: dict[str, Any]) -> None:
    """Loss in bps, and that of each baseline with the skill over it and its p; one hour ahead, by year, hour of day and
    volatility tercile, the loss, the skill over the best baseline and the coverage of the 80 % interval.
    """
    print(f"\n{name}: {scores['symbol']}, {scores['span'][0]} to {scores['span'][1]}, {scores['n']:,} origins")
    for step in STEPS:
        horizon = scores["horizons"][step]
        cells = [f"{scores['model']} {horizon['pinball_bps']:.3f}"]
        for other, values in horizon["baselines"].items():
            skill, p = 100 * horizon["skill"][other], horizon["dm_p"][other]
            cells.append(f"{other} {values['pinball_bps']:.3f} ({skill:+.2f} %, p {p:.1g})")
        print(f"  {step:>2} h  {'  '.join(cells)}")
    for group in ("by_year", "by_hour_of_day", "by_volatility_tercile"):
        print(f"   1 h  {group}, loss (skill, coverage):", "  ".join(describe_groups(scores, group)))
    sys.stdout.flush()


def describe_groups(scores: dict[str, Any], group: str) -> Iterator[str]:
    best = scores["horizons"]["1"]["best"]
    for label, steps in scores[group].items():
        step = steps["1"]
        skill, covered = 100 * step["skill"][best], 100 * step["coverage"]["0.8"]
        yield f"{label} {step['pinball_bps']:.3f} ({skill:+.1f} %, {covered:.0f} %)"


def train(name: str, paths: Sequence[str], *overrides: str) -> Path:
    """Train, show the scores of the first symbol, and return the model folder."""
    started = time.perf_counter()
    model = Path(run("train", *paths, *overrides))
    show(f"{name}, {time.perf_counter() - started:.0f} s", read_scores(model.parent / "scores" / "scores.json"))
    return model


def score_minutes(data: Path, folder: Path, overrides: Sequence[str]) -> None:
    paths = (f"paths.data={folder}/minutes", f"paths.outputs={folder}/outputs")
    print(run("ingest", "source=files", f"source.paths={data}/xagusd_m1_*.parquet", "source.zone=UTC", *paths))
    print(run("process", *paths))
    for seed in SEEDS:
        extra = ("lightgbm_steps=[1,6,24]",) if seed == SEEDS[0] else ()
        train(f"frozen, seed {seed}", paths, "+experiment=xagusd_hourly", f"seed={seed}", *extra, *overrides)
    show("refitted every quarter", read_scores(run("backtest", "+experiment=walk_forward", *paths, *overrides)))


def score_hours(data: Path, folder: Path, overrides: Sequence[str]) -> None:
    paths = (f"paths.data={folder}/hours", f"paths.outputs={folder}/outputs")
    for symbol in SYMBOLS:
        bars = f"source.paths={data}/h1/{symbol.lower()}_h1_2018_2022.parquet"
        run("ingest", f"symbol={symbol}", "source=files", bars, "source.zone=UTC", *paths)
    for seed in SEEDS:
        model = train(f"pooled, seed {seed}", paths, "+experiment=pooled", *HOURS, f"seed={seed}", *overrides)
        for symbol in SYMBOLS[1:]:
            show(f"pooled, seed {seed}", read_scores(model.parent / "scores" / symbol / "scores.json"))
        train(f"alone, seed {seed}", paths, *HOURS, f"seed={seed}", *overrides)
    walk = ("+experiment=pooled", "walk.start=2021-01-01", "walk.end=2023-01-01", "starts=[scratch]")
    first = Path(run("backtest", *walk, *paths, *overrides))
    for path in (first, *(first.parents[1] / symbol / "scores" / first.name for symbol in SYMBOLS[1:])):
        show("pooled, refitted every quarter", read_scores(path))


def main(data: str, *overrides: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        score_minutes(Path(data), Path(folder), overrides)
        score_hours(Path(data), Path(folder), overrides)


if __name__ == "__main__":
    main(*sys.argv[1:])
