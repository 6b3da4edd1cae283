"""What a run of the monitor leaves in the ledger of two versions, for a service and a dashboard to show."""

import shutil
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from commands import run
from serving import registry_of, save_model
from test_registry import register

from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.rows import DecisionRow
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.session import Session
from lstm_ts.store.bar_store import BarStore

CLOCK = "LSTM_TS_CLOCK"
DECIDED = datetime(2014, 4, 7, tzinfo=UTC)
SPAN = datetime(2014, 3, 3, tzinfo=UTC), DECIDED
LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)


def opened(folder: Path) -> "closing[Ledger]":
    return closing(Ledger(f"sqlite:///{folder}/ledger.db"))


def make_watched(folder: Path, empty: Path, hourly_bars: pl.DataFrame, session: Session, now: datetime) -> Path:
    """Champion 1 and challenger 2, decided in April and watched until `now`."""
    shutil.copytree(empty, folder, dirs_exist_ok=True)
    with BarStore(folder / "data/processed/XAGUSD", HOURLY_SCHEMA).upsert("synthetic test hours") as staging:
        staging.add(hourly_bars)
    with registry_of(folder) as registry, opened(folder) as ledger, pytest.MonkeyPatch.context() as patch:
        patch.setenv(CLOCK, DECIDED.isoformat())
        for number, alias in enumerate(("champion", "challenger"), start=1):
            model = save_model(folder / alias, hourly_bars, session, seed=number, horizon=6, levels=LEVELS)
            register(registry, model)
            decision = DecisionRow("XAGUSD", number, DECIDED, "promote", False, None, (), *SPAN, "ab")
            ledger.record_decision(decision)
            registry.promote("XAGUSD", number, alias=alias, actor="a test", reason="calmer <nights>")
    monitor(folder, now)
    return folder


def monitor(folder: Path, at: datetime) -> None:
    databases = (f"registry.uri=sqlite:///{folder}/mlflow.db", f"registry.ledger=sqlite:///{folder}/ledger.db")
    done = run("monitor", folder, *databases, **{CLOCK: at.isoformat()})
    assert done.returncode in (0, 3), done.stderr  # 3: a model without a training has drifted
