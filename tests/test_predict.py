"""What predict says."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from conftest import make_files
from serving import save_model

from lstm_ts.errors import ConfigError, DataError, NoSuchFile, WrongZone
from lstm_ts.market.announcements import known_until
from lstm_ts.market.prices import Quote
from lstm_ts.market.session import HOUR
from lstm_ts.model.artifact import load_forecaster
from lstm_ts.model.flags import Flags, of_training
from lstm_ts.model.forecaster import Forecast, Provenance
from lstm_ts.predict import format_age, format_forecast, to_json, to_request
from lstm_ts.sources.files.hourly_files import own_keys, read_hourly_bars
from serve.window import read_window

NOW = datetime(2026, 1, 5, 9, 12, tzinfo=UTC)


SILVER = Quote("USD", 3)


def make_forecast(quote=SILVER, last_close=20.0, missing_hours=0, volatility=1.0, level_jump=""):
    return Forecast(
        symbol="XAGUSD",
        origin_ts=datetime(2026, 1, 5, 9, tzinfo=UTC),
        last_close=last_close,
        levels=(0.1, 0.5, 0.9),
        target_ts_H=[datetime(2026, 1, 5, hour, tzinfo=UTC) for hour in (10, 11)],
        q_HQ=np.log([[0.99, 1.0, 1.01], [0.98, 1.0, 1.02]]),
        missing_hours=missing_hours,
        volatility=volatility,
        quote=quote,
        level_jump=level_jump,
    )


@pytest.mark.parametrize(
    ("quote", "close", "said", "row"),
    [
        (SILVER, 20.0, "20.000 USD, with", "20.000  19.800 to 20.200       20.000"),
        (Quote("JPY", 3), 150.0, "150.000 JPY, with", "150.000  148.500 to 151.500      150.000"),
        (None, 3e-6, "0.0000030000, with", "0.0000030000  0.0000029700 to 0.0000030300  0.0000030000"),
    ],
)
def test_prices_have_the_digits_of_their_size_and_the_currency_of_their_symbol(quote, close, said, row):
    lines = format_forecast(make_forecast(quote, close), "files", [], NOW).splitlines()
    assert lines[2] == f"   1  2026-01-05 10:00  {row}"
    assert f"XAGUSD is at {said} 80 % probability" in lines[-1]


def test_a_model_without_the_levels_of_the_table_is_asked_for_json():
    quartiles = replace(make_forecast(), levels=(0.25, 0.5, 0.75))
    with pytest.raises(ConfigError, match=r"levels 0\.1 and 0\.9 for format=table, got one of \[0\.25, .*format=json"):
        format_forecast(quartiles, "files", [], NOW)


def test_a_forecast_says_how_old_it_is_and_its_date_in_full():
    lines = format_forecast(make_forecast(), "files", [], datetime(2036, 11, 28, tzinfo=UTC)).splitlines()
    assert lines[-2] == "From bars that end 2026-01-05 09:00 UTC, 10 years 10 months ago."
    assert "by Monday 5 January 2026 11:00 UTC" in lines[-1]
    early = format_forecast(make_forecast(), "files", [], datetime(2018, 1, 1, tzinfo=UTC)).splitlines()
    assert early[-2].startswith(
        "From bars that end 2026-01-05 09:00 UTC, in the future (now: 2018-01-01 00:00): synchronise this"
    )
    fresh = format_forecast(make_forecast(), "files", [], NOW).splitlines()
    assert fresh[-2] == "From bars that end 2026-01-05 09:00 UTC, 12 minutes ago."
    assert "by Monday 5 January 2026 11:00 UTC" in fresh[-1]
    assert fresh[-3] == "Usual size of an hour's move: that of the training."
    learnt = format_forecast(replace(make_forecast(), season_day=datetime(2026, 1, 4, tzinfo=UTC)), "files", [], NOW)
    assert learnt.splitlines()[-3] == "Usual size of an hour's move: that of bars until 2026-01-04."


@pytest.mark.parametrize(
    ("then", "age"),
    [
        (datetime(2026, 1, 5, 9, 11, 30, tzinfo=UTC), "less than a minute"),
        (datetime(2026, 1, 5, 8, 10, tzinfo=UTC), "1 hour 2 minutes"),
        (datetime(2026, 1, 3, 8, 12, tzinfo=UTC), "2 days 1 hour"),
        (datetime(2025, 12, 6, 9, 0, tzinfo=UTC), "30 days"),
        (datetime(2025, 12, 5, 9, 0, tzinfo=UTC), "1 month"),
        (datetime(2024, 12, 5, 10, 0, tzinfo=UTC), "1 year"),
        (datetime(2026, 1, 5, 10, 0, tzinfo=UTC), "less than a minute"),
    ],
)
def test_an_age_has_two_units(then, age):
    assert format_age(then, NOW) == age


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (WrongZone("Expected source.zone for a.csv; set source.zone"), "Expected zone for a.csv; set zone"),
        (ConfigError("got source.price_factor=0"), "got price_factor=0"),
        (NoSuchFile("got source.paths=a.csv; correct the path"), "got bars=a.csv; correct the path"),
    ],
)
def test_a_mistake_in_a_file_names_the_keys_of_this_command(raised, told):
    with pytest.raises(type(raised), match=re.escape(told)), own_keys():
        raise raised


@pytest.mark.parametrize(("quote", "currency"), [(Quote("GBP", 5), "GBP"), (None, None)])
def test_json_names_the_currency(quote, currency):
    assert to_json(make_forecast(quote), "files", [])["currency"] == currency


def minutes_of(path, prices, start=datetime(2025, 1, 6, 23, tzinfo=UTC)):
    """One bar a minute, of one price each."""
    stamps = (start + timedelta(minutes=i) for i in range(len(prices)))
    path.write_text("".join(f"{ts:%Y.%m.%d,%H:%M},{p},{p},{p},{p},1\n" for ts, p in zip(stamps, prices, strict=True)))
    return make_files(str(path), batch_rows=50)


def test_a_file_of_two_levels_gives_no_forecast_and_one_damaged_row_is_left_out(tmp_path, silver):
    spike = minutes_of(tmp_path / "spike.csv", [30.0] * 100 + [3000.0] + [30.0] * 79)
    hours, rejected = read_hourly_bars(spike, silver, min_minutes_share=0.25, max_mismatch=0.02)
    assert (hours.height, rejected, hours["high"].max()) == (3, 1, 30.0)
    jump = minutes_of(tmp_path / "jump.csv", [30.0] * 90 + [3000.0] * 90)
    said = (
        r"one level, got 30 at 2025-01-07 00:29 and 3000 at 2025-01-07 00:30 UTC, 100 times as much, in "
        r"files .*jump\.csv; correct it, or give the bars of one level alone"
    )
    with pytest.raises(DataError, match=said):
        read_hourly_bars(jump, silver, min_minutes_share=0.25, max_mismatch=0.02)


def test_epochs_by_the_clock_of_a_server_are_read_in_the_zone_that_is_set(tmp_path, silver):
    hours = silver.hours(datetime(2025, 1, 6, tzinfo=UTC), datetime(2025, 1, 20, tzinfo=UTC))["ts"]
    server = (hours.dt.convert_time_zone("America/New_York").dt.replace_time_zone(None) + timedelta(hours=7)).dt.epoch(
        "s"
    )
    (tmp_path / "h1.csv").write_text("time,open,high,low,close\n" + "".join(f"{ts},30,30,30,30\n" for ts in server))

    def read(zone):
        source = make_files(str(tmp_path / "h1.csv"), zone=zone)
        return read_hourly_bars(source, silver, min_minutes_share=0.25, max_mismatch=0.02)[0]

    assert read("America/New_York+7h")["ts"].to_list() == hours.to_list()
    with pytest.raises(WrongZone, match=r"and as clock times of source\.zone=Asia/Tokyo they fit no better"):
        read("Asia/Tokyo")
    with pytest.raises(WrongZone, match=r"2 hours earlier would leave"):
        read(None)
    half, text = server[len(server) // 2], (tmp_path / "h1.csv").read_text()
    before, after = text.split(f"{half},")
    (tmp_path / "h1.csv").write_text(before + f"{half}," + after.replace(",30", ",3000").replace("30,", "3000,", 1))
    with pytest.raises(DataError, match="prices of one level"):
        read("America/New_York+7h")


def test_a_window_unlike_the_training_hours_is_flagged_by_the_rule_of_the_service():
    limits = Flags(stale_hours=2, missing_share=0.1, volatility=(0.25, 4.0))
    jump = "a close of 2000 is 100 times as much as their highest, 20"
    forecast = make_forecast(missing_hours=3, volatility=4.1, level_jump=jump)
    wild = "out of the training range: the window is 4.1 times as volatile as the training hours"
    level = f"another price level than that of the training hours: {jump}"
    told = [wild, level, "unusually many missing hours: 3 of the window's 24"]
    assert limits.of_window(forecast, 24) == limits.find(forecast, 24, NOW) == told
    assert format_forecast(forecast, "files", told, NOW).splitlines()[4:7] == [f"Warning: {flag}." for flag in told]
    assert to_json(forecast, "files", told)["flags"] == told
    assert limits.of_window(make_forecast(volatility=4.0), 24) == []
    assert limits.find(make_forecast(), 24, NOW + timedelta(hours=2)) == ["stale input: the last bar is 2 hours old"]


@pytest.mark.parametrize(
    ("learnt", "asked", "flag"),
    [
        ("synthetic silver, seed 7", "synthetic silver, seed 8", None),
        ("files silver", "files silver", None),
        ("files silver", "synthetic silver, seed 7", None),  # the badge of the bars says so
        (
            "synthetic silver, seed 7",
            "Dukascopy",
            "trained on synthetic silver, seed 7, given bars from Dukascopy",
        ),
        ("synthetic silver, seed 7", "", "synthetic silver, seed 7, not usable on market prices"),
    ],
)
def test_a_demonstration_model_on_other_prices_says_so(learnt, asked, flag):
    provenance = Provenance("XAGUSD", learnt, "", "", "", "", 7, "", "", {}, {})
    told = of_training(provenance, asked)
    assert [flag in each for each in told] == ([] if flag is None else [True])


def test_hours_beyond_the_table_of_announcements_are_said():
    limits = Flags(stale_hours=2, missing_share=0.1, volatility=(0.25, 4.0))
    end = known_until()
    at = replace(make_forecast(), target_ts_H=[end - HOUR, end])
    assert limits.of_window(at, 24) == []
    (flag,) = limits.of_window(replace(at, target_ts_H=[end, end + HOUR]), 24)
    assert flag == (
        f"announcements are known until {end:%Y-%m-%d}: later hours are forecast as without any; upgrade lstm_ts, or "
        f"add rows to lstm_ts/market/announcements.csv and move its row `end`"
    )
    early = replace(at, origin_ts=datetime(2009, 12, 31, 23, tzinfo=UTC))
    assert limits.of_window(early, 24) == [
        "announcements are known from 2010-01-01 on: earlier hours count as without any"
    ]


@pytest.mark.parametrize("missing", [False, True])
def test_a_request_holds_the_bars_of_the_window_and_is_accepted_by_the_service(missing, hourly_bars, silver, tmp_path):
    forecaster = load_forecaster(save_model(tmp_path / "model", hourly_bars, silver, seed=1))
    last = hourly_bars["ts"][-1]
    hours = silver.hours(last - timedelta(days=30), last + HOUR)["ts"]
    first = hours[-forecaster.spec.tsteps]
    assert (first in hourly_bars["ts"]) or not missing
    bars = hourly_bars.filter(pl.col("ts") != first) if missing else hourly_bars
    request = to_request(forecaster, bars)
    sent = read_window(request.encode(), symbol="XAGUSD", session=silver, now=last + HOUR)
    assert len(sent.ts_N) <= forecaster.spec.tsteps + missing
    assert json.loads(request)["bars"][0]["ts"] == f"{bars.filter(pl.col('ts') <= first)['ts'][-1]:%Y-%m-%dT%H:%M:%SZ}"
    np.testing.assert_array_equal(forecaster.forecast(sent).q_HQ, forecaster.forecast(bars).q_HQ)
