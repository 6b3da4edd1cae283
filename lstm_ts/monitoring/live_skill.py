"""Live skill of a version, computed from its daily sums. Pure."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from lstm_ts.ledger.monitor_rows import DailyScore
from lstm_ts.monitoring.confidence import DailyLosses, LiveSkill, SkillSettings, describe_confidence, estimate_skill
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.monitoring.hourly import MODEL
from lstm_ts.monitoring.versions import WatchedVersion
from lstm_ts.scoring.records import PERSISTENCE, ForecastRecord
from lstm_ts.scoring.tables import percent

LIVE_SKILL = "live_skill"  # a kind of state


@dataclass(frozen=True)
class LiveStepSkill:
    """Skill at one step over the best baseline and over persistence."""

    step: int
    best: str  # the baseline with the least loss over these days
    over_best: LiveSkill
    over_persistence: LiveSkill

    def to_json(self) -> dict[str, Any]:
        """Numbers that are not known yet are null."""
        return {
            "best": self.best,
            "n": self.over_best.n,
            "since": str(self.over_best.since),
            "over_best": _to_json(self.over_best),
            "over_persistence": _to_json(self.over_persistence),
        }


def _to_json(skill: LiveSkill) -> dict[str, float | None]:
    values = {"skill": skill.skill, "low": skill.low, "high": skill.high}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def compute_live_skill(days: Sequence[DailyScore], settings: SkillSettings) -> list[LiveStepSkill]:
    """Compute the skill of one version at each step."""
    found = []
    for step in sorted({day.step for day in days}):
        of_step = [day for day in days if day.step == step]
        losses = list_losses(of_step)
        totals = {name: float(daily.baseline_D.sum()) for name, daily in losses.items()}
        best = min(totals, key=totals.__getitem__)
        skills = {name: estimate_skill(losses[name], settings) for name in {best, PERSISTENCE}}
        found.append(LiveStepSkill(step, best, skills[best], skills[PERSISTENCE]))
    return found


def list_losses(days: Sequence[DailyScore]) -> dict[str, DailyLosses]:
    """Return daily losses at one step, by baseline."""
    day_D = np.array([day.day for day in days], dtype="datetime64[D]")
    n_D = np.array([day.sums["n"] for day in days])
    loss_D = {name: np.array([day.sums["losses"][name] for day in days]) for name in days[0].sums["losses"]}
    return {
        name: DailyLosses(day_D, n_D, loss_D[MODEL], baseline_D) for name, baseline_D in loss_D.items() if name != MODEL
    }


def to_json(skills: Sequence[LiveStepSkill]) -> dict[str, Any]:
    confidence = skills[0].over_best.confidence if skills else None
    return {"confidence": confidence, "steps": {str(skill.step): skill.to_json() for skill in skills}}


def list_daily_metrics(days: Sequence[DailyScore]) -> dict[date, dict[str, float]]:
    """Return MLflow metrics by day: loss and skill over the best baseline at each step, cumulated until that day."""
    found: dict[date, dict[str, float]] = defaultdict(dict)
    for step in sorted({day.step for day in days}):
        losses = list(list_losses([day for day in days if day.step == step]).values())
        model_D = np.cumsum(losses[0].model_D)
        best_D = np.min([np.cumsum(daily.baseline_D) for daily in losses], axis=0)
        loss_D = model_D / np.cumsum(losses[0].n_D)
        for day, loss, model, best in zip(losses[0].day_D.tolist(), loss_D, model_D, best_D, strict=True):
            found[day][f"live_pinball_{step}h_bps"] = 1e4 * float(loss)
            if best > 0:
                found[day][f"live_skill_best_{step}h"] = 1 - float(model / best)
    return dict(found)


def find_open_day(record: ForecastRecord | None) -> str | None:
    """Find the day of the first forecast that lacks a score; None: all are scored.

    record   of the forecasts that may still get one
    """
    if record is None:
        return None
    is_open_N = np.isnan(record.y_NH[:, [step - 1 for step in record.shown_steps]]).any(axis=1)
    return str(record.origin_ts_N[is_open_N][0].astype("datetime64[D]")) if is_open_N.any() else None


def check_performance(watched: WatchedVersion, skills: Sequence[LiveStepSkill]) -> Finding:
    """Return a bad finding if the interval of some step lies below zero: the best baseline is better."""
    known = [skill for skill in skills if not math.isnan(skill.over_best.high)]
    if not known:
        n = skills[0].over_best.n if skills else 0
        sentence = f"The {watched}: no live skill yet, of {n:,} outcomes."
        return Finding("performance_drop", watched.subject, Health.UNKNOWN, sentence)
    worst = min(known, key=lambda skill: skill.over_best.high)
    health = Health.BAD if worst.over_best.high < 0 else Health.GOOD
    shown = worst if health is Health.BAD else known[0]
    sentence = f"The {watched}: {describe(shown)}."
    return Finding("performance_drop", watched.subject, health, sentence)


def describe(skill: LiveStepSkill) -> str:
    over = skill.over_best
    hours = f"{skill.step} hour{'s' * (skill.step > 1)} ahead"
    text = f"live skill {hours} is {percent(over.skill, 2, signed=True)} over {skill.best}"
    if not math.isnan(over.low):
        sure = describe_confidence(over.confidence)
        text += f" ({sure}: {percent(over.low, 2, signed=True)} to {percent(over.high, 2, signed=True)})"
    return f"{text}, {over.n:,} outcomes since {over.since}"
