"""`python -m benchmarks.skill GLOB [OVERRIDE ...]`: skill on the year after training, three seeds in fp32 and in bf16.

Runs the commands of the README on the minute files GLOB matches, in a temporary folder: ingest, process,
and `train +experiment=xagusd_hourly` for each; LightGBM beside the first. OVERRIDEs go to every training.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SEEDS = (0, 1, 2)
PRECISIONS = ("32-true", "bf16-mixed")
STEPS = ("1", "6", "24")


def run(module: str, *arguments: str) -> str:
    """The last line that the command prints."""
    command = (sys.executable, "-m", f"lstm_ts.{module}", *arguments)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout.splitlines()[-1]


def train(paths: Sequence[str], *overrides: str) -> tuple[dict[str, Any], float]:
    """scores.json of one training, and its wall seconds from start to end, imports and scoring included."""
    started = time.perf_counter()
    model = Path(run("train", "+experiment=xagusd_hourly", *paths, *overrides))
    taken = time.perf_counter() - started
    scores: dict[str, Any] = json.loads((model.parent / "scores" / "scores.json").read_text())
    return scores, taken


def show(name: str, scores: dict[str, Any], taken: float) -> None:
    for step in STEPS:
        horizon = scores["horizons"][step]
        cells = [f"{name:<17} {step:>2} h  lstm {horizon['pinball_bps']:.3f}"]
        for baseline, values in horizon["baselines"].items():
            skill, p = 100 * horizon["skill"][baseline], horizon["dm_p"][baseline]
            cells.append(f"{baseline} {values['pinball_bps']:.3f} ({skill:+.1f} %, p {p:.1g})")
        cells.append(f"MAE {horizon['mae_bps']:.2f} of {horizon['baselines']['persistence']['mae_bps']:.2f}")
        print("  ".join(cells))
    quarters = [f"{100 * group['1']['coverage']['0.8']:.1f}" for group in scores["by_quarter"].values()]
    print(
        f"{name:<17}  1 h  80 % interval covers {' / '.join(quarters)} % by quarter; {taken:.0f} s in all", flush=True
    )


def main(pattern: str, *overrides: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = (f"paths.data={folder}/data", f"paths.outputs={folder}/outputs")
        print(run("ingest", "source=files", f"source.paths={pattern}", "source.zone=UTC", *paths))
        print(run("process", *paths))
        for seed in SEEDS:
            for precision in PRECISIONS:
                first = seed == SEEDS[0] and precision == PRECISIONS[0]
                extra = ("lightgbm_steps=[1,6,24]",) if first else ()
                scores, taken = train(paths, f"seed={seed}", f"trainer.precision={precision}", *extra, *overrides)
                show(f"seed {seed} {precision}", scores, taken)


if __name__ == "__main__":
    main(*sys.argv[1:])
