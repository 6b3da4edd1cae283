from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstm_ts.model.lightning_module import pinball_loss
from lstm_ts.model.nets.gru import GRUConfig
from lstm_ts.model.nets.lstm import LSTMConfig
from lstm_ts.model.nets.recurrent import RecurrentNet

BASE_HQ = torch.tensor([[-1.0, 0.0, 1.0], [-1.5, 0.0, 1.5]])  # 2 steps, 3 levels
B, T, F, C, V = 5, 6, 4, 3, 2
MakeNet = Callable[..., RecurrentNet]


@pytest.fixture(params=[LSTMConfig, GRUConfig], ids=lambda kind: kind.name)
def net(request: pytest.FixtureRequest) -> MakeNet:
    return partial(make_net, request.param)


def make_net(kind: type[LSTMConfig | GRUConfig], *, seed: int = 0, wild: float = 0.0) -> RecurrentNet:
    torch.manual_seed(seed)
    config = kind(hidden=8, layers=1, decoder=8, dropout=0.0)
    made = config.build(features=F, target_columns=C, volatilities=V, base_HQ=BASE_HQ)
    if wild:
        torch.nn.init.normal_(made.head.weight, std=wild)
    return made.eval()


def inputs(seed: int = 1) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    x_BTF, calendar_BHC = torch.randn(B, T, F, generator=generator), torch.randn(B, 2, C, generator=generator)
    profile_BH = torch.rand(B, 2, generator=generator) + 0.5
    return x_BTF, calendar_BHC, profile_BH, torch.randn(B, V, generator=generator)


def test_an_untrained_network_forecasts_the_base_quantiles(net: MakeNet) -> None:
    assert torch.allclose(net()(*inputs()), BASE_HQ.expand(B, -1, -1))


@given(seed=st.integers(0, 1000), wild=st.floats(0.1, 5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # it makes networks
def test_quantiles_never_cross(net: MakeNet, seed: int, wild: float) -> None:
    q_BHQ = net(seed=seed, wild=wild)(*inputs(seed))
    assert (q_BHQ.diff(dim=-1) > 0).all()


def test_every_input_moves_the_forecast(net: MakeNet) -> None:
    made, (x_BTF, calendar_BHC, profile_BH, volatility_BV) = net(wild=0.5), inputs()
    q_BHQ = made(x_BTF, calendar_BHC, profile_BH, volatility_BV)
    assert not torch.allclose(q_BHQ, made(x_BTF.flip(1), calendar_BHC, profile_BH, volatility_BV))
    assert not torch.allclose(q_BHQ, made(x_BTF, -calendar_BHC, profile_BH, volatility_BV))
    assert not torch.allclose(q_BHQ[:, 1], made(x_BTF, calendar_BHC, profile_BH.flip(1), volatility_BV)[:, 1])
    assert not torch.allclose(q_BHQ, made(x_BTF, calendar_BHC, profile_BH, -volatility_BV))


def test_the_location_is_bounded(net: MakeNet) -> None:
    made = net()
    with torch.no_grad():
        made.head.bias.copy_(torch.tensor([0.0, 1e6]))
    assert torch.allclose(made(*inputs())[:, 0] - BASE_HQ[0], torch.tensor(0.5), atol=1e-6)  # of the first hour's size


def test_equal_hours_with_equal_stretch_add_up_to_that_stretch(net: MakeNet) -> None:
    made = net()
    with torch.no_grad():
        made.head.bias.copy_(torch.tensor([0.5, 0.0]))  # log stretch, drift
    q_BHQ = made(*inputs()[:2], torch.ones(B, 2), inputs()[3])
    assert torch.allclose(q_BHQ, BASE_HQ * torch.tensor(0.5).exp())


def test_the_pinball_loss_by_hand() -> None:
    z_BH = torch.tensor([[0.5], [-1.0]])
    q_BHQ = torch.tensor([[[0.0, 1.0]], [[0.0, 1.0]]])
    levels_Q = torch.tensor([0.1, 0.9])
    # row 1: 0.1 * 0.5 and 0.1 * 0.5; row 2: 0.9 * 1 and 0.1 * 2
    expected = ((0.05 + 0.05) / 2 + (0.9 + 0.2) / 2) / 2
    assert pinball_loss(z_BH, q_BHQ, levels_Q, torch.ones(1)).item() == pytest.approx(expected)


def test_a_missing_session_hour_is_masked_in_the_loss() -> None:
    q_BHQ = torch.tensor([[[0.0], [5.0]]], requires_grad=True)
    loss = pinball_loss(torch.tensor([[1.0, float("nan")]]), q_BHQ, torch.tensor([0.5]), torch.ones(2))
    loss.backward()
    assert loss.item() == 0.5
    assert q_BHQ.grad is not None
    assert q_BHQ.grad.tolist() == [[[-0.5], [0.0]]]
