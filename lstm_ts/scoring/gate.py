"""Gate for the promotion of a candidate to champion: checks, each with its reason, and one verdict. Pure.

A check that the data cannot settle is neither passed nor failed. A non-significant result counts against a candidate
only if the test had the power to detect the effect.

A champion whose drift alarm is active is known to be worse than when it was promoted. Its successor must be better on
the hours since the drift began; of the other checks, only failed ones prevent the promotion, and missing skill does
not.
Legend: N origins.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from lstm_ts.errors import ConfigError
from lstm_ts.scoring import metrics
from lstm_ts.scoring.comparison import LossComparison, compare_losses
from lstm_ts.scoring.decision import Decision, GateCheck, Verdict
from lstm_ts.scoring.metrics import Array
from lstm_ts.scoring.records import ROLLING_HAR, ForecastRecord
from lstm_ts.scoring.soundness import INTERVAL, check_anchor, check_coverage, check_last_bar
from lstm_ts.scoring.tables import percent


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """Criteria of the gate; conf/gate/default.yaml documents each."""

    steps: Sequence[int]
    baselines: Sequence[str] | None
    min_origins: int
    alpha: float
    power: float
    min_skill: float
    margin: float
    min_effect: float
    min_cure: float
    tercile_margin: float
    coverage: Sequence[float]
    anchor: Sequence[float]
    relation_alpha: float

    def __post_init__(self) -> None:
        whole = all(isinstance(count, int) for count in (*self.steps, self.min_origins))
        if not whole or not 1 <= min(self.steps, default=0) <= max(self.steps) < self.min_origins:
            raise ConfigError(f"Expected gate.steps from 1 to below min_origins={self.min_origins}, got {self.steps}")
        if self.baselines is not None and not self.baselines:
            raise ConfigError(f"Expected gate.baselines to name some, or null for all but {ROLLING_HAR}, got none")
        shares = ("alpha", "relation_alpha", "min_skill", "margin", "min_effect", "min_cure", "tercile_margin")
        for name in (*shares, "power"):
            low, high = (0.5, 1) if name == "power" else (0, 0.5)
            if not low < getattr(self, name) < high:
                raise ConfigError(f"Expected gate.{name} between {low} and {high}, got {getattr(self, name)}")
        if len(self.coverage) != 2 or not 0 <= self.coverage[0] < self.coverage[1] <= 1:
            raise ConfigError(f"Expected gate.coverage [low, high] within 0..1, got {self.coverage}")
        if len(self.anchor) != 2 or not 0 < self.anchor[0] < 1 < self.anchor[1]:
            raise ConfigError(f"Expected gate.anchor [below 1, above 1], got {self.anchor}")

    def check(self, *, horizon: int, levels: Sequence[float], baselines: Sequence[str]) -> None:
        """Raises    ConfigError: models of this horizon and these levels cannot be judged by these criteria"""
        if max(self.steps) > horizon:
            raise ConfigError(f"Expected gate.steps within horizon={horizon}, got {self.steps}; change one of them")
        if self.baselines is not None and not set(self.baselines) <= set(baselines):
            raise ConfigError(f"Expected gate.baselines among {', '.join(baselines)}, got {list(self.baselines)}")
        if any(metrics.level_index(levels, level) is None for level in metrics.CENTRAL_INTERVALS[INTERVAL]):
            raise ConfigError(f"Expected levels that hold 0.1 and 0.9 for gate.coverage, got {list(levels)}")


def decide(
    candidate: ForecastRecord,
    champion: ForecastRecord | None,
    criteria: Criteria,
    *,
    fresher: bool,
    drift_since: datetime | None = None,
) -> Decision:
    """Judge both on the same origins; with too few origins, only their number is judged.

    champion      None for a first model, which needs no skill, but without it is experimental
    fresher       the candidate was trained on later bars, so it is enough to be no worse than the champion
    drift_since   about when the champion's drift began, if its alarm is active: earlier origins are no evidence
    Raises    ConfigError: steps or levels that the records do not hold
    """
    criteria.check(horizon=candidate.horizon, levels=candidate.levels, baselines=candidate.baselines)
    few = [_check_samples(candidate, criteria)]
    if drift_since:
        few.insert(0, _check_drift(candidate, drift_since, criteria))
    if _judge(few) is not Verdict.PROMOTE:
        return Decision(_judge(few), False, tuple(few))
    baselines = criteria.baselines or [name for name in candidate.baselines if name != ROLLING_HAR]
    skill = [_check_skill(candidate, name, criteria) for name in baselines]
    sound = [
        check_coverage(candidate, criteria.steps[0], criteria.coverage),
        check_anchor(candidate, criteria.steps[0], criteria.anchor),
        check_last_bar(candidate, criteria.steps[0], criteria.relation_alpha),
    ]
    if champion is None:
        return _promote_without_skill(_judge(sound), skill, (*few, *skill, *sound))
    criteria.check(horizon=champion.horizon, levels=champion.levels, baselines=candidate.baselines)
    assert candidate.levels == champion.levels
    assert np.array_equal(candidate.origin_ts_N, champion.origin_ts_N), "judged on different origins"
    first, *others = _check_champion(candidate, champion, criteria, fresher=fresher, drifted=drift_since is not None)
    better = _is_better(_compare_at(candidate, champion, criteria.steps[0], criteria), criteria)
    checks = (*few, *skill, *sound, first, *others)
    if drift_since:
        wrong = [check for check in (*sound, *others) if check.passed is False]
        return _promote_without_skill(_judge([first, *wrong]), skill, checks, better=better)
    return Decision(_judge(checks), False, checks, better=better)


def _promote_without_skill(
    verdict: Verdict, skill: Sequence[GateCheck], checks: tuple[GateCheck, ...], *, better: bool | None = None
) -> Decision:
    skilled = all(check.passed for check in skill)
    return Decision(verdict, verdict is Verdict.PROMOTE and not skilled, checks, better=better)


def _judge(checks: Sequence[GateCheck]) -> Verdict:
    passed = {check.passed for check in checks}
    if False in passed:
        return Verdict.REJECT
    return Verdict.INSUFFICIENT if None in passed else Verdict.PROMOTE


def _compare(ours_N: Array, theirs_N: Array, other: str, step: int, criteria: Criteria) -> LossComparison:
    return compare_losses(ours_N, theirs_N, other, step, alpha=criteria.alpha, power=criteria.power)


def _check_samples(record: ForecastRecord, criteria: Criteria) -> GateCheck:
    known = {step: int((~np.isnan(record.y_NH[:, step - 1])).sum()) for step in criteria.steps}
    step = min(known, key=lambda step: known[step])
    reason = f"{known[step]:,} origins have a known target {step} h ahead; {criteria.min_origins:,} are required."
    return GateCheck("samples", known[step] >= criteria.min_origins or None, reason)


def _check_drift(record: ForecastRecord, since: datetime, criteria: Criteria) -> GateCheck:
    """Check that all origins lie after the start of the drift."""
    after_N = record.origin_ts_N >= np.datetime64(since.replace(tzinfo=None))
    lead = f"The champion has drifted since about {since:%Y-%m-%d %H:%M} UTC"
    if after_N.all():
        return GateCheck(
            "drift", True, f"{lead}: all {record.n:,} origins lie after that, and it takes one that is better."
        )
    required = f"{2 * criteria.min_origins:,} are required, half of them to stop on and half to judge on"
    return GateCheck(
        "drift", None, f"{lead}: {int(after_N.sum()):,} of the {record.n:,} origins lie after that; {required}."
    )


def _check_skill(record: ForecastRecord, baseline: str, criteria: Criteria) -> GateCheck:
    step = criteria.steps[0]
    ours_N, theirs_N = (record.pinball_NH[who][:, step - 1] for who in (record.model, baseline))
    found, name = _compare(ours_N, theirs_N, baseline, step, criteria), f"skill over {baseline}"
    if found.upper < 0:
        return GateCheck(name, True, f"{found.words}: shown.")
    if found.lower > 0:
        return GateCheck(
            name, False, f"{found.words}: worse, with the same confidence by at least {percent(found.lower, 2)}."
        )
    if found.detectable <= criteria.min_skill:
        return GateCheck(
            name, False, f"{found.words}: no skill, where one of {percent(found.detectable, 2)} would have shown."
        )
    needed = found.origins_for(criteria.min_skill)
    return GateCheck(name, None, f"{found.words}: to see a skill of {percent(criteria.min_skill, 2)} takes {needed}.")


def _check_champion(
    candidate: ForecastRecord, champion: ForecastRecord, criteria: Criteria, *, fresher: bool, drifted: bool
) -> Iterator[GateCheck]:
    """Yield the checks against the champion, that of the first step first."""
    first = criteria.steps[0]
    for step in criteria.steps:
        found, name = _compare_at(candidate, champion, step, criteria), f"champion at {step} h"
        if drifted and step == first:
            yield _check_cure(found, name, criteria)
        else:
            yield _check_step(found, name, criteria, may_equal=fresher or step != first)
    ours_N, theirs_N = candidate.loss_NH[:, first - 1], champion.loss_NH[:, first - 1]
    for name, rows_N in candidate.volatility_terciles.items():
        if rows_N.any():
            found = _compare(ours_N[rows_N], theirs_N[rows_N], "the champion", first, criteria)
            yield _check_tercile(found, f"{name} volatility", criteria)


def _compare_at(candidate: ForecastRecord, champion: ForecastRecord, step: int, criteria: Criteria) -> LossComparison:
    ours_N, theirs_N = candidate.loss_NH[:, step - 1], champion.loss_NH[:, step - 1]
    return _compare(ours_N, theirs_N, "the champion", step, criteria)


def _is_better(found: LossComparison, criteria: Criteria) -> bool:
    """Return whether the candidate is significantly better, and by at least `min_effect`.

    The difference of another seed alone may be significant.
    """
    return found.upper < 0 and found.difference <= -criteria.min_effect


def _check_step(found: LossComparison, name: str, criteria: Criteria, *, may_equal: bool) -> GateCheck:
    margin = f"the margin of {percent(criteria.margin, 2)}"
    if _is_better(found, criteria):
        return GateCheck(name, True, f"{found.words}: better.")
    if found.upper < 0 and not may_equal:
        effect = f"less than the {percent(criteria.min_effect, 2)} that counts, as another seed may be"
        return GateCheck(name, False, f"{found.words}: better by {effect}, and not fresher.")
    if not may_equal:
        decided = found.lower > 0 or found.detectable <= criteria.margin
        sure = "not better" if decided else "better or not, too few origins to decide"
        return GateCheck(name, False if decided else None, f"{found.words}: {sure}, and not fresher.")
    if found.upper < criteria.margin:
        return GateCheck(name, True, f"{found.words}: not inferior by {margin}.")
    if found.lower > 0:
        return GateCheck(
            name, False, f"{found.words}: worse, with the same confidence by at least {percent(found.lower, 2)}."
        )
    if found.detectable <= criteria.margin:
        return GateCheck(name, False, f"{found.words}: beyond {margin}, which an equal would have kept.")
    return GateCheck(
        name, None, f"{found.words}: to keep {margin} an equal needs {found.origins_for(criteria.margin)}."
    )


def _check_cure(found: LossComparison, name: str, criteria: Criteria) -> GateCheck:
    counts = f"the {percent(criteria.min_cure, 2)} that counts after a drift"
    if found.upper < 0 and found.difference <= -criteria.min_cure:
        return GateCheck(name, True, f"{found.words}: better.")
    if found.lower > -criteria.min_cure or found.detectable <= criteria.min_cure:
        return GateCheck(name, False, f"{found.words}: not better by {counts}.")
    return GateCheck(name, None, f"{found.words}: to see {counts} takes {found.origins_for(criteria.min_cure)}.")


def _check_tercile(found: LossComparison, name: str, criteria: Criteria) -> GateCheck:
    """Fail a tercile beyond the margin only if it is significantly worse; otherwise it stays open."""
    passed = found.difference <= criteria.tercile_margin or (False if found.lower > 0 else None)
    return GateCheck(
        name, passed, f"In {name}: {found.words}; at least {percent(-criteria.tercile_margin, 2)} is required."
    )
