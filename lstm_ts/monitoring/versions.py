"""Update of one version by a run of the monitor: new scores, daily sums and drift test. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from lstm_ts.errors import NoRows
from lstm_ts.ledger.monitor_rows import DailyScore, HourlyForecast, MonitorState, Score
from lstm_ts.ledger.rows import DecisionRow
from lstm_ts.monitoring.concept_drift import Detector, DriftReference, DriftSettings, compute_d_N, make_reference
from lstm_ts.monitoring.daily import day_of, sum_days
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.monitoring.hourly import Closes, find_edges, list_scores, make_record
from lstm_ts.scoring.records import ForecastRecord

REFERENCE, DRIFT = "reference", "drift"  # kinds of states: from the gate's hours; from the hours since
RETRAINING = "retraining"  # a kind of state, of version 0: when one was requested
DRIFT_STEP = 1


@dataclass(frozen=True)
class WatchedVersion:
    """A version that holds an alias; forecasts count from its gate decision on, from bars that closed before them."""

    alias: str
    decision: DecisionRow

    @property
    def name(self) -> str:
        return self.decision.name

    @property
    def number(self) -> int:
        return self.decision.version

    @property
    def subject(self) -> str:
        return f"{self.name} {self.alias}"

    def __str__(self) -> str:
        return f"{self.alias} of {self.name}, version {self.number}"


@dataclass(frozen=True)
class StoredRows:
    """The ledger's rows of a version for the days that may change."""

    forecasts: Sequence[HourlyForecast]
    scores: Sequence[Score]
    states: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Update:
    """Rows that a run writes about a version, and its findings."""

    forecasts: Sequence[HourlyForecast]
    scores: Sequence[Score]
    days: Sequence[DailyScore]
    states: Sequence[MonitorState]
    record: ForecastRecord | None  # of the hours that may have changed; None: there is none
    findings: Sequence[Finding]


def measure(record: ForecastRecord, settings: DriftSettings) -> dict[str, Any]:
    """Return a version's reference from the record of its gate's hours; where these show none, `why` says so."""
    try:
        found: dict[str, Any] = {"drift": asdict(make_reference(record, settings, DRIFT_STEP))}
    except NoRows as error:
        found = {"drift": None, "why": str(error)}
    return {"edges": find_edges(record), **found}


def find_whole(stored: StoredRows, scores: Mapping[str, Any], settings: DriftSettings) -> Mapping[str, Any] | None:
    """Return the stored reference; None if bars were missing when it was made, or there is none.

    scores   of the model by its gate
    """
    kept, judged = _find_usable(stored, settings), scores.get("horizons", {}).get(str(DRIFT_STEP), {"n": 0})["n"]
    return kept if kept and kept["drift"]["n"] >= judged else None


def find_best(stored: StoredRows, made: Mapping[str, Any] | None, settings: DriftSettings) -> Mapping[str, Any] | None:
    """Return the stored reference, or the one made of the bars of now (None: there are none) if that has more hours."""
    kept, n = _find_usable(stored, settings), made["drift"]["n"] if made and made["drift"] else 0
    return kept if kept and kept["drift"]["n"] >= n else made


def _find_usable(stored: StoredRows, settings: DriftSettings) -> Mapping[str, Any] | None:
    reference = stored.states.get(REFERENCE)
    is_usable = reference and reference["drift"] and reference["drift"]["n"] >= settings.min_origins
    return reference if is_usable else None


def _without_reference(watched: WatchedVersion, record: ForecastRecord | None) -> dict[str, Any]:
    """Return a reference of the hours that `record` forecasts, which shows no drift: none of the gate's is stored."""
    start, end = watched.decision.span_start, watched.decision.span_end
    why = (
        f"Of the hours that its gate judged it on, {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC, none is stored "
        f"that it has not seen; ingest and process them"
    )
    return {"edges": find_edges(record) if record else [], "drift": None, "why": why}


def update_version(
    watched: WatchedVersion,
    stored: StoredRows,
    new: Sequence[HourlyForecast],
    closes: Closes,
    reference: Mapping[str, Any] | None,
    settings: DriftSettings,
    now: datetime,
) -> Update:
    """Score a version's forecasts and update its drift test; `new` are forecasts that the ledger lacks."""
    forecasts = sorted([*stored.forecasts, *new], key=lambda row: row.origin_ts)
    record = make_record(forecasts, closes) if forecasts else None
    reference = reference or _without_reference(watched, record)
    scored = {(score.origin_ts, score.step) for score in stored.scores}
    numbers = {"name": watched.name, "version": watched.number, "edges": reference["edges"], "at": now}
    scores = list_scores(record, scored, **numbers) if record else []
    days = {day_of(score) for score in scores}
    sums = sum_days(score for score in [*stored.scores, *scores] if day_of(score) in days)
    drift, finding = _follow_drift(watched, stored, record, scores, reference, settings)
    states = {DRIFT: drift} | ({REFERENCE: reference} if reference["drift"] else {})
    rows = [MonitorState(watched.name, watched.number, kind, now, dict(state)) for kind, state in states.items()]
    return Update(new, scores, sums, rows, record, [finding])


def _follow_drift(
    watched: WatchedVersion,
    stored: StoredRows,
    record: ForecastRecord | None,
    scores: Sequence[Score],
    reference: Mapping[str, Any],
    settings: DriftSettings,
) -> tuple[dict[str, Any], Finding]:
    """Return the drift state after the new scores, and the finding."""
    if reference["drift"] is None:
        sentence = f"The {watched}: unknown whether it has drifted. {reference['why']}."
        finding = Finding("concept_drift", watched.subject, Health.UNKNOWN, sentence)
        return dict(stored.states.get(DRIFT, {})), finding
    detector = Detector(DriftReference(**reference["drift"]), settings)
    state = detector.resume(stored.states[DRIFT]) if stored.states.get(DRIFT) else detector.start()
    for origin, d in find_differences(record, scores, detector.reference.baseline) if record else []:
        state = detector.update(state, d, origin.isoformat())
    health = Health.BAD if state.alarm else Health.GOOD if state.n else Health.UNKNOWN
    sentence = f"The {watched}: {detector.describe(state)}"
    return asdict(state), Finding("concept_drift", watched.subject, health, sentence)


def find_differences(record: ForecastRecord, scores: Sequence[Score], baseline: str) -> list[tuple[datetime, float]]:
    """Return origin and d (see `concept_drift`) of the scores one step ahead, in their order."""
    d_N = compute_d_N(record, baseline, DRIFT_STEP)
    row_of = {ts.replace(tzinfo=UTC): row for row, ts in enumerate(record.origin_ts_N.tolist())}
    origins = [score.origin_ts for score in scores if score.step == DRIFT_STEP]
    return [(origin, float(d_N[row_of[origin]])) for origin in origins]
