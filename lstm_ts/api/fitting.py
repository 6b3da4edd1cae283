"""Models for Python: `lstm_ts.fit`."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import RLock
from typing import Any

from lstm_ts.api.hourly_bars import HourlyBars, check_process
from lstm_ts.api.trained_model import TrainedModel
from lstm_ts.cli import compose
from lstm_ts.commands import check_libraries
from lstm_ts.configuration.overrides import to_overrides
from lstm_ts.configuration.parts import construct
from lstm_ts.errors import ConfigError
from lstm_ts.market.symbol import describe_symbol
from lstm_ts.model.evaluation import evaluate
from lstm_ts.processors import wait_passively
from lstm_ts.scoring.scores import compute_scores

# Settings of the command alone:
NOT_HERE = {"symbol", "symbols", "paths", "logger", "log", "registry", "ckpt_path", "lightgbm_steps", "garch"}
NOT_HERE |= {"min_minutes_share", "max_unknown_share", "max_mismatch"}  # of reading bars
ONE_FIT = RLock()  # at a time: seed, threads and exporter of PyTorch are those of the process


def fit(bars: HourlyBars[Any], *more: HourlyBars[Any], **settings: Any) -> TrainedModel:
    """Train as `python -m lstm_ts.train` does: validation and test are the last 30 % of the bars, unless `split` says.

    more       of other symbols: one network of all of them
    settings   values of conf/train.yaml, such as `horizon=12`, `trainer={"max_epochs": 4}`, `net="gru"`;
               `experiment="quickstart"` takes those of conf/experiment/quickstart.yaml

    Fits of several threads wait for each other; processes train side by side, see docs/python.md.

    Raises     ConfigError, NotEnoughBars
    """
    check_process(os.getpid())
    check_libraries("fit", {"train": ("lightning", "onnx")})
    wait_passively()
    from lstm_ts.training import forecasters, trainer  # import PyTorch

    cfg = _compose([bars, *more], settings)
    with (
        ONE_FIT,
        TemporaryDirectory(prefix="lstm_ts_") as folder,
        _quiet("lightning.pytorch"),
        trainer.restored_process(),
    ):
        data = forecasters.make_data(cfg, [each.symbol_bars for each in (bars, *more)], construct(cfg.split))
        spans = forecasters.find_test_spans(cfg, data)
        start = forecasters.load_start(cfg, data) if cfg.warm_start else None
        fitted = forecasters.fit(cfg, data, trainer.build_trainer(cfg, Path(folder)), start=start)
    records = (
        evaluate(forecaster, each.bars.hourly_bars, span)
        for each, span, forecaster in zip(data.symbols, spans, fitted.forecasters, strict=True)
    )
    scores = [compute_scores(record).to_json() for record in records]
    found = zip(data.symbols, fitted.forecasters, scores, strict=True)
    return TrainedModel({each.name: replace(forecaster, scores=known) for each, forecaster, known in found})


def _compose(bars: Sequence[HourlyBars[Any]], settings: Mapping[str, Any]) -> Any:
    """The configuration of a training on these bars, whose symbols need no file."""
    if wrong := sorted(key for key in settings if key.partition(".")[0] in NOT_HERE):
        raise ConfigError(f"Expected values that say how to train, got {', '.join(wrong)}; leave them out")
    if foreign := [type(each).__name__ for each in bars if not isinstance(each, HourlyBars)]:
        raise ConfigError(
            f"Expected bars as lstm_ts.read_bars gives them, got {foreign[0]}; read_bars(…, symbol=…) first"
        )
    names, quiet = [each.symbol.name for each in bars], {"trainer.enable_progress_bar": False}
    if len(set(names)) < len(names):
        raise ConfigError(f"Expected bars of several symbols, each once, got {', '.join(names)}; join those of each")
    cfg = compose("train", to_overrides({"symbols": names, **quiet, **settings}), single=True)
    cfg.symbol = describe_symbol(bars[0].symbol)
    cfg.logger = None  # of curves, into a folder that was not given
    return cfg


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Silence a library's info messages."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
