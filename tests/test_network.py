import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lstm_ts.errors import ArtifactError
from lstm_ts.net import LSTMNet
from lstm_ts.windows import FEATURES, TARGET_COLUMNS, WindowSpec
from serve.network import TOLERANCE, CompiledNet

SPEC = WindowSpec(tsteps=7, horizon=3, levels=(0.1, 0.5, 0.9), max_missing=2)


def make_net(
    kind: type[LSTMNet] = LSTMNet, *, hidden: int = 4, layers: int = 1, decoder: int = 5, dropout: float = 0.0
) -> LSTMNet:
    """Not trained, but with a last layer that is not zero."""
    base_HQ = torch.tensor([[-1.5, 0.0, 1.5]]).expand(SPEC.horizon, -1)
    sizes = {"hidden": hidden, "layers": layers, "decoder": decoder, "dropout": dropout}
    net = kind(features=FEATURES, target_columns=TARGET_COLUMNS, base_HQ=base_HQ, **sizes)
    torch.nn.init.normal_(net.head.weight)
    return net


@settings(max_examples=10)
@given(
    seed=st.integers(0, 2**31),
    hidden=st.integers(1, 40),
    layers=st.integers(1, 3),
    decoder=st.integers(1, 40),
    dropout=st.sampled_from([0.0, 0.4]),
)
def test_a_compiled_network_is_the_network(seed: int, hidden: int, layers: int, decoder: int, dropout: float) -> None:
    torch.manual_seed(seed)
    net = make_net(hidden=hidden, layers=layers, decoder=decoder, dropout=dropout)
    compiled = CompiledNet(net, SPEC)
    window = (8 * torch.randn(1, 7, FEATURES), torch.rand(1, 3, TARGET_COLUMNS), torch.rand(1, 3) + 0.1)
    with torch.inference_mode():
        expected = net(*window).numpy()
    np.testing.assert_allclose(compiled(*(values.numpy() for values in window)), expected, rtol=1e-5, atol=TOLERANCE)
    assert 0 < compiled.seconds < 1


class Counting(LSTMNet):
    calls = 0

    def forward(self, x_BTF: Tensor, calendar_BHC: Tensor, profile_BH: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x_BTF, calendar_BHC, profile_BH) + 1e-4 * self.calls


def test_a_network_that_does_not_stay_as_it_was_compiled_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"Expected the compiled network to agree within 1e-05, got "):
        CompiledNet(make_net(Counting), SPEC)


def test_a_network_without_numbers_is_not_compiled() -> None:
    net = make_net()
    torch.nn.init.constant_(net.head.bias, float("nan"))
    with pytest.raises(ArtifactError, match=r"Expected the compiled network to agree within .*, got nan"):
        CompiledNet(net, SPEC)
