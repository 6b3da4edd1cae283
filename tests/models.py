"""Data modules and untrained models for tests of any room."""

from typing import Any

import numpy as np
import polars as pl
import torch

from lstm_ts.market.session import Session
from lstm_ts.market.symbol import Symbol
from lstm_ts.model.datamodule import BarsDataModule, Split
from lstm_ts.model.export import export
from lstm_ts.model.features import Grid
from lstm_ts.model.nets import NetConfig, build_net, describe_net
from lstm_ts.model.network import Network
from lstm_ts.model.scaler import Scaler, ScalerSettings
from lstm_ts.model.scaler_fit import fit_scaler
from lstm_ts.model.symbol_data import SymbolBars
from lstm_ts.model.windows import WindowSpec

SETTINGS: dict[str, Any] = {
    "half_life_hours": 6.0,
    "half_lives_hours": (2.0, 6.0),
    "memory_hours": 6000,
    "season_half_life_hours": 1400,
    "season_prior_returns": 25,
}


def symbol_bars(hourly_bars: pl.DataFrame, session: Session, name: str = "XAGUSD") -> SymbolBars:
    symbol = Symbol(name=name, session=session, currency="USD", decimals=3, contract={}, feed_code=None)
    return SymbolBars(symbol, hourly_bars, "test hours")


def make_data(*bars: SymbolBars, spec: WindowSpec, **settings: Any) -> BarsDataModule:
    """Not set up; `settings` instead of those here."""
    given = {
        "split": Split(valid_from=0.6, test_from=0.8, test_until=None),
        "batch_size": 64,
        "balance": 0.0,
        "seed": 0,
        **SETTINGS,
    }
    return BarsDataModule(bars, spec=spec, **(given | settings))


def fit_rows(grid: Grid, rows: int, spec: WindowSpec, **settings: Any) -> Scaler:
    """Statistics of the first `rows` rows; `settings` instead of those here."""
    given = SETTINGS | settings
    shape = {"tsteps": spec.tsteps, "horizon": spec.horizon, "levels": spec.levels}
    return fit_scaler(grid, np.arange(len(grid.ts_G)) < rows, ScalerSettings(**given), **shape)


def random_network(
    data: BarsDataModule,
    config: NetConfig,
    *,
    seed: int = 0,
    volatilities: int | None = None,
    drift: float = 0.0,
    **attributes: float,
) -> Network:
    """Not trained, but with random weights in its last layer, so that its forecasts depend on every input.

    volatilities   0: a network of before format 4
    drift          of every window, in usual returns of the first hour
    attributes     of the network, as a training sets them
    """
    inputs = data.volatilities if volatilities is None else volatilities
    torch.manual_seed(seed)
    net: Any = build_net(config, data.start_HQ, volatilities=inputs)
    torch.nn.init.normal_(net.head.weight, std=0.3)
    torch.nn.init.constant_(net.head.bias[1:], drift)
    for name, value in attributes.items():
        setattr(net, name, value)
    return export(net, describe_net(config), data.spec, volatilities=inputs)
