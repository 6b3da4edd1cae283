"""Values of a manifest's JSON, each read strictly: `BadManifest` says what it was expected to be."""

import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar, get_origin, get_type_hints

import numpy as np

from lstm_ts.errors import LstmTsError
from lstm_ts.model.features import Array

SHOWN = 60  # characters of a value
Part = TypeVar("Part")


class BadManifest(ValueError):
    """Begins with what was expected: `net.hidden to be a whole number, got "8"`."""


def read_object(values: Any, what: str, names: tuple[str, ...]) -> dict[str, Any]:
    """names   of its members, all of them; none: whatever it has"""
    if not isinstance(values, dict):
        raise BadManifest(f"{what}, got {show(values)}")
    if names and values.keys() != set(names):
        different = sorted(values.keys() ^ set(names))
        state = "without" if different[0] in names else "with"
        raise BadManifest(f"{what} {', '.join(names)}, got one {state} {different[0][:SHOWN]}")
    return values


def build(kind: type[Part], values: Any, where: str) -> Part:
    """Build a part by the annotations of its constructor."""
    hints = get_type_hints(kind.__init__)
    hints.pop("return")
    found = read_object(values, f"{where} with", tuple(hints))
    try:
        return kind(**{name: _member(found[name], hint, f"{where}.{name}") for name, hint in hints.items()})
    except LstmTsError as error:
        raise BadManifest(f"a {where} that can be used, got this: {str(error).rstrip('.')}") from None


def _member(value: Any, hint: Any, where: str) -> Any:
    if hint == Array:
        return value  # its shape is not in the annotation
    fits, what = {
        int: (type(value) is int, "a whole number"),
        float: (is_number(value), "a finite number"),
        str: (isinstance(value, str), "text"),
        tuple: (isinstance(value, list) and all(map(is_number, value)), "a list of finite numbers"),
        Mapping: (isinstance(value, dict), "an object"),
    }[get_origin(hint) or hint]
    if not fits:
        raise BadManifest(f"{where} to be {what}, got {show(value)}")
    return tuple(value) if isinstance(value, list) else value


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= 1e300  # neither infinite nor NaN


def read_array(values: Any, where: str, sizes: Mapping[str, int], *, above: float = -math.inf) -> Array:
    """Finite numbers, all above a bound.    sizes   of the axes in which `where` ends; others are of any size"""
    axes = where.rpartition("_")[2]
    try:
        array = np.array(values)
    except ValueError:  # ragged
        array = np.array(None)
    known = {**dict(zip(axes, array.shape, strict=False)), **sizes}
    shape = tuple(known.get(axis, 1) for axis in axes)
    size = " x ".join(map(str, shape))
    if array.shape != shape or array.dtype.kind not in "if":
        raise BadManifest(f"{where} to be {size} numbers, got {show(values)}")
    if not (np.isfinite(array).all() and (array > above).all()):
        bound = "finite" if above == -math.inf else f"finite and {'above 0' if above == 0 else 'at least 0'}"
        raise BadManifest(f"{where} to be {bound}, got {array.min()} to {array.max()}")
    return array.astype(np.float64)


def show(value: Any) -> str:
    """JSON, cut where it is long."""
    text = json.dumps(value) if not isinstance(value, int) or abs(value) < 10**SHOWN else "a larger number"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
