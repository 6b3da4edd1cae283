"""A trained network as a forecast runs it: in ONNX Runtime, which needs no PyTorch.

Legend: N windows, B those of a batch, T tsteps, F features, C target columns, V volatilities, H steps, Q levels.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from lstm_ts.errors import ArtifactError, OtherWindows
from lstm_ts.model.windows import FEATURES, TARGET_COLUMNS, Windows, WindowSpec

INPUTS, OUTPUT = ("x", "calendar", "profile", "volatility"), "z"
BATCH = 4096
SILENT = 4  # of ONNX Runtime's log levels: what is wrong is raised


class Network:
    def __init__(
        self,
        graph: bytes,
        *,
        config: Mapping[str, Any],
        weights: Mapping[str, NDArray[np.float32]],
        spec: WindowSpec,
        volatilities: int,
    ) -> None:
        """graph          ONNX
        config         the kind's name and its settings, in JSON types
        weights        parameters and buffers, for a training that continues from them
        volatilities   of a window, which the network was built for; 0 before format 4
        Raises    ArtifactError: no graph; OtherWindows: of other shapes than these windows have
        """
        self.name = str(config.get("name", "network"))  # in tables and pictures
        self.graph, self.config, self.weights = graph, config, weights
        self.seconds = 0.0  # of the last call
        self._session = _open_session(graph)
        found = {node.name: node.shape[1:] for node in (*self._session.get_inputs(), *self._session.get_outputs())}
        self._inputs = [name for name in INPUTS if name in found]  # that it reads
        self.volatilities = volatilities
        if found != (expected := _shapes(spec, volatilities, self._inputs)):
            raise OtherWindows(f"Expected a graph of the shapes {expected}, got {found}")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_session"}  # which cannot be pickled

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state, _session=_open_session(state["graph"]))

    def quantiles(self, windows: Windows[NDArray[Any]]) -> NDArray[np.float32]:
        """z_NHQ, less the drift."""
        batches = (windows[start : start + BATCH] for start in range(0, len(windows), BATCH))
        return np.concatenate(
            [self(batch.x_BTF, batch.calendar_BHC, batch.profile_BH, batch.volatility_BV) for batch in batches]
        )

    def __call__(self, *window: NDArray[np.float32]) -> NDArray[np.float32]:
        """x (B, T, F), calendar (B, H, C), profile (B, H) and volatility (B, V) -> z (B, H, Q)"""
        start = time.perf_counter()
        read = {name: values for name, values in zip(INPUTS, window, strict=False) if name in self._inputs}
        z_BHQ: NDArray[np.float32] = self._session.run(None, read)[0]
        self.seconds = time.perf_counter() - start
        return z_BHQ


def _open_session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # two threads gain nothing, at any batch size
    options.log_severity_level = SILENT
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no class in common
        raise ArtifactError(f"Expected an ONNX graph, got this: {_first_line(error)}") from error


def _shapes(spec: WindowSpec, volatilities: int, inputs: Sequence[str]) -> dict[str, list[int]]:
    """Shapes of one window's inputs and output, by name."""
    tsteps, horizon = spec.tsteps, spec.horizon
    window = ([tsteps, FEATURES], [horizon, TARGET_COLUMNS], [horizon], [volatilities])
    shapes = {name: shape for name, shape in zip(INPUTS, window, strict=True) if name in inputs}
    return {**shapes, OUTPUT: [horizon, len(spec.levels)]}


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
