"""Parts of one symbol in the manifest of a model folder, as strictly checked JSON.

Legend: W hours of the week, D hours of the day, H steps, Q levels, V volatilities.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any, get_type_hints

import numpy as np

from lstm_ts.errors import LstmTsError
from lstm_ts.market.levels import CloseRange
from lstm_ts.market.prices import Quote
from lstm_ts.market.session import Session
from lstm_ts.market.symbol import check_symbol
from lstm_ts.model.baselines import BASELINES, VOLATILITY, Baseline, Reference
from lstm_ts.model.features import Array
from lstm_ts.model.forecaster import Forecaster, Provenance
from lstm_ts.model.manifest_values import SHOWN, BadManifest, build, is_number, read_array, read_object, show
from lstm_ts.model.scaler import Scaler, ScalerSettings
from lstm_ts.model.season import HOURS_OF_DAY, HOURS_OF_WEEK
from lstm_ts.model.windows import WindowSpec
from lstm_ts.scoring.records import PERSISTENCE

OF_SYMBOL = ("session", "scaler", "reference", "provenance", "scores", "closes", "quote", "location_weight")
MOMENTS = ("data_start", "data_end", "trained_until", "created")  # of the provenance
REFERENCE = ("start_pinball_H", "mase_scale_H")
FACTORS, SIGNED = ("return_factors", "range_factors"), ("drift_D", "elasticity_VH")  # of the scaler
SETTINGS = tuple(field.name for field in fields(ScalerSettings))


@dataclass(frozen=True)
class SymbolPart:
    """Parts of one symbol in the manifest of a model folder; see `Forecaster`."""

    session: Session
    scaler: Scaler
    reference: Reference
    provenance: Provenance
    scores: Mapping[str, Any]
    closes: CloseRange | None
    quote: Quote | None  # guessed from the symbol's name before format 3
    location_weight: float


def symbol_to_json(forecaster: Forecaster) -> dict[str, Any]:
    return {
        "session": {"calendar": forecaster.session.calendar, "zone": forecaster.session.zone},
        "scaler": _plain(forecaster.scaler),
        "reference": {name: getattr(forecaster.reference, name).tolist() for name in REFERENCE}
        | {"baselines": {name: _plain(baseline) for name, baseline in forecaster.reference.baselines.items()}},
        "provenance": asdict(forecaster.provenance),
        "scores": forecaster.scores,
        "closes": forecaster.closes and asdict(forecaster.closes),
        "quote": forecaster.quote and asdict(forecaster.quote),
        "location_weight": forecaster.location_weight,
    }


def _plain(values: Scaler | Baseline) -> dict[str, Any]:
    return {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in vars(values).items()}


def read_symbol(values: Any, where: str, spec: WindowSpec) -> SymbolPart:
    """Raises    BadManifest"""
    parts = read_object(values, where, OF_SYMBOL)
    provenance = _check_provenance(build(Provenance, parts["provenance"], f"{where}.provenance"))
    return SymbolPart(
        session=_read_session(parts["session"], where),
        scaler=_read_scaler(parts["scaler"], spec),
        reference=_read_reference(parts["reference"], spec),
        provenance=provenance,
        scores=read_object(parts["scores"], f"{where}.scores as an object", ()),
        closes=None if parts["closes"] is None else _read_closes(parts["closes"], provenance),
        quote=None if parts["quote"] is None else build(Quote, parts["quote"], "quote"),
        location_weight=_read_weight(parts["location_weight"], where),
    )


def _read_weight(value: Any, where: str) -> float:
    if not is_number(value) or not 0 <= value <= 1:
        raise BadManifest(f"{where}.location_weight within 0..1, got {show(value)}")
    return float(value)


def _read_session(values: Any, where: str) -> Session:
    session = build(Session, values, f"{where}.session")
    try:  # whether there is such a calendar
        session.hours(datetime.fromisoformat("2024-01-02T00:00Z"), datetime.fromisoformat("2024-01-03T00:00Z"))
    except LstmTsError as error:
        raise BadManifest(f"a session that can be used, got this: {error}") from None
    return session


def _check_provenance(provenance: Provenance) -> Provenance:
    try:
        check_symbol(provenance.symbol)
    except LstmTsError as error:
        raise BadManifest(f"a provenance that can be used, got this: {error}") from None
    for name in MOMENTS:
        if (text := getattr(provenance, name)) and not _is_moment(text):
            raise BadManifest(f"provenance.{name} to be an ISO time with its offset, got {show(text)}")
    for library, version in provenance.versions.items():
        if not isinstance(version, str):
            raise BadManifest(f"provenance.versions.{library[:SHOWN]} to be text, got {show(version)}")
    return provenance


def _is_moment(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _read_scaler(values: Any, spec: WindowSpec) -> Scaler:
    scaler = build(Scaler, values, "scaler")
    for name in ("return_unit", "usual_size", *(name for name in SETTINGS if name != "half_lives_hours")):
        if (number := getattr(scaler, name)) <= 0:
            raise BadManifest(f"scaler.{name} above 0, got {number}")
    volatilities = len(scaler.half_lives_V) if isinstance(scaler.half_lives_V, list) else 0
    sizes = {"W": HOURS_OF_WEEK, "D": HOURS_OF_DAY, "V": max(volatilities, 1), "H": spec.horizon}
    read: dict[str, Any] = {name: _read_factors(getattr(scaler, name), f"scaler.{name}") for name in FACTORS}
    for name, hint in get_type_hints(Scaler).items():
        if hint == Array:
            above = -math.inf if name in SIGNED else 0.0
            read[name] = read_array(getattr(scaler, name), f"scaler.{name}", sizes, above=above)
    return replace(scaler, **read)


def _read_factors(values: Mapping[str, Any], where: str) -> dict[str, float]:
    for kind, factor in values.items():
        if not is_number(factor) or factor <= 0:
            raise BadManifest(f"{where}.{kind[:SHOWN]} above 0, got {show(factor)}")
    return dict(values)


def _read_reference(values: Any, spec: WindowSpec) -> Reference:
    found = read_object(values, "reference", ("baselines", *REFERENCE))
    baselines = read_object(found["baselines"], "reference.baselines as an object", ())
    if not {PERSISTENCE, VOLATILITY} <= baselines.keys() <= BASELINES.keys():
        raise BadManifest(f"reference.baselines among {', '.join(BASELINES)}, got {show(sorted(baselines))}")
    below = -np.finfo(np.float64).tiny  # a loss of 0 is that of a market that stands still
    return Reference(
        {name: _read_baseline(name, baseline, spec) for name, baseline in baselines.items()},
        **{name: read_array(found[name], f"reference.{name}", {"H": spec.horizon}, above=below) for name in REFERENCE},
    )


def _read_baseline(name: str, values: Any, spec: WindowSpec) -> Baseline:
    where, kind = f"reference.baselines.{name}", BASELINES[name]
    names = tuple(get_type_hints(kind))
    found, sizes = read_object(values, where, names), {"H": spec.horizon, "Q": len(spec.levels)}
    arrays = {}
    for field in names:
        arrays[field] = read_array(found[field], f"{where}.{field}", sizes)
        sizes |= zip(field.rpartition("_")[2], arrays[field].shape, strict=True)
        if field.endswith("Q") and (np.diff(arrays[field]) < 0).any():
            raise BadManifest(f"{where}.{field} to be ascending quantiles, got others")
    return kind(**arrays)


def _read_closes(values: Any, provenance: Provenance) -> CloseRange:
    closes = build(CloseRange, values, "closes")
    if not 0 < closes.lowest <= closes.highest:
        raise BadManifest(f"closes above 0 and ascending, got {closes.lowest} to {closes.highest}")
    if not provenance.trained_until:
        raise BadManifest('provenance.trained_until beside closes, got ""')
    return closes
