"""What a training leaves behind: a forecaster in a folder.

<folder>/weights.safetensors   the network
<folder>/manifest.json         scaler, reference quantiles, window spec, session, provenance, scores
<folder>/SHA256SUMS            of both; `sha256sum -c SHA256SUMS` checks it too
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import safe_open
from safetensors.torch import load, save_file

from lstm_ts.baselines import Reference
from lstm_ts.errors import ArtifactError
from lstm_ts.forecaster import Forecaster, NetShape, Provenance, build_net
from lstm_ts.scaler import Scaler
from lstm_ts.session import Session
from lstm_ts.windows import FEATURES, WindowSpec

FORMAT = 1
WEIGHTS, MANIFEST, SUMS = "weights.safetensors", "manifest.json", "SHA256SUMS"
Statistics = TypeVar("Statistics", Scaler, Reference)


def save_forecaster(forecaster: Forecaster, folder: Path) -> None:
    """Write the artifact whole: the folder appears when everything is in it."""
    staged = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    fitted_to = {"fitted_to": _fitted_to(asdict(forecaster.spec), asdict(forecaster.shape))}
    save_file(forecaster.net.state_dict(), staged / WEIGHTS, metadata=fitted_to)
    (staged / MANIFEST).write_text(json.dumps(_manifest(forecaster), indent=1, allow_nan=False))
    sums = [_sum(name, (staged / name).read_bytes()) for name in (WEIGHTS, MANIFEST)]
    (staged / SUMS).write_text("".join(f"{line}\n" for line in sums))
    staged.replace(folder)


def _manifest(forecaster: Forecaster) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "net": asdict(forecaster.shape),
        "spec": asdict(forecaster.spec),
        "session": {"calendar": forecaster.session.calendar, "zone": forecaster.session.zone},
        "scaler": _plain(forecaster.scaler),
        "reference": _plain(forecaster.reference),
        "provenance": asdict(forecaster.provenance),
        "scores": forecaster.scores,
    }


def load_forecaster(folder: Path) -> Forecaster:
    """Raises    ArtifactError: the folder is no artifact, or not as it was saved"""
    content = {name: _read(folder / name) for name in (WEIGHTS, MANIFEST, SUMS)}
    sums = content[SUMS].decode(errors="replace").splitlines()
    for name in (WEIGHTS, MANIFEST):
        if _sum(name, content[name]) not in sums:
            raise ArtifactError(f"Expected {folder / name} as it was saved, got other bytes; train again or restore it")
    manifest = json.loads(content[MANIFEST])
    if manifest.get("format") != FORMAT:
        raise ArtifactError(
            f"Expected a model of format {FORMAT} in {folder}, got {manifest.get('format')}; train again"
        )
    with safe_open(folder / WEIGHTS, framework="pt") as weights:
        fitted_to = (weights.metadata() or {}).get("fitted_to")
    if fitted_to != _fitted_to(manifest["spec"], manifest["net"]):
        raise ArtifactError(
            f"Expected weights fitted to {_fitted_to(manifest['spec'], manifest['net'])}, got {fitted_to}"
        )
    spec = WindowSpec(**manifest["spec"] | {"levels": tuple(manifest["spec"]["levels"])})
    reference = _arrays(Reference, manifest["reference"])
    shape = NetShape(**manifest["net"])
    net = build_net(shape, reference)
    weights_by_name = load(content[WEIGHTS])
    features = weights_by_name["lstm.weight_ih_l0"].shape[1]
    if features != FEATURES:
        raise ArtifactError(f"Expected a model of {FEATURES} features in {folder}, got one of {features}; train again")
    net.load_state_dict(weights_by_name)
    return Forecaster(
        net=net,
        shape=shape,
        scaler=_arrays(Scaler, manifest["scaler"]),
        reference=reference,
        spec=spec,
        session=Session(**manifest["session"]),
        provenance=Provenance(**manifest["provenance"]),
        scores=manifest["scores"],
    )


def _fitted_to(spec: Mapping[str, Any], shape: Mapping[str, Any]) -> str:
    return json.dumps([spec, shape], sort_keys=True)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise ArtifactError(
            f"Expected a model folder with {path.name}, got none at {path}; give model=<run>/model"
        ) from None


def _sum(name: str, content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()}  {name}"


def _plain(values: Scaler | Reference) -> dict[str, Any]:
    return {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in asdict(values).items()}


def _arrays(kind: type[Statistics], values: Mapping[str, Any]) -> Statistics:
    arguments: dict[str, Any] = {name: np.array(v) if isinstance(v, list) else v for name, v in values.items()}
    return kind(**arguments)
