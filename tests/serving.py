"""A real service on a free loopback port, and what it serves: a registry with models of a few weights."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
from models import make_data, random_network, symbol_bars
from processes import ROOT, WAIT_S, end, free_port, wait_for
from test_registry import open_registry, promote, register

from lstm_ts import http_schema
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.levels import close_range
from lstm_ts.market.prices import Quote
from lstm_ts.market.session import HOUR, Session
from lstm_ts.model.artifact import save_forecasters
from lstm_ts.model.forecaster import Forecaster, Provenance
from lstm_ts.model.nets.lstm import LSTMConfig
from lstm_ts.model.nets.recurrent import MAX_DRIFT
from lstm_ts.model.windows import WindowSpec
from lstm_ts.registry.registry import Registry
from lstm_ts.store.bar_store import BarStore
from serve.registry_process import PROCESS_NAME

TSTEPS, HORIZON, MAX_MISSING = 24, 4, 6
QUICK = ("poll_s=0.5", "body_limit_bytes=20000")
Body = dict[str, Any]


def save_model(
    folder: Path,
    hourly_bars: pl.DataFrame,
    session: Session,
    *,
    seed: int,
    tsteps: int = TSTEPS,
    hidden: int = 4,
    max_drift: float = MAX_DRIFT,
    drift: float = 0.0,
    symbol: str = "XAGUSD",
    horizon: int = HORIZON,
    levels: tuple[float, ...] = (0.1, 0.5, 0.9),
) -> Path:
    """Not trained; seeds disagree."""
    spec = WindowSpec(tsteps=tsteps, horizon=horizon, levels=levels, max_missing=MAX_MISSING)
    data = make_data(symbol_bars(hourly_bars, session, symbol), spec=spec)
    data.setup()
    start, until = hourly_bars["ts"][0].isoformat(), "2014-04-01T00:00:00+00:00"
    provenance = Provenance(symbol, "test hours", start, until, "ab", until, 7, "", "c0ffee", {"torch": "2"}, {})
    config = LSTMConfig(hidden=hidden, layers=1, decoder=4, dropout=0.0)
    network, (its,) = random_network(data, config, seed=seed, drift=drift, max_drift=max_drift), data.symbols
    closes = close_range(its.train_closes)
    forecaster = Forecaster(network, its.scaler, its.reference, spec, session, provenance, {}, closes, Quote("USD", 3))
    save_forecasters([forecaster], folder)
    return folder


def frame(bars: list[Body]) -> pl.DataFrame:
    rows = [
        (datetime.fromisoformat(b["ts"]).astimezone(UTC), b["open"], b["high"], b["low"], b["close"], None, None, 1.0)
        for b in bars
    ]
    return pl.DataFrame(rows, schema=HOURLY_SCHEMA, orient="row")


def move_ledger(file: Path, to: Path) -> None:
    """Move it while nobody has it open: what SQLite keeps beside an open file stays, and belongs to the next one."""
    wait_for(lambda: not file.with_name(f"{file.name}-wal").exists())
    file.replace(to)


def make_bars(session: Session) -> list[Body]:
    """The session's latest sixty hours, of prices that wander a little."""
    now = datetime.now(UTC)
    hours = session.hours(now - timedelta(days=20), now - HOUR)["ts"].tail(60)
    close = 20 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.003, 60)))
    opens = [20.0, *close[:-1]]
    return [
        {
            "ts": ts.isoformat().replace("+00:00", "Z"),
            "open": float(open_),
            "high": float(max(open_, close_) * 1.001),
            "low": float(min(open_, close_) * 0.999),
            "close": float(close_),
        }
        for ts, open_, close_ in zip(hours, opens, close, strict=True)
    ]


class Server:
    """One `python -m serve.server`, and a client of it."""

    def __init__(self, folder: Path, *overrides: str, keys: str = "", port: int | None = None) -> None:
        port = port or free_port()
        paths = (f"paths.outputs={folder}", f"paths.data={folder}/data", f"port={port}")
        databases = (f"registry.uri=sqlite:///{folder}/mlflow.db", f"registry.ledger=sqlite:///{folder}/ledger.db")
        command = [sys.executable, "-m", "serve.server", *paths, *databases, *QUICK, *overrides]
        environment = os.environ | {"LSTM_TS_API_KEYS": keys, "OMP_NUM_THREADS": "1"}
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log, stdout=log)
        headers = {"X-API-Key": keys.split(",")[0]} if keys else {}
        kept = httpx.Limits(keepalive_expiry=0.5)  # less than any test's limits.idle_s
        url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=url, headers=headers, timeout=WAIT_S, trust_env=False, limits=kept)

    def predict(self, body: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post("/predict", content=content)

    def ask(self, bars: list[Body]) -> http_schema.ForecastReply:
        response = self.predict({"symbol": "XAGUSD", "bars": bars})
        assert response.status_code == 200, response.text
        return http_schema.ForecastReply.model_validate_json(response.content)

    def problems(self, body: Any) -> dict[str, str]:
        response = self.predict(body)
        assert response.status_code == 422, response.text
        return {p.path: p.problem for p in http_schema.Problems.model_validate_json(response.content).problems}

    def health(self) -> http_schema.HealthReply:
        return http_schema.HealthReply.model_validate_json(self.client.get("/health").content)

    def reload(self) -> http_schema.HealthReply:
        return http_schema.HealthReply.model_validate_json(self.client.post("/reload").raise_for_status().content)

    def metric(self, start: str) -> float:
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(start))

    def children(self) -> list[int]:
        """Pids of every process below it."""
        below, found = {self.process.pid}, True
        while found:
            found = False
            for path in Path("/proc").glob("[0-9]*/stat"):
                try:
                    parent = int(path.read_text().rpartition(")")[2].split()[1])
                except OSError:
                    continue
                if parent in below and int(path.parent.name) not in below:
                    below.add(int(path.parent.name))
                    found = True
        return sorted(below - {self.process.pid})

    def everyone(self) -> list[int]:
        """Pids of it and of every process below it."""
        return [*self.children(), self.process.pid]

    def workers(self) -> list[int]:
        """Pids of those that answer; they alone are started afresh, by `spawn`, but for the registry process."""
        return [pid for pid in self._spawned() if _name(pid) != PROCESS_NAME]

    def registry_process(self) -> int | None:
        return next((pid for pid in self._spawned() if _name(pid) == PROCESS_NAME), None)

    def _spawned(self) -> list[int]:
        return [pid for pid in self.children() if b"spawn_main" in _command(pid)]


def _name(pid: int) -> str:
    """Empty where the process has ended meanwhile."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _command(pid: int) -> bytes:
    """Empty where the process has ended meanwhile."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@contextmanager
def running(server: Server) -> Iterator[Server]:
    try:
        yield server
    except BaseException:
        print(server.log.read_text()[-5000:])
        raise
    finally:
        server.client.close()
        end(server.process)


@contextmanager
def registry_of(folder: Path) -> Iterator[Registry]:
    registry, ledger = open_registry(folder)
    with closing(ledger):
        yield registry


def make_servable(
    folder: Path, empty: Path, hourly_bars: pl.DataFrame, session: Session, *models: Path, source: str = "test hours"
) -> Path:
    """A store of the bars, and a registry of the models, the first of them champion; of none: one in `folder/model`."""
    shutil.copytree(empty, folder, dirs_exist_ok=True)
    with BarStore(folder / "data/processed/XAGUSD", HOURLY_SCHEMA).upsert(source, session) as staging:
        staging.add(hourly_bars)
    with registry_of(folder) as registry:
        for model in models or [save_model(folder / "model", hourly_bars, session, seed=1)]:
            register(registry, model)
        promote(registry, 1)
    return folder
