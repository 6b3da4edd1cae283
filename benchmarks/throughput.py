"""`python -m benchmarks.throughput`: training windows per second, Lightning against a bare loop, fp32 and bf16.

Both run the same network, batches, loss and optimiser over the same synthetic windows, in turn, in one process.
On a GPU the whole grid lies on the device and both gather there.
"""

import logging
import time
import warnings

import lightning as L
import numpy as np
import polars as pl
import torch
from lightning.pytorch.callbacks import WeightAveraging
from omegaconf import DictConfig
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks import compose
from lstm_ts.configuration.parts import construct
from lstm_ts.market.bars import make_hourly_bars
from lstm_ts.model.datamodule import BarsDataModule, BatchOrder
from lstm_ts.model.lightning_module import ForecastModule
from lstm_ts.model.nets import build_net
from lstm_ts.model.symbol_data import SymbolBars
from lstm_ts.model.tensors import to_tensors
from lstm_ts.model.windows import FEATURES
from lstm_ts.sources.synthetic import Synthetic
from lstm_ts.training.forecasters import make_data

EPOCHS, ROUNDS = 2, 5
HIDDEN = (32, 128)


def make_bars(cfg: DictConfig) -> pl.DataFrame:
    """Four years of synthetic silver; about 16,000 training windows."""
    session = construct(cfg.symbol.session)
    settings = {"start": "2015-01-01", "end": "2019-01-01", "signal": "silver", "ar_coefficient": 0.0}
    source = Synthetic(session=session, seed=7, start_price=20.0, **settings)  # type: ignore[arg-type]
    minute_bars = pl.concat([batch.bars for batch in source.read_batches()])
    hours = session.hours(minute_bars["ts"][0], minute_bars["ts"][-1])
    return make_hourly_bars(minute_bars, hours, min_minutes_share=cfg.min_minutes_share)


def make_model(data: BarsDataModule, cfg: DictConfig) -> ForecastModule:
    torch.manual_seed(0)
    net = build_net(construct(cfg.net), data.start_HQ, volatilities=data.volatilities)
    return ForecastModule(
        net,
        levels=data.spec.levels,
        start_HQ=data.start_HQ,
        start_pinball_H=data.start_pinball_H,
        optimisation=construct(cfg.optimisation),
        seed=0,
    )


def time_lightning(data: BarsDataModule, cfg: DictConfig, *, bf16: bool) -> float:
    """Windows per second as `train` runs: weight averaging and logging of the loss included, validation not."""
    trainer = L.Trainer(
        max_epochs=EPOCHS,
        precision="bf16-mixed" if bf16 else "32-true",
        callbacks=[WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(cfg.weight_averaging))],  # type: ignore[no-untyped-call]
        gradient_clip_val=cfg.trainer.gradient_clip_val,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(make_model(data, cfg), datamodule=data)
    return float(trainer.callback_metrics["train/windows_per_s"])


def time_bare_loop(data: BarsDataModule, cfg: DictConfig, *, bf16: bool) -> float:
    """Windows per second of a plain loop: the same batches, network, loss, AdamW, one-cycle, clipping and averaging."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, windows = make_model(data, cfg).to(device), to_tensors(data.train_windows, device)
    chosen = model.optimisation
    optimizer = torch.optim.AdamW(model.net.parameters(), lr=chosen.lr, weight_decay=chosen.weight_decay)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(cfg.weight_averaging), use_buffers=True)  # type: ignore[no-untyped-call]
    steps = EPOCHS * len(data.train_dataloader())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, chosen.lr, steps, pct_start=chosen.warm_up)
    order = BatchOrder([len(windows)], batch_size=data.batch_size, shuffle=True, seed=0)
    for epoch in range(EPOCHS):
        order.set_epoch(epoch)
        started = time.perf_counter()
        for rows_B in order:
            batch = windows[rows_B]
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = model.training_loss(batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.net.parameters(), cfg.trainer.gradient_clip_val)
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken = time.perf_counter() - started
    return len(windows) / taken


def main() -> None:
    cfg = compose()
    data = make_data(cfg, [SymbolBars(construct(cfg.symbol), make_bars(cfg), "synthetic")], construct(cfg.split))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    size = f"{len(data.train_windows):,} windows of {data.spec.tsteps} x {FEATURES}"
    print(f"{size}, batch {data.batch_size}, {device}; median of {ROUNDS}")
    print(f"{'hidden':>6}  {'precision':<9}  {'bare loop /s':>12}  {'train /s':>9}  {'train / bare':>12}")
    for hidden in HIDDEN:
        cfg.net.hidden = hidden
        for precision in ("fp32", "bf16"):
            bf16 = precision == "bf16"
            pairs = [
                (time_bare_loop(data, cfg, bf16=bf16), time_lightning(data, cfg, bf16=bf16)) for _ in range(ROUNDS)
            ]
            bare, ours = np.median(pairs, axis=0)
            ratio = np.median([b / a for a, b in pairs])
            print(f"{hidden:>6}  {precision:<9}  {bare:>12,.0f}  {ours:>9,.0f}  {ratio:>12.2f}")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*(LeafSpec|val_dataloader).*")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    main()
