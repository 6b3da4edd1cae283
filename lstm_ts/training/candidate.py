"""Judge a retraining's candidate beside the champion, write its scores, register it with the decision."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig

from lstm_ts.configuration.parts import to_json
from lstm_ts.evaluate import describe_model, write_scores
from lstm_ts.model.evaluation import Span, evaluate
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.registry.holdout import Champion
from lstm_ts.registry.registry import Registry
from lstm_ts.registry.version import CHAMPION, Version
from lstm_ts.scoring.decision import Decision, Verdict
from lstm_ts.scoring.gate import Criteria, decide
from lstm_ts.scoring.records import ForecastRecord
from lstm_ts.scoring.report import format_table
from lstm_ts.scoring.scores import compute_scores
from lstm_ts.training.gate_inputs import GateInputs


def judge_and_report(
    forecaster: Forecaster, inputs: GateInputs, criteria: Criteria, folder: Path, *, is_first: bool
) -> tuple[Forecaster, Decision]:
    """Judge the candidate, print and write its scores; return the forecaster with them, and the decision.

    folder   of the run
    """
    record, decision = _judge(forecaster, inputs, criteria)
    scores, source = compute_scores(record), inputs.held.bars.source
    verdict = _describe_decision(decision, inputs.champion)
    print(f"Bars: {source}\n{format_table(scores)}\n", *verdict, sep="\n")
    version = "the candidate of this retraining; it gets a number when it is registered, after this report"
    about = describe_model(forecaster, folder / "model", version=version)
    place = folder / "scores" / ("" if is_first else inputs.name)
    report = write_scores(place, record, scores, source, about=about, notes=verdict).with_name("report.html")
    print(f"Report: {report}")
    return replace(forecaster, scores=scores.to_json()), decision


def _judge(candidate: Forecaster, inputs: GateInputs, criteria: Criteria) -> tuple[ForecastRecord, Decision]:
    """Evaluate both on the same held-out origins; the candidate's record gets the champion's forecasts too."""
    champion, held, hourly_bars = inputs.champion, inputs.held, inputs.held.bars.hourly_bars
    record = evaluate(candidate, hourly_bars, Span(held.start, None))
    if champion is None:
        return record, decide(record, None, criteria, fresher=True)
    other = evaluate(champion.forecaster, hourly_bars, Span(held.start, None))
    theirs = champion.forecaster.provenance.trained_until
    fresher = datetime.fromisoformat(candidate.provenance.trained_until) > datetime.fromisoformat(theirs)
    decision = decide(record, other, criteria, fresher=fresher, drift_since=inputs.drift_since)
    return replace(record, quantiles={**record.quantiles, CHAMPION: other.q_NHQ}), decision


def _describe_decision(decision: Decision, champion: Champion | None) -> list[str]:
    """Return the verdict, then a line for each check, failed ones first."""
    verdict = f"{decision.verdict.value}{', experimental' if decision.experimental else ''}"
    if champion and decision.verdict is Verdict.PROMOTE:
        verdict += " as better" if decision.better else " as fresher, not as better"
    judged = f"judged against {champion.version}" if champion else "there is no champion yet"
    return [f"Gate: {verdict} ({judged})", *(f"- {reason}" for reason in decision.reasons)]


def register(
    cfg: DictConfig,
    registry: Registry,
    model: Path,
    candidate: Forecaster,
    inputs: GateInputs,
    decision: Decision,
    *,
    loss: float,
    request: str,
) -> Version:
    """Register the candidate with its decision, whatever the verdict."""
    provenance, held, one_hour = candidate.provenance, inputs.held, candidate.scores["horizons"]["1"]
    span = {"span_start": held.start.isoformat(), "span_end": held.end.isoformat()}
    data = {"data_sha256": held.data_sha256, "criteria": to_json(cfg)["gate"]}
    return registry.register(
        inputs.name,
        model,
        gate={**decision.to_json(), **span, **data},
        tags={
            "verdict": decision.verdict.value,
            "experimental": str(decision.experimental).lower(),
            "symbol": provenance.symbol,
            "trained_until": provenance.trained_until,
            "data_end": provenance.data_end,
            "request_sha256": request,
            "data_sha256": held.data_sha256,
            "judged_against": inputs.against,
            "drift_since": inputs.drift_since_iso,
            "shortened": str(held.shortened).lower(),
        },
        metrics={
            "pinball_1h_bps": one_hour["pinball_bps"],
            **{f"skill_{name}_1h": one_hour["skill"][name] for name in candidate.reference.baselines},
            "val_loss": loss,
        },
        params={
            "tsteps": candidate.spec.tsteps,
            "horizon": candidate.spec.horizon,
            "seed": cfg.seed,
            **candidate.network.config,
        },
    )
