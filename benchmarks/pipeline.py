"""`python -m benchmarks.pipeline [GLOB]`: minute Parquet → first training batch, against the usual pandas way.

Both read the same files and make the same kind of thing: hourly bars, standardised features, windows with
their targets. Imports are not counted. Without a GLOB, five years of synthetic minutes are made first.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import torch
from numpy.typing import NDArray

from benchmarks import compose
from lstm_ts.configuration.parts import construct
from lstm_ts.market.bars import make_hourly_bars
from lstm_ts.market.session import Session
from lstm_ts.model.symbol_data import SymbolBars
from lstm_ts.model.windows import Batch
from lstm_ts.sources.files.source import Files
from lstm_ts.sources.synthetic import Synthetic
from lstm_ts.training.forecasters import make_data

CFG = compose()
SILVER: Session = construct(CFG.symbol.session)
TSTEPS, HORIZON, RUNS = CFG.tsteps, CFG.horizon, 5


def first_batch(pattern: str) -> torch.Tensor:
    """Make a batch as `ingest`, `process` and `train` do, without the store between them."""
    files = Files(
        paths=pattern,
        symbol=CFG.symbol.name,
        zone="UTC",
        dates=None,
        decimal=None,
        price_factor=1.0,
        batch_rows=500_000,
        stamps="open",
        keep_spikes=False,
    )
    minute_bars = pl.concat([batch.bars for batch in files.read_batches()])
    hours = SILVER.hours(minute_bars["ts"][0], minute_bars["ts"][-1])
    hourly_bars = make_hourly_bars(minute_bars, hours, min_minutes_share=CFG.min_minutes_share)
    data = make_data(CFG, [SymbolBars(construct(CFG.symbol), hourly_bars, files.name)], construct(CFG.split))
    batch: Batch[torch.Tensor] = next(iter(data.train_dataloader()))
    return batch.x_BTF


def first_batch_pandas(pattern: str) -> torch.Tensor:
    """Resample, z-score, and a Python loop over windows."""
    folder = Path(pattern).parent
    minutes = pd.concat([read_pandas(path) for path in sorted(folder.glob(Path(pattern).name))])
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    hours = minutes.resample("1h").agg(rules).dropna()
    hours["return"] = np.log(hours["close"]).diff()
    hours["range"] = np.log(hours["high"] / hours["low"])
    hours = hours.dropna()
    train = hours.iloc[: int(0.7 * len(hours))]
    scored = (hours - train.mean()) / train.std()
    x, y = [], []
    for i in range(TSTEPS, len(train) - HORIZON):
        x.append(scored.iloc[i - TSTEPS : i].to_numpy())
        y.append(np.log(hours["close"].iloc[i : i + HORIZON].to_numpy() / hours["close"].iloc[i - 1]))
    windows: NDArray[np.float64] = np.stack(x)
    return torch.from_numpy(windows[np.random.default_rng(0).permutation(len(windows))[:256]]).float()


def read_pandas(path: Path) -> pd.DataFrame:
    frame = pl.read_parquet(path, columns=["ts", "open", "high", "low", "close", "volume"])
    columns = {name: frame[name].to_numpy() for name in frame.columns if name != "ts"}
    return pd.DataFrame(columns, index=pd.DatetimeIndex(frame["ts"].dt.replace_time_zone(None).to_numpy()))


def seconds(run: Callable[[str], torch.Tensor], pattern: str, *, runs: int) -> list[float]:
    """Wall seconds of each run, the first one included: it is what a user waits for."""
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        run(pattern)
        taken.append(time.perf_counter() - started)
    return taken


def main(pattern: str) -> None:
    ours, pandas_way = seconds(first_batch, pattern, runs=RUNS), seconds(first_batch_pandas, pattern, runs=2)
    rows = pl.scan_parquet(pattern).select(pl.len()).collect().item()
    print(f"{rows:,} minutes from {pattern}; {torch.get_num_threads()} threads")
    print(f"{'':<22}{'first s':>9}{'median s':>10}")
    print(f"{'lstm_ts':<22}{ours[0]:>9.2f}{np.median(ours):>10.2f}")
    print(f"{'pandas and a loop':<22}{pandas_way[0]:>9.2f}{np.median(pandas_way):>10.2f}")
    print(f"ratio of the medians: {np.median(pandas_way) / np.median(ours):.1f}")


def main_on_synthetic() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = {"start": "2011-01-01", "end": "2016-01-01", "seed": 7, "start_price": 20.0}
        source = Synthetic(session=SILVER, signal="silver", ar_coefficient=0.0, **settings)  # type: ignore[arg-type]
        for number, batch in enumerate(source.read_batches()):
            batch.bars.write_parquet(Path(folder) / f"{number:03}.parquet")
        main(f"{folder}/*.parquet")


if __name__ == "__main__":
    main(sys.argv[1]) if len(sys.argv) > 1 else main_on_synthetic()
