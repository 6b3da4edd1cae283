"""examples/quickstart.ipynb runs as it stands, and is committed with what it shows."""

import base64
import json
import os
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from processes import ROOT

NOTEBOOK = ROOT / "examples/quickstart.ipynb"
MAX_BYTES = 300_000
LINES = 24  # of code: the whole way, and what is shown on it


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_committed_as_it_ran_from_top_to_bottom(cells: list[dict[str, Any]]) -> None:
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"execute_result"}
    assert NOTEBOOK.stat().st_size < MAX_BYTES
    assert "/tmp" not in NOTEBOOK.read_text() and os.fspath(ROOT) not in NOTEBOOK.read_text()


def test_the_notebook_has_its_pictures(cells: list[dict[str, Any]]) -> None:
    shown = [output["data"].get("image/png") for cell in cells for output in cell["outputs"]]
    pictures = [base64.b64decode(picture) for picture in shown if picture]
    assert len(pictures) == 2
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


def test_the_whole_way_is_short(cells: list[dict[str, Any]]) -> None:
    lines = [line for cell in cells for line in "".join(cell["source"]).splitlines() if line.strip()]
    assert len(lines) <= LINES


@pytest.mark.slow
def test_the_notebook_runs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    committed = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": ROOT}}).execute()
    ran = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    kinds = [[set(output.get("data", {})) for output in outputs] for outputs in (*committed, *ran)]
    assert kinds[: len(committed)] == kinds[len(committed) :]
    assert ran[0] == committed[0]  # the bars are the same anywhere
