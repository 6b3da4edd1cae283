"""A version's network, compiled for one window at a time.

PyTorch takes forty small operations for it, which cost more than what they compute; ONNX Runtime takes one call.
"""

import io
import time
import warnings

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from lstm_ts.errors import ArtifactError
from lstm_ts.net import LSTMNet
from lstm_ts.windows import FEATURES, TARGET_COLUMNS, WindowSpec

INPUTS = ("x", "calendar", "profile")
TOLERANCE = 1e-5  # of 1 + |quantile|, in usual returns: less than a millionth of a price


class CompiledNet:
    """Stands in for a network, of which it is a copy.    Raises    ArtifactError: it differs"""

    def __init__(self, net: LSTMNet, spec: WindowSpec) -> None:
        self.seconds = 0.0  # of the last call
        net.eval()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # one window is too little to share
        traced = _export(net, _random_window(spec, seed=0))
        self._session = onnxruntime.InferenceSession(traced, options, providers=["CPUExecutionProvider"])
        window = _random_window(spec, seed=1)
        with torch.inference_mode():
            ours, theirs = self(*(values.numpy() for values in window)), net(*window).numpy()
        error = (np.abs(ours - theirs) / (1 + np.abs(theirs))).max()
        if not error < TOLERANCE:
            raise ArtifactError(f"Expected the compiled network to agree within {TOLERANCE:g}, got {error:.2g}")

    def __call__(self, *window: NDArray[np.float32]) -> NDArray[np.float32]:
        """x (1, T, F), calendar (1, H, C) and profile (1, H) → (1, H, Q)"""
        start = time.perf_counter()
        z_BHQ: NDArray[np.float32] = self._session.run(None, dict(zip(INPUTS, window, strict=True)))[0]
        self.seconds = time.perf_counter() - start
        return z_BHQ


def _random_window(spec: WindowSpec, *, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x_BTF = torch.randn(1, spec.tsteps, FEATURES, generator=draw)
    calendar_BHC = torch.rand(1, spec.horizon, TARGET_COLUMNS, generator=draw)
    return x_BTF, calendar_BHC, 0.5 + torch.rand(1, spec.horizon, generator=draw)


def _export(net: LSTMNet, window: tuple[Tensor, Tensor, Tensor]) -> bytes:
    """By tracing, in 0.2 s; the exporter that will replace this one takes 3.6 s and 170 MB."""
    content = io.BytesIO()
    with warnings.catch_warnings():  # that it will be replaced, and that other shapes need another trace
        warnings.simplefilter("ignore")
        torch.onnx.export(net, window, content, input_names=INPUTS, dynamo=False)  # type: ignore[arg-type]
    return content.getvalue()
