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
from lightning.pytorch.callbacks import EMAWeightAveraging

from lstm_ts.bars import make_hourly_bars
from lstm_ts.data import BarsDataModule, BatchOrder, Split
from lstm_ts.forecaster import NetShape, build_net
from lstm_ts.model import LSTMForecaster, Optimisation
from lstm_ts.session import Session
from lstm_ts.sources.synthetic import Synthetic
from lstm_ts.windows import FEATURES, WindowSpec

EPOCHS, ROUNDS = 2, 3
LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))
SHAPES = (
    NetShape(hidden=32, layers=1, decoder=32, dropout=0.1),
    NetShape(hidden=128, layers=1, decoder=64, dropout=0.1),
)
OPTIMISATION = Optimisation(lr=3e-3, weight_decay=0.01, warm_up=0.3, step_decay=1.5)


def make_data() -> BarsDataModule:
    """Four years of synthetic silver; about 16,000 training windows."""
    session = Session(calendar="CMEGlobex_Silver", zone="America/New_York")
    source = Synthetic(session=session, start="2015-01-01", end="2019-01-01", seed=7, start_price_usd=20.0,
                       signal="silver", ar_coefficient=0.0)  # fmt: skip
    minute_bars = pl.concat([batch.bars for batch in source.read_batches()])
    hours = session.hours(minute_bars["ts"][0], minute_bars["ts"][-1])
    data = BarsDataModule(
        make_hourly_bars(minute_bars, hours, min_minutes_share=0.25),
        session,
        spec=WindowSpec(tsteps=48, horizon=24, levels=LEVELS, max_missing=12),
        split=Split(valid_from=0.7, test_from=0.85, test_until=None),
        batch_size=256,
        half_life_hours=12,
        memory_hours=6000,
        seed=0,
    )
    data.setup()
    return data


def make_model(data: BarsDataModule, shape: NetShape) -> LSTMForecaster:
    torch.manual_seed(0)
    net = build_net(shape, data.reference)
    return LSTMForecaster(net, levels=LEVELS, reference=data.reference, optimisation=OPTIMISATION, seed=0)


def time_lightning(data: BarsDataModule, shape: NetShape, *, bf16: bool) -> float:
    """Windows per second as `train` runs: weight averaging and logging of the loss included, validation not."""
    precision = "bf16-mixed" if bf16 else "32-true"
    trainer = L.Trainer(
        max_epochs=EPOCHS,
        precision=precision,  # type: ignore[arg-type]
        callbacks=[EMAWeightAveraging(decay=0.99)],
        gradient_clip_val=1.0,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(make_model(data, shape), train_dataloaders=data.train_dataloader())
    return float(trainer.callback_metrics["train/windows_per_s"])


def time_bare_loop(data: BarsDataModule, shape: NetShape, *, bf16: bool) -> float:
    """Windows per second of a plain loop: the same batches, network, loss, AdamW and clipping."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, windows = make_model(data, shape).to(device), data.train_windows.to(device)
    optimizer = torch.optim.AdamW(model.net.parameters(), lr=OPTIMISATION.lr, weight_decay=OPTIMISATION.weight_decay)
    order = BatchOrder(len(windows), batch_size=data.batch_size, shuffle=True, seed=0)
    for epoch in range(EPOCHS):
        order.set_epoch(epoch)
        started = time.perf_counter()
        for rows_B in order:
            batch = windows[rows_B]
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = model.training_loss(batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.net.parameters(), 1.0)
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken = time.perf_counter() - started
    return len(windows) / taken


def main() -> None:
    data = make_data()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    print(
        f"{len(data.train_windows):,} windows of 48 x {FEATURES}, batch {data.batch_size}, {device}; median of {ROUNDS}"
    )
    print(f"{'hidden':>6}  {'precision':<9}  {'bare loop /s':>12}  {'train /s':>9}  {'train / bare':>12}")
    for shape in SHAPES:
        for bf16 in (False, True):
            pairs = [
                (time_bare_loop(data, shape, bf16=bf16), time_lightning(data, shape, bf16=bf16)) for _ in range(ROUNDS)
            ]
            bare, ours = np.median(pairs, axis=0)
            ratio = np.median([b / a for a, b in pairs])
            precision = "bf16" if bf16 else "fp32"
            print(f"{shape.hidden:>6}  {precision:<9}  {bare:>12,.0f}  {ours:>9,.0f}  {ratio:>12.2f}")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*num_workers.*")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    main()
