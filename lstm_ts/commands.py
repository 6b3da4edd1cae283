"""The commands, and what each one needs beyond a plain installation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from lstm_ts.errors import ConfigError

LIBRARIES: Mapping[str, Sequence[str]] = {  # extra of the package → libraries of it
    "train": ("lightning", "matplotlib", "onnx"),
    "registry": ("mlflow",),
    "monitor": ("apprise",),
    "pipeline": ("dagster",),
    "serve": ("litserve",),
    "dashboard": ("panel",),
}


@dataclass(frozen=True)
class Command:
    module: str
    summary: str
    details: str  # one sentence: what it writes or prints
    example: str  # what one types after the command
    extras: tuple[str, ...] = ()


COMMANDS: Mapping[str, Command] = {
    "ingest": Command(
        "lstm_ts.ingest",
        "store the minute bars of files, a broker or a public feed",
        "Files are stored as a whole or not at all; rejects.csv names each bad row.",
        "source=files 'source.paths=minutes/*.csv' source.zone=America/New_York paths.data=data/real",
    ),
    "process": Command(
        "lstm_ts.process",
        "make session hours of the stored minutes",
        "An hour counts once its minutes are known from the first to the last.",
        "paths.data=data/real",
    ),
    "train": Command(
        "lstm_ts.train",
        "train a model on the stored hours",
        "Scores it beside the baselines; the last line is the model folder.",
        "paths.data=data/real trainer.max_epochs=4",
        ("train",),
    ),
    "evaluate": Command(
        "lstm_ts.evaluate",
        "score a model beside the baselines, with a report",
        "The last line is the path of scores.json; report.html lies beside it.",
        "model=outputs/train/DAY/TIME/model span.start=2024-01-01 paths.data=data/real",
        ("train",),
    ),
    "predict": Command(
        "lstm_ts.predict",
        "forecast the next hours",
        "From the store's latest bars, or from a file; in words, or as JSON.",
        "model=outputs/train/DAY/TIME/model bars=hours.csv zone=UTC",
    ),
    "backtest": Command(
        "lstm_ts.backtest",
        "refit at every quarter and score what follows",
        "All folds make one out-of-sample record; finished folds are kept.",
        "+experiment=walk_forward paths.data=data/real",
        ("train",),
    ),
    "retrain": Command(
        "lstm_ts.retrain",
        "train a candidate and let the gate decide",
        "Registers it with the gate's reasons; only a promotion makes it champion.",
        "paths.data=data/real retrain.dry_run=true",
        ("train", "registry"),
    ),
    "registry": Command(
        "lstm_ts.registry",
        "list, show, promote, roll back and export versions",
        "Each move of an alias is kept, with who made it and why.",
        "action=promote version=3 alias=challenger reason='canary next week'",
        ("registry",),
    ),
    "monitor": Command(
        "lstm_ts.monitor",
        "score past forecasts, detect drift",
        "Exit code 3: a retraining is due; 1: an alert did not arrive.",
        "paths.data=data/real",
        ("registry", "monitor"),
    ),
    "alerts": Command(
        "lstm_ts.alerts",
        "list and silence alerts, test their receivers",
        "Receivers are the addresses in LSTM_TS_ALERT_URLS.",
        "action=silence rule=disk until=4h reason='old runs are being removed'",
        ("monitor",),
    ),
    "backup": Command(
        "lstm_ts.backup",
        "write bars, registry and ledger into a folder, or restore them",
        "Everything may keep running. A restore needs an empty place, and is checked.",
        "folder=backups/2026-11-29 paths.data=data/real",
        ("registry",),
    ),
    "pipeline": Command(
        "lstm_ts.pipeline",
        "run the schedule: Dagster with its pages",
        "Ingests, processes, monitors and retrains, each as its own command.",
        "\"ingest='source=dukascopy'\" first_day=2024-01-01 paths.data=data/real",
        ("pipeline", "train", "registry"),
    ),
    "cronjobs": Command(
        "lstm_ts.cronjobs",
        "print the schedule as Kubernetes CronJobs",
        "YAML on stdout, for the resources of a kustomization over deploy/k8s/base.",
        "\"ingest='source=dukascopy'\" > cronjobs.yaml",
    ),
    "serve": Command(
        "serve.server",
        "answer requests for forecasts over HTTP",
        "Follows the registry's champion; /docs describes the API.",
        "paths.data=data/real port=8000",
        ("serve",),
    ),
    "dashboard": Command(
        "dashboard.server",
        "show forecasts, models, data and monitoring",
        "Pages over the stores and the service at service.url.",
        "paths.data=data/real port=5006",
        ("dashboard", "registry"),
    ),
}


def check_extras(name: str) -> None:
    """Raises    ConfigError: the command needs libraries that are not installed"""
    check_libraries(name, {extra: LIBRARIES[extra] for extra in COMMANDS[name].extras})


def check_libraries(name: str, needed: Mapping[str, Sequence[str]]) -> None:
    """name     of what needs them, in the sentence
    needed   libraries by extra
    Raises   ConfigError: one is not installed
    """
    missing = {each: extra for extra, libraries in needed.items() for each in libraries if find_spec(each) is None}
    if missing:
        raise ConfigError(
            f"Expected {' and '.join(missing)} for {name}, got a plain installation; "
            f"pip install 'lstm_ts[{','.join(dict.fromkeys(missing.values()))}]'"
        )
