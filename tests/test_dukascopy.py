"""`source=dukascopy` against a feed on loopback that speaks as the vendor's does, and misbehaves when told to."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from conftest import REAL_DATA
from dukascopy_server import MINUTE_MS, PRICES, UNIT, FakeFeed, encode, serving
from hypothesis import given
from processes import child, free_port, wait_for
from test_ib import Place, place

from lstm_ts import ingest
from lstm_ts.errors import BrokerError, BrokerUnavailable, ConfigError, DataError, WrongZone
from lstm_ts.market.bars import BAR_SCHEMA, REJECT_SCHEMA
from lstm_ts.market.completeness import State, classify, coverage
from lstm_ts.market.session import Session
from lstm_ts.sources.dukascopy.candles import InvalidAnswer, decode
from lstm_ts.sources.dukascopy.source import Dukascopy
from lstm_ts.sources.span_order import plan_days
from lstm_ts.sources.spikes import SPIKE

__all__ = ["place"]  # a fixture
SILVER = Session(calendar="CMEGlobex_Silver", zone="America/New_York")
ALWAYS = Session(calendar="24/7", zone="UTC")
START, END = datetime(2015, 3, 1, tzinfo=UTC), datetime(2015, 3, 6, tzinfo=UTC)
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
SUNDAY, MONDAY, TUESDAY = "2015/3/1", "2015/3/2", "2015/3/3"


def make_minutes(session: Session, start: datetime, end: datetime, *, seed: int = 7) -> pl.DataFrame:
    """A random walk on four session minutes of five: `ts, open, high, low, close, volume, spread`."""
    rng = np.random.default_rng(seed)
    spans = session.spans(start, end)
    ts = spans.select(pl.datetime_ranges("opens", "closes", interval="1m", closed="left").explode()).to_series()
    ts = ts.filter(pl.Series(rng.random(len(ts)) < 0.8)).cast(BAR_SCHEMA["ts"])
    close = 160_000 + np.cumsum(rng.integers(-20, 21, len(ts)))
    open_ = np.append(160_000, close[:-1])
    wick_2N = rng.integers(0, 10, (2, len(ts)))
    units = {
        "open": open_,
        "high": np.maximum(open_, close) + wick_2N[0],
        "low": np.minimum(open_, close) - wick_2N[1],
        "close": close,
    }
    prices = {name: values / 10_000 for name, values in units.items()}
    spread = rng.integers(100, 200, len(ts)) * 2 / 10_000
    return pl.DataFrame({"ts": ts, **prices, "volume": rng.integers(1, 99, len(ts)).astype(float), "spread": spread})


MINUTES = make_minutes(SILVER, START, END)
TRUTH = MINUTES.select(BAR_SCHEMA.names())


def make_broker(base: str, **changes: Any) -> Dukascopy:
    options = {
        "base": base,
        "code": "XAG-USD",
        "prices": "mid",
        "pace_s": 0.0,
        "answer_s": 20.0,
        "patience_s": 5.0,
        "max_bytes": 1_000_000,
        "settled_s": 7200.0,
        "max_skew_s": 30.0,
        "retries": {"attempts": 3, "first_s": 0.01, "longest_s": 0.02},
    }
    return Dukascopy(**options | changes)


@pytest.fixture
def feed() -> FakeFeed:
    return FakeFeed(MINUTES)


@pytest.fixture
def base(feed: FakeFeed) -> Iterator[str]:
    with serving(feed) as address:
        yield address


def without(day: datetime) -> pl.DataFrame:
    return TRUTH.filter(pl.col("ts").dt.truncate("1d") != day)


def missing_minutes(start: datetime = START, end: datetime = END) -> int:
    present = TRUTH.filter(pl.col("ts") >= start, pl.col("ts") < end).height
    return int(SILVER.hours(start, end)["session_minutes"].sum()) - present


# What is stored, and what is proven


def test_the_store_equals_the_truth_and_both_sides_prove_what_lacks(place: Place, feed: FakeFeed, base: str) -> None:
    result = place.fill(make_broker(base))
    assert (result.asked, result.new, result.unanswered, result.rejected) == (5, TRUTH.height, 0, 0)
    assert place.raw.read().equals(TRUTH)
    assert place.states() == {"present": TRUTH.height, "empty": missing_minutes(), "waiting": 0, "unknown": 0}
    days = [f"XAG-USD/{side}/2015/3/{day}" for day in (5, 1, 2, 3, 4) for side in ("BID", "ASK")]
    assert feed.asked == days  # the newest first
    assert place.fill(make_broker(base)).asked == 0
    assert feed.asked == days


def test_an_empty_day_is_an_answer_and_told(
    place: Place, base: str, feed: FakeFeed, caplog: pytest.LogCaptureFixture
) -> None:
    monday = datetime(2015, 3, 2, tzinfo=UTC)
    empty = {side: candles.filter(pl.col("ts").dt.date() != monday.date()) for side, candles in feed.sides.items()}
    feed.sides = empty
    place.fill(make_broker(base))
    assert place.raw.read().equals(without(monday))
    assert place.states()["unknown"] == place.states()["waiting"] == 0
    assert "No bar came of 1 whole days or sessions, the first from Mon 2015-03-02 00:00 to Tue" in caplog.text


def test_one_side_alone_is_one_observer(place: Place, base: str, feed: FakeFeed) -> None:
    place.fill(make_broker(base, prices="ask"))
    assert place.raw.read().equals(feed.sides["ASK"].with_columns(spread=None).cast(BAR_SCHEMA))
    assert place.states()["waiting"] == missing_minutes()
    place.fill(make_broker(base, prices="ask"))
    assert place.states()["empty"] == missing_minutes()
    assert place.fill(make_broker(base, prices="ask")).asked == 0


def test_only_days_of_the_span_with_a_session_minute_are_asked_for(place: Place, base: str, feed: FakeFeed) -> None:
    friday = datetime(2015, 3, 6, tzinfo=UTC)
    feed.history_ms = int(datetime(2015, 2, 27, 21, 30, tzinfo=UTC).timestamp() * 1000)
    place.fill(make_broker(base), start=datetime(2015, 2, 1, tzinfo=UTC), end=friday + timedelta(hours=1))
    assert {address.partition("BID/")[2] for address in feed.asked if "BID" in address} == {
        "2015/2/27", SUNDAY, MONDAY, TUESDAY, "2015/3/4", "2015/3/5", "2015/3/6",
    }  # fmt: skip
    assert min(answer.start for answer in place.answers()) == datetime(2015, 2, 27, 21, 30, tzinfo=UTC)
    assert max(answer.end for answer in place.answers()) == friday + timedelta(hours=1)


def test_days_are_cut_at_the_ends_of_the_span_and_asked_for_whole() -> None:
    span = (START + timedelta(hours=23, minutes=30), START + timedelta(days=2, hours=3))
    nothing = pl.Series([], dtype=BAR_SCHEMA["ts"])
    days = plan_days(SILVER.spans(*span), span, nothing, [], again=False)
    monday = START + DAY
    assert days == [(monday + DAY, span[1]), (span[0], monday), (monday, monday + DAY)]
    saturday = (datetime(2015, 3, 7, tzinfo=UTC), datetime(2015, 3, 8, tzinfo=UTC))
    assert plan_days(SILVER.spans(*saturday), saturday, nothing, [], again=True) == []


# Faults


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["429", "503", "500", "408", "cut", "unframed cut", "html", "slow", "drip"])
def test_a_fault_that_passes_costs_nothing_but_time(place: Place, feed: FakeFeed, base: str, fault: str) -> None:
    feed.plan(f"ASK/{TUESDAY}", fault, fault)
    feed.plan("instruments", fault)
    answer_s = 0.4 if fault in ("slow", "drip") else 20.0
    result = place.fill(make_broker(base, answer_s=answer_s))
    assert result.unanswered == 0
    assert place.raw.read().equals(TRUTH)
    assert feed.count()[f"XAG-USD/ASK/{TUESDAY}"] == 3


@pytest.mark.parametrize("fault", ["429", "503", "cut", "slow"])
def test_a_fault_that_stays_proves_nothing_and_keeps_from_no_other_day(
    place: Place, feed: FakeFeed, base: str, fault: str
) -> None:
    tuesday = datetime(2015, 3, 3, tzinfo=UTC)
    feed.plan(f"ASK/{TUESDAY}", fault, forever=True)
    result = place.fill(make_broker(base, answer_s=0.4 if fault == "slow" else 20.0))
    assert (result.asked, result.unanswered) == (5, 1)
    assert place.raw.read().equals(without(tuesday))
    assert place.states()["unknown"] == SILVER.hours(tuesday, tuesday + DAY)["session_minutes"].sum()
    feed.behave()
    before = len(feed.asked)
    place.fill(make_broker(base))
    assert place.raw.read().equals(TRUTH)
    assert feed.asked[before:] == [f"XAG-USD/{side}/{TUESDAY}" for side in ("BID", "ASK")]


@pytest.mark.slow
def test_retry_after_is_waited_for_as_seconds_and_as_a_date(place: Place, feed: FakeFeed, base: str) -> None:
    def wait_s(retry_after: str | timedelta) -> float:
        feed.retry_after = retry_after
        feed.plan(f"BID/{MONDAY}", "429", "503")
        place.fill(make_broker(base), end=START + 2 * DAY, again=True)
        times = [at for at, address in feed.requests if f"BID/{MONDAY}" in address]
        return times[-1] - times[-3]

    assert wait_s("1") >= 2.0
    assert wait_s(timedelta(seconds=3)) >= 0.8
    assert wait_s("soon") < 0.8


@pytest.mark.parametrize("date", [f"Mon, 01 Jan {10**20} 00:00:00 GMT", f"Mon, 01 Jan 2027 00:00:00 +{10**20}"])
def test_a_date_beyond_all_is_none(place: Place, feed: FakeFeed, base: str, date: str) -> None:
    feed.retry_after = date
    feed.plan(f"BID/{MONDAY}", "429")
    assert place.fill(make_broker(base), end=START + 2 * DAY).unanswered == 0


def test_a_wish_to_be_left_alone_for_long_ends_the_run(place: Place, feed: FakeFeed, base: str) -> None:
    feed.retry_after = "86400"
    feed.plan(f"BID/{TUESDAY}", "429")
    with pytest.raises(
        BrokerUnavailable, match=r"patience_s=5 s, got status 429 and a wish .* for 86400 s; try again then"
    ):
        place.fill(make_broker(base))
    came = ["2015-03-01", "2015-03-02", "2015-03-05"]
    assert place.raw.read_stamps().dt.strftime("%Y-%m-%d").unique(maintain_order=True).to_list() == came
    place.fill(make_broker(base))
    assert place.raw.read().equals(TRUTH)


@pytest.mark.parametrize(
    ("fault", "tries", "words"),
    [
        ("503", 3, r"Expected answers .* got none: status 503 from .*; try later"),
        ("404", 1, r"2015/3/5 to exist, got status 404; correct symbol\.feed_code or source\.base"),
    ],
)
def test_it_gives_up_on_a_feed_that_answers_every_day_with_errors(
    place: Place, feed: FakeFeed, base: str, fault: str, tries: int, words: str
) -> None:
    feed.plan("ASK", fault, forever=True)
    with pytest.raises(BrokerUnavailable if tries > 1 else BrokerError, match=words):
        place.fill(make_broker(base))
    assert len(feed.asked) == 4 * (1 + tries)  # of each day a bid, and the tries at its ask


def test_a_run_of_which_nothing_is_answered_fails(place: Place, feed: FakeFeed, base: str) -> None:
    feed.plan("ASK", "503", forever=True)
    with pytest.raises(BrokerUnavailable, match="got none: status 503"):
        place.fill(make_broker(base), end=START + 2 * DAY)


@pytest.mark.parametrize("fault", ["404", "503"])
def test_old_days_that_are_refused_keep_from_no_later_one(
    place: Place, feed: FakeFeed, base: str, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    place.fill(make_broker(base), start=END - DAY)
    for day in (SUNDAY, MONDAY, TUESDAY):
        feed.plan(f"ASK/{day}", fault, forever=True)
    with pytest.raises(BrokerError, match="2015/3/1"):
        place.fill(make_broker(base), end=END - timedelta(hours=12))
    assert place.raw.read().equals(TRUTH.filter(pl.col("ts") >= END - 2 * DAY))
    assert "the newest of the others come next; add span.start=2015-03-04T00:00 to" in caplog.text


def test_the_newest_and_the_oldest_days_that_are_refused_keep_from_none_between(
    place: Place, feed: FakeFeed, base: str, caplog: pytest.LogCaptureFixture
) -> None:
    for day in ("2015/3/5", SUNDAY, MONDAY):
        feed.plan(f"ASK/{day}", "404", forever=True)
    with pytest.raises(BrokerError, match="2015/3/5"):
        place.fill(make_broker(base))
    assert "the newest of the others come next; none has been answered yet" in caplog.text
    between = pl.col("ts").is_between(START + 2 * DAY, END - DAY, closed="left")
    assert place.raw.read().equals(TRUTH.filter(between))


def test_the_pace_is_kept_over_repetitions_too(place: Place, feed: FakeFeed, base: str) -> None:
    pace_s = 0.3
    feed.plan(f"BID/{MONDAY}", "503")
    began = time.monotonic()
    place.fill(make_broker(base, pace_s=pace_s), end=START + 2 * DAY)
    assert len(feed.requests) == 6
    assert time.monotonic() - began >= 5 * pace_s  # when one arrives says less: messages jitter on their way


# Nonsense


def swap_sides(answer: dict[str, Any]) -> dict[str, Any]:
    return answer | {name: answer[name] + 1 for name in PRICES}


def without_last(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda answer: answer | {name: answer[name][:-1]}


def with_first(name: str, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda answer: answer | {name: [value, *answer[name][1:]]}


def with_value(name: str, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda answer: answer | {name: value}


NONSENSE = {
    "html": ("html", "Expected JSON from Dukascopy's feed, got b'<html>"),
    "huge": ("huge", "at most source.max_bytes=1000000 bytes"),
    "deep": (lambda _: b"[" * 100_000, "Expected JSON"),
    "digits": (lambda _: b'{"timestamp": ' + b"9" * 10_000 + b"}", "Expected JSON"),
    "bytes": (lambda _: b"\xff\xfe\x00", "Expected JSON"),
    "nothing": (lambda _: b"", "Expected JSON"),
    "a list": (lambda _: b"[1, 2]", "an object with lists of candles, got list"),
    "null": (lambda _: b"null", "an object with lists of candles, got none"),
    "an error as an object": (lambda _: {"error": "no"}, "a list of times, got none"),
    "lengths": (without_last("highs"), "Expected lists of one length, got"),
    "times that stand still": (with_value("times", None), "a list of times"),
    "negative times": (lambda a: a | {"times": [0, 5, -3, *a["times"][3:]]}, "times that ascend"),
    "the same minute": (lambda a: a | {"times": [0, 0, *a["times"][2:]]}, "times that ascend"),
    "before the day": (lambda a: a | {"timestamp": a["timestamp"] - 86_400_000}, "Expected times of 2015-03-03T00:00"),
    "after the day": (with_first("times", 3000), "Expected times of 2015-03-03T00:00"),
    "seconds": (with_value("shift", 1000), "Expected shift 60000, as of minutes, got 1000"),
    "no whole minute": (lambda a: a | {"timestamp": a["timestamp"] + 1}, "whole minutes"),
    "seconds since 1970": (lambda a: a | {"timestamp": a["timestamp"] // 1000}, "Expected times of"),
    "texts": (lambda a: a | {"closes": list(map(str, a["closes"]))}, "whole numbers in closes, got str"),
    "booleans": (with_first("opens", True), "whole numbers in opens, got True"),
    "a null": (with_first("volumes", None), "numbers in volumes, got none"),
    "NaN": (with_first("lows", float("nan")), "whole numbers in lows, got nan"),
    "infinity": (with_value("open", float("inf")), "a number as open, got inf"),
    "no first price": (with_value("close", None), "a number as close, got none"),
    "a fraction": (with_first("closes", 0.5), "whole numbers in closes, got 0.5"),
    "a number beyond all": (with_first("closes", 10**400), "whole numbers in closes, got 1000"),
    "no multiplier": (with_value("multiplier", 0), "multiplier above 0, got 0"),
    "a multiplier beyond all": (with_value("multiplier", 1e300), "a number as multiplier, got 1e+300"),
    "prices below zero": (with_value("open", -16.0), "price is not positive"),
    "bid above ask": (swap_sides, "bid above ask"),
    "one side only": (lambda a: a | {name: [] for name in a if isinstance(a[name], list)}, "without an ask"),
    "redirected": ("301", "got status 301"),
    "truncated": (lambda a: json.dumps(a).encode()[:-30], "got a truncated answer that ends with b'"),
    "forbidden": ("403", "got status 403; correct source.base"),
    "not found": ("404", "got status 404; correct symbol.feed_code or source.base"),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_is_one_sentence_and_nothing_of_it_is_stored(
    place: Place, feed: FakeFeed, base: str, kind: str
) -> None:
    fault, words = NONSENSE[kind]
    tuesday = datetime(2015, 3, 3, tzinfo=UTC)
    place.fill(make_broker(base), end=tuesday - DAY)
    feed.plan(f"BID/{TUESDAY}", fault, forever=True)
    with pytest.raises(BrokerError) as said:
        place.fill(make_broker(base), end=tuesday + DAY)  # the newest day first
    assert words in str(said.value) and str(said.value).startswith("Expected ")
    assert place.raw.read().equals(TRUTH.filter(pl.col("ts") < tuesday))
    assert SILVER.hours(tuesday, tuesday + DAY)["session_minutes"].sum() <= place.states()["unknown"]
    assert not [answer for answer in place.answers() if answer.start < tuesday + DAY and answer.end > tuesday]


def times_ten(answer: dict[str, Any]) -> dict[str, Any]:
    return answer | {"multiplier": UNIT * 10} | {name: answer[name] * 10 for name in PRICES}


@pytest.mark.parametrize("fault", ["404", without_last("highs"), times_ten], ids=["missing", "nonsense", "level"])
def test_a_day_that_cannot_be_stored_is_named_stays_unknown_and_keeps_from_no_other_day(
    place: Place, feed: FakeFeed, base: str, caplog: pytest.LogCaptureFixture, fault: Any
) -> None:
    tuesday = datetime(2015, 3, 3, tzinfo=UTC)
    feed.plan(TUESDAY, fault, forever=True)
    with pytest.raises((BrokerError, DataError), match=r"2015.0?3.0?3"):
        place.fill(make_broker(base), commit_s=1000)
    assert f"Left out {tuesday} to {tuesday + DAY}, whose minutes stay unknown: Expected " in caplog.text
    assert place.raw.read().equals(without(tuesday))
    assert place.states()["unknown"] == SILVER.hours(tuesday, tuesday + DAY)["session_minutes"].sum()


def test_of_a_first_day_on_another_level_than_all_others_nothing_is_stored(
    place: Place, feed: FakeFeed, base: str
) -> None:
    feed.plan("2015/3/5", times_ten, forever=True)
    with pytest.raises(DataError, match="Expected prices of one level"):
        place.fill(make_broker(base), commit_s=1000)
    assert place.raw.read_stamps().is_empty() and place.answers() == []


def times_ten_at(feed: FakeFeed, bad: pl.Series) -> None:
    tenfold = [pl.when(pl.col("ts").is_in(bad.implode())).then(pl.col(name) * 10).otherwise(name) for name in PRICES]
    feed.sides = {side: candles.with_columns(tenfold) for side, candles in feed.sides.items()}


@pytest.mark.parametrize("at", [20, 2000, -300, -1])
@pytest.mark.parametrize("rows", [1, 3])
def test_minutes_far_from_those_about_them_are_left_out_named_and_stay_unknown(
    place: Place, feed: FakeFeed, base: str, at: int, rows: int
) -> None:
    bad = TRUTH["ts"][: TRUTH.height + 1 + at if at < 0 else at][-rows:]
    times_ten_at(feed, bad)
    assert place.fill(make_broker(base), commit_s=1000).rejected == rows
    assert place.raw.read().equals(TRUTH.filter(~pl.col("ts").is_in(bad.implode())))
    assert place.states()["unknown"] == rows
    assert pl.read_csv(place.rejects, schema=REJECT_SCHEMA)["reason"].to_list() == [SPIKE] * rows


def test_a_first_day_whose_prices_change_their_level_keeps_from_no_other_day(
    place: Place, feed: FakeFeed, base: str
) -> None:
    times_ten_at(feed, TRUTH["ts"][-300:])
    with pytest.raises(DataError, match="Expected prices of one level"):
        place.fill(make_broker(base), commit_s=1000)
    assert place.raw.read().equals(TRUTH.filter(pl.col("ts") < END - DAY))


def test_a_feed_in_a_wrong_zone_is_refused(place: Place, feed: FakeFeed, base: str) -> None:
    late = pl.col("ts") + timedelta(hours=2)
    feed.sides = {side: candles.with_columns(late) for side, candles in feed.sides.items()}
    with pytest.raises(WrongZone, match=r"sessions of CMEGlobex_Silver, got .* that would fit 2 hours earlier, in Duk"):
        place.fill(make_broker(base))
    assert place.raw.read_stamps().is_empty() and place.answers() == []  # of Sunday neither, which lacks all its bars


@pytest.mark.parametrize(("silent", "missing"), [(4, 5), (5, 4)], ids=["after another refusal", "before it"])
def test_silence_beside_a_wrong_zone_proves_nothing(
    place: Place, feed: FakeFeed, base: str, silent: int, missing: int, caplog: pytest.LogCaptureFixture
) -> None:
    shifted, day = pl.col("ts") + timedelta(hours=2), pl.col("ts").dt.day()
    feed.sides = {side: bars.with_columns(shifted).filter(day != silent) for side, bars in feed.sides.items()}
    feed.plan(f"2015/3/{missing}", "404", forever=True)
    with pytest.raises((BrokerError, WrongZone)):
        place.fill(make_broker(base))
    assert place.raw.read_stamps().is_empty() and place.answers() == [] and "No bar came" not in caplog.text


def test_candles_that_fill_closed_hours_are_left_out(
    place: Place, feed: FakeFeed, base: str, caplog: pytest.LogCaptureFixture
) -> None:
    closed = pl.datetime_range(END - timedelta(hours=26), END - timedelta(hours=25), "1m", closed="left", eager=True)
    for side, price in (("BID", 16.0), ("ASK", 16.01)):
        flat = pl.DataFrame({"ts": closed} | dict.fromkeys(PRICES, price) | {"volume": 0.0})
        feed.sides[side] = pl.concat([feed.sides[side], flat.cast(feed.sides[side].schema)]).sort("ts")
    place.fill(make_broker(base))
    assert place.raw.read().equals(TRUTH)
    assert place.states()["unknown"] == 0
    assert "60 bars of one price and no volume in closed hours are left out" in caplog.text


def test_a_bid_that_is_the_ask_is_refused(place: Place, feed: FakeFeed, base: str) -> None:
    feed.sides["ASK"] = feed.sides["BID"]
    with pytest.raises(BrokerError, match="XAG-USD on 2015-03-05, got the same prices as both in "):
        place.fill(make_broker(base))
    assert place.raw.read_stamps().is_empty() and place.answers() == []


def test_a_bad_minute_of_a_day_is_left_out_named_and_stays_unknown(place: Place, feed: FakeFeed, base: str) -> None:
    bid, bad = feed.sides["BID"], TRUTH["ts"][2000]
    feed.sides["BID"] = bid.with_columns(
        pl.when(pl.col("ts") == bad).then(pl.col(name) + 1).otherwise(name).alias(name) for name in PRICES
    )
    lone = TRUTH["ts"][1000]
    feed.sides["ASK"] = feed.sides["ASK"].filter(pl.col("ts") != lone)
    result = place.fill(make_broker(base))
    assert result.rejected == 2
    assert place.raw.read().equals(TRUTH.filter(~pl.col("ts").is_in([bad, lone])))
    assert place.states()["unknown"] == 2
    reasons = pl.read_csv(place.rejects, schema=REJECT_SCHEMA)["reason"].to_list()
    assert reasons == ["a bid without an ask, or an ask without a bid", "bid above ask"]


def test_the_command_says_nonsense_in_one_sentence_and_ends_with_2(tmp_path: Path, feed: FakeFeed, base: str, command):
    feed.plan(f"ASK/{TUESDAY}", with_value("times", "often"), forever=True)
    said = command(ingest.main, *typed(base, tmp_path)).mistake
    assert said == (
        f"Expected a list of times, got str 'often' in the answer of {base}/candles/minute/XAG-USD/ASK/{TUESDAY}; "
        f"nothing of it was stored; try later, or correct source.base"
    )


def test_another_series_than_the_stored_one_replaces_nothing_unless_it_may(place: Place, base: str) -> None:
    place.fill(make_broker(base), end=END - DAY)
    told = place.answers()
    with pytest.raises(DataError, match=r"got [\d,]+ of [\d,]+ bars .*; nothing of this was stored$"):
        place.fill(make_broker(base, prices="bid"), again=True, commit_s=1000)
    assert place.raw.read().equals(TRUTH.filter(pl.col("ts") < END - DAY))
    assert place.answers() == told
    place.limits = replace(place.limits, allow_revisions=True)
    place.fill(make_broker(base, prices="bid"), again=True)
    assert place.raw.read_revisions().height == TRUTH.filter(pl.col("ts") < END - DAY).height


def test_another_series_beside_the_stored_one_is_told(
    place: Place, base: str, caplog: pytest.LogCaptureFixture
) -> None:
    for day, prices, told in ((1, "mid", 0), (2, "mid", 0), (3, "bid", 1)):
        place.fill(make_broker(base, prices=prices), start=START + day * DAY, end=START + (day + 1) * DAY)
        assert caplog.text.count("had its last bars from Dukascopy XAG-USD mid bars, and now gets those of") == told


def test_prices_on_another_level_than_the_stored_ones_are_refused(place: Place, base: str, feed: FakeFeed) -> None:
    place.fill(make_broker(base), end=END - DAY)
    feed.sides = {side: bars.with_columns(pl.col(*PRICES) * 100) for side, bars in feed.sides.items()}
    with pytest.raises(DataError, match=r"Expected prices of one level, got .* times as much, in Dukascopy"):
        place.fill(make_broker(base))
    assert place.raw.read().equals(TRUTH.filter(pl.col("ts") < END - DAY))


# Days that are not over


def make_today() -> pl.DataFrame:
    """Minutes of bitcoin since yesterday; the last five minutes have none."""
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return make_minutes(ALWAYS, midnight - DAY, now.replace(second=0, microsecond=0) - 5 * MINUTE)


def test_a_running_day_is_asked_from_its_start_and_proves_nothing_after_its_last_candle(tmp_path: Path) -> None:
    minutes = make_today()
    last, midnight = minutes["ts"][-1], datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    place, feed = Place(tmp_path, ALWAYS), FakeFeed(minutes, code="BTC-USD")
    with serving(feed) as base:
        feed.sides["ASK"] = feed.sides["ASK"].head(-1)  # comes a moment later than the bid's
        place.fill(make_broker(base, code="BTC-USD"), start=midnight - DAY, end=None)
    if last > midnight + MINUTE:  # not so in the first minutes of a day
        assert f"BTC-USD/BID?from={int(midnight.timestamp() * 1000)}" in feed.asked
    assert place.raw.read().equals(minutes.select(BAR_SCHEMA.names()).head(-1))
    assert max(answer.end for answer in place.answers()) == minutes["ts"][-2] + MINUTE
    place.ledger.close()


def test_a_day_that_has_just_ended_proves_nothing_after_its_last_candle(place: Place, base: str) -> None:
    place.fill(make_broker(base, settled_s=1e9))
    assert place.raw.read().equals(TRUTH)
    ends = TRUTH.group_by(pl.col("ts").dt.truncate("1d")).agg(last=pl.col("ts").max())["last"] + MINUTE
    assert {answer.end for answer in place.answers()} == set(ends)


def test_an_empty_day_that_has_just_ended_proves_nothing(place: Place, base: str, feed: FakeFeed) -> None:
    feed.sides = {side: candles.clear() for side, candles in feed.sides.items()}
    place.fill(make_broker(base, settled_s=1e9))
    assert place.answers() == []


# The way in


def test_nobody_there_is_said_at_once(place: Place) -> None:
    base = f"http://127.0.0.1:{free_port()}/v1"
    retries = {"attempts": 9, "first_s": 1000.0, "longest_s": 1000.0}
    with pytest.raises(BrokerUnavailable, match=f"answers from Dukascopy's feed at {base}, got none: no connection to"):
        place.fill(make_broker(base, retries=retries))


def test_what_fails_beside_the_connection_itself_is_said(place: Place, base: str) -> None:
    with pytest.raises(BrokerUnavailable, match=r"no connection to https://.*: \[SSL.*; try later, or correct"):
        place.fill(make_broker(base.replace("http", "https")))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://me:secret@127.0.0.1:9"),
        ("HTTP_PROXY", "http://me:secret@127.0.0.1:99999"),
        ("HTTPS_PROXY", "secret@127.0.0.1:port"),
        ("NO_PROXY", "http://[::"),
        ("SSL_CERT_FILE", "/nowhere.pem"),
    ],
)
def test_an_environment_without_usable_proxies_or_certificates_is_said(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"^Expected {name} as (?!.*secret)"):
        make_broker("http://127.0.0.1:1/v1").connect()


@pytest.mark.parametrize(("minutes", "sign"), [(3, "+"), (-3, "-")])
def test_a_clock_that_is_off_is_refused(place: Place, base: str, feed: FakeFeed, minutes: int, sign: str) -> None:
    feed.clock_ahead = timedelta(minutes=minutes)
    with pytest.raises(BrokerError, match=rf"within 30 s of this machine's, got one \{sign}1[78]\d s from it"):
        place.fill(make_broker(base))
    assert feed.asked == []


@pytest.mark.parametrize(
    "answer", [{"histories": 7}, {"histories": [7]}, {"histories": [{"period": "MINUTE", "from": "2003"}]}, [], [1]]
)
def test_an_instrument_that_is_none_is_refused(place: Place, base: str, feed: FakeFeed, answer: Any) -> None:
    feed.plan("instruments", lambda _: answer)
    with pytest.raises(BrokerError, match=r"got (?!none).* in the answer of .*/instruments/XAG-USD"):
        place.fill(make_broker(base))


@pytest.mark.parametrize("described", ["404", lambda _: {"code": "XAG-USD"}], ids=["not at all", "without histories"])
def test_a_code_that_the_feed_does_not_describe_may_have_candles_and_proves_no_emptiness(
    place: Place, base: str, feed: FakeFeed, described: Any
) -> None:
    feed.plan("instruments", described, forever=True)
    sides, feed.sides = feed.sides, {side: candles.clear() for side, candles in feed.sides.items()}
    place.fill(make_broker(base))
    assert place.answers() == []
    feed.sides = sides
    place.fill(make_broker(base))
    assert place.raw.read().equals(TRUTH)


def test_a_code_that_the_feed_does_not_know_is_said(place: Place, base: str) -> None:
    with pytest.raises(BrokerError, match=r"got status 404; correct symbol\.feed_code"):
        place.fill(make_broker(base, code="XAG-USDD"))


@pytest.mark.parametrize(
    "changes",
    [
        {"base": "jetta.dukascopy.com/v1"},
        {"base": "ftp://127.0.0.1/v1"},
        {"base": "http://user:secret@127.0.0.1/v1"},
        {"base": ""},
        {"base": 7},
        {"base": "http://127.0.0.1:99999/v1"},
        {"code": None},
        {"code": "../XAG-USD"},
        {"prices": "last"},
        {"pace_s": -1},
        {"answer_s": 0},
        {"max_bytes": 0},
        {"settled_s": -1},
        {"settled_s": 1e18},
        {"retries": {"attempts": 0, "first_s": 1, "longest_s": 1}},
        {"retries": {"attempts": 1, "first_s": 1e300, "longest_s": 1e300}},
    ],
)
def test_a_value_out_of_range_is_a_config_error(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^Expected (?!.*secret)"):
        make_broker(**{"base": "http://127.0.0.1:1/v1"} | changes)


def test_the_event_loop_of_the_thread_stays(base: str) -> None:
    """ib_insync asks for it where it is imported."""

    def connect() -> bool:
        with closing(asyncio.new_event_loop()) as loop, closing(make_broker(base)) as broker:
            asyncio.set_event_loop(loop)
            broker.connect()
            broker.close()
            return asyncio.get_event_loop() is loop

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(connect).result()


# Killed and resumed


def typed(base: str, folder: Path, *more: str) -> list[str]:
    retries = ["source.retries.first_s=0.01", "source.pace_s=0", "commit_s=0"]
    paths = [f"paths.data={folder}/data", f"paths.outputs={folder}/outputs"]
    span = ["span.start=2015-03-01", "span.end=2015-03-06"]
    return ["source=dukascopy", f"source.base={base}", "symbol=XAGUSD", *span, *retries, *paths, *more]


def kill_in_the_middle(feed: FakeFeed, part: str, arguments: list[str]) -> None:
    feed.plan(part, "slow", forever=True)
    with child([sys.executable, "-m", "lstm_ts.ingest", *arguments]) as process:
        wait_for(lambda: any(part in address for address in feed.asked), process=process)
        process.kill()
    feed.behave()
    feed.held.set()


def stored_in(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(f"{folder}/data/raw/XAGUSD/*.parquet").select(BAR_SCHEMA.names()).sort("ts")


@pytest.mark.slow
def test_a_run_killed_in_the_middle_goes_on_and_asks_for_nothing_twice(
    tmp_path: Path, feed: FakeFeed, base: str, command
) -> None:
    arguments = typed(base, tmp_path)
    kill_in_the_middle(feed, f"ASK/{TUESDAY}", arguments)
    before = len(feed.asked)
    said = command(ingest.main, *arguments)
    assert said.code == 0, said.err
    assert said.out.splitlines()[-1].endswith(" spans requested, 0 of them without a conclusive answer")
    assert stored_in(tmp_path).equals(TRUTH)
    assert not {f"XAG-USD/BID/2015/3/{day}" for day in (5, 1)} & set(feed.asked[before:])
    assert "min left" in said.err
    again = command(ingest.main, *arguments)
    assert again.out.startswith("Nothing was requested")


@pytest.mark.slow
@pytest.mark.real_data
def test_the_real_minutes_of_a_month_come_back_as_they_are(tmp_path: Path, real_minutes: str, command) -> None:
    year = pl.read_parquet(real_minutes.replace("*", "2015"))
    month = year.filter(pl.col("ts").dt.month().is_in([2, 3, 4]))
    feed = FakeFeed(month)
    feed.retry_after = "1"
    with serving(feed) as base:
        arguments = [*typed(base, tmp_path), "span.end=2015-04-01"]
        kill_in_the_middle(feed, "BID/2015/3/17", arguments)
        feed.plan("ASK/2015/3/24", "429", "503", "cut", "html")
        said = command(ingest.main, *arguments)
    assert said.code == 0, said.err
    quoted = (feed.sides["ASK"]["close"] - feed.sides["BID"]["close"]).round(4)  # in the feed's own unit
    wanted = month.select(BAR_SCHEMA.names()).cast(BAR_SCHEMA).with_columns(spread=quoted)
    wanted = wanted.filter(pl.col("ts").dt.month() == 3)
    assert stored_in(tmp_path).equals(wanted) and wanted.height == 30_271
    assert feed.count()["XAG-USD/BID/2015/3/11"] == 1
    segments = ["action=status", *arguments]
    total = next(line for line in command(ingest.main, *segments).out.splitlines() if line.startswith("total"))
    assert total.split()[3:5] == ["0", "0"]  # waiting, unknown


# Candles


@st.composite
def candles(draw: st.DrawFn) -> tuple[pl.DataFrame, float]:
    """Of one day, and their unit; prices may be as wild as a feed's."""
    count = draw(st.integers(1, 40))
    minutes = sorted(draw(st.sets(st.integers(0, 1439), min_size=count, max_size=count)))
    decimals = draw(st.integers(0, 6))
    units = st.lists(st.integers(1, 9_999_999), min_size=count, max_size=count)
    prices = {name: [value / 10**decimals for value in draw(units)] for name in PRICES}
    volumes = st.lists(st.floats(0, 1e6), min_size=count, max_size=count)
    ts = pl.Series([START + minute * MINUTE for minute in minutes], dtype=BAR_SCHEMA["ts"])
    return pl.DataFrame(
        {"ts": ts, **prices, "volume": draw(volumes), "spread": None}, schema=BAR_SCHEMA
    ), 10.0**-decimals


FIRST_MS = int(START.timestamp() * 1000)


@given(candles())
def test_what_is_encoded_is_decoded_to_the_last_bit_and_back(given_candles: tuple[pl.DataFrame, float]) -> None:
    bars, unit = given_candles
    text = json.dumps(encode(bars, first_ms=FIRST_MS, multiplier=unit))
    decoded = decode(json.loads(text), first_ms=FIRST_MS, until_ms=FIRST_MS + 1440 * MINUTE_MS)
    assert decoded.equals(bars)
    assert json.dumps(encode(decoded, first_ms=FIRST_MS, multiplier=unit)) == text


FIELDS = ["timestamp", "multiplier", "shift", "times", "open", "opens", "volumes"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)


@given(candles(), st.sampled_from(FIELDS), json_values)
def test_whatever_stands_in_a_field_is_candles_or_nonsense(
    given_candles: tuple[pl.DataFrame, float], field: str, value: Any
) -> None:
    bars, unit = given_candles
    answer = encode(bars, first_ms=FIRST_MS, multiplier=unit) | {field: value}
    try:
        decoded = decode(answer, first_ms=FIRST_MS, until_ms=FIRST_MS + 1440 * MINUTE_MS)
    except InvalidAnswer:
        return
    assert decoded.schema == BAR_SCHEMA and decoded["ts"].is_sorted() and decoded["ts"].is_unique().all()


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("sample", "rows", "last", "first"),
    [
        ("BTC-USD-BID-2023-2-19", 1437, 24240.9, (24599.3, 24599.3, 24593.0, 24593.2, 0.001062, None)),
        ("BTC-USD-BID-from-1783900800000", 1263, 62114.0, (63722.7, 63740.9, 63681.8, 63694.6, 0.000114, None)),
        ("EUR-USD-BID-2026-7-10", 1258, 1.14122, (1.14331, 1.14334, 1.14322, 1.14324, 197.1, None)),
        ("EUR-USD-BID-2026-7-11-empty", 0, None, None),
    ],
)
def test_answers_as_they_came_are_read(sample: str, rows: int, last: float | None, first: Any) -> None:
    path = REAL_DATA / "feeds" / f"dukascopy-candles-minute-{sample}.json"
    if not path.exists():
        pytest.skip(f"no {path}")
    answer = json.loads(path.read_text())
    bars = decode(answer, first_ms=answer["timestamp"], until_ms=answer["timestamp"] + 1440 * MINUTE_MS)
    assert bars.height == rows
    if rows:
        assert bars.row(0)[1:] == first
        assert bars["close"][-1] == last
        assert (bars["high"] >= bars.select(pl.max_horizontal("open", "close")).to_series()).all()
        assert (bars["low"] <= bars.select(pl.min_horizontal("open", "close")).to_series()).all()


def test_states_of_a_session_are_counted_as_the_status_does(place: Place, base: str) -> None:
    place.fill(make_broker(base))
    segments = classify(SILVER.spans(START, END), place.raw.read_stamps(), place.answers())
    assert coverage(segments)[State.PRESENT].sum() == TRUTH.height
