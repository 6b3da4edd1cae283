"""Bars that several tests share. Real silver is read where it is, never copied."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lstm_ts.bars import HOURLY_SCHEMA
from lstm_ts.session import Session

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def silver() -> Session:
    return Session(calendar="CMEGlobex_Silver", zone="America/New_York")


@pytest.fixture(scope="session")
def real_minutes() -> str:
    """Glob of the real minutes."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"the real silver minutes are not at {REAL_DATA}")
    return str(REAL_DATA / "xagusd_m1_*.parquet")


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
        "minutes_share": np.ones(len(ts)),
    }
    bars = pl.DataFrame(columns, schema=HOURLY_SCHEMA)
    return bars.filter(pl.Series(rng.random(len(ts)) >= missing))


@pytest.fixture(scope="session")
def hourly_bars(silver: Session) -> pl.DataFrame:
    """Twenty weeks, about 2,300 hours."""
    start = datetime(2014, 1, 6, tzinfo=UTC)
    return random_hours(silver, start, start + timedelta(weeks=20))
