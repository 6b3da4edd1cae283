"""The simulated TWS, met by the unmodified client."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import ib_insync as ibi
import polars as pl
import pytest

from tests.tws import Tws

DAY = datetime(2015, 3, 3, tzinfo=UTC)
SILVER = ibi.Contract(symbol="XAGUSD", secType="CMDTY", exchange="SMART", currency="USD")


def make_bars(days: int = 3) -> pl.DataFrame:
    """Every minute of the days, but for the hour from 22:00 and the 120 minutes from 12:00 on the second day."""
    ts = pl.datetime_range(DAY, DAY + timedelta(days=days), "1m", closed="left", time_unit="us", eager=True)
    at = pl.int_range(len(ts), eager=True)
    close = (16 + at / 1000).round(4)
    prices = {"open": close - 0.001, "high": close + 0.002, "low": close - 0.003, "close": close}
    gap = pl.col("ts").is_between(DAY + timedelta(hours=36), DAY + timedelta(hours=38), closed="left")
    return (
        pl.DataFrame({"ts": ts, **prices})
        .filter(pl.col("ts").dt.hour() != 22, ~gap)
        .with_columns(pl.exclude("ts").round(4))
    )


def connect(tws: Tws, client: int = 1, *, readonly: bool = True) -> ibi.IB:
    ib = ibi.IB()
    ib.connect("127.0.0.1", tws.port, clientId=client, readonly=readonly)
    return ib


def fetch(ib: ibi.IB, end: datetime, duration: str = "1 D", *, timeout: float = 5) -> pl.DataFrame:
    bars = ib.reqHistoricalData(SILVER, end, duration, "1 min", "MIDPOINT", False, 2, timeout=timeout)
    columns = ["ts", "open", "high", "low", "close"]
    rows = [(bar.date, bar.open, bar.high, bar.low, bar.close) for bar in bars]
    return pl.DataFrame(
        rows, schema=dict(zip(columns, [pl.Datetime("us", "UTC"), *[pl.Float64] * 4], strict=True)), orient="row"
    )


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return make_bars()


@pytest.fixture(scope="module")
def quiet(bars: pl.DataFrame) -> Iterator[Tws]:
    with Tws(bars, pace=0) as tws:
        yield tws


def test_the_bars_of_a_day_are_those_of_the_file(quiet: Tws, bars: pl.DataFrame) -> None:
    ib = connect(quiet)
    day = fetch(ib, DAY + timedelta(days=1))
    ib.disconnect()
    assert day.height == 23 * 60
    assert day.equals(bars.filter(pl.col("ts") < DAY + timedelta(days=1)))
