"""`python -m lstm_ts.evaluate model=…`: score a model on a span of the stored bars, beside the baselines."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from lstm_ts.cli import check_arguments

if __name__ == "__main__":
    check_arguments("evaluate")  # before what is slow to import

import polars as pl
from omegaconf import DictConfig

from lstm_ts.cli import entry_point
from lstm_ts.configuration.parts import construct, model_folder, processed_store, run_folder
from lstm_ts.errors import ConfigError
from lstm_ts.market.bars import describe_source
from lstm_ts.market.session import utc
from lstm_ts.model.adoption import check_adoptable, choose_forecaster, describe_adoption
from lstm_ts.model.artifact import load_forecasters
from lstm_ts.model.evaluation import Span, describe_record, evaluate
from lstm_ts.model.extra_baselines import ExtraBaselines
from lstm_ts.model.forecaster import Forecaster, Provenance
from lstm_ts.model.symbol_data import SymbolBars
from lstm_ts.scoring.records import ForecastRecord, to_frame
from lstm_ts.scoring.report import format_table, write_report
from lstm_ts.scoring.scores import Scores, compute_scores

log = logging.getLogger(__name__)


def write_scores(
    folder: Path,
    record: ForecastRecord,
    scores: Scores,
    source: str,
    *,
    about: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write scores.json, forecasts.parquet, report.html and its pictures; return the path of scores.json.

    The report begins with `about` and `notes`; scores.json has the source and the notes, too. The files appear once all
    are written, scores.json last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".") as staging:
        staged = Path(staging)
        to_frame(record).write_parquet(staged / "forecasts.parquet")
        report = write_report(staged, record, scores, source, about=about, notes=notes)
        path = staged / "scores.json"
        content = {**scores.to_json(), "source": source, "notes": list(notes)}
        path.write_text(json.dumps(content, indent=1, allow_nan=False))
        for written in sorted(staged.iterdir(), key=lambda other: other == path):
            written.replace(folder / written.name)
    log.info("Pictures and tables: %s", folder / report.name)
    return folder / path.name


def describe_model(forecaster: Forecaster, folder: Path, *, version: str = "") -> dict[str, str]:
    """Return what a report shows about the model that it scores, by title; empty texts are left out."""
    its = forecaster.provenance
    network = forecaster.learnt or (its,)
    last = network[-1]
    fields = {
        "Model": f"{its.symbol}, {forecaster.spec.tsteps} hours in, {forecaster.spec.horizon} session hours ahead",
        "Version": version or "none: read from a folder",
        "Folder": str(folder),
        "Trained on": "; ".join(map(_describe_bars, network)),
        "Stopped on": f"hours until {last.data_end[:10]}" if last.data_end != last.trained_until else "",
        "Statistics of": _describe_bars(its) if forecaster.learnt else "",
        "Seed": str(its.seed),
        "Code": its.code_revision,
    }
    return {name: text for name, text in fields.items() if text}


def _describe_bars(provenance: Provenance) -> str:
    parts = (f"{provenance.source},", provenance.data_start[:10], "to", provenance.trained_until[:10])
    return " ".join(filter(None, parts))


@entry_point("evaluate")
def main(cfg: DictConfig) -> None:
    forecasters, start = load_forecasters(model_folder(cfg)), utc(cfg.span.start)
    check_adoptable(forecasters, cfg.symbol.name)
    store = processed_store(cfg)
    bars = SymbolBars(construct(cfg.symbol), store.read(), store.source)
    forecaster = choose_forecaster(forecasters, bars, until=start)
    for note in describe_adoption(forecaster):
        print(f"Note: {note}.")
    extra = ExtraBaselines(cfg.lightgbm_steps, cfg.garch, horizon=forecaster.spec.horizon)
    span = Span.given(start, utc(cfg.span.end), forecaster)
    folder = run_folder() / "scores"
    if folder.exists():
        raise ConfigError(
            f"Expected a run folder of its own, got {run_folder()}, which another run has; set another hydra.run.dir"
        )
    score(forecaster, bars.hourly_bars, span, source=bars.source, extra=extra, folder=folder,
          model=model_folder(cfg))  # fmt: skip


def score(
    forecaster: Forecaster,
    hourly_bars: pl.DataFrame,
    span: Span,
    *,
    source: str,
    extra: ExtraBaselines,
    folder: Path,
    model: Path,
) -> Scores:
    """Evaluate the model, write and print its scores; the last line is the path of scores.json."""
    record = extra.add(evaluate(forecaster, hourly_bars, span), forecaster, hourly_bars)
    scores = compute_scores(record)
    source = describe_source(source, forecaster.provenance.source)
    print(f"Bars: {source}\n{format_table(scores)}")
    notes = describe_record(forecaster, record)
    for note in notes:
        print(note)
    print(write_scores(folder, record, scores, source, about=describe_model(forecaster, model), notes=notes))
    return scores


if __name__ == "__main__":
    main()
