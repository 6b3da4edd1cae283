"""What the synthetic minutes show, and what the controls must not show."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas_market_calendars as pmc
import polars as pl
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lstm_ts.errors import ConfigError
from lstm_ts.market.bars import BAR_SCHEMA, reject_reason
from lstm_ts.market.session import Session
from lstm_ts.sources.synthetic import Synthetic

SILVER_SESSION = Session(calendar="CMEGlobex_Silver", zone="America/New_York")
CONF = Path(__file__).parents[1] / "conf"
ARGUMENTS: dict[str, Any] = {
    "session": SILVER_SESSION,
    "start": "2013-01-01",
    "end": "2015-01-01",
    "seed": 7,
    "start_price": 20.0,
    "signal": "silver",
    "ar_coefficient": 0.3,
}


def read(**changes: Any) -> pl.DataFrame:
    return pl.concat([batch.bars for batch in Synthetic(**ARGUMENTS | changes).read_batches()])


@pytest.fixture(scope="module")
def silver() -> pl.DataFrame:
    return read()


@pytest.fixture(scope="module")
def random_walk() -> pl.DataFrame:
    return read(signal="random_walk")


def hourly_returns(minute_bars: pl.DataFrame) -> pl.DataFrame:
    """Frame `local_hour, ret`: close to close over session hours."""
    hours = minute_bars.group_by(pl.col("ts").dt.truncate("1h"), maintain_order=True).agg(pl.col("close").last())
    return hours.select(
        local_hour=SILVER_SESSION.hour_of_week(pl.col("ts")) % 24, ret=pl.col("close").log().diff()
    ).drop_nulls()


def returns_of(minute_bars: pl.DataFrame) -> npt.NDArray[np.float64]:
    return hourly_returns(minute_bars)["ret"].to_numpy()


def autocorrelation(values: npt.NDArray[np.float64], lag: int) -> float:
    return float(np.corrcoef(values[lag:], values[:-lag])[0, 1])


def excess_kurtosis(values: npt.NDArray[np.float64]) -> float:
    return float(((values - values.mean()) ** 4).mean() / values.var() ** 2 - 3)


def profile(minute_bars: pl.DataFrame) -> dict[int, float]:
    """Mean |return| of each local hour over that of all."""
    size = hourly_returns(minute_bars).with_columns(pl.col("ret").abs())
    by_hour = size.group_by("local_hour").agg(pl.col("ret").mean() / size["ret"].mean())
    return dict(by_hour.iter_rows())


@pytest.mark.parametrize("signal", ["silver", "random_walk", "planted_ar"])
def test_every_row_is_a_valid_bar_and_they_ascend(signal: str) -> None:
    bars = read(signal=signal, end="2013-04-01")
    assert bars.schema == BAR_SCHEMA
    assert bars.filter(reject_reason().is_not_null()).is_empty()
    assert (bars["ts"].diff().drop_nulls().dt.total_minutes() > 0).all()
    assert (bars["volume"] >= 1).all()
    assert bars.select((pl.col("close") - pl.col("close").round(3)).abs().max()).item() == 0.0


def test_a_small_price_keeps_its_digits() -> None:
    prices = read(start_price=3e-6)["close"]
    assert (prices > 0).all() and prices.n_unique() > 100


def test_the_same_seed_gives_the_same_bars_and_another_seed_others() -> None:
    once, again, other = (read(seed=seed, end="2013-02-01") for seed in (7, 7, 8))
    assert once.equals(again)
    assert not once.equals(other)


@pytest.mark.parametrize("signal", ["silver", "planted_ar"])
def test_a_later_end_adds_bars_and_changes_none(signal: str) -> None:
    january = read(signal=signal, end="2013-02-01")
    quarter = read(signal=signal, end="2013-04-01")
    assert quarter.head(january.height).equals(january)


def test_a_batch_is_a_month() -> None:
    batches = [batch.bars["ts"] for batch in Synthetic(**ARGUMENTS | {"end": "2013-03-10"}).read_batches()]
    assert [ts.dt.month().unique().to_list() for ts in batches] == [[1], [2], [3]]


@pytest.mark.parametrize("calendar", ["CMEGlobex_Silver", "TSX"])
def test_no_minute_lies_outside_the_sessions_of_the_calendar(calendar: str) -> None:
    """Toronto opens at 9:30, inside a clock hour; both close early before holidays."""
    bars = read(session=Session(calendar=calendar, zone="America/New_York"), start="2014-11-01")
    schedule = pmc.get_calendar(calendar).schedule("2014-11-01", "2015-01-02")
    opens, closes = (
        schedule[column].dt.as_unit("us").astype("int64").to_numpy() for column in ("market_open", "market_close")
    )
    minutes = bars["ts"].to_physical().to_numpy()
    session_of_minute = np.searchsorted(opens, minutes, side="right") - 1
    assert (minutes < closes[session_of_minute]).all()
    first_day_of_2015 = schedule.index.searchsorted("2015-01-01")
    assert set(range(first_day_of_2015)) <= set(session_of_minute)


def test_a_span_without_a_session_gives_no_batch() -> None:
    for signal in ("silver", "random_walk"):
        weekend = ARGUMENTS | {"start": "2013-01-05", "end": "2013-01-06", "signal": signal}
        assert list(Synthetic(**weekend).read_batches()) == []


def test_silver_volatility_clusters_and_a_random_walk_has_none(silver: pl.DataFrame, random_walk: pl.DataFrame) -> None:
    """Real silver, 2011-2015: 0.30 after one session hour, 0.23 after a day of 23, 0.16 after a week."""
    size, flat = (np.abs(returns_of(bars)) for bars in (silver, random_walk))
    assert [autocorrelation(size, lag) for lag in (1, 23, 115)] == pytest.approx([0.30, 0.23, 0.16], abs=0.07)
    assert [autocorrelation(flat, lag) for lag in (1, 23, 115)] == pytest.approx([0.0, 0.0, 0.0], abs=0.03)


def test_silver_follows_the_new_york_day_and_a_random_walk_does_not(
    silver: pl.DataFrame, random_walk: pl.DataFrame
) -> None:
    day, flat = profile(silver), profile(random_walk)
    assert [day[8], day[9], day[10]] == pytest.approx([1.7, 1.7, 1.7], abs=0.25)
    assert [day[16], day[22], day[23]] == pytest.approx([0.55, 0.65, 0.55], abs=0.15)
    assert all(share == pytest.approx(1.0, abs=0.15) for share in flat.values())


def test_no_sign_can_be_forecast_in_silver_or_a_random_walk(silver: pl.DataFrame, random_walk: pl.DataFrame) -> None:
    """Standard error of each: 1 / sqrt(11,800) = 0.009."""
    for bars in (silver, random_walk):
        signs = np.sign(returns_of(bars))
        assert [autocorrelation(signs, lag) for lag in (1, 2, 3)] == pytest.approx([0.0, 0.0, 0.0], abs=0.03)


def test_silver_has_fat_tails_and_a_random_walk_has_not(silver: pl.DataFrame, random_walk: pl.DataFrame) -> None:
    assert excess_kurtosis(returns_of(silver)) > 5
    assert excess_kurtosis(returns_of(random_walk)) == pytest.approx(0.0, abs=0.2)


def test_about_two_percent_of_silver_minutes_are_missing_and_more_in_quiet_hours(silver: pl.DataFrame) -> None:
    hours = SILVER_SESSION.hours(*(silver["ts"][row].replace(minute=0) for row in (0, -1)))
    seen = silver.group_by(pl.col("ts").dt.truncate("1h")).len("seen")
    shares = (
        hours.join(seen, on="ts", how="left")
        .group_by(SILVER_SESSION.hour_of_week(pl.col("ts")) % 24)
        .agg(missing=1 - pl.col("seen").fill_null(0).sum() / pl.col("session_minutes").sum())
    )
    missing = dict(shares.iter_rows())
    assert 1 - silver.height / hours["session_minutes"].sum() == pytest.approx(0.02, abs=0.008)
    assert missing[22] > 2 * missing[9]


def test_silver_trades_more_where_it_moves_more(silver: pl.DataFrame) -> None:
    log_range = (pl.col("high") / pl.col("low")).log()
    assert silver.select(pl.corr(log_range, "volume", method="spearman")).item() > 0.4


def test_silver_jumps_over_closed_hours(silver: pl.DataFrame) -> None:
    """Median |jump| in bps, real silver 2011-2015: 5.8 over the daily hour, 12.6 over a weekend."""
    jumps = silver.select(
        closed=pl.col("ts").diff().dt.total_hours(),
        bps=(pl.col("open") / pl.col("close").shift(1)).log().abs() * 1e4,
    )
    daily, weekend = jumps.filter(pl.col("closed") == 1), jumps.filter(pl.col("closed").is_between(48, 50))
    assert daily["bps"].median() == pytest.approx(5.8, abs=2)
    assert weekend["bps"].median() == pytest.approx(15, abs=7)


@pytest.mark.parametrize("ar_coefficient", [0.3, -0.2])
def test_the_planted_coefficient_is_found_in_the_session_hour_returns(ar_coefficient: float) -> None:
    planted = returns_of(read(signal="planted_ar", ar_coefficient=ar_coefficient))
    assert autocorrelation(planted, 1) == pytest.approx(ar_coefficient, abs=0.03)


def test_only_planted_ar_has_a_mean_that_can_be_forecast(silver: pl.DataFrame, random_walk: pl.DataFrame) -> None:
    assert autocorrelation(returns_of(silver), 1) == pytest.approx(0.0, abs=0.05)
    assert autocorrelation(returns_of(random_walk), 1) == pytest.approx(0.0, abs=0.03)


def test_the_name_says_that_the_bars_are_synthetic() -> None:
    assert Synthetic(**ARGUMENTS).name == "synthetic silver, seed 7"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"end": "2013-01-01"}, "start before source.end and before now, got 2013-01-01 and 2013-01-01"),
        ({"start": "January"}, "ISO date"),
        ({"signal": "gold"}, "one of silver, random_walk, planted_ar, got gold"),
        ({"start_price": 0.0}, "above 0, got 0.0"),
        ({"start_price": float("nan")}, "above 0, got nan"),
        ({"start_price": float("inf")}, "above 0, got inf"),
        ({"seed": -1}, "source.seed as a whole number of at least 0, got -1"),
        ({"seed": 1.5}, "source.seed as a whole number of at least 0, got 1.5"),
        ({"start": "1000-01-01"}, "source.start from 1900 on, got 1000-01-01"),
        ({"start": "2999-01-01", "end": "3000-01-01"}, "before now, got 2999-01-01"),
        ({"end": "9999-12-31T23:00:00-05:00"}, "ISO date"),
        ({"ar_coefficient": 1.0}, "between -1 and 1, got 1.0"),
    ],
)
def test_a_value_out_of_range_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Synthetic(**ARGUMENTS | change)


def test_no_bar_lies_after_now_however_late_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSTM_TS_CLOCK", "2013-01-02T16:30:00Z")
    *_, last = Synthetic(**ARGUMENTS | {"end": "9999-12-31"}).read_batches()
    assert str(last.bars["ts"][-1]) == "2013-01-02 16:29:00+00:00"
    assert str(last.answers[0].end) == "2013-01-02 16:30:00+00:00"


def test_the_configuration_builds_the_source_with_the_session_of_the_symbol() -> None:
    root = OmegaConf.create({"symbol": OmegaConf.load(CONF / "symbol" / "XAGUSD.yaml")})
    root.source = OmegaConf.load(CONF / "source" / "synthetic.yaml")
    source = instantiate(root.source)
    assert isinstance(source, Synthetic)
    assert isinstance(source.session, Session)
    assert source.session.calendar == "CMEGlobex_Silver"
