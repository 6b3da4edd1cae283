"""Formats 1 to 4 of the manifest, the first three of one symbol: what they hold, as parts of the latest format."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lstm_ts.model.baselines import VOLATILITY
from lstm_ts.model.manifest_values import read_object
from lstm_ts.model.symbol_manifest import OF_SYMBOL
from lstm_ts.model.windows import WindowSpec
from lstm_ts.scoring.records import PERSISTENCE

FIRST_PARTS = ("format", "net", "spec", "session", "scaler", "reference", "provenance", "scores")
OLD_PARTS = {1: FIRST_PARTS, 2: (*FIRST_PARTS, "closes"), 3: (*FIRST_PARTS, "closes", "files", "quote")}
UNWEIGHED = 4  # its graphs hold the weight of the location
WEIGHT = {"location_weight": 1.0}
FITTED = ("net", "spec", "session", "scaler", "reference")
REFERENCE = {"start_pinball_H": "volatility_pinball_H", "mase_scale_H": "mase_scale_H"}  # now → then
FIXED = 1e300  # prior returns of a profile that does not keep updating


def hash_old(parts: Mapping[str, Any]) -> str:
    """SHA-256 of the parts that a network of format 3 was trained with."""
    fitted = json.dumps([parts[name] for name in FITTED], sort_keys=True, allow_nan=False)
    return hashlib.sha256(fitted.encode()).hexdigest()


def add_weight(values: Any, where: str) -> dict[str, Any]:
    """Convert a symbol of format 4."""
    return read_object(values, where, tuple(name for name in OF_SYMBOL if name not in WEIGHT)) | WEIGHT


def upgrade_symbol(parts: Mapping[str, Any], kind: int, spec: WindowSpec) -> dict[str, Any]:
    """Convert the one symbol of formats 1 to 3."""
    if kind == 2:
        read_object(parts["closes"], "closes as an object", ())  # none did without
    return {
        **{name: parts.get(name) for name in OF_SYMBOL},
        **WEIGHT,
        "scaler": _upgrade_scaler(parts["scaler"], spec),
        "reference": _upgrade_reference(parts["reference"], kind),
    }


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


def _upgrade_reference(values: Any, kind: int) -> Any:
    """Convert the reference of a format before 4, of which 1 and 2 knew three baselines."""
    names = ("baselines",) if kind == 3 else ("climatology_HQ", "volatility_HQ")
    found = read_object(values, "reference", (*names, *REFERENCE.values()))
    baselines = found["baselines"] if kind == 3 else _old_baselines(*(found[name] for name in names))
    return {name: found[old] for name, old in REFERENCE.items()} | {"baselines": baselines}


def _old_baselines(q_HQ: Any, z_HQ: Any) -> dict[str, Any]:
    zero_HQ = [[0.0] * len(row) for row in q_HQ] if _is_table(q_HQ) else q_HQ
    return {PERSISTENCE: {"zero_HQ": zero_HQ}, "climatology": {"q_HQ": q_HQ}, VOLATILITY: {"z_HQ": z_HQ}}


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, list) for row in value)
