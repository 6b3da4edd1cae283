"""`python -m lstm_ts.retrain`: train a candidate on the latest bars, judge it beside the champion, register it.

The alias `champion` moves only if the gate promotes. What was decided stands in the registered version itself, so
after a kill in between, the next run finds it and does what was still to be done (see `promotion.py`).
"""

import logging
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from lstm_ts.cli import check_arguments

if __name__ == "__main__":
    check_arguments("retrain")  # before what is slow to import

from omegaconf import DictConfig

from lstm_ts.cli import (
    check_registry,
    construct,
    entry_point,
    processed_store,
    reject_options,
    reject_relaunch,
    run_folder,
    to_json,
)
from lstm_ts.errors import ConfigError
from lstm_ts.evaluate import Span, evaluate, write_scores
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.session import utc
from lstm_ts.model.artifact import save_forecaster
from lstm_ts.model.baselines import BASELINES
from lstm_ts.model.checkpoints import create_run_folder
from lstm_ts.model.datamodule import BarsDataModule, Split
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.model.nets import describe_net
from lstm_ts.model.provenance import hash_training, select_decisive
from lstm_ts.registry.holdout import Champion, HoldoutData, check_champion, hold_out
from lstm_ts.registry.promotion import promote_undecided
from lstm_ts.registry.registry import CHAMPION, Registry
from lstm_ts.registry.version import Version, describe_verdict
from lstm_ts.scoring.gate import Criteria, Decision, Verdict, decide
from lstm_ts.scoring.records import ForecastRecord
from lstm_ts.scoring.report import format_table
from lstm_ts.scoring.scores import compute_scores
from lstm_ts.scoring.wandb_log import close
from lstm_ts.train import Fitted, build_trainer, fit, make_data

log = logging.getLogger(__name__)
SCRATCH, BOTH = "scratch", "both"


@dataclass(frozen=True)
class RetrainResult:
    registered: Version | None  # None: nothing was new, or a dry run
    champion: Version | None  # which serves now


def choose_starts(cfg: DictConfig, champion: Champion | None, valid_from: datetime) -> list[str]:
    """Raises    ConfigError: a start that does not exist, or a champion whose weights cannot be gone on with"""
    asked, config = cfg.retrain.start, describe_net(construct(cfg.net))
    if asked not in (SCRATCH, CHAMPION, BOTH):
        raise ConfigError(f"Expected retrain.start={SCRATCH}, {CHAMPION} or {BOTH}, got {asked}")
    if champion is None or asked == SCRATCH:
        return [SCRATCH]
    theirs, seen = champion.forecaster.network.config, champion.forecaster.provenance.trained_until
    if theirs != config:
        obstacle = f"a champion of {config}, got {dict(theirs)}"
    elif datetime.fromisoformat(seen) > valid_from:
        obstacle = f"a champion trained before the validation from {valid_from.isoformat()}, got one until {seen}"
    else:
        return [SCRATCH, CHAMPION] if asked == BOTH else [CHAMPION]
    if asked == CHAMPION:
        raise ConfigError(f"Expected {obstacle}; set retrain.start={SCRATCH}")
    log.info("From scratch only: a warm start needs %s", obstacle)
    return [SCRATCH]


def train_candidates(
    cfg: DictConfig, data: BarsDataModule, source: str, champion: Champion | None
) -> dict[str, Fitted]:
    """Train a candidate for each start, in a folder of its own."""
    trained = {}
    for start in choose_starts(cfg, champion, data.valid_from):
        weights = champion.forecaster if champion and start == CHAMPION else None
        trainer = build_trainer(cfg, run_folder() / start)
        try:
            trained[start] = fit(cfg, data, trainer, source=source, start=weights)
        finally:
            close(trainer.loggers)
        log.info("From %s: validation loss %.4f after %.0f s", start, trained[start].loss, trained[start].seconds)
    return trained


def judge(
    candidate: Forecaster, champion: Champion | None, held: HoldoutData, criteria: Criteria
) -> tuple[ForecastRecord, Decision]:
    """Both on the same held-out origins; the champion's forecasts are in the candidate's record too."""
    record = evaluate(candidate, held.hourly_bars, Span(held.start, None))
    if champion is None:
        return record, decide(record, None, criteria, fresher=True)
    other = evaluate(champion.forecaster, held.hourly_bars, Span(held.start, None))
    theirs = champion.forecaster.provenance.trained_until
    fresher = datetime.fromisoformat(candidate.provenance.trained_until) > datetime.fromisoformat(theirs)
    decision = decide(record, other, criteria, fresher=fresher)
    return replace(record, quantiles={**record.quantiles, CHAMPION: other.q_NHQ}), decision


def describe_decision(decision: Decision, champion: Champion | None) -> list[str]:
    """The verdict, then a line for each check, failed ones first."""
    verdict = f"{decision.verdict.value}{', experimental' if decision.experimental else ''}"
    if champion and decision.verdict is Verdict.PROMOTE:
        verdict += " as better" if decision.better else " as fresher, not as better"
    judged = f"judged against {champion.version}" if champion else "there is no champion yet"
    return [f"Gate: {verdict} ({judged})", *(f"- {reason}" for reason in decision.reasons)]


def hash_request(cfg: DictConfig, held: HoldoutData) -> str:
    """SHA-256 of all that decides what becomes of the bars: the same again is nothing new."""
    decisive = select_decisive(to_json(cfg), "warm_lr", "retrain", "gate")
    return hash_training(held.data_sha256, decisive)


def register(
    cfg: DictConfig,
    registry: Registry,
    model: Path,
    fitted: Fitted,
    decision: Decision,
    held: HoldoutData,
    against: str,
) -> Version:
    """Add the version with its decision, whatever that is."""
    provenance, scores = fitted.forecaster.provenance, fitted.forecaster.scores
    one_hour = scores["horizons"]["1"]
    span = {"span_start": held.start.isoformat(), "span_end": held.end.isoformat()}
    data = {"data_sha256": held.data_sha256, "criteria": to_json(cfg)["gate"]}
    return registry.register(
        cfg.name,
        model,
        gate={**decision.to_json(), **span, **data},
        tags={
            "verdict": decision.verdict.value,
            "experimental": str(decision.experimental).lower(),
            "trained_until": provenance.trained_until,
            "data_end": provenance.data_end,
            "request_sha256": hash_request(cfg, held),
            "judged_against": against,
        },
        metrics={
            "pinball_1h_bps": one_hour["pinball_bps"],
            **{f"skill_{name}_1h": one_hour["skill"][name] for name in fitted.forecaster.reference.baselines},
            "val_loss": fitted.loss,
        },
        params={"tsteps": cfg.tsteps, "horizon": cfg.horizon, "seed": cfg.seed, **fitted.forecaster.network.config},
    )


def retrain(cfg: DictConfig, registry: Registry, ledger: Ledger) -> Version | None:
    """Prints scores, decision, and where the candidate's report and model lie.

    Returns    what was registered: None where nothing is new, and after a dry run

    First it does what a run before left undone when it was killed, whatever its bars.
    """
    reject_options(cfg, "ckpt_path", "lightgbm_steps")
    reject_relaunch(cfg)
    criteria: Criteria = construct(cfg.gate)
    criteria.check(horizon=cfg.horizon, levels=cfg.levels, baselines=list(BASELINES))
    end, settings = utc(cfg.span.end), cfg.retrain
    held = hold_out(processed_store(cfg), end=end, valid=settings.valid, holdout=settings.holdout)
    request = hash_request(cfg, held)
    same = [version for version in registry.versions(cfg.name) if version.tags.get("request_sha256") == request]
    if not cfg.retrain.dry_run:
        promote_undecided(registry, ledger, cfg.name)
    if same and not cfg.retrain.dry_run:
        verdict = describe_verdict(same[-1].tags)
        print(
            f"Nothing new since {same[-1]}: the same bars, configuration, code and libraries; the verdict was {verdict}"
        )
        return None
    return train_and_judge(cfg, registry, ledger, held, criteria)


def train_and_judge(
    cfg: DictConfig, registry: Registry, ledger: Ledger, held: HoldoutData, criteria: Criteria
) -> Version | None:
    serving = registry.champion(cfg.name)
    champion = Champion(serving, registry.load(serving)) if serving else None
    split = Split(valid_from=held.valid_from, test_from=held.start, test_until=None)
    data = make_data(cfg, held.hourly_bars, split)
    if champion:
        check_champion(champion, data, held, cfg.symbol.name)
    folder = create_run_folder(run_folder())
    trained = train_candidates(cfg, data, held.source, champion)
    best = trained[min(trained, key=lambda start: trained[start].loss)]
    record, decision = judge(best.forecaster, champion, held, criteria)
    scores, verdict = compute_scores(record), describe_decision(decision, champion)
    print(f"Bars: {held.source}\n{format_table(scores)}\n", *verdict, sep="\n")
    report = write_scores(folder / "scores", record, scores, held.source, notes=verdict).with_name("report.html")
    fitted = replace(best, forecaster=replace(best.forecaster, scores=scores.to_json()))
    save_forecaster(fitted.forecaster, folder / "model")
    version = None
    if cfg.retrain.dry_run:
        print("A dry run: nothing was registered, no alias moved")
    else:
        against = str(serving.number) if serving else ""
        version = register(cfg, registry, folder / "model", fitted, decision, held, against)
        promote_undecided(registry, ledger, cfg.name)
        print(f"Registered as {version}, {describe_verdict(version.tags)}")
    print(f"Report: {report}\nModel: {folder / 'model'}")
    return version


def run(cfg: DictConfig) -> RetrainResult:
    check_registry(cfg)
    with closing(Ledger(cfg.registry.ledger)) as ledger:
        registry = Registry(cfg.registry.uri, ledger)
        with ledger.exclusive(f"retraining of {cfg.name}"):
            registered = retrain(cfg, registry, ledger)
            champion = registry.champion(cfg.name)
            print("Champion:", f"{champion}, {describe_verdict(champion.tags)}" if champion else "none yet")
            return RetrainResult(registered, champion)


main = entry_point("retrain")(run)

if __name__ == "__main__":
    main()
