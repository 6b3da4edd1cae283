"""Which libraries are imported where, read from the sources; what imports what of ours is in pyproject.toml."""

import ast
import subprocess
import sys
from collections.abc import Mapping
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
COMMANDS = {
    "alerts",
    "backup",
    "ingest",
    "process",
    "train",
    "evaluate",
    "predict",
    "backtest",
    "registry.__main__",
    "retrain",
    "monitor",
    "pipeline",
    "cronjobs",
}
CONFIGURED = {
    f"lstm_ts.{name}" for name in COMMANDS | {"cli", "schedule.assets", "schedule.automation", "schedule.plan"}
}
CONFIGURED |= {module for module in MODULES if module.startswith(("lstm_ts.configuration.", "lstm_ts.training."))}
CONFIGURED |= {"serve.startup", "dashboard.server"}
TORCH = {"lstm_ts.training.trainer"} | {
    f"lstm_ts.model.{name}"
    for name in (
        "checkpoints",
        "datamodule",
        "export",
        "lightning_module",
        "old_artifact",
        "provenance",
        "tensors",
        "windows",  # for its types
    )
}
TORCH |= {module for module in MODULES if module.startswith("lstm_ts.model.nets.")}
LIGHTNING = {f"lstm_ts.model.{name}" for name in ("datamodule", "lightning_module")}
LIGHTNING |= {"lstm_ts.scoring.wandb_log", "lstm_ts.training.trainer", "lstm_ts.training.forecasters"}
DATABASE = {
    *(f"lstm_ts.ledger.{name}" for name in ("database", "ledger", "rows", "monitor_rows", "monitor_tables")),
    *(f"lstm_ts.ledger.{name}" for name in ("alert_rows", "alert_tables", "dumps", "incident_days", "served_days")),
    *(f"lstm_ts.ledger.{name}" for name in ("traffic", "upserts")),
    "lstm_ts.registry.mlflow_store",
}
PURE = {
    *(f"lstm_ts.market.{name}" for name in ("completeness", "hours", "levels", "prices", "revisions", "spacing")),
    *(f"lstm_ts.model.{name}" for name in ("baselines", "features", "flags", "folds", "forecaster", "network")),
    *(f"lstm_ts.model.{name}" for name in ("har", "location", "scaler", "scaler_fit", "season", "windows")),
    *(f"lstm_ts.scoring.{name}" for name in ("comparison", "gate", "metrics", "records", "scores", "tables")),
    *(f"lstm_ts.monitoring.{name}" for name in ("alerts", "challenge", "concept_drift", "confidence", "daily")),
    *(f"lstm_ts.monitoring.{name}" for name in ("feed", "findings", "grouping", "hourly", "live_skill")),
    *(f"lstm_ts.monitoring.{name}" for name in ("messages", "outcomes", "regime", "skew")),
    *(f"lstm_ts.monitoring.{name}" for name in ("ruling", "verdict", "versions")),
    "lstm_ts.scoring.decision",
    "lstm_ts.scoring.soundness",
    "lstm_ts.sources.evidence",
    "serve.traffic",
}

# Which modules alone may import a library.
KEPT = {
    "apprise": {"lstm_ts.monitoring.delivery"},
    "alembic": {"lstm_ts.ledger.database"} | MIGRATIONS,
    "bokeh": DASHBOARD,
    "cloudpathlib": {"lstm_ts.store.object_storage"},
    "dagster": {"lstm_ts.pipeline", "lstm_ts.schedule.assets", "lstm_ts.schedule.automation"},
    "fastapi": SERVICE,
    "httpx": DASHBOARD | {"lstm_ts.sources.bounded_http"},
    "hydra": CONFIGURED,
    "ib_async": {"lstm_ts.sources.ib.source"},
    "ib_insync": {"lstm_ts.sources.ib.source"},
    "arch": {"lstm_ts.model.garch"},
    "lightgbm": {"lstm_ts.model.boosting"},
    "lightning": LIGHTNING,
    "litserve": SERVICE,
    "matplotlib": {"lstm_ts.scoring.pictures", "lstm_ts.scoring.report", "lstm_ts.api.trained_model"},
    "mlflow": {"lstm_ts.registry.mlflow_store"},
    "omegaconf": CONFIGURED,
    "onnxruntime": {"lstm_ts.model.network"},
    "pandas": DASHBOARD | {"lstm_ts.sources.files.frames", "lstm_ts.api.hourly_bars"},
    "pandas_market_calendars": {"lstm_ts.market.calendars"},
    "panel": DASHBOARD,
    "prometheus_client": SERVICE | {"lstm_ts.monitoring.service_counters"},
    "psycopg": {"lstm_ts.ledger.dumps"},
    "psutil": {"lstm_ts.monitoring.machine", "serve.process_figures"},
    "pythonjsonlogger": {"lstm_ts.logs"},
    "sqlalchemy": DATABASE | MIGRATIONS,
    "tenacity": {"lstm_ts.sources.retries"},
    "torch": TORCH,
    "wandb": {"lstm_ts.scoring.wandb_log"},
    "yaml": {"dashboard.experiments.runs", "lstm_ts.configuration.conf_files", "lstm_ts.cronjobs"},
}
WALL_CLOCKS = {
    *(f"time.{name}" for name in ("time", "time_ns", "localtime", "gmtime", "ctime")),
    *(f"{kind}.{name}" for kind in ("datetime.datetime", "pandas.Timestamp") for name in ("now", "utcnow", "today")),
    "datetime.date.today",
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


def dotted(node: ast.AST, names: Mapping[str, str]) -> str:
    """What a name or an attribute refers to, such as datetime.datetime.now; empty for anything else."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute) and (base := dotted(node.value, names)):
        return f"{base}.{node.attr}"
    return ""


def asks_for_the_time(source: str) -> set[str]:
    """What in it asks the operating system what time it is."""
    nodes = list(ast.walk(ast.parse(source)))
    names = {a.asname: a.name for n in nodes if isinstance(n, ast.Import) for a in n.names if a.asname}
    froms = [(n.module, a) for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names]
    names |= {a.asname or a.name: f"{module}.{a.name}" for module, a in froms}
    return {found for node in nodes if (found := dotted(node, names)) in WALL_CLOCKS}


@pytest.mark.parametrize(
    "source",
    [
        "import time\nstart = time.time()",
        "from time import time_ns as stamp\nstamp()",
        "import datetime as dt\ndt.datetime.now(dt.UTC)",
        "from datetime import datetime\nfield(default_factory=datetime.utcnow)",
        "from datetime import date\ndate.today()",
    ],
)
def test_who_asks_for_the_time_is_found(source: str) -> None:
    assert asks_for_the_time(source)
    assert not asks_for_the_time("import time\nfrom datetime import time as clock\ntime.monotonic(), clock(12)")


def test_only_the_clock_asks_what_time_it_is() -> None:
    asking = {module: asks_for_the_time(path.read_text()) for module, path in MODULES.items()}
    assert {module: found for module, found in asking.items() if found} == {"lstm_ts.clock": {"datetime.datetime.now"}}


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
        assert module == "lstm_ts.model.checkpoints" or "torch.load" not in path.read_text(), module


@pytest.mark.slow
def test_a_forecast_needs_no_pytorch() -> None:
    code = "import sys, lstm_ts.predict, serve.registry_watcher, dashboard.models.page; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "False", done.stderr
