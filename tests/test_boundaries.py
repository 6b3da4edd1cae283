"""Which libraries are imported where, read from the sources; what imports what of ours is in pyproject.toml."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for package in ("lstm_ts", "serve", "dashboard")
    for path in (ROOT / package).rglob("*.py")
}
SERVICE = {module for module in MODULES if module.startswith("serve.")}
DASHBOARD = {module for module in MODULES if module.startswith("dashboard.")}

MIGRATIONS = {module for module in MODULES if module.startswith("lstm_ts.ledger.migrations.")}
COMMANDS = {"ingest", "process", "train", "evaluate", "predict", "backtest", "registry.__main__", "retrain", "pipeline"}
CONFIGURED = {f"lstm_ts.{name}" for name in COMMANDS | {"cli", "overrides", "plan"}}
CONFIGURED |= {"serve.server", "dashboard.server"}
TORCH = {"lstm_ts.train"} | {
    f"lstm_ts.model.{name}"
    for name in (
        "datamodule",
        "export",
        "lightning_module",
        "location",
        "nets.__init__",
        "nets.gru",
        "nets.lstm",
        "nets.recurrent",
        "old_artifact",
        "provenance",
        "tensors",
        "windows",  # for its types
    )
}
LIGHTNING = {"lstm_ts.model.datamodule", "lstm_ts.model.lightning_module", "lstm_ts.scoring.wandb_log", "lstm_ts.train"}
DATABASE = {
    *(f"lstm_ts.ledger.{name}" for name in ("database", "ledger", "rows", "monitor_rows", "monitor_tables")),
    "lstm_ts.registry.mlflow_store",
}
PURE = {
    *(f"lstm_ts.market.{name}" for name in ("completeness", "hours", "levels", "prices", "revisions", "spacing")),
    *(f"lstm_ts.model.{name}" for name in ("baselines", "features", "flags", "folds", "forecaster", "network")),
    *(f"lstm_ts.model.{name}" for name in ("har", "scaler", "season", "windows")),
    *(f"lstm_ts.scoring.{name}" for name in ("comparison", "gate", "metrics", "records", "scores", "tables")),
    "lstm_ts.sources.evidence",
    "serve.traffic",
}

# Which modules alone may import a library.
KEPT = {
    "alembic": {"lstm_ts.ledger.database"} | MIGRATIONS,
    "bokeh": DASHBOARD,
    "dagster": {"lstm_ts.pipeline"},
    "fastapi": SERVICE,
    "httpx": DASHBOARD | {"lstm_ts.sources.json_client"},
    "hydra": CONFIGURED,
    "ib_async": {"lstm_ts.sources.ib.source"},
    "ib_insync": {"lstm_ts.sources.ib.source"},
    "lightgbm": {"lstm_ts.model.boosting"},
    "lightning": LIGHTNING,
    "litserve": SERVICE,
    "matplotlib": {"lstm_ts.scoring.pictures", "lstm_ts.scoring.report"},
    "mlflow": {"lstm_ts.registry.mlflow_store"},
    "omegaconf": CONFIGURED,
    "onnxruntime": {"lstm_ts.model.network"},
    "pandas": DASHBOARD,
    "pandas_market_calendars": {"lstm_ts.market.calendars"},
    "panel": DASHBOARD,
    "prometheus_client": SERVICE,
    "sqlalchemy": DATABASE | MIGRATIONS,
    "tenacity": {"lstm_ts.sources.retries"},
    "torch": TORCH,
    "wandb": {"lstm_ts.scoring.wandb_log"},
    "yaml": {"dashboard.experiments.runs"},
}
DOES_IO = {"hydra", "omegaconf", "lightning", "wandb", "os", "pathlib", "shutil", "subprocess", "socket", "logging"}


@cache
def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: absolute imports only"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("library", sorted(KEPT))
def test_a_library_stays_where_it_is_wrapped(library: str) -> None:
    users = {module for module, path in MODULES.items() if library in {n.split(".")[0] for n in imports(path)}}
    assert users <= KEPT[library]


@pytest.mark.parametrize("pure", sorted(PURE))
def test_a_pure_room_does_no_io(pure: str) -> None:
    libraries = {name.split(".")[0] for name in imports(MODULES[pure])}
    assert not libraries & DOES_IO


def test_no_room_is_called_by_what_it_is_not() -> None:
    names = {part for module in MODULES for part in module.split(".")}
    assert not names & {"utils", "common", "helpers", "core", "base", "manager"}


def test_nothing_reads_a_pickle_but_lightnings_checkpoints() -> None:
    for module, path in MODULES.items():
        assert "pickle" not in imports(path), module
        assert module == "lstm_ts.train" or "torch.load" not in path.read_text(), module


def test_a_forecast_needs_no_pytorch() -> None:
    code = "import sys, lstm_ts.predict, serve.registry_watcher, dashboard.models.page; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "False", done.stderr
