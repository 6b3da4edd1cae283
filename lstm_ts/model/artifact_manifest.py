"""The manifest of a model folder: what a forecaster consists of beside its network, as JSON, and read strictly.

Legend: W hours of the week, D hours of the day, H steps, Q levels.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any, TypeVar, get_origin, get_type_hints

import numpy as np

from lstm_ts.errors import LstmTsError
from lstm_ts.market.levels import CloseRange
from lstm_ts.market.prices import Quote, guess_quote
from lstm_ts.market.session import Session
from lstm_ts.market.symbol import check_symbol
from lstm_ts.model.baselines import BASELINES, VOLATILITY, Baseline, Reference
from lstm_ts.model.features import Array
from lstm_ts.model.forecaster import Forecaster, Provenance
from lstm_ts.model.scaler import Scaler, ScalerSettings
from lstm_ts.model.season import HOURS_OF_DAY, HOURS_OF_WEEK
from lstm_ts.model.windows import WindowSpec
from lstm_ts.scoring.records import PERSISTENCE

FORMAT = 4
FORMATS = (1, 2, 3, FORMAT)
PARTS = ("format", "net", "spec", "files", "symbols")
OF_SYMBOL = ("session", "scaler", "reference", "provenance", "scores", "closes", "quote")
OLD_PARTS = ("format", "net", "spec", *OF_SYMBOL[:5])  # of format 1, for one symbol; 2 has closes too
NEWER_PARTS = {1: (), 2: ("closes",), 3: ("closes", "files", "quote")}
FITTED = ("session", "scaler", "reference")  # of each symbol, beside net and spec: what a network is trained with
MOMENTS = ("data_start", "data_end", "trained_until", "created")  # of the provenance
REFERENCE, OLD_REFERENCE = ("start_pinball_H", "mase_scale_H"), ("volatility_pinball_H", "mase_scale_H")
MAX_TSTEPS = 100_000  # far beyond any use
SETTINGS = tuple(field.name for field in fields(ScalerSettings))
FIXED = 1e300  # prior returns of a profile that does not go on learning
SHOWN = 60  # characters of a value
Part = TypeVar("Part")


class BadManifest(ValueError):
    """Begins with what was expected: `net.hidden to be a whole number, got "8"`."""


@dataclass(frozen=True)
class SymbolPart:
    """What a model folder holds of one symbol; see `Forecaster`."""

    session: Session
    scaler: Scaler
    reference: Reference
    provenance: Provenance
    scores: Mapping[str, Any]
    closes: CloseRange | None
    quote: Quote | None  # guessed from the symbol's name before format 3


@dataclass(frozen=True)
class ArtifactManifest:
    net: Mapping[str, Any]  # the name and the settings of the network; the settings alone before format 3
    spec: WindowSpec
    symbols: Mapping[str, SymbolPart]
    files: Mapping[str, str]  # SHA-256 of those beside the manifest; none before format 3
    fitted_to: str  # see `hash_fitted`

    @property
    def volatilities(self) -> int:
        """Those of a window."""
        return len(next(iter(self.symbols.values())).scaler.half_lives_V)


def to_json(forecasters: Sequence[Forecaster]) -> dict[str, Any]:
    """All parts but the files.

    forecasters   of one network, one a symbol
    """
    first = forecasters[0]
    return {
        "format": FORMAT,
        "net": dict(first.network.config),
        "spec": asdict(first.spec),
        "symbols": {each.provenance.symbol: _to_json(each) for each in forecasters},
    }


def _to_json(forecaster: Forecaster) -> dict[str, Any]:
    return {
        "session": {"calendar": forecaster.session.calendar, "zone": forecaster.session.zone},
        "scaler": _plain(forecaster.scaler),
        "reference": {name: getattr(forecaster.reference, name).tolist() for name in REFERENCE}
        | {"baselines": {name: _plain(baseline) for name, baseline in forecaster.reference.baselines.items()}},
        "provenance": asdict(forecaster.provenance),
        "scores": forecaster.scores,
        "closes": forecaster.closes and asdict(forecaster.closes),
        "quote": forecaster.quote and asdict(forecaster.quote),
    }


def hash_fitted(parts: Mapping[str, Any]) -> str:
    """SHA-256 of the parts that a network is trained with."""
    symbols = [[name, *(part[key] for key in FITTED)] for name, part in parts["symbols"].items()]
    fitted = json.dumps([parts["net"], parts["spec"], symbols], sort_keys=True, allow_nan=False)
    return hashlib.sha256(fitted.encode()).hexdigest()


def _hash_old(parts: Mapping[str, Any]) -> str:
    """The same of format 3."""
    fitted = json.dumps([parts[name] for name in ("net", "spec", *FITTED)], sort_keys=True, allow_nan=False)
    return hashlib.sha256(fitted.encode()).hexdigest()


def read_manifest(content: bytes) -> ArtifactManifest:
    """Raises    BadManifest: something is missing, too much, or of another type, shape or range"""
    try:
        values = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadManifest(f"JSON, got {str(error)[:SHOWN]}") from None
    kind = _object(values, "an object", ()).get("format")
    if type(kind) is not int or kind not in FORMATS:
        raise BadManifest(f"format {', '.join(map(str, FORMATS))}, got {_shown(kind)}")
    parts = _object(values, "the parts", PARTS if kind == FORMAT else (*OLD_PARTS, *NEWER_PARTS[kind]))
    spec = _check_spec(build(WindowSpec, parts["spec"], "spec"))
    symbols = _read_symbols(parts["symbols"], spec) if kind == FORMAT else _read_old_symbol(parts, kind, spec)
    return ArtifactManifest(
        net=_object(parts["net"], "net as an object", ()),
        spec=spec,
        symbols=symbols,
        files=_object(parts.get("files", {}), "files as an object", ()),
        fitted_to=hash_fitted(parts) if kind == FORMAT else _hash_old(parts),
    )


def _read_symbols(values: Any, spec: WindowSpec) -> dict[str, SymbolPart]:
    found = _object(values, "symbols as an object", ())
    symbols = {name: _read_symbol(part, f"symbols.{name[:SHOWN]}", spec) for name, part in found.items()}
    if not symbols or any(part.provenance.symbol != name for name, part in symbols.items()):
        raise BadManifest(f"symbols by their names, got {_shown(sorted(symbols))}")
    if len({len(part.scaler.half_lives_V) for part in symbols.values()}) > 1:
        raise BadManifest("symbols with as many scaler.half_lives_V each, got others")
    return symbols


def _read_symbol(values: Any, where: str, spec: WindowSpec) -> SymbolPart:
    parts = _object(values, where, OF_SYMBOL)
    provenance = _check_provenance(build(Provenance, parts["provenance"], f"{where}.provenance"))
    return SymbolPart(
        session=_read_session(parts["session"], where),
        scaler=_read_scaler(parts["scaler"], spec),
        reference=_read_reference(parts["reference"], spec),
        provenance=provenance,
        scores=_object(parts["scores"], f"{where}.scores as an object", ()),
        closes=None if parts["closes"] is None else _read_closes(parts["closes"], provenance),
        quote=None if parts["quote"] is None else build(Quote, parts["quote"], "quote"),
    )


def _read_session(values: Any, where: str) -> Session:
    session = build(Session, values, f"{where}.session")
    _check_calendar(session)
    return session


def _read_old_symbol(parts: Mapping[str, Any], kind: int, spec: WindowSpec) -> dict[str, SymbolPart]:
    """The one symbol of formats 1 to 3."""
    upgraded = {
        **{name: parts.get(name) for name in OF_SYMBOL},
        "scaler": _upgrade_scaler(parts["scaler"], spec),
        "reference": _upgrade_reference(parts["reference"], kind),
    }
    provenance = _check_provenance(build(Provenance, parts["provenance"], "provenance"))
    if kind == 2:
        _read_closes(parts["closes"], provenance)  # neither did without
    part = _read_symbol(upgraded, "manifest", spec)
    if kind < 3:
        part = replace(part, quote=guess_quote(provenance.symbol))
    return {provenance.symbol: part}


def _plain(values: Scaler | Baseline) -> dict[str, Any]:
    return {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in vars(values).items()}


def _refuse_constant(name: str) -> float:
    raise ValueError(f"the number {name}")


def _object(values: Any, what: str, names: tuple[str, ...]) -> dict[str, Any]:
    """names   of its members, all of them; none: whatever it has"""
    if not isinstance(values, dict):
        raise BadManifest(f"{what}, got {_shown(values)}")
    if names and values.keys() != set(names):
        different = sorted(values.keys() ^ set(names))
        state = "without" if different[0] in names else "with"
        raise BadManifest(f"{what} {', '.join(names)}, got one {state} {different[0][:SHOWN]}")
    return values


def build(kind: type[Part], values: Any, where: str) -> Part:
    """Build a part by the annotations of its constructor."""
    hints = get_type_hints(kind.__init__)
    hints.pop("return")
    found = _object(values, f"{where} with", tuple(hints))
    try:
        return kind(**{name: _member(found[name], hint, f"{where}.{name}") for name, hint in hints.items()})
    except LstmTsError as error:
        raise BadManifest(f"a {where} that can be used, got this: {str(error).rstrip('.')}") from None


def _member(value: Any, hint: Any, where: str) -> Any:
    if hint == Array:
        return value  # its shape is not in the annotation
    fits, what = {
        int: (type(value) is int, "a whole number"),
        float: (_is_number(value), "a finite number"),
        str: (isinstance(value, str), "text"),
        tuple: (isinstance(value, list) and all(map(_is_number, value)), "a list of finite numbers"),
        Mapping: (isinstance(value, dict), "an object"),
    }[get_origin(hint) or hint]
    if not fits:
        raise BadManifest(f"{where} to be {what}, got {_shown(value)}")
    return tuple(value) if isinstance(value, list) else value


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= 1e300  # neither infinite nor NaN


def _check_calendar(session: Session) -> None:
    try:
        session.hours(datetime.fromisoformat("2024-01-02T00:00Z"), datetime.fromisoformat("2024-01-03T00:00Z"))
    except LstmTsError as error:
        raise BadManifest(f"a session that can be used, got this: {error}") from None


def _check_spec(spec: WindowSpec) -> WindowSpec:
    if spec.tsteps > MAX_TSTEPS:
        raise BadManifest(f"spec.tsteps of at most {MAX_TSTEPS}, got {_shown(spec.tsteps)}")
    return spec


def _check_provenance(provenance: Provenance) -> Provenance:
    try:
        check_symbol(provenance.symbol)
    except LstmTsError as error:
        raise BadManifest(f"a provenance that can be used, got this: {error}") from None
    for name in MOMENTS:
        if (text := getattr(provenance, name)) and not _is_moment(text):
            raise BadManifest(f"provenance.{name} to be an ISO time with its offset, got {_shown(text)}")
    for library, version in provenance.versions.items():
        if not isinstance(version, str):
            raise BadManifest(f"provenance.versions.{library[:SHOWN]} to be text, got {_shown(version)}")
    return provenance


def _is_moment(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _upgrade_scaler(values: Any, spec: WindowSpec) -> Any:
    """Convert a scaler from before format 4, whose scale was one volatility, to one of several."""
    if not isinstance(values, dict):
        return values
    return values | {
        "quiet_profile_W": values.get("return_profile_W"),
        "return_factors": {},
        "range_factors": {},
        "half_lives_V": [values.get("half_life_hours")],
        "elasticity_VH": [[1.0] * spec.horizon],
        "usual_size": 1.0,
        "memory_hours": 1.0,  # nobody asks a model of one symbol
        "season_half_life_hours": 1.0,
        "season_prior_returns": FIXED,
    }


def _read_scaler(values: Any, spec: WindowSpec) -> Scaler:
    scaler, where = build(Scaler, values, "scaler"), "scaler"
    positive = ("return_unit", "usual_size", *(name for name in SETTINGS if name != "half_lives_hours"))
    numbers = {name: getattr(scaler, name) for name in positive}
    for name, number in numbers.items():
        if number <= 0:
            raise BadManifest(f"scaler.{name} above 0, got {number}")
    volatilities = len(scaler.half_lives_V) if isinstance(scaler.half_lives_V, list) else 0
    return Scaler(
        return_profile_W=_array(scaler.return_profile_W, (HOURS_OF_WEEK,), f"{where}.return_profile_W", above=0.0),
        quiet_profile_W=_array(scaler.quiet_profile_W, (HOURS_OF_WEEK,), f"{where}.quiet_profile_W", above=0.0),
        return_factors=_read_factors(scaler.return_factors, f"{where}.return_factors"),
        range_factors=_read_factors(scaler.range_factors, f"{where}.range_factors"),
        range_profile_W=_array(scaler.range_profile_W, (HOURS_OF_WEEK,), f"{where}.range_profile_W", above=0.0),
        drift_D=_array(scaler.drift_D, (HOURS_OF_DAY,), f"{where}.drift_D"),
        **numbers,
        half_lives_V=_array(scaler.half_lives_V, (max(volatilities, 1),), f"{where}.half_lives_V", above=0.0),
        elasticity_VH=_array(scaler.elasticity_VH, (max(volatilities, 1), spec.horizon), f"{where}.elasticity_VH"),
    )


def _read_factors(values: Mapping[str, Any], where: str) -> dict[str, float]:
    for kind, factor in values.items():
        if not _is_number(factor) or factor <= 0:
            raise BadManifest(f"{where}.{kind[:SHOWN]} above 0, got {_shown(factor)}")
    return dict(values)


def _upgrade_reference(values: Any, kind: int) -> Any:
    """Convert the reference of a format before 4, of which 1 and 2 knew three baselines."""
    names = ("baselines",) if kind == 3 else ("climatology_HQ", "volatility_HQ")
    found = _object(values, "reference", (*names, *OLD_REFERENCE))
    baselines = found["baselines"] if kind == 3 else _old_baselines(*(found[name] for name in names))
    return dict(zip(REFERENCE, (found[name] for name in OLD_REFERENCE), strict=True)) | {"baselines": baselines}


def _old_baselines(q_HQ: Any, z_HQ: Any) -> dict[str, Any]:
    zero_HQ = [[0.0] * len(row) for row in q_HQ] if _is_table(q_HQ) else q_HQ
    return {PERSISTENCE: {"zero_HQ": zero_HQ}, "climatology": {"q_HQ": q_HQ}, VOLATILITY: {"z_HQ": z_HQ}}


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, list) for row in value)


def _read_reference(values: Any, spec: WindowSpec) -> Reference:
    found = _object(values, "reference", ("baselines", *REFERENCE))
    baselines = _object(found["baselines"], "reference.baselines as an object", ())
    if not {PERSISTENCE, VOLATILITY} <= baselines.keys() <= BASELINES.keys():
        raise BadManifest(f"reference.baselines among {', '.join(BASELINES)}, got {_shown(sorted(baselines))}")
    below = -np.finfo(np.float64).tiny  # a loss of 0 is that of a market that stands still
    return Reference(
        {name: _read_baseline(name, baseline, spec) for name, baseline in baselines.items()},
        **{name: _array(found[name], (spec.horizon,), f"reference.{name}", above=below) for name in REFERENCE},
    )


def _read_baseline(name: str, values: Any, spec: WindowSpec) -> Baseline:
    """Arrays by the axes that their names end in."""
    where, kind = f"reference.baselines.{name}", BASELINES[name]
    names = tuple(get_type_hints(kind))
    found, sizes = _object(values, where, names), {"H": spec.horizon, "Q": len(spec.levels)}
    arrays = {}
    for field in names:
        shape = tuple(sizes[axis] for axis in field.rpartition("_")[2])
        arrays[field] = _array(found[field], shape, f"{where}.{field}")
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


def _array(values: Any, shape: tuple[int, ...], where: str, *, above: float = -math.inf) -> Array:
    try:
        array = np.array(values)
    except ValueError:  # ragged
        array = np.array(None)
    size = " x ".join(map(str, shape))
    if array.shape != shape or array.dtype.kind not in "if":
        raise BadManifest(f"{where} to be {size} numbers, got {_shown(values)}")
    if not (np.isfinite(array).all() and (array > above).all()):
        bound = "finite" if above == -math.inf else f"finite and {'above 0' if above == 0 else 'at least 0'}"
        raise BadManifest(f"{where} to be {bound}, got {array.min()} to {array.max()}")
    return array.astype(np.float64)


def _shown(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, int) or abs(value) < 10**SHOWN else "a larger number"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
