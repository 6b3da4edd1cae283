"""Model folders, written by a training: a network, and what it needs to forecast each of its symbols.

<folder>/network.onnx          the network, as forecasts run it
<folder>/weights.safetensors   its parameters, for a training that continues from them
<folder>/manifest.json         scaler, reference quantiles, window spec, session, provenance, scores
<folder>/SHA256SUMS            of the three; `sha256sum -c SHA256SUMS` checks it too

The manifest names the hashes of the network and of the weights, and the weights those of what they were fitted to: a
file of another model is noticed even where the sums are right. Folders of formats 1 and 2 have no network.onnx.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lstm_ts.errors import ArtifactError
from lstm_ts.model.artifact_manifest import FITTED, ArtifactManifest, hash_fitted, read_manifest, to_json
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.model.manifest_values import BadManifest
from lstm_ts.model.network import Network

NETWORK, WEIGHTS, MANIFEST, SUMS = "network.onnx", "weights.safetensors", "manifest.json", "SHA256SUMS"
FILES, OLD_FILES = (NETWORK, WEIGHTS, MANIFEST), (WEIGHTS, MANIFEST)
MAX_BYTES = {NETWORK: 2**30, WEIGHTS: 2**30, MANIFEST: 2**26, SUMS: 2**16}
FITTED_TO = "fitted_to"  # in the header of the weights
HEADER_SIZE = 8  # bytes of a safetensors file that say how long its JSON header is


def save_forecasters(forecasters: Sequence[Forecaster], folder: Path) -> None:
    """Write the artifact whole: the folder appears when everything is in it.

    forecasters   one for each symbol, of the same network
    """
    parts, network = to_json(forecasters), forecasters[0].network
    content = {NETWORK: network.graph, WEIGHTS: save(dict(network.weights), metadata={FITTED_TO: hash_fitted(parts)})}
    parts["files"] = {name: _sha256(value) for name, value in content.items()}
    content[MANIFEST] = json.dumps(parts, indent=1, allow_nan=False).encode()
    content[SUMS] = "".join(f"{_sum(name, content[name])}\n" for name in FILES).encode()
    staged = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    for name, value in content.items():
        (staged / name).write_bytes(value)
    staged.replace(folder)


def load_forecaster(folder: Path, symbol: str | None = None) -> Forecaster:
    """Load the forecaster of a symbol; None: of the only one, or the first.

    Raises    as `load_forecasters`; ArtifactError: the model has not learnt that symbol
    """
    forecasters = load_forecasters(folder)
    if symbol is not None and symbol not in forecasters:
        names = ", ".join(forecasters)
        raise ArtifactError(f"Expected a model of symbol={symbol}, got one of {names} at {folder}; set symbol to that")
    return forecasters[symbol or next(iter(forecasters))]


def load_forecasters(folder: Path) -> dict[str, Forecaster]:
    """Load the forecasters of all symbols, which share the network.

    Raises    ArtifactError: the folder is no artifact, not as it was saved, or nothing that can forecast
    """
    content = {name: _read(folder / name) for name in (*OLD_FILES, SUMS)}
    names = _signed_names(folder, content[SUMS])
    content |= {name: _read(folder / name) for name in names if name not in content}
    _check_sums(folder, content, names)
    try:
        manifest = read_manifest(content[MANIFEST])
    except BadManifest as error:
        raise ArtifactError(f"Expected {folder / MANIFEST} with {error}; train again or restore it") from None
    network = _load_network(folder, content, manifest)
    return {
        name: Forecaster(network=network, spec=manifest.spec, **vars(part)) for name, part in manifest.symbols.items()
    }


def _signed_names(folder: Path, sums: bytes) -> tuple[str, ...]:
    names = {line.partition("  ")[2] for line in _lines(sums)}
    for files in (FILES, OLD_FILES):
        if names == set(files) and len(_lines(sums)) == len(files):
            return files
    raise ArtifactError(
        f"Expected {folder / SUMS} of {', '.join(FILES)} alone, got {str(sorted(names))[:99]}; restore it"
    )


def _check_sums(folder: Path, content: Mapping[str, bytes], names: tuple[str, ...]) -> None:
    for name in names:
        if _sum(name, content[name]) not in _lines(content[SUMS]):
            raise ArtifactError(f"Expected {folder / name} as it was saved, got other bytes; restore it or train again")


def _lines(sums: bytes) -> list[str]:
    return sums.decode(errors="replace").removesuffix("\n").split("\n")


def _load_network(folder: Path, content: Mapping[str, bytes], manifest: ArtifactManifest) -> Network:
    weights, fitted_to = _load_weights(folder, content[WEIGHTS])
    if NETWORK not in content:
        from lstm_ts.model.old_artifact import export_weights  # imports PyTorch

        return export_weights(folder / WEIGHTS, weights, fitted_to, manifest)
    for name in (NETWORK, WEIGHTS):
        if manifest.files.get(name) != _sha256(content[name]):
            raise ArtifactError(
                f"Expected {folder / name} as {MANIFEST} names it, got one of another model; restore it or train again"
            )
    if fitted_to != manifest.fitted_to:
        raise ArtifactError(
            f"Expected weights fitted to net, spec, {', '.join(FITTED)} of {folder / MANIFEST}, got others; "
            f"restore it or train again"
        )
    try:
        return Network(
            content[NETWORK],
            config=manifest.net,
            weights=weights,
            spec=manifest.spec,
            volatilities=manifest.volatilities,
        )
    except ArtifactError as error:
        raise type(error)(f"{error} in {folder / NETWORK}; train again") from error


def _load_weights(folder: Path, content: bytes) -> tuple[dict[str, NDArray[np.float32]], object]:
    """Return the tensors, and the hash of what they were fitted to; None where the header has none."""
    try:
        weights = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"Expected {folder / WEIGHTS} to hold a safetensors file, got this: {error}; train again or restore it"
        ) from None
    header = json.loads(content[HEADER_SIZE : HEADER_SIZE + int.from_bytes(content[:HEADER_SIZE], "little")])
    return weights, (header.get("__metadata__") or {}).get(FITTED_TO)


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


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sum(name: str, content: bytes) -> str:
    return f"{_sha256(content)}  {name}"
