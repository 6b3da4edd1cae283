"""Scores of a record of forecasts: every step over all origins, some steps by group; skill in words.

Every score is a mean over the rows whose target is known. Legend: N origins.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
import polars.selectors as cs
from numpy.typing import NDArray

from lstm_ts.scoring import metrics
from lstm_ts.scoring.records import BPS, SHOWN_STEPS, ForecastRecord, Rows

CLAIM_P = 0.05
SCORES_SCHEMA = pl.Schema(
    {"step": pl.Int64(), "forecaster": pl.String()}
    | dict.fromkeys(("pinball_bps", "skill", "dm_p", "crps_bps", "mae_bps", "mae_price"), pl.Float64())
    | dict.fromkeys(("directional_accuracy", "coverage_80", "mase"), pl.Float64())
    | {"n": pl.Int64()}
)


@dataclass(frozen=True)
class StepScores:
    """Scores of one forecaster at one step."""

    pinball_bps: float
    crps_bps: float
    mae_bps: float
    mae_price: float  # in the symbol's currency
    directional_accuracy: float
    directional_accuracy_ci: tuple[float, float]
    coverage: dict[str, float]
    mase: float
    n: int


@dataclass(frozen=True)
class HorizonScores(StepScores):
    """Scores of the model at one step, and of all other forecasters; skill is 1 - its pinball / theirs."""

    best: str  # of the baselines
    baselines: dict[str, StepScores]
    skill: dict[str, float]
    dm_p: dict[str, float]


@dataclass(frozen=True)
class GroupScores:
    """Scores of the model at one step, over some of the origins."""

    n: int
    pinball_bps: float
    coverage: dict[str, float]
    skill: dict[str, float]
    dm_p: dict[str, float]


Groups = dict[str, dict[str, GroupScores]]  # group -> step -> scores


@dataclass(frozen=True)
class Scores:
    symbol: str
    currency: str | None  # of its prices; None: unknown
    model: str  # the name of its network
    span: tuple[str, str]  # first and last origin, ISO
    n: int
    levels: tuple[float, ...]
    horizons: dict[str, HorizonScores]
    by_year: Groups
    by_quarter: Groups
    by_hour_of_day: Groups
    by_volatility_tercile: Groups
    by_fold: Groups  # empty but for a walk forward

    @property
    def shown_steps(self) -> list[str]:
        return [str(step) for step in SHOWN_STEPS if str(step) in self.horizons]

    def to_json(self) -> dict[str, Any]:
        """Return the content of scores.json; scores that are not finite are null."""
        content: dict[str, Any] = _plain(asdict(self))
        return content


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def compute_scores(record: ForecastRecord) -> Scores:
    """Score all steps over all origins, and SHOWN_STEPS by group; years and quarters are those of the origin in UTC."""
    months_N = record.origin_ts_N.astype("datetime64[M]").astype(np.int64)
    years_N = 1970 + months_N // 12
    quarters_N = np.char.add(np.char.add(years_N.astype(str), "Q"), (months_N % 12 // 3 + 1).astype(str))
    first, last = np.datetime_as_string(record.origin_ts_N[[0, -1]], unit="s")
    return Scores(
        symbol=record.symbol,
        currency=record.quote.currency if record.quote else None,
        model=record.model,
        span=(f"{first}Z", f"{last}Z"),
        n=record.n,
        levels=record.levels,
        horizons={str(step): _score_horizon(record, step) for step in range(1, record.horizon + 1)},
        by_year=_score_groups(record, _rows_by_label(years_N)),
        by_quarter=_score_groups(record, _rows_by_label(quarters_N)),
        by_hour_of_day=_score_groups(record, _rows_by_label(record.hour_of_day_N)),
        by_volatility_tercile=_score_groups(record, record.volatility_terciles),
        by_fold={} if record.fold_N is None else _score_groups(record, _rows_by_label(record.fold_N)),
    )


def _score_horizon(record: ForecastRecord, step: int) -> HorizonScores:
    baselines = {name: _score_step(record, name, step) for name in record.others_at(step)}
    skill, dm_p = compare(record, step)
    ours, best = _score_step(record, record.model, step), record.best_baseline(step)
    return HorizonScores(**vars(ours), best=best, baselines=baselines, skill=skill, dm_p=dm_p)


def _score_step(record: ForecastRecord, name: str, step: int) -> StepScores:
    y_N, median_N = record.y_NH[:, step - 1], record.median_N(name, step)
    pinball = metrics.mean_of_known(record.pinball_NH[name][:, step - 1])
    mae = metrics.mean_of_known(np.abs(y_N - median_N))
    direction = metrics.directional_accuracy(y_N, median_N, step=step)
    return StepScores(
        pinball_bps=BPS * pinball,
        crps_bps=BPS * metrics.crps_from_pinball(pinball),
        mae_bps=BPS * mae,
        mae_price=metrics.mean_of_known(np.abs(record.last_close_N * (np.exp(median_N) - np.exp(y_N)))),
        directional_accuracy=direction.share,
        directional_accuracy_ci=direction.interval,
        coverage=metrics.central_coverage(y_N, record.quantiles[name][:, step - 1], record.levels),
        mase=metrics.mase(mae, float(record.mase_scale_H[step - 1])),
        n=int((~np.isnan(y_N)).sum()),
    )


def compare(
    record: ForecastRecord, step: int, rows_N: Rows | None = None, *, name: str | None = None
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the skill of one forecaster, the model by default, over each other one, and the Diebold-Mariano p.

    rows_N   of a group; None: all
    """
    overlapping = step if rows_N is None else _count_overlapping(record, step, rows_N)
    kept = slice(None) if rows_N is None else rows_N
    ours = record.pinball_NH[name or record.model][kept, step - 1]
    skill, dm_p = {}, {}
    for baseline in record.others_at(step):
        theirs = record.pinball_NH[baseline][kept, step - 1]
        reference = metrics.mean_of_known(theirs)
        skill[baseline] = 1 - metrics.mean_of_known(ours) / reference if reference > 0 else math.nan
        dm_p[baseline] = metrics.diebold_mariano(ours, theirs, step=overlapping).p
    return skill, dm_p


def _count_overlapping(record: ForecastRecord, step: int, rows_N: Rows) -> int:
    """Return how many of the rows in a row have targets that overlap, at most: `step` unless they lie apart."""
    origin_ts_N, target_ts_N = record.origin_ts_N[rows_N], record.target_ts_NH[rows_N, step - 1]
    return int((np.searchsorted(origin_ts_N, target_ts_N) - np.arange(len(origin_ts_N))).max(initial=1))


def _rows_by_label(label_N: NDArray[Any]) -> dict[str, Rows]:
    return {str(label): label_N == label for label in np.unique(label_N)}


def _score_groups(record: ForecastRecord, groups: dict[str, Rows]) -> Groups:
    return {
        label: {str(step): _score_group(record, step, rows_N) for step in record.shown_steps}
        for label, rows_N in groups.items()
    }


def _score_group(record: ForecastRecord, step: int, rows_N: Rows) -> GroupScores:
    y_N, q_NQ = record.y_NH[rows_N, step - 1], record.q_NHQ[rows_N, step - 1]
    coverage = metrics.central_coverage(y_N, q_NQ, record.levels)
    skill, dm_p = compare(record, step, rows_N)
    return GroupScores(
        n=int((~np.isnan(y_N)).sum()),
        pinball_bps=BPS * metrics.mean_of_known(record.loss_NH[rows_N, step - 1]),
        coverage={name: share for name, share in coverage.items() if name == "0.8"},
        skill=skill,
        dm_p=dm_p,
    )


def scores_frame(scores: Scores) -> pl.DataFrame:
    """Return a row for each step and forecaster, the model first; skill and dm_p are the model's over each other one.

    Scores that cannot be computed are null.
    """
    rows = [row for step, horizon in scores.horizons.items() for row in _score_rows(int(step), horizon, scores.model)]
    return pl.DataFrame(rows, schema=SCORES_SCHEMA).with_columns(cs.float().fill_nan(None))


def _score_rows(step: int, horizon: HorizonScores, model: str) -> Iterator[dict[str, Any]]:
    for name, each in {model: horizon, **horizon.baselines}.items():
        values = {key: value for key, value in vars(each).items() if key in SCORES_SCHEMA}
        yield {
            **values,
            "step": step,
            "forecaster": name,
            "skill": horizon.skill.get(name),
            "dm_p": horizon.dm_p.get(name),
            "coverage_80": each.coverage.get("0.8"),
        }


def step_name(step: int) -> str:
    return f"{step} hour{'s' if step > 1 else ''} ahead"


def read_best(scored: Mapping[str, Any]) -> str:
    """Return the best baseline of one step of scores.json; computed for older files, which do not name it."""
    losses = {name: theirs["pinball_bps"] for name, theirs in scored["baselines"].items()}
    return str(scored.get("best") or min(losses, key=lambda name: math.inf if losses[name] is None else losses[name]))


def describe_skill(step: str, horizon: HorizonScores) -> str:
    """Compare the model with the best baseline, and with the best forecaster if that is another, in one sentence."""
    best_of_all = min(horizon.skill, key=lambda name: (math.isnan(horizon.skill[name]), horizon.skill[name]))
    names = dict.fromkeys([horizon.best, best_of_all])
    verdicts = [_verdict(name, horizon.skill[name], horizon.dm_p[name]) for name in names]
    return f"{step_name(int(step))}: {'; '.join(verdicts)}."


def _verdict(name: str, skill: float, p: float) -> str:
    if math.isnan(p):
        return f"no skill over {name} (DM test undefined: too few origins or equal losses)"
    if p >= CLAIM_P:
        return f"no skill over {name} (DM {p_text(p)})"
    return f"{'better' if skill > 0 else 'worse'} than {name} by {100 * abs(skill):.1f} % (DM {p_text(p)})"


def p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
