from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ts.market.bars import BAR_SCHEMA, HOURLY_SCHEMA, PRICES, make_hourly_bars, reject_reason
from lstm_ts.market.session import Session

SILVER = Session(calendar="CMEGlobex_Silver", zone="America/New_York")
TUESDAY_10 = datetime(2015, 3, 3, 10, tzinfo=UTC)


def minutes(start: datetime, prices: list[float], *, step_minutes: int = 1) -> pl.DataFrame:
    ts = [start + timedelta(minutes=step_minutes * i) for i in range(len(prices))]
    return pl.DataFrame(
        {"ts": ts, **dict.fromkeys(PRICES, prices), "volume": [2.0] * len(prices), "spread": [0.02] * len(prices)},
        schema=BAR_SCHEMA,
    )


def hourly(minute_bars: pl.DataFrame, *, min_share: float = 0.0, until: datetime | None = None) -> pl.DataFrame:
    hours = SILVER.hours(minute_bars["ts"][0], minute_bars["ts"][-1] + timedelta(minutes=1))
    return make_hourly_bars(minute_bars, hours, min_minutes_share=min_share, complete_until=until)


def test_an_hour_takes_the_first_open_the_extremes_and_the_last_close() -> None:
    bars = minutes(TUESDAY_10, [15.0, 17.0, 14.0, *[15.5] * 56, 16.0])
    assert hourly(bars).rows() == [(TUESDAY_10, 15.0, 17.0, 14.0, 16.0, 120.0, 0.02, 1.0)]


def test_a_part_hour_at_either_edge_never_becomes_a_bar() -> None:
    from_10_20_to_12_40 = minutes(TUESDAY_10 + timedelta(minutes=20), [16.0] * 140)
    assert hourly(from_10_20_to_12_40)["ts"].to_list() == [TUESDAY_10 + timedelta(hours=1)]


def test_the_last_hour_counts_once_it_is_known_to_be_complete() -> None:
    quiet_end = minutes(TUESDAY_10, [16.0] * 58)
    assert hourly(quiet_end).is_empty()
    assert hourly(quiet_end, until=TUESDAY_10 + timedelta(hours=1))["minutes_share"].to_list() == [58 / 60]


def test_the_hour_of_an_early_close_is_complete_at_the_close() -> None:
    # The Friday after Thanksgiving 2014 closed at 18:45 UTC, so its last session hour holds 45 minutes.
    bars = minutes(datetime(2014, 11, 28, 18, tzinfo=UTC), [16.0] * 45)
    assert hourly(bars)["minutes_share"].to_list() == [1.0]


def test_the_hour_of_a_session_that_opens_within_it_is_complete_at_its_end() -> None:
    toronto = Session(calendar="TSX", zone="America/Toronto")  # opens 9:30, 14:30 UTC in winter
    opening = datetime(2015, 3, 3, 14, 30, tzinfo=UTC)
    hours = toronto.hours(opening - timedelta(hours=1), opening + timedelta(hours=2))

    def made(minutes_seen: int) -> pl.DataFrame:
        return make_hourly_bars(minutes(opening, [16.0] * minutes_seen), hours, min_minutes_share=0.0)

    assert made(2).is_empty()
    assert made(30)["minutes_share"].to_list() == [1.0]


def test_minutes_in_the_daily_break_belong_to_no_hour() -> None:
    in_break = datetime(2015, 3, 3, 22, tzinfo=UTC)  # 17:00 New York
    assert hourly(minutes(in_break, [16.0] * 120))["ts"].to_list() == [in_break + timedelta(hours=1)]


def test_an_hour_with_too_few_minutes_counts_as_missing() -> None:
    sparse = minutes(TUESDAY_10, [16.0] * 13, step_minutes=10)  # six minutes in each of two hours, then 12:00
    assert hourly(sparse, min_share=0.1).height == 2
    assert hourly(sparse, min_share=0.11).is_empty()


def test_an_hour_has_a_volume_if_a_minute_of_it_has_one() -> None:
    start = datetime(2015, 3, 3, 10, tzinfo=UTC)
    bars = minutes(start, [15.0] * 120).with_columns(volume=pl.when(pl.col("ts") == start).then(2.0))
    assert hourly(bars)["volume"].to_list() == [2.0, None]


def test_an_hours_spread_is_the_mean_of_the_minutes_that_have_one() -> None:
    start = TUESDAY_10.replace(hour=9)
    wide, none = pl.col("ts") < start + timedelta(minutes=15), pl.col("ts") >= start + timedelta(minutes=60)
    bars = minutes(start, [15.0] * 120).with_columns(spread=pl.when(wide).then(0.06).when(~none).then("spread"))
    assert hourly(bars)["spread"].to_list() == [0.03, None]


def test_no_minutes_make_no_hours() -> None:
    none = pl.DataFrame(schema=BAR_SCHEMA)
    assert make_hourly_bars(none, pl.DataFrame(), min_minutes_share=0).schema == HOURLY_SCHEMA


@pytest.mark.parametrize(
    ("prices", "reason"),
    [
        ((15.0, 16.0, 14.0, 15.5), None),
        ((15.0, 14.0, 16.0, 15.0), "high below low"),
        ((15.0, 15.5, 14.0, 16.0), "open or close above high"),
        ((13.0, 16.0, 14.0, 15.0), "open or close below low"),
        ((0.0, 16.0, 0.0, 15.0), "price is not positive"),
        ((15.0, float("inf"), 14.0, 15.0), "price is not finite"),
        ((15.0, None, 14.0, 15.0), "unparseable price"),
    ],
)
def test_a_bad_row_is_named_by_its_reason(prices: tuple[float | None, ...], reason: str | None) -> None:
    row = pl.DataFrame([(TUESDAY_10, *prices, 1.0, None)], schema=BAR_SCHEMA, orient="row")
    assert row.select(reject_reason()).item() == reason


@given(st.lists(st.floats(1, 100), min_size=60, max_size=300))
def test_hours_hold_every_minute_of_their_span(prices: list[float]) -> None:
    bars = minutes(TUESDAY_10, prices)
    found = hourly(bars)
    assert found.height == len(prices) // 60
    whole = prices[: 60 * found.height]
    assert found["high"].max() == max(whole)
    assert found["low"].min() == min(whole)
    assert found["close"][-1] == whole[-1]
