"""Model folders of formats 1 and 2, which hold an LSTM's weights and no ONNX graph: it is made when they are loaded."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lstm_ts.errors import ArtifactError, OtherWindows
from lstm_ts.model.artifact_manifest import ArtifactManifest
from lstm_ts.model.export import export
from lstm_ts.model.features import Array
from lstm_ts.model.manifest_values import BadManifest, build
from lstm_ts.model.nets import build_net, describe_net
from lstm_ts.model.nets.lstm import LSTMConfig
from lstm_ts.model.network import Network
from lstm_ts.model.windows import FEATURES

Weights = Mapping[str, NDArray[np.float32]]


def export_weights(path: Path, weights: Weights, fitted_to: object, manifest: ArtifactManifest) -> Network:
    """path        of the weights, for messages
    fitted_to   what their header says
    Raises      ArtifactError: they are not those of a network that the manifest describes
    """
    config = _read_config(path, manifest)
    expected = json.dumps([asdict(manifest.spec), vars(config)], sort_keys=True)
    if fitted_to != expected:
        raise ArtifactError(f"Expected weights fitted to {expected}, got {fitted_to} in {path.parent}; train again")
    _check_tensors(path, weights, config, manifest)
    net = build_net(config, _start_HQ(manifest), volatilities=0)
    for name, buffer in net.named_buffers():
        if not np.allclose(weights[name], buffer.numpy(), rtol=1e-4, atol=1e-6):
            raise _wrong_weights(path, f"{name} as the manifest's quantiles make it, got other numbers")
    net.max_drift = math.inf  # type: ignore[assignment]  # as it was trained
    net.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})
    return export(net, describe_net(config), manifest.spec, volatilities=0)


def _read_config(path: Path, manifest: ArtifactManifest) -> LSTMConfig:
    try:
        return build(LSTMConfig, manifest.net, "net")
    except BadManifest as error:
        raise ArtifactError(f"Expected a manifest of {path.parent} with {error}; train again or restore it") from None


def _check_tensors(path: Path, weights: Weights, config: LSTMConfig, manifest: ArtifactManifest) -> None:
    first = weights.get("lstm.weight_ih_l0")
    if first is not None and first.ndim == 2 and first.shape[1] != FEATURES:
        raise OtherWindows(
            f"Expected a model of {FEATURES} features in {path.parent}, got one of {first.shape[1]}; train again"
        )
    with torch.device("meta"):  # takes no memory, whatever the manifest says
        shapes = {
            name: tuple(t.shape)
            for name, t in build_net(config, _start_HQ(manifest), volatilities=0).state_dict().items()
        }
    if different := sorted(weights.keys() ^ shapes.keys()):
        raise _wrong_weights(path, f"the tensors of such a network alone, got others or none as {different[0][:60]}")
    for name, values in weights.items():
        if values.shape != shapes[name] or values.dtype != np.float32:
            got = f"{values.shape} of {values.dtype}"
            raise _wrong_weights(path, f"{name} of {shapes[name]} float32 numbers, got {got}")
        if not np.isfinite(values).all():
            raise _wrong_weights(path, f"finite numbers in {name}, got others")


def _start_HQ(manifest: ArtifactManifest) -> Array:
    (part,) = manifest.symbols.values()
    return part.reference.start_HQ


def _wrong_weights(path: Path, contract: str) -> ArtifactError:
    return ArtifactError(f"Expected {path} to hold {contract}; train again or restore it")
