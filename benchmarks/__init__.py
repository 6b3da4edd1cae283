"""Figures anyone can measure again; each module prints one small table."""

import hydra
import polars as pl
from omegaconf import DictConfig

from lstm_ts.cli import CONF, construct
from lstm_ts.data import BarsDataModule


def compose(*overrides: str) -> DictConfig:
    """The configuration of `python -m lstm_ts.train`."""
    with hydra.initialize_config_dir(CONF, version_base="1.3"):
        return hydra.compose("train", list(overrides))


def make_data(cfg: DictConfig, hourly_bars: pl.DataFrame) -> BarsDataModule:
    """Its data module, set up."""
    parts = {name: construct(cfg[name]) for name in ("session", "spec", "split")}
    data: BarsDataModule = construct(cfg.data, hourly_bars=hourly_bars, **parts)
    data.setup()
    return data
