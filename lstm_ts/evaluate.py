"""`python -m lstm_ts.evaluate model=…`: score a model on a span of the stored bars, beside the baselines."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from lstm_ts.cli import check_arguments

if __name__ == "__main__":
    check_arguments("evaluate")  # before what is slow to import

import numpy as np
import polars as pl
from omegaconf import DictConfig

from lstm_ts.cli import entry_point
from lstm_ts.configuration import construct, model_folder, processed_store, run_folder
from lstm_ts.errors import ConfigError, NoRows
from lstm_ts.market.bars import is_synthetic
from lstm_ts.market.session import utc
from lstm_ts.model.adoption import check_adoptable, choose_forecaster, describe_adoption
from lstm_ts.model.artifact import load_forecasters
from lstm_ts.model.boosting import lightgbm_quantiles
from lstm_ts.model.evaluation import Span, evaluate
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.model.symbol_data import SymbolBars
from lstm_ts.model.windows import find_origins
from lstm_ts.scoring.records import ForecastRecord, to_frame
from lstm_ts.scoring.report import format_table, write_report
from lstm_ts.scoring.scores import Scores, compute_scores

log = logging.getLogger(__name__)


def with_lightgbm(
    record: ForecastRecord, forecaster: Forecaster, hourly_bars: pl.DataFrame, *, steps: Sequence[int]
) -> ForecastRecord:
    """Add LightGBM at some of the steps, trained and stopped early on the windows the model was, as stored now.

    Raises    NoRows: the stored bars do not reach back to the model's training span
    """
    grid, spec, provenance = forecaster.grid(hourly_bars), forecaster.spec, forecaster.provenance
    trained_until, data_end = utc(provenance.trained_until), utc(provenance.data_end)
    fitted = find_origins(grid, spec, start=utc(provenance.data_start), end=trained_until, purge=True)
    stopped = find_origins(grid, spec, start=trained_until, end=data_end, purge=True)
    asked_N = np.flatnonzero(np.isin(grid.origin_ts_G, record.origin_ts_N))
    if not len(fitted.rows_N) or not len(stopped.rows_N):
        raise NoRows(f"Expected bars before {trained_until} to train LightGBM on, got none; set lightgbm_steps=[]")
    train = forecaster.windows(grid, fitted.rows_N, forecaster.season_states(grid))
    valid, test = train.at(stopped.rows_N), train.at(asked_N)
    q_NHQ = np.full_like(record.q_NHQ, np.nan)
    for step in steps:
        z_NQ = lightgbm_quantiles(train, valid, test, step=step, levels=record.levels, seed=provenance.seed)
        q_NHQ[:, step - 1] = (z_NQ + test.drift_GH[asked_N, step - 1, None]) * test.scale_GH[asked_N, step - 1, None]
    return replace(record, quantiles={**record.quantiles, "lightgbm": q_NHQ})


def write_scores(
    folder: Path,
    record: ForecastRecord,
    scores: Scores,
    source: str,
    *,
    about: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """scores.json, forecasts.parquet, report.html, which begins with `about` and `notes`, and its pictures.

    Gives the path of the first.

    All of them appear once all are written, scores.json last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".") as staging:
        staged = Path(staging)
        to_frame(record).write_parquet(staged / "forecasts.parquet")
        report = write_report(staged, record, scores, source, about=about, notes=notes)
        path = staged / "scores.json"
        path.write_text(json.dumps(scores.to_json(), indent=1, allow_nan=False))
        for written in sorted(staged.iterdir(), key=lambda other: other == path):
            written.replace(folder / written.name)
    log.info("Pictures and tables: %s", folder / report.name)
    return folder / path.name


def describe_model(forecaster: Forecaster, folder: Path, *, version: str = "") -> dict[str, str]:
    """What a report names of the model that it scores."""
    its = forecaster.provenance
    told = {
        "Model": f"{its.symbol}, {forecaster.spec.tsteps} hours in, {forecaster.spec.horizon} session hours ahead",
        "Version": version or "none: read from a folder",
        "Folder": str(folder),
        "Trained on": f"{its.source}, {its.data_start[:10]} to {its.trained_until[:10]}",
        "Stopped on": f"hours until {its.data_end[:10]}",
        "Seed": str(its.seed),
        "Code": its.code_revision,
    }
    return {name: text for name, text in told.items() if text}


def check_lightgbm(steps: Sequence[int], *, horizon: int) -> None:
    """Raises    ConfigError: a step that is not forecast, or the extra is not installed"""
    if not all(isinstance(step, int) and 1 <= step <= horizon for step in steps):
        raise ConfigError(f"Expected lightgbm_steps within 1..{horizon}, got {list(steps)}")
    if steps and find_spec("lightgbm") is None:
        raise ConfigError("Expected LightGBM to be installed for lightgbm_steps; pip install 'lstm_ts[lightgbm]'")


@entry_point("evaluate")
def main(cfg: DictConfig) -> None:
    forecasters, start = load_forecasters(model_folder(cfg)), utc(cfg.span.start)
    check_adoptable(forecasters, cfg.symbol.name)
    store = processed_store(cfg)
    bars = SymbolBars(construct(cfg.symbol), store.read(), store.source)
    forecaster = choose_forecaster(forecasters, bars, until=start)
    for note in describe_adoption(forecaster):
        print(f"Note: {note}.")
    check_lightgbm(cfg.lightgbm_steps, horizon=forecaster.spec.horizon)
    span = Span(start or utc(forecaster.provenance.data_end), utc(cfg.span.end))
    folder = run_folder() / "scores"
    if folder.exists():
        raise ConfigError(f"Expected a run folder of its own, got {run_folder()}, which another run has; run it again")
    score(forecaster, bars.hourly_bars, span, source=bars.source, lightgbm_steps=cfg.lightgbm_steps, folder=folder,
          model=model_folder(cfg))  # fmt: skip


def score(
    forecaster: Forecaster,
    hourly_bars: pl.DataFrame,
    span: Span,
    *,
    source: str,
    lightgbm_steps: Sequence[int],
    folder: Path,
    model: Path,
) -> Scores:
    """Evaluate, write and print; the last line is the path of scores.json."""
    record = evaluate(forecaster, hourly_bars, span)
    if lightgbm_steps:
        record = with_lightgbm(record, forecaster, hourly_bars, steps=lightgbm_steps)
    scores = compute_scores(record)
    if is_synthetic(source) != is_synthetic(forecaster.provenance.source):
        source += f" (the model was trained on {forecaster.provenance.source})"
    print(f"Bars: {source}\n{format_table(scores)}")
    trained_until = forecaster.provenance.data_end
    if record.origin_ts_N[0] < np.datetime64(trained_until.removesuffix("+00:00")):
        print(f"In sample: the span begins before {trained_until}, up to where this model was trained and chosen.")
    print(write_scores(folder, record, scores, source, about=describe_model(forecaster, model)))
    return scores


if __name__ == "__main__":
    main()
