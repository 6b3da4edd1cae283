"""`python -m lstm_ts.backtest`: walk forward over the stored bars; each fold's model has seen only earlier bars.

<paths.outputs>/backtest/folds/<key>/model       a fold's model; the key is a hash of all that decides it: bars, code,
<paths.outputs>/backtest/folds/<key>/fold.json   configuration, first weights; so no fold is trained twice
"""

import json
import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from lstm_ts.cli import check_arguments

if __name__ == "__main__":
    check_arguments("backtest")  # before what is slow to import

import numpy as np
import polars as pl
from omegaconf import DictConfig

from lstm_ts.cli import entry_point, launch
from lstm_ts.configuration.parts import construct, reject_options, reject_relaunch, run_folder, to_json
from lstm_ts.errors import ConfigError
from lstm_ts.evaluate import describe_model, write_scores
from lstm_ts.model.artifact import load_forecaster, load_forecasters, save_forecasters
from lstm_ts.model.datamodule import Split
from lstm_ts.model.evaluation import Span, describe_announcements, evaluate
from lstm_ts.model.extra_baselines import ExtraBaselines
from lstm_ts.model.features import make_grid
from lstm_ts.model.folds import Fold, FoldRow, check_bars, describe_warm_start, format_folds
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.model.provenance import hash_training, select_decisive
from lstm_ts.model.symbol_data import SymbolBars
from lstm_ts.model.windows import find_origins
from lstm_ts.scoring.records import ForecastRecord, concatenate
from lstm_ts.scoring.report import format_table
from lstm_ts.scoring.scores import compare, compute_scores
from lstm_ts.training.forecasters import fit, make_data, read_bars
from lstm_ts.training.trainer import build_trainer

log = logging.getLogger(__name__)
SCRATCH, PREVIOUS = "scratch", "previous"
REFIT = "refit"


@dataclass(frozen=True)
class Training:
    """Training of one fold from one kind of first weights, and the folder that keeps its results."""

    fold: Fold
    start: str
    folder: Path
    previous: "Training | None"  # whose weights are the first ones

    @property
    def done(self) -> bool:
        return self.folder.is_dir()


def plan_trainings(cfg: DictConfig, bars: Sequence[SymbolBars]) -> dict[str, list[Training]]:
    """Return the trainings of the configured folds by kind of first weights, in the order of the folds.

    Raises    ConfigError: a start, scaler policy or fold that does not exist; NotEnoughBars: as `check_bars`
    """
    settings = to_json(cfg)
    starts, scaler, wanted = settings["starts"], settings["scaler"], settings["folds"]
    known = isinstance(starts, list) and starts and set(starts) <= {SCRATCH, PREVIOUS}
    if not known or scaler not in (REFIT, PREVIOUS):
        raise ConfigError(
            f"Expected starts among [{SCRATCH}, {PREVIOUS}] and scaler={REFIT} or {PREVIOUS}, got {starts} and {scaler}"
        )
    folds = find_folds(cfg, bars[0])
    if not folds:
        raise ConfigError(
            f"Expected hours to score from walk.start={cfg.walk.start} to walk.end={cfg.walk.end}, got none; move them"
        )
    numbers = [fold.number for fold in folds]
    if wanted is not None and not (isinstance(wanted, list) and wanted and set(wanted) <= set(numbers)):
        raise ConfigError(f"Expected folds among {numbers}, got {wanted}")
    wanted = wanted or numbers
    earlier = range(max(wanted)) if PREVIOUS in starts else []  # which the wanted ones start from
    for each in bars:
        check_bars(each, construct(cfg.spec), [fold for fold in folds if fold.number in {*wanted, *earlier}])
    kept = Path(cfg.paths.outputs) / "backtest" / "folds"
    decisive = select_decisive(settings)
    seen = {fold: [each.decisive for each in select_bars(bars, fold)] for fold in folds}
    plans: dict[str, list[Training]] = {start: [] for start in starts}
    for start, trainings in plans.items():
        for fold in folds:
            previous = trainings[-1] if start == PREVIOUS and trainings else None
            borders = [str(fold.valid_from), str(fold.seen_until), seen[fold]]
            warm = [previous.folder.name, cfg.scaler] if previous else []
            key = hash_training(decisive, borders, warm)[:24]
            trainings.append(Training(fold, start, kept / key, previous))
    return {start: [t for t in trainings if t.fold.number in wanted] for start, trainings in plans.items()}


def find_folds(cfg: DictConfig, bars: SymbolBars) -> list[Fold]:
    """Find the folds that have an origin to score: the rest of a quarter may be a single closed day."""
    spec = construct(cfg.spec)
    grid = make_grid(bars.hourly_bars, bars.symbol.session, ahead=spec.horizon)
    folds = construct(cfg.walk).folds(bars.hourly_bars["ts"][0], bars.hourly_bars["ts"][-1])
    return [fold for fold in folds if len(find_origins(grid, spec, start=fold.test_from, end=fold.test_until).rows_N)]


def select_bars(bars: Sequence[SymbolBars], fold: Fold) -> list[SymbolBars]:
    """Return all bars that the fold's model may see."""
    seen = (pl.col("ts") >= fold.train_from) & (pl.col("ts") < fold.seen_until)
    return [replace(each, hourly_bars=each.hourly_bars.filter(seen)) for each in bars]


def train_folds(cfg: DictConfig) -> None:
    """Run one job: train the configured folds, each after the fold whose weights it begins with; skip trained folds."""
    bars = read_bars(cfg)
    for trainings in plan_trainings(cfg, bars).values():
        for training in trainings:
            _train(cfg, training, bars)


def _train(cfg: DictConfig, training: Training, bars: Sequence[SymbolBars]) -> None:
    if training.done:
        return
    previous: dict[str, Forecaster] = {}
    if training.previous is not None:
        _train(cfg, training.previous, bars)
        previous = load_forecasters(training.previous.folder / "model")
    fold = training.fold
    seen = [datetime.fromisoformat(each.provenance.trained_until) for each in previous.values()]
    split = Split(valid_from=max([fold.valid_from, *seen]), test_from=fold.seen_until, test_until=None)
    kept = {name: each.scaler for name, each in previous.items()} if cfg.scaler == PREVIOUS else None
    work = training.folder.with_name(f".{training.folder.name}.{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    with ExitStack() as cleanup:
        cleanup.callback(shutil.rmtree, work, ignore_errors=True)  # it no longer exists once it has its own name
        data = make_data(cfg, select_bars(bars, fold), split, kept_scalers=kept)
        fitted = fit(cfg, data, build_trainer(cfg, work), start=next(iter(previous.values()), None))
        shutil.rmtree(work / "checkpoints")
        save_forecasters(fitted.forecasters, work / "model")
        costs = {"losses": fitted.losses, "steps_per_epoch": fitted.steps_per_epoch, "seconds": fitted.seconds}
        (work / "fold.json").write_text(json.dumps(costs, indent=1))
        try:
            work.rename(training.folder)
        except OSError:
            if not training.done:  # else another job has just finished the same fold
                raise


def plan_jobs(plans: dict[str, list[Training]]) -> list[list[str]]:
    """Return the overrides of each job: a chain of warm starts is one job, and the first; other folds are one each."""
    missing = {start: [t.fold.number for t in trainings if not t.done] for start, trainings in plans.items()}
    chains = [[f"starts=[{PREVIOUS}]", f"folds={missing[PREVIOUS]}"]] if missing.get(PREVIOUS) else []
    return chains + [[f"starts=[{SCRATCH}]", f"folds=[{number}]"] for number in reversed(missing.get(SCRATCH, []))]


def collect(
    plans: dict[str, list[Training]], bars: SymbolBars, *, extra: ExtraBaselines
) -> tuple[ForecastRecord, list[FoldRow]]:
    """Return a symbol's out-of-sample record over all folds, with the other start beside the model, and the scores and
    costs of each training.
    """
    hourly_bars = bars.hourly_bars
    records, rows = [], []
    for trainings in zip(*plans.values(), strict=True):
        forecasters = [load_forecaster(training.folder / "model", bars.symbol.name) for training in trainings]
        fold = trainings[0].fold
        span = Span(fold.test_from, fold.test_until)
        record, *others = (evaluate(forecaster, hourly_bars, span) for forecaster in forecasters)
        record = extra.add(record, forecasters[0], hourly_bars)
        beside = {f"from_{t.start}": other.q_NHQ for t, other in zip(trainings[1:], others, strict=True)}
        record = replace(record, quantiles={**record.quantiles, **beside}, fold_N=np.full(record.n, fold.label))
        records.append(record)
        distinct = {
            t.folder: (t, name) for t, name in reversed([*zip(trainings, (record.model, *beside), strict=True)])
        }
        rows += [_fold_row(record, training, name) for training, name in reversed(distinct.values())]
    return concatenate(records), rows


def _fold_row(record: ForecastRecord, training: Training, name: str) -> FoldRow:
    costs = json.loads((training.folder / "fold.json").read_text())
    skill, dm_p = compare(record, 1, name=name)
    skill.pop(name, None)
    return FoldRow(
        fold=training.fold.label,
        start=PREVIOUS if training.previous else SCRATCH,
        origins=record.n,
        pinball_bps=record.pinball_bps(name, 1),
        best=record.best_baseline(1),
        skill=skill,
        dm_p=dm_p,
        losses=tuple(costs["losses"]),
        steps_per_epoch=costs["steps_per_epoch"],
        seconds=costs["seconds"],
    )


@entry_point("backtest")
def main(cfg: DictConfig) -> None:
    reject_options(cfg, "ckpt_path", "warm_start", "split")
    reject_relaunch(cfg)
    extra = ExtraBaselines(cfg.lightgbm_steps, cfg.garch, horizon=construct(cfg.spec).horizon)
    bars = read_bars(cfg)
    plans = plan_trainings(cfg, bars)
    jobs = plan_jobs(plans)
    folds = sum(len(trainings) for trainings in plans.values())
    log.info("%d trainings, %d jobs to run", folds, len(jobs))
    if jobs:
        launch(cfg, train_folds, jobs)
    if not all(training.done for trainings in plans.values() for training in trainings):
        raise ConfigError("Expected bars and code to stay the same while the folds trained, got others; run it again")
    for each in reversed(bars):  # the first one last, where its path is looked for
        report(cfg, plans, each, extra, run_folder() / ("" if each is bars[0] else each.symbol.name))


def report(
    cfg: DictConfig, plans: dict[str, list[Training]], bars: SymbolBars, extra: ExtraBaselines, folder: Path
) -> None:
    """Print and write the scores of one symbol; the last line is the path of scores.json."""
    record, rows = collect(plans, bars, extra=extra)
    scores = compute_scores(record)
    notes = [format_folds(rows)]
    if {SCRATCH, PREVIOUS} <= set(cfg.starts) and cfg.scaler == REFIT:
        notes.append(describe_warm_start(rows))
    notes += describe_announcements(record)
    print(f"Bars: {bars.source}", format_table(scores), *notes, sep="\n\n")
    trainings = next(iter(plans.values()))
    model = trainings[-1].folder / "model"
    version = f"none: each of {len(trainings)} folds has a model of its own; what follows is the last one's"
    about = describe_model(load_forecaster(model, bars.symbol.name), model, version=version)
    path = write_scores(folder / "scores", record, scores, bars.source, about=about, notes=notes)
    (folder / "folds.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
    print(path)


if __name__ == "__main__":
    main()
