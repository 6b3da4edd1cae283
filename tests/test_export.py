import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lstm_ts.errors import ArtifactError
from lstm_ts.model.export import TOLERANCE, export
from lstm_ts.model.nets import describe_net
from lstm_ts.model.nets.gru import GRUConfig
from lstm_ts.model.nets.lstm import LSTMConfig
from lstm_ts.model.network import Network
from lstm_ts.model.windows import FEATURES, TARGET_COLUMNS, WindowSpec

VOLATILITIES = 2
SPEC = WindowSpec(tsteps=7, horizon=3, levels=(0.1, 0.5, 0.9), max_missing=2)
CONFIG = LSTMConfig(hidden=4, layers=1, decoder=5, dropout=0.0)


def make_net(config: LSTMConfig | GRUConfig = CONFIG) -> nn.Module:
    """Not trained, but with a last layer that is not zero."""
    base_HQ = torch.tensor([[-1.5, 0.0, 1.5]]).expand(SPEC.horizon, -1)
    net = config.build(features=FEATURES, target_columns=TARGET_COLUMNS, volatilities=VOLATILITIES, base_HQ=base_HQ)
    nn.init.normal_(net.head.weight)
    return net


@settings(max_examples=20)
@given(
    kind=st.sampled_from([LSTMConfig, GRUConfig]),
    seed=st.integers(0, 2**31),
    hidden=st.integers(1, 40),
    layers=st.integers(1, 3),
    decoder=st.integers(1, 40),
    dropout=st.sampled_from([0.0, 0.4]),
    windows=st.integers(1, 9),
)
def test_an_exported_network_is_the_network(
    kind: type[LSTMConfig | GRUConfig], seed: int, hidden: int, layers: int, decoder: int, dropout: float, windows: int
) -> None:
    torch.manual_seed(seed)
    config = kind(hidden=hidden, layers=layers, decoder=decoder, dropout=dropout)
    net = make_net(config)
    network = export(net, describe_net(config), SPEC, volatilities=VOLATILITIES)
    x_BTF, profile_BH = 8 * torch.randn(windows, 7, FEATURES), torch.rand(windows, 3) + 0.1
    inputs = (x_BTF, torch.rand(windows, 3, TARGET_COLUMNS), profile_BH, torch.randn(windows, VOLATILITIES))
    with torch.inference_mode():
        expected = net(*inputs).numpy()
    np.testing.assert_allclose(network(*(values.numpy() for values in inputs)), expected, rtol=1e-5, atol=TOLERANCE)
    assert 0 < network.seconds < 1
    assert network.config == {"name": kind.name, **vars(config)}


class Counting(nn.Module):
    """Gives something else at each call, which no graph can."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.calls = make_net(), 0

    def forward(self, *window: Tensor) -> Tensor:
        self.calls += 1
        z_BHQ: Tensor = self.net(*window)
        return z_BHQ + 1e-4 * self.calls


def test_a_network_that_is_not_its_graph_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"Expected the exported network to agree with PyTorch within 1e-05, got "):
        export(Counting(), {}, SPEC, volatilities=VOLATILITIES)


def test_a_network_without_numbers_is_not_exported() -> None:
    net = make_net()
    nn.init.constant_(net.head.bias, float("nan"))
    with pytest.raises(ArtifactError, match=r"Expected the exported network to agree .*, got nan"):
        export(net, {}, SPEC, volatilities=VOLATILITIES)


class Reads(nn.Module):
    def __init__(self, only: int) -> None:
        super().__init__()
        self.only = only

    def forward(self, *window: Tensor) -> Tensor:
        return window[self.only].flatten(1).mean(1)[:, None, None].expand(-1, 3, 3)


@pytest.mark.parametrize("only", range(4))
def test_a_network_may_ignore_inputs(only: int) -> None:
    network = export(Reads(only), {}, SPEC, volatilities=VOLATILITIES)
    windows = [torch.rand(2, *shape) for shape in ((7, FEATURES), (3, TARGET_COLUMNS), (3,), (VOLATILITIES,))]
    z_BHQ = network(*(values.numpy() for values in windows))
    np.testing.assert_allclose(z_BHQ, Reads(only)(*windows), rtol=1e-5)
    assert network.volatilities == VOLATILITIES


@pytest.mark.parametrize("graph", [b"", b"abc", b"\x80\x04" * 99])
def test_what_is_no_graph_is_refused(graph: bytes) -> None:
    with pytest.raises(ArtifactError, match="Expected an ONNX graph, got this: "):
        Network(graph, config={}, weights={}, spec=SPEC, volatilities=VOLATILITIES)


@pytest.mark.parametrize(
    "spec",
    [
        WindowSpec(tsteps=8, horizon=3, levels=(0.1, 0.5, 0.9), max_missing=2),
        WindowSpec(tsteps=7, horizon=2, levels=(0.1, 0.5, 0.9), max_missing=2),
        WindowSpec(tsteps=7, horizon=3, levels=(0.5,), max_missing=2),
    ],
)
def test_a_graph_of_other_windows_is_refused(spec: WindowSpec) -> None:
    graph = export(make_net(), {}, SPEC, volatilities=VOLATILITIES).graph
    with pytest.raises(ArtifactError, match=r"Expected a graph of the shapes .*'x': \[\d+, 37\].*, got .*\[7, 37\]"):
        Network(graph, config={}, weights={}, spec=spec, volatilities=VOLATILITIES)


def test_a_graph_of_other_volatilities_is_refused() -> None:
    graph = export(make_net(), {}, SPEC, volatilities=VOLATILITIES).graph
    with pytest.raises(ArtifactError, match=r"Expected a graph of the shapes .*'volatility': \[3\].*, got .*\[2\]"):
        Network(graph, config={}, weights={}, spec=SPEC, volatilities=3)


def test_onnx_runtime_collects_nothing_about_its_user(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}  # where CI is set, it collects nothing anyway
    subprocess.run([sys.executable, "-c", "import lstm_ts.model.network"], env=environment, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []
