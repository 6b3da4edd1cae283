"""Manifest of a model folder: the parts of its forecasters beside the network, as strictly checked JSON."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lstm_ts.market.prices import guess_quote
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.model.manifest_values import SHOWN, BadManifest, build, read_object, show
from lstm_ts.model.old_manifest import OLD_PARTS, UNWEIGHED, add_weight, hash_old, upgrade_symbol
from lstm_ts.model.symbol_manifest import SymbolPart, read_symbol, symbol_to_json
from lstm_ts.model.windows import WindowSpec

FORMAT = 5
FORMATS = (*OLD_PARTS, UNWEIGHED, FORMAT)
PARTS = ("format", "net", "spec", "files", "symbols")
FITTED = ("session", "scaler", "reference")  # of each symbol, beside net and spec: what a network is trained with
MAX_TSTEPS = 100_000  # far beyond any use


@dataclass(frozen=True)
class ArtifactManifest:
    net: Mapping[str, Any]  # the name and the settings of the network; the settings alone before format 3
    spec: WindowSpec
    symbols: Mapping[str, SymbolPart]
    files: Mapping[str, str]  # SHA-256 of those beside the manifest; none before format 3
    fitted_to: str  # see `hash_fitted`
    volatilities: int  # of a window, which the network was built for; 0 before format 4


def to_json(forecasters: Sequence[Forecaster]) -> dict[str, Any]:
    """Return all parts of a manifest but `files`.

    forecasters   one for each symbol, of the same network
    """
    first = forecasters[0]
    return {
        "format": FORMAT,
        "net": dict(first.network.config),
        "spec": asdict(first.spec),
        "symbols": {each.provenance.symbol: symbol_to_json(each) for each in forecasters},
    }


def hash_fitted(parts: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the parts that a network is trained with."""
    symbols = [[name, *(part[key] for key in FITTED)] for name, part in parts["symbols"].items()]
    fitted = json.dumps([parts["net"], parts["spec"], symbols], sort_keys=True, allow_nan=False)
    return hashlib.sha256(fitted.encode()).hexdigest()


def read_manifest(content: bytes) -> ArtifactManifest:
    """Raises    BadManifest: something is missing, too much, or of another type, shape or range"""
    try:
        values = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadManifest(f"JSON, got {str(error)[:SHOWN]}") from None
    kind = read_object(values, "an object", ()).get("format")
    if type(kind) is not int or kind not in FORMATS:
        raise BadManifest(f"format {', '.join(map(str, FORMATS))}, got {show(kind)}")
    parts = read_object(values, "the parts", OLD_PARTS.get(kind, PARTS))
    spec = _check_spec(build(WindowSpec, parts["spec"], "spec"))
    symbols = _read_old_symbol(parts, kind, spec) if kind in OLD_PARTS else _read_symbols(parts["symbols"], kind, spec)
    return ArtifactManifest(
        net=read_object(parts["net"], "net as an object", ()),
        spec=spec,
        symbols=symbols,
        files=read_object(parts.get("files", {}), "files as an object", ()),
        fitted_to=hash_old(parts) if kind in OLD_PARTS else hash_fitted(parts),
        volatilities=0 if kind in OLD_PARTS else len(next(iter(symbols.values())).scaler.half_lives_V),
    )


def _read_symbols(values: Any, kind: int, spec: WindowSpec) -> dict[str, SymbolPart]:
    found, symbols = read_object(values, "symbols as an object", ()), {}
    for name, part in found.items():
        where = f"symbols.{name[:SHOWN]}"
        symbols[name] = read_symbol(add_weight(part, where) if kind == UNWEIGHED else part, where, spec)
    if not symbols or any(part.provenance.symbol != name for name, part in symbols.items()):
        raise BadManifest(f"symbols by their names, got {show(sorted(symbols))}")
    if len({len(part.scaler.half_lives_V) for part in symbols.values()}) > 1:
        raise BadManifest("symbols with as many scaler.half_lives_V each, got others")
    return symbols


def _read_old_symbol(parts: Mapping[str, Any], kind: int, spec: WindowSpec) -> dict[str, SymbolPart]:
    """Read the one symbol of formats 1 to 3."""
    part = read_symbol(upgrade_symbol(parts, kind, spec), "manifest", spec)
    symbol = part.provenance.symbol
    return {symbol: replace(part, quote=guess_quote(symbol)) if kind < 3 else part}


def _refuse_constant(name: str) -> float:
    raise ValueError(f"the number {name}")


def _check_spec(spec: WindowSpec) -> WindowSpec:
    if spec.tsteps > MAX_TSTEPS:
        raise BadManifest(f"spec.tsteps of at most {MAX_TSTEPS}, got {show(spec.tsteps)}")
    return spec
