"""Who may import what, read from the sources."""

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

# What each room may import of ours.
ROOMS = {
    "errors": set(),
    "symbol": {"errors", "prices", "session"},
    "bars": {"errors"},
    "calendars": set(),
    "session": {"bars", "calendars", "errors"},
    "sources.synthetic": {"bars", "errors", "session"},
    "sources.zones": {"errors"},
    "sources.stamps": set(),
    "sources.numbers": set(),
    "sources.symbols": {"errors", "sources.columns"},
    "sources.containers": {"errors"},
    "sources.columns": {"bars", "errors", "sources.stamps"},
    "sources.layout": {"errors", "sources.columns", "sources.numbers", "sources.zones"},
    "sources.cells": {"sources.layout"},
    "sources.headers": {"errors", "sources.cells", "sources.columns", "sources.layout", "sources.stamps"},
    "sources.headerless": {
        "bars",
        "sources.cells",
        "sources.columns",
        "sources.layout",
        "sources.numbers",
        "sources.stamps",
    },
    "sources.formats": {
        "errors",
        "sources.cells",
        "sources.columns",
        "sources.headerless",
        "sources.headers",
        "sources.layout",
        "sources.stamps",
    },
    "sources.text_rows": {
        "bars",
        "errors",
        "sources.cells",
        "sources.columns",
        "sources.headers",
        "sources.layout",
        "sources.numbers",
        "sources.stamps",
    },
    "sources.parquet": {
        "bars",
        "errors",
        "sources.columns",
        "sources.formats",
        "sources.layout",
        "sources.numbers",
        "sources.stamps",
    },
    "sources.blocks": {
        "errors",
        "sources.columns",
        "sources.containers",
        "sources.formats",
        "sources.layout",
        "sources.numbers",
        "sources.parquet",
        "sources.symbols",
        "sources.text_rows",
        "sources.zones",
    },
    "spacing": set(),
    "hours": {"bars", "errors", "levels", "session"},
    "close_stamps": {"bars", "session"},
    "levels": {"errors"},
    "revisions": set(),
    "evidence": {"bars"},
    "sources.testimony": {"bars"},
    "sources.repeated_hour": {"bars", "spacing"},
    "sources.spool": set(),
    "sources.ticks": {"bars"},
    "sources.overlap": {"spacing"},
    "sources.seen": set(),
    "sources.spikes": {"bars", "levels", "spacing"},
    "sources.learnt": {
        "bars",
        "errors",
        "sources.blocks",
        "sources.checks",
        "sources.repeated_hour",
        "sources.spikes",
        "sources.spool",
        "sources.zones",
        "spacing",
    },
    "sources.checks": {"bars", "sources.layout", "sources.zones", "spacing"},
    "sources.files": {
        "bars",
        "errors",
        "sources.blocks",
        "sources.checks",
        "sources.formats",
        "sources.learnt",
        "sources.overlap",
        "sources.repeated_hour",
        "sources.seen",
        "sources.spool",
        "sources.testimony",
        "sources.ticks",
        "sources.zones",
        "spacing",
    },
    "sources.pacing": {"errors"},
    "sources.ib_errors": set(),
    "sources.ib_line": {"sources.ib_errors"},
    "sources.ib_login": {"errors", "sources.ib_errors", "sources.ib_line"},
    "sources.ib_answers": {"bars", "errors", "session"},
    "sources.retries": {"errors", "sources.ib_line"},
    "sources.ib": {
        "bars",
        "errors",
        "session",
        "sources.ib_answers",
        "sources.ib_errors",
        "sources.ib_line",
        "sources.ib_login",
        "sources.pacing",
        "sources.retries",
    },
    "disk": set(),
    "faults": set(),
    "lifetime": set(),
    "journal": {"disk", "errors"},
    "manifest": {"errors", "journal", "symbol"},
    "missing": {"manifest"},
    "staging": set(),
    "store": {"bars", "disk", "errors", "journal", "manifest", "missing", "session", "staging"},
    "completeness": {"bars"},
    "backfill": {"bars", "completeness", "errors", "ledger", "session", "staging", "store"},
    "delivery": {
        "backfill",
        "bars",
        "close_stamps",
        "errors",
        "hours",
        "levels",
        "revisions",
        "session",
        "store",
        "tables",
    },
    "status": {"bars", "completeness", "errors", "session", "staging", "tables"},
    "features": {"bars", "errors", "session"},
    "scaler": {"features"},
    "windows": {"errors", "features", "scaler"},
    "metrics": set(),
    "prices": {"errors"},
    "baselines": {"features", "metrics", "records", "windows"},
    "boosting": {"features", "windows"},
    "tensors": {"windows"},
    "nets.recurrent": {"errors"},
    "nets.lstm": {"nets.recurrent"},
    "nets.gru": {"nets.recurrent"},
    "nets.__init__": {"baselines", "windows"},
    "network": {"errors", "windows"},
    "export": {"errors", "network", "windows"},
    "records": {"metrics", "prices"},
    "scores": {"metrics", "records"},
    "gate": {"errors", "metrics", "records", "tables"},
    "comparison": {"errors", "metrics", "records"},
    "pictures": {"metrics", "prices", "records", "scores"},
    "tables": set(),
    "report": {"bars", "pictures", "prices", "records", "scores", "tables"},
    "model": {"baselines", "errors", "tensors", "windows"},
    "forecaster": {"baselines", "errors", "features", "levels", "network", "prices", "scaler", "session", "windows"},
    "flags": {"errors", "forecaster", "session"},
    "artifact_manifest": {
        "baselines",
        "errors",
        "records",
        "features",
        "forecaster",
        "levels",
        "prices",
        "scaler",
        "session",
        "symbol",
        "windows",
    },
    "old_artifact": {"artifact_manifest", "errors", "export", "network", "nets", "nets.lstm", "windows"},
    "artifact": {"artifact_manifest", "errors", "forecaster", "network", "old_artifact"},
    "data": {"baselines", "errors", "features", "scaler", "session", "tensors", "windows"},
    "folds": {"errors", "session", "tables"},
    "provenance": {"data", "forecaster"},
    "checkpoints": {"errors"},
    "holdout": {"bars", "data", "errors", "folds", "forecaster", "provenance", "session", "store", "versions"},
    "tracking": {"errors", "scores"},
    "database": {"errors"},
    "rows": set(),
    "ledger": {"bars", "database", "errors", "rows"},
    "versions": {"rows", "tables"},
    "shelf": {"errors", "versions"},
    "aliases": {"errors", "ledger", "rows", "shelf", "versions"},
    "promotion": {"gate", "ledger", "registry", "rows", "versions"},
    "overrides": {"errors", "symbol"},
    "plan": {"cli", "errors", "overrides", "session", "symbol"},
    "migrations.env": set(),
    "migrations.append_only": set(),
    "migrations.versions.0001_decisions": {"migrations.append_only"},
    "migrations.versions.0002_alias_changes": {"migrations.append_only"},
    "migrations.versions.0003_forecasts": {"migrations.append_only"},
    "migrations.versions.0004_answers": {"migrations.append_only"},
    "migrations.versions.0005_identity": {"migrations.append_only"},
    "migrations.versions.0006_repeated_ids": {"migrations.append_only"},
    "serve.traffic": {"errors", "tables"},
    "serve.forecast_log": {"database", "errors", "ledger", "rows"},
}
# What the rest of the service may import beside its own rooms.
SERVED = {"forecaster", "registry", "versions", "ledger", "bars", "store", "session", "features", "errors", "cli"}
SERVED |= {"flags", "lifetime", "prices", "rows", "symbol", "windows"}
# What the dashboard may; the service it reaches over HTTP.
SHOWN = {"store", "registry", "versions", "ledger", "metrics", "bars", "session", "sources.files", "sources.blocks"}
SHOWN |= {"forecaster", "records", "scores", "comparison", "evaluate", "completeness", "status", "errors"}
SHOWN |= {"hours", "lifetime", "tables", "rows", "cli", "manifest", "staging", "prices", "symbol", "close_stamps"}
PACKAGES = {"sources.__init__", "migrations.__init__"}
MIGRATIONS = {name for name in ROOMS if name.startswith("migrations.")}
ENTRY_POINTS = {"ingest", "process", "train", "evaluate", "predict", "backtest", "registry", "retrain", "pipeline"}
PURE = {
    "features",
    "scaler",
    "windows",
    "metrics",
    "baselines",
    "network",
    "records",
    "scores",
    "tables",
    "gate",
    "folds",
}
PURE |= {
    "evidence",
    "spacing",
    "hours",
    "flags",
    "levels",
    "revisions",
    "comparison",
    "completeness",
    "forecaster",
    "prices",
    "serve.traffic",
}

# Which rooms alone may import a library.
KEPT = {
    "lightning": {"data", "model", "train", "tracking"},
    "hydra": ENTRY_POINTS | {"cli", "overrides", "plan", "serve.server", "dashboard.server"},
    "omegaconf": ENTRY_POINTS | {"cli", "overrides", "plan", "serve.server", "dashboard.server"},
    "wandb": {"tracking"},
    "matplotlib": {"pictures", "report"},
    "pandas_market_calendars": {"calendars"},
    "lightgbm": {"boosting"},
    "ib_insync": {"sources.ib"},
    "ib_async": {"sources.ib"},
    "tenacity": {"sources.retries"},
    "mlflow": {"shelf"},
    "dagster": {"pipeline"},
    "sqlalchemy": {"database", "ledger", "rows", "shelf"} | MIGRATIONS,
    "alembic": {"database"} | MIGRATIONS,
    "pandas": DASHBOARD,
    "panel": DASHBOARD,
    "yaml": {"dashboard.runs"},
    "bokeh": DASHBOARD,
    "litserve": SERVICE,
    "fastapi": SERVICE,
    "onnxruntime": {"network"},
    "torch": {
        "data",
        "export",
        "model",
        "nets.__init__",
        "nets.gru",
        "nets.lstm",
        "nets.recurrent",
        "old_artifact",
        "provenance",
        "tensors",
        "train",
        "windows",  # for its types
    },
    "prometheus_client": SERVICE,
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


def room(module: str) -> str:
    return module.removeprefix("lstm_ts.")


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_room_imports_only_what_is_left_of_it(module: str) -> None:
    ours = {room(name) for name in imports(MODULES[module]) if name in MODULES}
    if room(module) in ROOMS:
        assert ours <= ROOMS[room(module)]
    elif module in SERVICE:
        assert ours <= SERVED | SERVICE
    elif module in DASHBOARD:
        assert ours <= SHOWN | DASHBOARD
    else:
        assert room(module) in ENTRY_POINTS | {"cli", "lstm_ts.__init__", "__init__"} | PACKAGES


@pytest.mark.parametrize(("package", "rooms"), [("serve", SERVICE), ("dashboard", DASHBOARD)])
def test_only_the_service_and_the_dashboard_import_themselves(package: str, rooms: set[str]) -> None:
    for module in MODULES.keys() - rooms:
        assert package not in {name.split(".")[0] for name in imports(MODULES[module])}, module


@pytest.mark.parametrize("library", sorted(KEPT))
def test_a_library_stays_in_its_rooms(library: str) -> None:
    users = {room(module) for module, path in MODULES.items() if library in {n.split(".")[0] for n in imports(path)}}
    assert users <= KEPT[library]


@pytest.mark.parametrize("pure", sorted(PURE))
def test_a_pure_room_does_no_io(pure: str) -> None:
    libraries = {name.split(".")[0] for name in imports(MODULES[pure if pure in MODULES else f"lstm_ts.{pure}"])}
    assert not libraries & DOES_IO


def test_no_room_is_called_by_what_it_is_not() -> None:
    names = {part for module in MODULES for part in module.split(".")}
    assert not names & {"utils", "common", "helpers", "core", "base", "manager"}


def test_nothing_reads_a_pickle_but_lightnings_checkpoints() -> None:
    for module, path in MODULES.items():
        assert "pickle" not in imports(path), module
        assert room(module) == "train" or "torch.load" not in path.read_text(), module


def test_a_forecast_needs_no_pytorch() -> None:
    code = "import sys, lstm_ts.predict, serve.deployment, dashboard.models; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "False", done.stderr
