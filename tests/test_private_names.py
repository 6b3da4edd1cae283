"""Private names of libraries that the product uses, with the parameters it relies on: no update changes them unseen."""

import ast
import inspect
import re
from dataclasses import fields
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

import mlflow.store.db.utils
import pytest
import torch
from hydra._internal.callbacks import Callbacks
from hydra.core.utils import JobReturn
from litserve import LitServer
from panel.reactive import Syncable
from panel.theme import Design
from panel.widgets import FileDropper

ROOT = Path(__file__).parents[1]
SOURCES = [path for package in ("lstm_ts", "serve", "dashboard") for path in (ROOT / package).rglob("*.py")]
OVERRIDDEN: dict[Any, dict[str, list[str]]] = {
    LitServer: {
        "_init_manager": ["num_api_servers"],
        "_register_middleware": [],
        "_start_server": ["port", "num_uvicorn_servers", "log_level", "sockets", "uvicorn_worker_type", "kwargs"],
        "_start_worker_monitoring": ["manager", "uvicorn_workers"],
    },
    FileDropper: {"_server_event": ["doc", "event"], "_process_event": ["event"]},
    Syncable: {"_server_change": ["doc", "ref", "subpath", "attr", "old", "new"]},
}
CALLED: dict[Any, dict[str, list[str]]] = {
    FileDropper: {"_process_bokeh_event": ["doc", "event"]},
    Syncable: {"_change_event": ["doc"]},
    Callbacks: {"on_run_start": ["config", "kwargs"]},
    torch.cpu: {"_is_avx512_bf16_supported": []},
}
DOCUMENTED = {"_replace", "_fields", "_mapping", "_target_", "_exit"}  # of named tuples, SQLAlchemy, Hydra and os
READ = {"_themes", "_process", "_return_value"}


def parameters(owner: Any, name: str) -> list[str]:
    return [parameter for parameter in inspect.signature(getattr(owner, name)).parameters if parameter != "self"]


@pytest.mark.parametrize(
    ("owner", "name", "expected"),
    [
        (owner, name, taken)
        for names in (OVERRIDDEN, CALLED)
        for owner, of in names.items()
        for name, taken in of.items()
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_private_method_takes_what_it_took(owner: Any, name: str, expected: list[str]) -> None:
    assert parameters(owner, name) == expected


def test_private_values_are_there() -> None:
    assert set(Design._themes) == {"default", "dark"}
    assert "_return_value" in {field.name for field in fields(JobReturn)}
    assert mlflow.store.db.utils.MAX_RETRY_COUNT > 0
    with SyncManager() as manager:
        assert manager._process.is_alive()
    for name in ("_transport", "_shutdown_event"):
        assert f"self.{name}" in inspect.getsource(LitServer)


def private_names() -> set[str]:
    """Attributes of others that begin with an underscore, in the product's sources."""
    trees = [
        ast.parse(path.read_text())
        for package in ("lstm_ts", "serve", "dashboard")
        for path in (ROOT / package).rglob("*.py")
    ]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    ours = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    ours |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    ours |= {node.target.id for node in nodes if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute) and re.match(r"_[^_]", node.attr)}
    return used - (ours - READ)


def test_no_other_private_name_is_used() -> None:
    listed = {name for names in (OVERRIDDEN, CALLED) for of in names.values() for name in of}
    assert private_names() - DOCUMENTED - READ <= listed


def test_no_other_private_module_is_imported() -> None:
    texts = [path.read_text() for path in SOURCES]
    found = {name for text in texts for name in re.findall(r"^\s*from (\w[\w.]*\._[\w.]*) import", text, re.M)}
    assert found == {"hydra._internal.callbacks"}
