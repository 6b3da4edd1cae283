"""The commands, and what each one needs beyond a plain installation."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from lstm_ts.errors import ConfigError

LIBRARIES = {  # extra of the package → one library of it
    "train": "lightning",
    "registry": "mlflow",
    "monitor": "apprise",
    "pipeline": "dagster",
    "serve": "litserve",
    "dashboard": "panel",
}


@dataclass(frozen=True)
class Command:
    module: str
    summary: str
    extras: tuple[str, ...] = ()


COMMANDS: Mapping[str, Command] = {
    "ingest": Command("lstm_ts.ingest", "store the minute bars of files, a broker or a public feed"),
    "process": Command("lstm_ts.process", "make session hours of the stored minutes"),
    "train": Command("lstm_ts.train", "train a model on the stored hours", ("train",)),
    "evaluate": Command("lstm_ts.evaluate", "score a model beside the baselines, with a report", ("train",)),
    "predict": Command("lstm_ts.predict", "forecast the next hours"),
    "backtest": Command("lstm_ts.backtest", "refit at every quarter and score what follows", ("train",)),
    "retrain": Command("lstm_ts.retrain", "train a candidate and let the gate decide", ("train", "registry")),
    "registry": Command("lstm_ts.registry", "list, show, promote, roll back and export versions", ("registry",)),
    "monitor": Command("lstm_ts.monitor", "score what was forecast, find drift", ("registry", "monitor")),
    "alerts": Command("lstm_ts.alerts", "list and silence alerts, try their receivers", ("monitor",)),
    "pipeline": Command(
        "lstm_ts.pipeline", "run the schedule: Dagster with its pages", ("pipeline", "train", "registry")
    ),
    "serve": Command("serve.server", "answer requests for forecasts over HTTP", ("serve",)),
    "dashboard": Command("dashboard.server", "show forecasts, models, data and monitoring", ("dashboard", "registry")),
}


def check_extras(name: str) -> None:
    """Raises    ConfigError: the command needs libraries that are not installed"""
    missing = [extra for extra in COMMANDS[name].extras if find_spec(LIBRARIES[extra]) is None]
    if missing:
        extras = ",".join(missing)
        raise ConfigError(
            f"Expected {' and '.join(LIBRARIES[extra] for extra in missing)} for {name}, got a plain installation; "
            f"pip install 'lstm_ts[{extras}]'"
        )
