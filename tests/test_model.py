"""What a training logs."""

import io
import re
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from models import make_data, symbol_bars
from test_baselines import windows_of
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lstm_ts.model.baselines import fit_reference
from lstm_ts.model.lightning_module import ForecastModule, Optimisation
from lstm_ts.model.nets import build_net
from lstm_ts.model.nets.lstm import LSTMConfig
from lstm_ts.model.windows import Batch, WindowSpec
from lstm_ts.training.trainer import Progress

LEVELS = (0.1, 0.5, 0.9)
REFERENCE = fit_reference(windows_of(np.ones((500, 3))), np.random.default_rng(0).standard_normal((500, 3)), LEVELS)


class Constant(nn.Module):
    """The same quantiles for every window, of `stretch` times the width of har's."""

    def __init__(self, stretch: float) -> None:
        super().__init__()
        self.q_HQ = nn.Parameter(stretch * torch.from_numpy(REFERENCE.start_HQ.astype(np.float32)))

    def forward(self, x_BTF: Tensor, calendar_BHC: Tensor, profile_BH: Tensor, volatility_BV: Tensor) -> Tensor:
        return self.q_HQ.expand(len(x_BTF), -1, -1)


def batches(volatility: float, *, drift: float = 0.0) -> list[Batch[Tensor]]:
    """Three batches of unequal size, with missing targets, of a market `volatility` times as wild as in training."""
    torch.manual_seed(1)
    found = []
    for size in (40, 25, 7):
        z_BH = volatility * torch.randn(size, 3)
        z_BH[torch.rand(size, 3) < 0.2] = torch.nan
        ones_BH, empty = torch.ones(size, 3), torch.zeros(size, 1)
        found.append(Batch(empty, empty, ones_BH, empty, ones_BH, drift * ones_BH, z_BH))
    return found


def validation_loss(stretch: float, found: list[Batch[Tensor]], folder: Path) -> float:
    optimisation = Optimisation(lr=1e-3, weight_decay=0.0, warm_up=0.3, step_decay=1.5, final_epochs=0)
    network = Constant(stretch)
    start = {"start_HQ": REFERENCE.start_HQ, "start_pinball_H": REFERENCE.start_pinball_H}
    model = ForecastModule(network, levels=LEVELS, **start, optimisation=optimisation, seed=0)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = L.Trainer(default_root_dir=folder, enable_model_summary=False, **quiet)
    (metrics,) = trainer.validate(model, DataLoader(found, batch_size=None), verbose=False)
    return metrics["val/loss"]


@pytest.mark.parametrize("volatility", [0.2, 1.0, 3.0])
def test_a_model_equal_to_har_has_a_validation_loss_of_one_in_any_market(volatility, tmp_path):
    assert validation_loss(1.0, batches(volatility), tmp_path) == 1.0


def test_the_validation_loss_is_a_ratio_of_means_over_all_known_targets(tmp_path):
    found = batches(2.0)
    z_NH = torch.cat([batch.z_BH for batch in found]).double().numpy()

    def loss_H(q_HQ):
        error = z_NH[..., None] - q_HQ
        return np.nansum(np.maximum(np.array(LEVELS) * error, (np.array(LEVELS) - 1) * error).mean(-1), axis=0)

    weight_H = np.arange(1, 4) ** -1.5 / REFERENCE.start_pinball_H
    ours, theirs = (loss_H(k * REFERENCE.start_HQ) @ weight_H for k in (2.0, 1.0))
    assert validation_loss(2.0, found, tmp_path) == pytest.approx(ours / theirs, rel=1e-5)
    assert ours < theirs  # twice as wide is better where the market is twice as wild


def test_progress_takes_one_line_of_80_columns(hourly_bars, silver, tmp_path):
    data = make_data(symbol_bars(hourly_bars, silver), spec=WindowSpec(8, 3, LEVELS, 4))
    data.setup()
    net = build_net(LSTMConfig(hidden=4, layers=1, decoder=4, dropout=0.0), data.start_HQ, volatilities=2)
    start = {"start_HQ": data.start_HQ, "start_pinball_H": data.start_pinball_H}
    optimisation = Optimisation(lr=1e-3, weight_decay=0.0, warm_up=0.3, step_decay=1.5, final_epochs=0)
    shown = io.StringIO()
    progress = Progress(refresh_rate=1, console_kwargs={"file": shown, "width": 80, "force_terminal": True})
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = L.Trainer(default_root_dir=tmp_path, max_epochs=2, callbacks=[progress], **quiet)
    trainer.fit(ForecastModule(net, levels=LEVELS, **start, optimisation=optimisation, seed=0), datamodule=data)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue())
    lines = [line.strip() for line in re.split(r"[\r\n]", plain) if line.strip()]
    assert all(line.startswith(("Epoch ", "Validation ")) and len(line) <= 80 for line in lines)
    assert re.fullmatch(r"Epoch 1/1 .* (\d+)/\1 .* val/loss: \d\.\d{3}", lines[-1])


def test_har_knows_nothing_of_the_drift(tmp_path):
    """With a drift of 0.5, targets without it lie 0.5 nearer to a model that has it than to har."""
    assert validation_loss(1.0, batches(0.01, drift=0.5), tmp_path) < 1
