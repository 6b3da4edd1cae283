"""What the shift of a network's forecasts is worth, by the validation hours."""

import numpy as np
import polars as pl
import pytest
import torch
from models import make_data, symbol_bars
from torch import Tensor, nn

from lstm_ts.market.session import Session
from lstm_ts.model.datamodule import BarsDataModule
from lstm_ts.model.export import export
from lstm_ts.model.location import weigh_drift, weigh_location, weigh_median
from lstm_ts.model.windows import BODY, WindowSpec

SPEC = WindowSpec(tsteps=24, horizon=2, levels=(0.1, 0.25, 0.5, 0.75, 0.9), max_missing=6)


class Follows(nn.Module):
    """Shifts its quantiles by `by` in the direction of the last bar."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x_BTF: Tensor, calendar_BHC: Tensor, profile_BH: Tensor, volatility_BV: Tensor) -> Tensor:
        shift_B1 = self.by * x_BTF[:, -1:, BODY].sign() + 0 * (profile_BH.sum() + volatility_BV.sum())
        return shift_B1[..., None] + torch.tensor([-1.3, -0.7, 0.0, 0.7, 1.3]) + 0 * calendar_BHC[..., :1]


@pytest.fixture
def data(hourly_bars: pl.DataFrame, silver: Session) -> BarsDataModule:
    """Validation targets that go on by 0.5 in the direction of the last bar."""
    data = make_data(symbol_bars(hourly_bars, silver), spec=SPEC)
    data.setup()
    windows = data.valid_windows
    direction_N = np.sign(windows[:].x_BTF[:, -1, BODY])
    noise_NH = np.random.default_rng(0).normal(size=(len(windows), 2))
    windows.z_GH[windows.origin_N] = 0.5 * direction_N[:, None] + noise_NH
    return data


def weight(data: BarsDataModule, by: float) -> float:
    network = export(Follows(by), {}, SPEC, volatilities=data.volatilities)
    return weigh_location(network, data.valid_windows, SPEC.levels)


def test_a_shift_that_comes_true_is_kept_nearly_whole(data: BarsDataModule) -> None:
    assert 0.9 < weight(data, 0.5) <= 1


def test_one_that_is_too_long_is_shortened(data: BarsDataModule) -> None:
    assert 0.4 < weight(data, 1.0) <= 0.5


def test_one_the_other_way_or_none_is_worth_nothing(data: BarsDataModule) -> None:
    assert weight(data, -0.5) == weight(data, 0.0) == 0.0


@pytest.mark.parametrize(("by", "least", "most"), [(0.5, 0.9, 1.0), (1.0, 0.4, 0.5), (-0.5, 0.0, 0.0), (0.0, 0.0, 0.0)])
def test_a_drift_is_worth_what_the_validation_shows(data: BarsDataModule, by: float, least: float, most: float) -> None:
    windows = data.valid_windows
    drift_NH = by * np.sign(windows[:].x_BTF[:, -1, BODY])[:, None].repeat(2, axis=1)
    windows.z_GH[windows.origin_N] -= drift_NH
    windows.drift_GH[windows.origin_N] = drift_NH
    start_HQ = np.array([[-1.3, -0.7, 0.0, 0.7, 1.3]]).repeat(2, axis=0)
    assert least <= weigh_drift(windows, start_HQ, SPEC.levels) <= most


def test_the_weight_moves_all_quantiles_by_what_the_median_moves() -> None:
    q_NQ = np.array([[-1.0, 0.0, 1.0, 2.0, 4.0]])
    np.testing.assert_array_equal(weigh_median(q_NQ, 0.25, SPEC.levels), q_NQ - 0.75)
