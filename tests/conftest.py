"""Bars and databases that several tests share. Real silver is read where it is, never copied."""

import functools
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa
from hypothesis import settings

from lstm_ts.configuration.parts import CONF
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.session import HOUR, Session
from lstm_ts.sources.files.source import Files

if TYPE_CHECKING:
    from browsing import Dashboard
    from commands import Command
    from playwright.sync_api import Browser
    from serving import Body, Server

settings.register_profile("no_deadline", deadline=None)  # a busy machine fails no test
settings.load_profile("no_deadline")

SLOW_S = 900
Start = Callable[..., list[subprocess.Popen[str]]]
REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests a longer limit than `timeout` in pyproject.toml."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_S))


@pytest.fixture(autouse=True)
def _no_log_handler_left() -> Iterator[None]:
    """A command called in this process logs to a file in its run folder; later tests must not."""
    before = set(logging.root.handlers)
    yield
    left = set(logging.root.handlers) - before
    for handler in left:
        logging.root.removeHandler(handler)
        handler.close()
    assert not left, "call commands through `command`, or commands.run"


@pytest.fixture
def own_conf(tmp_path: Path) -> Path:
    """A folder of the user's own, with the file of a symbol that is a number."""
    return make_symbol(tmp_path / "my conf", "7203", calendar="JPX", zone="Asia/Tokyo")


def make_symbol(folder: Path, name: str, *, calendar: str, zone: str) -> Path:
    """As the sentence about an unknown symbol says: a copy of silver's file, changed."""
    text = (Path(CONF) / "symbol/XAGUSD.yaml").read_text().replace("name: XAGUSD", f"name: {name}")
    (folder / "symbol").mkdir(parents=True)
    (folder / "symbol" / f"{name}.yaml").write_text(
        text.replace("CMEGlobex_Silver", calendar)
        .replace("America/New_York", zone)
        .replace("currency: USD", "currency: JPY")
    )
    return folder


@pytest.fixture(scope="session")
def silver() -> Session:
    return Session(calendar="CMEGlobex_Silver", zone="America/New_York")


@pytest.fixture(scope="session")
def real_minutes() -> str:
    """Glob of the real minutes."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"the real silver minutes are not at {REAL_DATA}")
    return str(REAL_DATA / "xagusd_m1_*.parquet")


def make_files(paths: str | Sequence[str], **changes: Any) -> Files:
    """Silver in UTC, but for the changes."""
    usual = {"symbol": "XAGUSD", "zone": "UTC", "dates": None, "decimal": None, "price_factor": 1.0, "batch_rows": 1000}
    return Files(paths=paths, **{**usual, "stamps": "open", "keep_spikes": False} | changes)


def random_hours(
    session: Session, start: datetime, end: datetime, *, seed: int = 0, missing: float = 0.02
) -> pl.DataFrame:
    """A random walk on the session hours of the span, some of them left out."""
    rng = np.random.default_rng(seed)
    ts = session.hours(start, end)["ts"]
    moves = rng.normal(0, 0.003, len(ts))
    close = 20 * np.exp(np.cumsum(moves))
    open_ = close * np.exp(-moves + rng.normal(0, 0.0003, len(ts)))
    wick = np.exp(np.abs(rng.normal(0, 0.002, (2, len(ts)))))
    columns = {
        "ts": ts,
        "open": open_,
        "high": np.maximum(open_, close) * wick[0],
        "low": np.minimum(open_, close) / wick[1],
        "close": close,
        "volume": rng.integers(1, 100, len(ts)).astype(float),
        "spread": np.full(len(ts), 0.03),
        "minutes_share": np.ones(len(ts)),
    }
    bars = pl.DataFrame(columns, schema=HOURLY_SCHEMA)
    return bars.filter(pl.Series(rng.random(len(ts)) >= missing))


@pytest.fixture(scope="session")
def hourly_bars(silver: Session) -> pl.DataFrame:
    """Twenty weeks, about 2,300 hours."""
    start = datetime(2014, 1, 6, tzinfo=UTC)
    return random_hours(silver, start, start + timedelta(weeks=20))


@pytest.fixture(scope="session")
def now(hourly_bars: pl.DataFrame) -> datetime:
    """A quarter of an hour after the last bar."""
    last: datetime = hourly_bars["ts"][-1]
    return last + HOUR + timedelta(minutes=15)


@pytest.fixture(scope="module")
def now_bars(silver: Session) -> "list[Body]":
    """The latest hours, as a client sends them."""
    from serving import make_bars  # MLflow, of which most tests need nothing

    return make_bars(silver)


@pytest.fixture(scope="module")
def window(now_bars: "list[Body]") -> "Body":
    return {"symbol": "XAGUSD", "bars": now_bars}


@pytest.fixture(scope="module")
def models(hourly_bars: pl.DataFrame, silver: Session, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two that disagree."""
    from serving import save_model  # MLflow, of which most tests need nothing

    folder = tmp_path_factory.mktemp("models")
    return [save_model(folder / str(seed), hourly_bars, silver, seed=seed) for seed in (1, 2)]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> "Command":
    """Call an entry point of this process with a command line."""
    from commands import Ended, call

    def run(main: Callable[[], None], *arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["lstm_ts", *arguments])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        monkeypatch.setenv("LSTM_TS_TRACEBACKS", "0")
        return Ended(call(main), *capfd.readouterr())

    return run


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process of a script for each last argument; all have printed `loaded`, and wait for a line."""
    from processes import child, python, read_line  # httpx, of which most tests need nothing

    with ExitStack() as stack:

        def start_all(script: str, where: str | Path, *arguments: str) -> list[subprocess.Popen[str]]:
            options = {"stdin": PIPE, "stdout": PIPE, "env": os.environ | {"POLARS_MAX_THREADS": "1"}}
            started = [stack.enter_context(child(python("-c", script, where, each), **options)) for each in arguments]
            assert {read_line(process) for process in started} == {"loaded"}
            return started

        yield start_all


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry and a ledger without a row, to be copied: MLflow needs seconds to make one."""
    from test_registry import open_registry  # MLflow, of which most tests need nothing

    folder = tmp_path_factory.mktemp("empty")
    open_registry(folder)[1].close()
    return folder


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A throwaway PostgreSQL on loopback, with fsync off; ask `ledger_url` for a database of one's own."""
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda bin: int(bin.parent.name))[-1:]
    initdb = shutil.which("initdb", path=os.pathsep.join([os.environ["PATH"], *map(str, newest)]))
    if initdb is None:
        if os.environ.get("CI"):
            pytest.fail("Expected PostgreSQL, got none; apt-get install postgresql", pytrace=False)
        pytest.skip("PostgreSQL is not installed")
    from processes import free_port

    with tempfile.TemporaryDirectory(prefix="lstm_ts_postgres_") as name:
        folder, programs, port = Path(name), Path(initdb).parent, free_port()
        (folder / "password").write_text("correct-horse")
        user = "postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        if user:
            for path in (folder, folder / "password"):
                shutil.chown(path, user, user)
        quiet = {"check": True, "stdout": subprocess.DEVNULL, "timeout": 60}
        run = functools.partial(subprocess.run, cwd=folder, user=user, group=user, **quiet)
        cluster = ["-D", folder / "cluster"]
        settings = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
        access = ["-U", "lstm", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}"]
        run([initdb, *cluster, *access, "--no-sync", "--locale=C", "--encoding=UTF8"])
        run([programs / "pg_ctl", *cluster, "-l", folder / "log", "-o", settings, "-w", "start"])
        stop = f"cat > /dev/null; kill -QUIT $(head -n 1 {folder}/cluster/postmaster.pid)"  # where we are killed
        with subprocess.Popen(["sh", "-c", stop], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL):
            try:
                yield f"postgresql+psycopg://lstm:correct-horse@127.0.0.1:{port}/postgres"
            finally:
                run([programs / "pg_ctl", *cluster, "-m", "immediate", "-w", "stop"])


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/registry/ledger.db"
        return
    url = sa.make_url(request.getfixturevalue("postgres_url"))
    name = f"test_{uuid4().hex}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield url.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:  # another one: a test may have stopped the server meanwhile
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from browsing import open_browser  # few modules need what it imports

    with open_browser() as browser:
        yield browser


@pytest.fixture
def service(started: "tuple[Server, Dashboard]") -> "Server":
    return started[0]


@pytest.fixture
def dashboard(started: "tuple[Server, Dashboard]") -> "Dashboard":
    return started[1]
