"""Figures anyone can measure again; each module prints one small table."""

import hydra
from omegaconf import DictConfig

from lstm_ts.configuration.parts import CONF


def compose(*overrides: str) -> DictConfig:
    """The configuration of `python -m lstm_ts.train`."""
    with hydra.initialize_config_dir(CONF, version_base="1.3"):
        return hydra.compose("train", list(overrides))
