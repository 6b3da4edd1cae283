"""Runs of trainings, retrainings, backtests and sweeps, read from the outputs folder."""

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from lstm_ts.configuration.overrides import flatten
from lstm_ts.registry.uri import hide_password
from lstm_ts.scoring.scores import HorizonScores, read_best

COMMANDS = ("train", "retrain", "backtest")
CONFIG, OVERRIDES, SCORES = ".hydra/config.yaml", ".hydra/overrides.yaml", "scores/scores.json"
LOSSES, ADDRESS, TRACKED = "metrics/metrics.csv", "wandb_url.txt", "wandb"
READ = (CONFIG, OVERRIDES, SCORES, LOSSES, ADDRESS, TRACKED)
NOT_OF_THE_MODEL = ("paths.", "registry.", "logger", "trainer.enable_progress_bar")  # they do not affect a model
INTERPOLATION = re.compile(r"\$\{([\w.]+)\}")
HORIZONS = TypeAdapter(dict[str, HorizonScores])
KEPT = 2000  # newest runs; more would displace each other in the cache

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Run:
    """One training, retraining or backtest, perhaps incomplete or damaged."""

    folder: Path
    command: str
    started: datetime  # of its sweep, for a trial
    trial: int | None  # of the sweep in the folder above
    overrides: tuple[str, ...] = ()  # as they were typed, but for passwords
    config: Mapping[str, Value] = field(default_factory=dict)  # by dotted name; empty: cannot be read
    horizons: Mapping[str, HorizonScores] = field(default_factory=dict)  # by step; empty: none yet
    span: str = ""  # symbol, dates and source of the bars that the scores are of
    losses: tuple[float, ...] = ()  # by epoch, over that of har_rolling, both on the validation span
    url: str = ""  # at Weights & Biases
    offline: Path | None = None  # files for `wandb sync`
    trouble: str = ""  # what is missing or damaged

    @property
    def experiment(self) -> str:
        chosen = [text.partition("=")[2] for text in self.overrides if text.lstrip("+").startswith("experiment=")]
        return chosen[-1] if chosen else ""

    @property
    def loss(self) -> float | None:
        """Lowest finite loss: a training that diverges writes nan from then on."""
        return min(filter(math.isfinite, self.losses), default=None)

    @property
    def symbol(self) -> str:
        return str(self.config.get("symbol.name", self.config.get("symbol", "")))  # runs may be older than symbol.name


def read_runs(outputs: Path) -> list[Run]:
    """Return the runs, newest first; only those that changed since the last call are read again."""
    found = []
    for command in COMMANDS:
        for folder in (outputs / command).glob("????-??-??/??-??-??*"):
            started = _started(folder)
            if started is None or not folder.is_dir():
                continue
            found += [
                (started, trial or 0, each, command, trial) for each, trial in _runs_in(folder) if not _is_refused(each)
            ]
    newest = sorted(found, key=lambda each: each[:2], reverse=True)[:KEPT]
    return [_read(each, command, started, trial, _changed(each)) for started, _, each, command, trial in newest]


def _started(folder: Path) -> datetime | None:
    """Return the start of a run; Hydra's stamp is in the machine's local time."""
    try:
        return datetime.strptime(f"{folder.parent.name} {folder.name[:8]}", "%Y-%m-%d %H-%M-%S").astimezone(UTC)
    except ValueError:
        return None


def _is_refused(folder: Path) -> bool:
    """Return whether nothing was trained, yet or before the command ended: only configuration and log exist."""
    return (folder / ".hydra").is_dir() and all(
        path.name == ".hydra" or path.suffix == ".log" for path in folder.iterdir()
    )


def _runs_in(folder: Path) -> list[tuple[Path, int | None]]:
    """Return a sweep's trials, or the folder itself; folders below a run are its jobs."""
    if (folder / ".hydra").is_dir():
        return [(folder, None)]
    trials = [path for path in folder.glob("[0-9]*") if path.name.isdigit() and path.is_dir()]
    return [(path, int(path.name)) for path in trials] or [(folder, None)]


def _changed(folder: Path) -> tuple[int, ...]:
    return tuple(_changed_ns(folder / name) for name in READ)


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(2 * KEPT)
def _read(folder: Path, command: str, started: datetime, trial: int | None, changed: tuple[int, ...]) -> Run:
    """Read a run; `changed`, the times of its files, makes a changed run a new entry of the cache."""
    run = Run(folder, command, started, trial)
    try:
        config, overrides = _yaml(folder / CONFIG, dict), _yaml(folder / OVERRIDES, list)
        run = replace(run, overrides=tuple(hide_password(str(each)) for each in overrides), config=values_of(config))
        run = replace(run, losses=read_losses(folder / LOSSES), url=_url(folder / ADDRESS), offline=_offline(folder))
        horizons, span = read_scores(folder / SCORES)
        return replace(run, horizons=horizons, span=span)
    except (ValueError, OSError) as error:
        return replace(run, trouble=str(error))


def _yaml(path: Path, kind: type) -> Any:
    """Raises    ValueError: a sentence about what is wrong"""
    name = f"{path.parent.name}/{path.name}"
    try:
        content = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)
    except FileNotFoundError:
        raise ValueError(f"Expected {name}, got none: half-written, or not a run of this project.") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ValueError(f"Expected {name} to be YAML, got something else: it is damaged.") from None
    if not isinstance(content, kind):
        raise ValueError(f"Expected {name} to hold a {kind.__name__}, got {type(content).__name__}: it is damaged.")
    return content


def read_scores(path: Path) -> tuple[dict[str, HorizonScores], str]:
    """Return scores by step, and the symbol, dates and source (of newer runs) of their bars.

    Raises    ValueError: a sentence about what is wrong
    """
    if not path.exists():
        raise ValueError("No scores: it is still running, or was cut off.")
    try:
        content = json.loads(path.read_text().replace('"mae_usd"', '"mae_price"'))  # of runs before symbols had files
        first, last = map(datetime.fromisoformat, content["span"])
        named = {step: {**scored, "best": read_best(scored)} for step, scored in content["horizons"].items()}
        horizons = HORIZONS.validate_python(_known(named))
        for horizon in horizons.values():
            if not horizon.baselines.keys() == horizon.skill.keys() == horizon.dm_p.keys() > set():
                raise KeyError("baselines")
        parts = (content["symbol"], f"{first:%Y-%m-%d} to {last:%Y-%m-%d}", content.get("source"))
        return horizons, ", ".join(filter(None, parts))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(
            "Expected scores/scores.json to hold the scores, got something else: it is damaged, or of another version."
        ) from None


def _known(value: Any) -> Any:
    """Return the scores with NaN in place of null."""
    if isinstance(value, dict):
        return {key: _known(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_known(item) for item in value]
    return math.nan if value is None else value


def read_losses(path: Path) -> tuple[float, ...]:
    """Return the validation losses so far; empty without a file of them."""
    if not path.exists():
        return ()
    whole = path.read_text().rpartition("\n")[0]  # the last line may be half-written
    return tuple(float(row["val/loss"]) for row in csv.DictReader(whole.splitlines()) if row.get("val/loss"))


def _url(path: Path) -> str:
    url = path.read_text().strip() if path.exists() else ""
    return url if url.startswith(("https://", "http://")) else ""


def _offline(folder: Path) -> Path | None:
    found = sorted(path for path in folder.glob("wandb/offline-run-*") if not list(path.glob("*.synced")))
    return found[-1] if found else None


def values_of(config: Mapping[str, Any]) -> dict[str, Value]:
    """Return the values by dotted name, without those that do not affect a model; lists as text."""
    values = {name: value for name, value in flatten(config) if not isinstance(value, dict)}
    return {
        name: _list_text(value, values) if isinstance(value, list) else value
        for name, value in values.items()
        if not name.startswith(NOT_OF_THE_MODEL)
    }


def _list_text(items: list[Any], values: Mapping[str, Any]) -> str:
    """Write a list as JSON, with the values of its interpolations."""
    return INTERPOLATION.sub(lambda found: str(values.get(found[1], found[0])), json.dumps(items, default=str))


def differing(runs: Sequence[Run]) -> list[str]:
    """Return the names of parameters whose values differ between runs, typed ones first.

    Parameters that follow from the symbol's name are left out.
    """
    seen: dict[str, set[Value]] = {}
    for run in runs:
        for name, value in run.config.items():
            seen.setdefault(name, set()).add(value)
    typed = {text.lstrip("+").partition("=")[0] for run in runs for text in run.overrides}
    found = {name for name, values in seen.items() if len(values) > 1}
    alone = all(run.config.get("symbols") == json.dumps([run.symbol]) for run in runs)
    follows = {name for name in found if name.startswith("symbol.") or (alone and name == "symbols")}
    return sorted(found - (follows - typed - {"symbol.name"}), key=lambda name: (name not in typed, name))
