"""Outcomes, hourly forecasts, scores and sums of the monitor, and its checks of feed and served forecasts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from conftest import random_hours

from lstm_ts.errors import ConfigError
from lstm_ts.ledger.monitor_rows import HourlyForecast, Outcome, Score
from lstm_ts.ledger.rows import ForecastRow, ServedPath
from lstm_ts.market.bars import BAR_SCHEMA
from lstm_ts.market.session import HOUR, Session
from lstm_ts.model.features import Bars
from lstm_ts.monitoring.daily import interval_score, sum_days
from lstm_ts.monitoring.feed import FeedLimits, check_quality, check_staleness
from lstm_ts.monitoring.findings import Health
from lstm_ts.monitoring.hourly import Closes, list_forecasts, list_scores, make_record
from lstm_ts.monitoring.outcomes import find_outcomes
from lstm_ts.monitoring.skew import check_served

MONDAY = datetime(2015, 3, 2, tzinfo=UTC)
LEVELS = (0.1, 0.5, 0.9)
TARGETS = np.array(["2015-03-02T01", "2015-03-02T02"], dtype="datetime64[us]")
FORECAST = HourlyForecast(
    name="XAGUSD",
    version=3,
    origin_ts=MONDAY,
    symbol="XAGUSD",
    at=MONDAY + timedelta(minutes=5),
    last_close=16.0,
    volatility=1.5,
    hour_of_day=19,
    levels=LEVELS,
    target_ts_H=TARGETS,
    q_HQ=np.array([[-0.01, 0.0, 0.01], [-0.02, 0.0, 0.02]], dtype=np.float32),
    baselines=("persistence", "har"),
    steps=(1,),
    baseline_q_BSQ=np.array([[[0.0, 0.0, 0.0]], [[-0.02, 0.0, 0.02]]], dtype=np.float32),
    input_sha256="ab",
)
LIMITS = FeedLimits(
    stale_hours=2,
    grace_minutes=15,
    recent_hours=120,
    missing_share=0.05,
    stuck_minutes=60,
    spike_sizes=30,
    spread_sizes=3,
)


@pytest.mark.parametrize(("name", "value"), [("stale_hours", -1), ("missing_share", 2.0), ("spike_sizes", -1.0)])
def test_a_limit_of_the_feed_that_cannot_be_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"Expected feed.{name} of at "):
        replace(LIMITS, **{name: value})


def hours(*closes: float | None) -> pl.DataFrame:
    """Bars of the hours from Monday on; None: none."""
    rows = [(MONDAY + i * HOUR, close) for i, close in enumerate(closes) if close is not None]
    return pl.DataFrame(rows, schema={"ts": pl.Datetime("us", "UTC"), "close": pl.Float64}, orient="row")


def test_an_outcome_is_found_once_and_what_is_not_known_stays_unknown() -> None:
    now = MONDAY + 3 * HOUR
    found = find_outcomes("XAGUSD", hours(16.0, None, 16.2, 16.3), [], since=MONDAY, now=now)
    assert found == [
        Outcome("XAGUSD", MONDAY + HOUR, 0, now, 16.0),
        Outcome("XAGUSD", MONDAY + 3 * HOUR, 0, now, 16.2),
    ]
    assert find_outcomes("XAGUSD", hours(16.0, None, 16.2, 16.3), found, since=MONDAY, now=now) == []
    late = find_outcomes("XAGUSD", hours(16.0, 16.1, 16.2), found, since=MONDAY, now=now)
    assert [(outcome.target_ts, outcome.revision) for outcome in late] == [(MONDAY + 2 * HOUR, 0)]


def test_a_revised_bar_makes_another_row_each_time_it_changes() -> None:
    first = find_outcomes("XAGUSD", hours(16.0), [], since=MONDAY, now=MONDAY + HOUR)
    second = find_outcomes("XAGUSD", hours(16.5), first, since=MONDAY, now=MONDAY + 2 * HOUR)
    third = find_outcomes("XAGUSD", hours(16.0), first + second, since=MONDAY, now=MONDAY + 3 * HOUR)
    assert [(row.revision, row.close) for row in first + second + third] == [(0, 16.0), (1, 16.5), (2, 16.0)]


def scores_of(close: float, *forecasts: HourlyForecast) -> list[Score]:
    record = make_record(forecasts or [FORECAST], Closes({MONDAY + HOUR: close}, {MONDAY + HOUR: close}))
    return list_scores(record, (), name="XAGUSD", version=3, edges=[1.0, 2.0], at=MONDAY + HOUR)


def test_a_score_is_that_of_its_levels() -> None:
    """y = 0.02: above each quantile e = 0.03, 0.02, 0.01, times the levels 0.1, 0.5, 0.9, is 0.022 / 3."""
    (score,) = scores_of(16.0 * np.exp(0.02))
    assert score.y == pytest.approx(0.02)
    assert score.losses == pytest.approx({"model": 0.022 / 3, "persistence": 0.01, "har": 0.014 / 3}, rel=1e-5)
    assert (score.levels_below, score.volatility, score.hour_of_day) == (3, "middle", 19)
    assert interval_score(score) == pytest.approx(0.02 + 10 * 0.01, rel=1e-5)  # 2 / (1 - 0.8) of what it was missed by


def test_only_what_has_an_outcome_and_no_score_is_scored() -> None:
    assert make_record([FORECAST], Closes({}, {})).pinball_NH["model"].shape == (1, 2)
    record = make_record([FORECAST], Closes({MONDAY + 2 * HOUR: 16.0}, {MONDAY + 2 * HOUR: 16.0}))
    assert list_scores(record, (), name="XAGUSD", version=3, edges=[1.0, 2.0], at=MONDAY) == []
    record = make_record([FORECAST], Closes({MONDAY + HOUR: 16.0}, {MONDAY + HOUR: 16.0}))
    assert list_scores(record, {(MONDAY, 1)}, name="XAGUSD", version=3, edges=[1.0, 2.0], at=MONDAY) == []


@pytest.mark.parametrize(
    ("first", "latest", "scored"),
    [
        ({1: 32.1}, {0: 32.0, 1: 32.1}, False),  # a split between origin and outcome
        ({1: 16.1}, {0: 32.0, 1: 32.2}, True),  # a split after both
        ({1: 8.05}, {0: 16.0, 1: 16.1}, False),  # a late hour, forecast from the new bars
        ({1: 16.1}, {0: 16.001, 1: 16.1}, True),  # a correction
        ({1: 16.1}, {1: 16.1}, True),
    ],
)
def test_a_return_between_two_series_is_no_outcome(
    first: dict[int, float], latest: dict[int, float], *, scored: bool
) -> None:
    closes = Closes(*({MONDAY + hour * HOUR: close for hour, close in each.items()} for each in (first, latest)))
    assert np.isfinite(make_record([FORECAST], closes).y_NH[0, 0]) == scored


def test_forecasts_that_were_kept_are_those_that_were_made() -> None:
    record = make_record([FORECAST, replace(FORECAST, origin_ts=MONDAY + HOUR)], Closes({}, {}))
    bars = Bars(np.array(["2015-03-01T22", "2015-03-01T23", "2015-03-02T00"], "datetime64[us]"), np.ones((4, 3)))
    first, second = list_forecasts(record, bars, name="XAGUSD", version=3, tsteps=2, at=FORECAST.at)
    for field, value in vars(FORECAST).items():
        if field not in ("input_sha256", "steps"):
            np.testing.assert_array_equal(getattr(first, field), value)
    assert first.input_sha256 == bars.between(0, 2).sha256
    assert second.input_sha256 == bars.between(1, 3).sha256


def test_sums_of_a_day_hold_what_its_scores_hold() -> None:
    calm = replace(FORECAST, volatility=0.5, hour_of_day=3)
    scores = [*scores_of(16.0 * np.exp(0.02)), *scores_of(16.0, calm)]
    (day,) = sum_days(scores)
    assert (day.day, day.step, day.sums["n"], day.sums["inside"]) == ("2015-03-02", 1, 2, 1)
    assert day.sums["losses"]["persistence"] == pytest.approx(0.01)
    assert day.sums["levels_below"] == {"1": 1, "3": 1}
    assert day.sums["hours"]["3"]["n"] == day.sums["terciles"]["low"]["inside"] == 1
    assert day.sums["interval_score"] == pytest.approx(0.12 + 0.02, rel=1e-5)


def served(**changes: object) -> ForecastRow:
    path = ServedPath(
        target_ts_H=(MONDAY + HOUR, MONDAY + 2 * HOUR),
        median_H=(16.0, 16.0),
        lower_80_H=tuple((16.0 * np.exp(FORECAST.q_HQ[:, 0].astype(float))).tolist()),
        upper_80_H=tuple((16.0 * np.exp(FORECAST.q_HQ[:, 2].astype(float))).tolist()),
    )
    row = ForecastRow("r1", "champion", MONDAY, "XAGUSD", "XAGUSD", 3, MONDAY, 16.0, path, (), 2.0, "ab")
    return replace(row, **changes)


def test_what_was_served_is_compared_with_what_the_store_gives() -> None:
    stored = {(3, MONDAY): [FORECAST]}
    good = check_served("XAGUSD", [served()], stored, since=MONDAY)
    assert (good.health, good.sentence) == (
        Health.GOOD,
        "1 served forecasts of XAGUSD are what the stored bars give.",
    )
    off = replace(served().path, median_H=(16.0, 16.0 * (1 + 2e-6)))
    bad = check_served("XAGUSD", [served(), served(path=off, request_id="r2")], stored, since=MONDAY)
    assert bad.health is Health.BAD
    assert "1 differ from what the stored bars give, the most by 2e-06 of the price" in bad.sentence
    assert "request r2" in bad.sentence
    other = check_served("XAGUSD", [served(input_sha256="cd")], stored, since=MONDAY)
    assert "1 had other bars than the store" in other.sentence
    moved = replace(served().path, target_ts_H=(MONDAY + HOUR, MONDAY + 3 * HOUR))
    assert check_served("XAGUSD", [served(path=moved)], stored, since=MONDAY).health is Health.BAD
    none = check_served("XAGUSD", [served(version=4)], stored, since=MONDAY)
    assert none.health is Health.UNKNOWN
    assert "1 served forecasts of XAGUSD since 2015-03-02 00:00 UTC could not be checked: their" in none.sentence
    some = check_served("XAGUSD", [served(), served(version=4)], stored, since=MONDAY)
    assert some.sentence.endswith(
        "bars give. 1 more could not be checked: their hours are too old, or store and registry give no forecast of "
        "them from the same bars."
    )
    unseen = check_served("XAGUSD", [served(), served(input_sha256="cd")], stored, since=MONDAY, unseen=set(stored))
    assert unseen.health is Health.GOOD and "bars give. 1 more could not" in unseen.sentence


def test_staleness_counts_session_hours_only(silver: Session) -> None:
    friday = datetime(2015, 3, 6, 21, tzinfo=UTC)  # the last hour of the week
    weekend = check_staleness("XAGUSD", friday, silver, friday + 40 * HOUR, LIMITS)
    assert (weekend.health, "0 session hours" in weekend.sentence) == (Health.GOOD, True)
    sunday = datetime(2015, 3, 8, 22, tzinfo=UTC)  # the first of the next one
    one, two, soon = (
        check_staleness("XAGUSD", friday, silver, sunday + after, LIMITS)
        for after in (1.5 * HOUR, 2.5 * HOUR, 2 * HOUR + timedelta(minutes=10))
    )
    assert (one.health, two.health, soon.health) == (Health.GOOD, Health.BAD, Health.GOOD)
    assert check_staleness("XAGUSD", None, silver, sunday, LIMITS).health is Health.UNKNOWN
    ahead = check_staleness("XAGUSD", sunday, silver, friday, LIMITS)
    assert (ahead.health, "LSTM_TS_CLOCK" in ahead.sentence) == (Health.UNKNOWN, True)


def minutes(closes: "np.ndarray[tuple[int], np.dtype[np.float64]]", *, still: slice = slice(0)) -> pl.DataFrame:
    high = closes * 1.0001
    high[still] = closes[still]
    stamps = [MONDAY + timedelta(minutes=i) for i in range(len(closes))]
    ones = np.ones(len(closes))
    prices = {"open": closes, "high": high, "low": closes, "close": closes}
    return pl.DataFrame({"ts": stamps, **prices, "volume": ones, "spread": ones}, schema=BAR_SCHEMA)


def quality(bars: pl.DataFrame, silver: Session, *, gap: int = 0, spread: pl.Expr | None = None) -> tuple[Health, str]:
    stamps = silver.hours(MONDAY - timedelta(days=20), MONDAY + HOUR)["ts"]
    stamps = pl.concat([stamps.head(len(stamps) - 20 - gap), stamps.tail(20)])
    hours = pl.DataFrame({"ts": stamps, "high": 16.1, "low": 15.9, "close": 16.0}).with_columns(
        spread=pl.lit(None, pl.Float64) if spread is None else spread
    )
    finding = check_quality("XAGUSD", hours, bars, silver, MONDAY + timedelta(days=1), LIMITS)
    return finding.health, finding.sentence


def test_bars_that_stand_still_jump_or_lack_are_told_from_good_ones(silver: Session) -> None:
    walk = 16 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 1e-4, 300)))
    assert quality(minutes(walk), silver)[0] is Health.GOOD
    assert (
        "7 of the last 120 session hours have no bar (5.8 %, limit 5.0 %)" in quality(minutes(walk), silver, gap=7)[1]
    )
    stuck = walk.copy()
    stuck[100:160] = stuck[100]
    assert "60 minutes in a row are at" in quality(minutes(stuck, still=slice(100, 160)), silver)[1]
    assert quality(minutes(stuck, still=slice(100, 159)), silver)[0] is Health.GOOD
    spike = walk.copy()
    spike[200] *= 1.02
    assert "1 price(s) that the next minute reverses" in quality(minutes(spike), silver)[1]
    step = walk.copy()
    step[200:] *= 1.02  # news is no spike
    assert quality(minutes(step), silver)[0] is Health.GOOD
    ahead = minutes(walk).with_columns(pl.col("ts") + timedelta(days=2))
    assert "in the future: a clock is wrong" in quality(ahead, silver)[1]


def test_where_only_hours_are_stored_they_must_not_stand_still_or_jump(silver: Session) -> None:
    bars = random_hours(silver, MONDAY - timedelta(days=20), MONDAY, missing=0)

    def found(*closes: float, still: bool = False) -> tuple[Health, str]:
        prices = dict.fromkeys(("high", "low", "close") if still else ("close",), pl.Series(closes))
        hours = bars.head(len(bars) - len(closes)).vstack(bars.tail(len(closes)).with_columns(**prices))
        finding = check_quality("XAGUSD", hours, minutes(np.ones(0)), silver, MONDAY, LIMITS)
        return finding.health, finding.sentence

    assert found()[1].endswith("are there, and no hourly price is stuck or jumps.")
    last = bars["close"][-1]
    assert found(last, still=True)[0] is Health.GOOD  # a holiday's, as real ones are
    assert "2 hours in a row are at" in found(last, last, still=True)[1]
    assert "1 price(s) that the next hour reverses" in found(last, 2 * last, last)[1]


def test_a_spread_that_stays_wide_is_told_and_one_hour_or_too_few_are_not(silver: Session) -> None:
    none, newest = minutes(np.ones(0)), pl.len() - pl.int_range(pl.len())  # 1 for the last hour
    wide = {hours: pl.when(newest <= hours).then(0.16).otherwise(0.04) for hours in (1, 24)}
    health, said = quality(none, silver, spread=wide[24])
    assert health is Health.BAD
    assert "the spread of the last 24 hours is 100 bps of the price in the median, after 25 bps in the weeks" in said
    assert quality(none, silver, spread=wide[1])[0] is Health.GOOD
    assert quality(none, silver, spread=pl.when(newest <= 24).then(0.12).otherwise(0.04))[0] is Health.GOOD
    assert quality(none, silver, spread=pl.when(newest <= 200).then(wide[24]))[0] is Health.GOOD
