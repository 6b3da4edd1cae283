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

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from lstm_ts.artifact_manifest import BadManifest, Manifest, format_manifest, read_manifest
from lstm_ts.errors import ArtifactError
from lstm_ts.forecaster import Forecaster, build_net
from lstm_ts.net import LSTMNet
from lstm_ts.windows import FEATURES

WEIGHTS, MANIFEST, SUMS = "weights.safetensors", "manifest.json", "SHA256SUMS"
MAX_BYTES = {WEIGHTS: 2**30, MANIFEST: 2**26, SUMS: 2**16}
HEADER_SIZE = 8  # bytes of a safetensors file that say how long its JSON header is


def save_forecaster(forecaster: Forecaster, folder: Path) -> None:
    """Write the artifact whole: the folder appears when everything is in it."""
    staged = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    save_file(forecaster.net.state_dict(), staged / WEIGHTS, metadata={"fitted_to": _fitted_to(forecaster)})
    (staged / MANIFEST).write_text(format_manifest(forecaster))
    sums = [_sum(name, (staged / name).read_bytes()) for name in (WEIGHTS, MANIFEST)]
    (staged / SUMS).write_text("".join(f"{line}\n" for line in sums))
    staged.replace(folder)


def load_forecaster(folder: Path) -> Forecaster:
    """Raises    ArtifactError: the folder is no artifact, not as it was saved, or nothing that can forecast"""
    content = {name: _read(folder / name) for name in (WEIGHTS, MANIFEST, SUMS)}
    _check_sums(folder, content)
    try:
        manifest = read_manifest(content[MANIFEST])
    except BadManifest as error:
        raise ArtifactError(f"Expected {folder / MANIFEST} with {error}; train again or restore it") from None
    return Forecaster(
        net=_load_net(folder, content[WEIGHTS], manifest),
        shape=manifest.shape,
        scaler=manifest.scaler,
        reference=manifest.reference,
        spec=manifest.spec,
        session=manifest.session,
        provenance=manifest.provenance,
        scores=manifest.scores,
        closes=manifest.closes,
    )


def _check_sums(folder: Path, content: Mapping[str, bytes]) -> None:
    lines = content[SUMS].decode(errors="replace").removesuffix("\n").split("\n")
    names = sorted(line.partition("  ")[2] for line in lines)
    if names != sorted((WEIGHTS, MANIFEST)):
        raise ArtifactError(
            f"Expected {folder / SUMS} of {WEIGHTS} and {MANIFEST} alone, got {str(names)[:99]}; restore it"
        )
    for name in (WEIGHTS, MANIFEST):
        if _sum(name, content[name]) not in lines:
            raise ArtifactError(f"Expected {folder / name} as it was saved, got other bytes; restore it or train again")


def _load_net(folder: Path, content: bytes, manifest: Manifest) -> LSTMNet:
    try:
        weights = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise _wrong_weights(folder, f"a safetensors file, got this: {error}") from None
    header = json.loads(content[HEADER_SIZE : HEADER_SIZE + int.from_bytes(content[:HEADER_SIZE], "little")])
    fitted_to, expected = (header.get("__metadata__") or {}).get("fitted_to"), _fitted_to(manifest)
    if fitted_to != expected:
        raise ArtifactError(f"Expected weights fitted to {expected}, got {fitted_to} in {folder}; train again")
    first = weights.get("lstm.weight_ih_l0")
    if first is not None and first.dim() == 2 and first.shape[1] != FEATURES:
        raise ArtifactError(
            f"Expected a model of {FEATURES} features in {folder}, got one of {first.shape[1]}; train again"
        )
    with torch.device("meta"):  # takes no memory, whatever the manifest says
        shapes = build_net(manifest.shape, manifest.reference).state_dict()
    if different := sorted(weights.keys() ^ shapes.keys()):
        raise _wrong_weights(folder, f"the tensors of such a network alone, got others or none as {different[0][:60]}")
    for name, tensor in weights.items():
        _check_tensor(folder, name, tensor, shapes[name])
    net = build_net(manifest.shape, manifest.reference)
    for name, buffer in net.named_buffers():
        if not torch.allclose(weights[name], buffer, rtol=1e-4, atol=1e-6):
            raise _wrong_weights(folder, f"{name} as the manifest's quantiles make it, got other numbers")
    net.load_state_dict(weights)
    return net


def _check_tensor(folder: Path, name: str, tensor: Tensor, expected: Tensor) -> None:
    if tensor.shape != expected.shape or tensor.dtype != torch.float32:
        ours, theirs = tuple(expected.shape), tuple(tensor.shape)
        raise _wrong_weights(folder, f"{name} of {ours} float32 numbers, got {theirs} of {tensor.dtype}")
    if not tensor.isfinite().all():
        raise _wrong_weights(folder, f"finite numbers in {name}, got others")


def _wrong_weights(folder: Path, contract: str) -> ArtifactError:
    return ArtifactError(f"Expected {folder / WEIGHTS} to hold {contract}; train again or restore it")


def _fitted_to(fitted: Forecaster | Manifest) -> str:
    return json.dumps([asdict(fitted.spec), asdict(fitted.shape)], sort_keys=True)


def _read(path: Path) -> bytes:
    try:
        if path.is_file() and path.stat().st_size <= MAX_BYTES[path.name]:
            return path.read_bytes()
        got = "a larger file" if path.is_file() else "none"
    except OSError as error:
        got = f"{error.strerror} for the one"
    limit = f" of at most {MAX_BYTES[path.name]:,} bytes" * (got == "a larger file")
    raise ArtifactError(
        f"Expected a model folder with {path.name}{limit}, got {got} at {path}; put the folder that train printed"
    )


def _sum(name: str, content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()}  {name}"
