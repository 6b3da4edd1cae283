"""`python -m lstm_ts.retrain`: train a candidate on the latest bars, judge it beside the champion, register it.

The alias `champion` moves only if the gate promotes; while the champion's drift alarm is active, only hours since the
change count (`holdout.Change`). The registered version itself holds the decision: after a kill, the next run finds it
and carries it out (see `promotion.py`).
"""

import logging
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from lstm_ts.cli import check_arguments

if __name__ == "__main__":
    check_arguments("retrain")  # before what is slow to import

import polars as pl
from omegaconf import DictConfig

from lstm_ts.cli import entry_point
from lstm_ts.configuration.parts import check_registry, construct, reject_options, reject_relaunch, run_folder
from lstm_ts.errors import ConfigError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.announcements import describe_unknown
from lstm_ts.model.artifact import save_forecasters
from lstm_ts.model.baselines import BASELINES
from lstm_ts.model.checkpoints import create_run_folder
from lstm_ts.model.datamodule import BarsDataModule, Split
from lstm_ts.model.windows import WindowSpec
from lstm_ts.registry.holdout import Champion, check_champion
from lstm_ts.registry.promotion import promote_undecided
from lstm_ts.registry.registry import Registry
from lstm_ts.registry.version import CHAMPION, Version, describe_verdict
from lstm_ts.scoring.gate import Criteria
from lstm_ts.scoring.wandb_log import close
from lstm_ts.training.candidate import judge_and_report, register
from lstm_ts.training.forecasters import Fitted, find_obstacle, fit, make_data, read_bars
from lstm_ts.training.gate_inputs import (
    GateInputs,
    choose_names,
    describe_waiting,
    find_request,
    hash_request,
    read_gate_inputs,
)
from lstm_ts.training.trainer import build_trainer

log = logging.getLogger(__name__)
SCRATCH, BOTH = "scratch", "both"


@dataclass(frozen=True)
class RetrainResult:
    """Result of a retraining for the first symbol."""

    registered: Version | None  # None: nothing was new, it is too early to judge, or a dry run
    champion: Version | None  # which serves now


def choose_starts(cfg: DictConfig, champion: Champion | None, data: BarsDataModule) -> list[str]:
    """Raises    ConfigError: an unknown start, or a champion whose weights cannot be continued"""
    requested = cfg.retrain.start
    if requested not in (SCRATCH, CHAMPION, BOTH):
        raise ConfigError(f"Expected retrain.start={SCRATCH}, {CHAMPION} or {BOTH}, got {requested}")
    if champion is None or requested == SCRATCH:
        return [SCRATCH]
    if not (obstacle := find_obstacle(champion.forecaster, construct(cfg.net), data)):
        return [SCRATCH, CHAMPION] if requested == BOTH else [CHAMPION]
    if requested == CHAMPION:
        raise ConfigError(f"Expected a champion {obstacle}; set retrain.start={SCRATCH}")
    log.info("From scratch only: a warm start needs a champion %s", obstacle)
    return [SCRATCH]


def train_candidates(cfg: DictConfig, data: BarsDataModule, champion: Champion | None) -> dict[str, Fitted]:
    """Train a candidate for each start, in a folder of its own."""
    trained = {}
    for start in choose_starts(cfg, champion, data):
        weights = champion.forecaster if champion and start == CHAMPION else None
        trainer = build_trainer(cfg, run_folder() / start)
        try:
            trained[start] = fit(cfg, data, trainer, start=weights)
        finally:
            close(trainer.loggers)
        log.info("From %s: validation loss %.4f after %.0f s", start, trained[start].loss, trained[start].seconds)
    return trained


def write_losses(folder: Path, losses: Sequence[float]) -> None:
    """Write the validation losses of the training that is judged, as `logger=csv` does, for the dashboard."""
    path = folder / "metrics" / "metrics.csv"
    path.parent.mkdir()
    pl.DataFrame({"epoch": range(len(losses)), "val/loss": losses}).write_csv(path)


def retrain(cfg: DictConfig, registry: Registry, ledger: Ledger) -> Version | None:
    """Retrain, judge and register; print scores, decisions, and the paths of reports and model.

    Decisions that a killed run left are carried out first, whatever the bars.

    Returns    the registered version of the first symbol; None: nothing new, too early to judge, or a dry run
    """
    reject_options(cfg, "ckpt_path", "lightgbm_steps", "garch", "warm_start", "split")
    reject_relaunch(cfg)
    criteria: Criteria = construct(cfg.gate)
    spec: WindowSpec = construct(cfg.spec)
    criteria.check(horizon=spec.horizon, levels=spec.levels, baselines=list(BASELINES))
    names, settings, bars = choose_names(cfg), cfg.retrain, read_bars(cfg)
    if not settings.dry_run:
        for name in names:
            promote_undecided(registry, ledger, name)
    per_symbol = read_gate_inputs(cfg, registry, ledger, bars, criteria)
    request = hash_request(cfg, per_symbol)
    if not settings.dry_run and all(same := [find_request(registry, name, request) for name in names]):
        for version in filter(None, same):
            print(
                f"Nothing new since {version}: the same bars, configuration, code and libraries; "
                f"the verdict was {describe_verdict(version.tags)}"
            )
        return None
    if waiting := [reason for inputs in per_symbol if (reason := describe_waiting(ledger, inputs, criteria))]:
        print(*waiting, sep="\n")
    if len(waiting) == len(per_symbol):
        return None
    return train_and_judge(cfg, registry, ledger, per_symbol, criteria, request)


def train_and_judge(
    cfg: DictConfig,
    registry: Registry,
    ledger: Ledger,
    per_symbol: Sequence[GateInputs],
    criteria: Criteria,
    request: str,
) -> Version | None:
    spec, held = construct(cfg.spec), per_symbol[0].held
    for inputs in per_symbol:
        if inputs.champion:
            check_champion(inputs.champion, spec, inputs.held)
    split = Split(valid_from=held.valid_from, test_from=held.start, test_until=None)
    data = make_data(cfg, [inputs.held.bars for inputs in per_symbol], split)
    for note in describe_unknown(held.start, held.end):
        log.warning("In the held-out hours, %s", note)
    folder = create_run_folder(run_folder())
    trained = train_candidates(cfg, data, per_symbol[0].champion)
    best = trained[min(trained, key=lambda start: trained[start].loss)]
    if not cfg.logger:
        write_losses(folder, best.losses)
    judged = [
        judge_and_report(forecaster, inputs, criteria, folder, is_first=inputs is per_symbol[0])
        for inputs, forecaster in zip(per_symbol, best.forecasters, strict=True)
    ]
    save_forecasters([candidate for candidate, _ in judged], folder / "model")
    print(f"Model: {folder / 'model'}")
    if cfg.retrain.dry_run:
        print("A dry run: nothing was registered, no alias moved")
        return None
    versions = []
    for inputs, (candidate, decision) in zip(per_symbol, judged, strict=True):
        version = register(
            cfg, registry, folder / "model", candidate, inputs, decision, loss=best.loss, request=request
        )
        promote_undecided(registry, ledger, inputs.name)
        print(f"Registered as {version}, {describe_verdict(version.tags)}")
        versions.append(version)
    return versions[0]


def run(cfg: DictConfig) -> RetrainResult:
    check_registry(cfg)
    names = choose_names(cfg)
    with closing(Ledger(cfg.registry.ledger)) as ledger, ExitStack() as locks:
        registry = Registry(cfg.registry.uri, ledger)
        for name in sorted(names):
            locks.enter_context(ledger.exclusive(f"retraining of {name}"))
        registered = retrain(cfg, registry, ledger)
        champions = [registry.champion(name) for name in names]
        for champion in champions:
            print("Champion:", f"{champion}, {describe_verdict(champion.tags)}" if champion else "none yet")
        return RetrainResult(registered, champions[0])


main = entry_point("retrain")(run)

if __name__ == "__main__":
    main()
