"""A full disk, a folder that cannot be written, a file where a folder belongs: one sentence, nothing half-written."""

import errno
import json
import os
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
import torch
from commands import Command
from hydra.core.plugins import Plugins
from safetensors.torch import save_file

from lstm_ts import backtest, evaluate, ingest, pipeline, predict, process, retrain, train
from lstm_ts.faults import describe_fault, is_disk_full
from lstm_ts.market.bars import BAR_SCHEMA, HOURLY_SCHEMA
from lstm_ts.registry import __main__ as registry
from lstm_ts.store.bar_store import BarStore
from lstm_ts.store.disk import hold_lock, write_whole

NOBODY = 65534
WEEKS = ("source.start=2019-01-01", "source.end=2019-03-01")
Main = Callable[[], None]


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """No file can become longer than this: the fault of a full disk, for any user."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def unprivileged() -> Iterator[None]:
    """Rights do not bind root, but for what imports need, such as Ray's of a folder in its home."""
    Plugins.instance()
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that an unprivileged user may use."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def frozen(folder: Path) -> Path:
    folder.mkdir(parents=True)
    folder.chmod(0o555)
    return folder


def open_to_all(folder: Path) -> Path:
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    return folder


def paths(data: Path, outputs: Path) -> tuple[str, str]:
    return f"paths.data={data}", f"paths.outputs={outputs}"


def fill(path: Path) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE t (a)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 1000,)] * 500)


WRITERS: dict[str, Callable[[Path], object]] = {
    "python": lambda path: path.write_bytes(bytes(100_000)),
    "parquet": lambda path: pl.DataFrame({"a": range(100_000)}).write_parquet(path, compression="uncompressed"),
    "csv": lambda path: pl.DataFrame({"a": range(100_000)}).write_csv(path),
    "safetensors": lambda path: save_file({"a": torch.zeros(100_000)}, path),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_each_writer_raises_on_a_full_disk_is_known(writer: str, tmp_path: Path) -> None:
    with at_most(20_000), pytest.raises(Exception) as told:
        WRITERS[writer](tmp_path / "file")
    assert is_disk_full(told.value)
    sentence = describe_fault(told.value)
    assert sentence is not None
    assert sentence.startswith("Expected room on the disk, got: File too large; free some, or set paths.data")


def test_a_full_device_is_known() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError) as told:
        full.write(b"x")
    assert str(describe_fault(told.value)).startswith("Expected room on the disk, got: No space left on device")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("(sqlite3.OperationalError) database or disk is full", "Expected room on the disk"),
        ("attempt to write a readonly database", "Expected files to be readable and writable by this user"),
        ("disk I/O error", "Expected a disk that reads and writes files"),
    ],
)
def test_what_sqlite_says_is_known(said: str, words: str) -> None:
    error = RuntimeError("the library failed")
    error.__cause__ = sqlite3.OperationalError(said)
    assert str(describe_fault(error)).startswith(words)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "Expected room on the disk of /a/b, got: No space left on device; free some, or set paths.data"),
        (errno.EDQUOT, "Expected room on the disk of /a/b, got: Disk quota exceeded; free some"),
        (errno.EROFS, "Expected /a/b to be readable and writable by this user, got: Read-only file system; change"),
        (errno.EACCES, "Expected /a/b to be readable and writable by this user, got: Permission denied; change"),
        (errno.EEXIST, "Expected a place for /a/b, got: File exists; move away what lies there"),
        (errno.ENOTDIR, "Expected a place for /a/b, got: Not a directory; move away what lies there"),
        (errno.ENAMETOOLONG, "Expected a place for /a/b, got: File name too long; move away"),
        (errno.EIO, "Expected a disk that reads and writes /a/b, got: Input/output error; check the disk"),
        (errno.EMFILE, "Expected more memory or open files than there are, got: Too many open files; end other"),
    ],
)
def test_the_path_and_what_to_do_are_said(number: int, sentence: str) -> None:
    assert str(describe_fault(OSError(number, os.strerror(number), "/a/b"))).startswith(sentence)


def test_a_full_disk_under_stdout_is_no_reason_to_run_again() -> None:
    said = describe_fault(OSError(errno.ENOSPC, "No space left on device", "<stdout>"))
    assert str(said).startswith("Expected room on the disk of stdout, got: No space left on device; the command has")


def test_a_folder_of_the_kernel_is_one_that_cannot_be_written() -> None:
    with pytest.raises(FileNotFoundError) as told:
        Path("/proc/a").mkdir()
    assert str(describe_fault(told.value)).startswith("Expected /proc/a to be readable and writable by this user")


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("a"), FileNotFoundError(errno.ENOENT, "no", "/a")])
def test_what_is_no_fault_of_the_machine_is_not_called_one(error: Exception) -> None:
    assert describe_fault(error) is None


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "settings"
    write_whole(path, b"old")
    with at_most(1000), pytest.raises(OSError):
        write_whole(path, bytes(5000))
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["settings"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


@pytest.mark.slow
def test_ingest_and_process_on_a_full_disk_leave_the_store_as_it_was_and_go_on_later(
    tmp_path: Path, command: Command
) -> None:
    where = paths(tmp_path / "data", tmp_path / "outputs")
    raw, processed = tmp_path / "data/raw/XAGUSD", tmp_path / "data/processed/XAGUSD"
    with at_most(200_000):
        assert "Expected room on the disk" in command(ingest.main, *where, *WEEKS).mistake
    assert not contents(raw) and BarStore(raw, BAR_SCHEMA).foreign_files() == []
    assert command(ingest.main, *where, *WEEKS).code == 0
    with at_most(9_000):  # less than SQLite maps of the ledger
        assert command(process.main, *where).mistake.startswith("Expected the ledger")
    assert not contents(processed) and BarStore(processed, HOURLY_SCHEMA).foreign_files() == []
    assert command(process.main, *where).code == 0
    clean = paths(tmp_path / "clean", tmp_path / "outputs")
    assert command(ingest.main, *clean, *WEEKS).code == command(process.main, *clean).code == 0
    for stage, folder in (("raw", raw), ("processed", processed)):
        assert contents(folder) == contents(tmp_path / "clean" / stage / "XAGUSD") != {}


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (ingest.main, WEEKS),
        (process.main, ()),
        (train.main, ()),
        (retrain.main, ()),
        (backtest.main, ()),
        (evaluate.main, ("model=x",)),
        (predict.main, ("model=x",)),
    ],
)
def test_outputs_that_cannot_be_written_are_named(
    main: Main, arguments: tuple[str, ...], folder: Path, command: Command
) -> None:
    where = paths(open_to_all(folder / "data"), frozen(folder / "outputs"))
    with unprivileged():
        said = command(main, *where, *arguments).mistake
    assert said.startswith(f"Expected {folder}/outputs/")
    assert "to be readable and writable by this user, got: Permission denied; change the rights" in said
    assert list((folder / "data").iterdir()) == []


def test_data_that_cannot_be_written_are_named(folder: Path, command: Command) -> None:
    where = paths(frozen(folder / "data"), open_to_all(folder / "outputs"))
    with unprivileged():
        said = command(ingest.main, *where, *WEEKS).mistake
    assert said.startswith(f"Expected {folder}/data/raw to be readable and writable by this user")


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path, command: Command) -> None:
    (tmp_path / "data").write_text("mine")
    said = command(ingest.main, *paths(tmp_path / "data", tmp_path / "outputs"), *WEEKS).mistake
    assert said.startswith(f"Expected a place for {tmp_path}/data/raw/XAGUSD/manifest.json, got: Not a directory")
    assert (tmp_path / "data").read_text() == "mine"


@pytest.mark.parametrize("arguments", [("action=list",), ("action=promote", "version=1", "reason=x")])
def test_a_registry_in_a_frozen_folder_is_named(
    arguments: tuple[str, ...], empty: Path, folder: Path, command: Command
) -> None:
    kept = shutil.copytree(empty, folder / "outputs/registry")
    kept.chmod(0o555)
    with unprivileged():
        said = command(registry.main, *paths(folder / "data", folder / "outputs"), *arguments).mistake
    assert "registry" in said


def test_a_log_that_cannot_be_written_is_no_traceback(tmp_path: Path, command: Command) -> None:
    where = paths(tmp_path / "data", tmp_path / "outputs")
    logging = "hydra.job_logging.handlers.file.filename=/dev/full"
    done = command(ingest.main, *where, *WEEKS, logging)
    assert (done.code, "Traceback" in done.err, "Logging error" in done.err) == (0, False, False)


@pytest.mark.slow
def test_a_second_pipeline_on_the_same_store_is_refused(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = paths(tmp_path / "data", tmp_path / "outputs")
    (tmp_path / "data").mkdir()
    hold_lock(tmp_path / "data/pipeline-XAGUSD.lock", "process 7, http://127.0.0.1:3000")
    said = command(pipeline.main, *where, "port=3999", "symbols=[XAUUSD,XAGUSD]").mistake
    assert said == (
        f"Expected no other pipeline of XAGUSD in {tmp_path}/data, got one that runs (process 7, "
        f"http://127.0.0.1:3000); stop that one, or set another paths.data"
    )
    assert not (tmp_path / "outputs").exists()


def test_the_home_of_another_dagster_is_kept(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: true}\n")
    with pytest.raises(ValueError, match=r"Expected a home of this pipeline, got .*dagster\.yaml of another Dagster"):
        pipeline.make_home(tmp_path, "telemetry: {enabled: false}\n")
    assert (tmp_path / "dagster.yaml").read_text() == "telemetry: {enabled: true}\n"


def test_a_symbol_without_bars_is_told_which_have_some(tmp_path: Path, command: Command) -> None:
    where = paths(tmp_path / "real", tmp_path / "outputs")
    for symbol in ("XAGUSD", "EURUSD"):
        store = tmp_path / "real/raw" / symbol
        store.mkdir(parents=True)
        (store / "manifest.json").write_text(json.dumps({"source": "x", "months": {}}))
    said = command(process.main, *where, "symbol=XAUUSD").mistake
    assert "there are bars of EURUSD, XAGUSD: set symbol to one of those, or run python -m lstm_ts.ingest first" in said
    said = command(process.main, *paths(tmp_path / "reel", tmp_path / "outputs")).mistake
    assert f"there is no folder {tmp_path}/reel, but there are bars in {tmp_path}/real: set paths.data to" in said
