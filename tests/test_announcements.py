"""The table of announcements: dates worked out by hand, daylight saving, wrong tables."""

import fnmatch
import tomllib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas_market_calendars as pmc
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ts.errors import ConfigError, NoSuchFile
from lstm_ts.market.announcements import (
    COLUMNS,
    KINDS,
    ROW_KINDS,
    TABLE,
    announcement_columns,
    describe_unknown,
    known_until,
    load_announcements,
)

ROOT = Path(__file__).parents[1]
HEADER = "date,time,zone,kind\n"
END = "2016-01-01,00:00,America/New_York,end\n"
PAYROLLS = "2015-03-06,08:30,America/New_York,payrolls\n"
CPI = "2015-03-24,08:30,America/New_York,cpi\n"
UNSEEN_CLOSURES = {date(2012, 10, 29), date(2012, 10, 30), date(2018, 12, 5), date(2025, 1, 9)}


def kinds_of(hour: str) -> set[str]:
    """What the hour bar that opens then (UTC) is marked as."""
    columns_1K = announcement_columns(np.array([hour], "datetime64[us]"))
    return {kind for kind, marked in zip(KINDS, columns_1K[0], strict=True) if marked}


@pytest.mark.parametrize(
    ("hour", "kinds"),
    [
        ("2015-03-06T13", {"payrolls"}),  # 8:30 EST, two days before New York's clocks change
        ("2015-03-06T12", set()),
        ("2015-03-06T14", {"payrolls_after"}),
        ("2015-04-03T12", {"payrolls", "us_holiday"}),  # Good Friday, 13:00 in London
        ("2013-10-22T12", {"payrolls"}),  # the shutdown held it up
        ("2013-10-04T12", set()),
        ("2014-07-03T12", {"payrolls"}),  # Thursday before Independence Day
        ("2025-10-03T12", set()),
        ("2025-11-20T13", {"payrolls"}),
        ("2013-10-30T12", {"cpi"}),
        ("2022-06-10T12", {"cpi"}),
        ("2014-09-17T18", {"fomc"}),  # 14:00 EDT
        ("2014-09-17T12", {"cpi"}),
        ("2014-09-17T19", {"fomc_after"}),
        ("2014-09-17T20", {"fomc_after"}),
        ("2014-09-17T21", set()),
        ("2012-12-12T17", {"fomc"}),  # 12:30 EST: a press conference followed
        ("2012-12-12T19", {"fomc_after"}),
        ("2012-10-24T18", {"fomc"}),  # 14:15 EDT: none did
        ("2013-01-30T19", {"fomc"}),  # 14:15 EST
        ("2020-03-15T21", set()),  # nobody knew of it
        ("2020-03-18T18", set()),  # it was not held
        ("2013-01-03T19", {"fomc_minutes"}),
        ("2013-04-10T18", {"fomc_minutes"}),  # a leak brought them forward, which nobody knew ahead
        ("2015-11-26T14", {"us_holiday"}),  # Thanksgiving, 9:00 in New York
        ("2015-11-26T08", {"us_holiday_morning"}),
        ("2015-11-26T07", set()),
        ("2015-11-26T21", {"us_holiday"}),  # 16:00
        ("2015-11-26T22", set()),
        ("2015-11-27T17", set()),
        ("2015-11-27T18", {"us_holiday"}),  # closes at 13:00
        ("2015-08-31T07", {"uk_holiday"}),  # 8:00 BST
        ("2015-08-31T12", set()),
        ("2015-12-28T08", {"uk_holiday"}),  # 8:00 GMT
    ],
)
def test_dates_worked_out_by_hand(hour: str, kinds: set[str]) -> None:
    assert kinds_of(hour) == kinds


def test_payrolls_of_every_month_are_at_8_30_in_new_york_whatever_the_clocks_say() -> None:
    first, last = np.datetime64("2010-01-01T00", "us"), np.datetime64("2027-01-01T00", "us")
    ts_G = np.arange(first, last, np.timedelta64(1, "h"))
    marked = announcement_columns(ts_G)[:, KINDS.index("payrolls")] == 1
    local = pl.Series(ts_G[marked]).dt.replace_time_zone("UTC").dt.convert_time_zone("America/New_York")
    assert set(local.dt.hour()) == {8}
    months = set(zip(local.dt.year(), local.dt.month(), strict=True))
    assert len(local) == len(months) == 17 * 12 - 1
    assert (2025, 10) not in months


def test_the_table_ends_where_a_kind_is_no_longer_complete() -> None:
    assert known_until() == datetime(2027, 1, 1, 5, tzinfo=UTC)
    assert kinds_of("2027-01-08T13") == set()
    first, last = datetime(2009, 12, 31, tzinfo=UTC), datetime(2027, 1, 2, tzinfo=UTC)
    assert [said.split(":")[0] for said in describe_unknown(first, last)] == [
        "announcements are known from 2010-01-01 on",
        "announcements are known until 2027-01-01",
    ]
    assert describe_unknown(datetime(2010, 1, 1, tzinfo=UTC), known_until()) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pandas', of what the calendars call
@pytest.mark.parametrize(("kind", "calendar"), [("us_holiday", "NYSE"), ("uk_holiday", "LSE")])
def test_holidays_are_those_of_the_exchanges(kind: str, calendar: str) -> None:
    rows = pl.read_csv(TABLE, comment_prefix="#", try_parse_dates=True).filter(pl.col("kind") == kind)
    opened = pmc.get_calendar(calendar).schedule(date(2010, 1, 1), date(2027, 12, 31)).index.date
    days = pl.date_range(date(2010, 1, 1), date(2027, 12, 31), eager=True)
    closed = set(days.filter(days.dt.weekday() <= 5)) - set(opened)
    assert set(rows["date"]) == closed - UNSEEN_CLOSURES


@given(
    start=st.datetimes(datetime(2009, 12, 25), datetime(2027, 12, 31)),
    hours=st.lists(st.integers(0, 2000), min_size=1, max_size=300),
)
def test_a_column_depends_on_its_own_hour_alone(start: datetime, hours: list[int]) -> None:
    opens = start.replace(minute=0, second=0, microsecond=0)
    ts_G = np.array([opens + timedelta(hours=hour) for hour in hours], "datetime64[us]")
    columns_GK = announcement_columns(ts_G)
    assert columns_GK.shape == (len(ts_G), len(KINDS))
    assert set(np.unique(columns_GK)) <= {0.0, 1.0}
    alone_GK = np.concatenate([announcement_columns(ts_G[i : i + 1]) for i in range(len(ts_G))])
    np.testing.assert_array_equal(columns_GK, alone_GK)


def test_no_hour_gives_no_row() -> None:
    assert announcement_columns(np.array([], "datetime64[us]")).shape == (0, len(KINDS))


def write(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_another_table_takes_the_place_of_the_packages(tmp_path: Path) -> None:
    mine = load_announcements(write(tmp_path, f"# of my own\n{HEADER}{PAYROLLS}\n{END}"))
    hours = np.array(["2015-03-06T13", "2014-09-17T18"], "datetime64[us]")
    expected = np.zeros((2, len(KINDS)))
    expected[0, KINDS.index("payrolls")] = 1
    np.testing.assert_array_equal(announcement_columns(hours, mine), expected)
    assert known_until(mine) == datetime(2016, 1, 1, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (PAYROLLS.replace("03-06", "02-30") + END, "Expected a date and a time"),
        (PAYROLLS.replace("2015-03-06", "06.03.2015") + END, "Expected a date and a time"),
        (PAYROLLS.replace("08:30", "8.30") + END, "Expected a date and a time"),
        (PAYROLLS.replace("08:30", "24:30") + END, "Expected a date and a time"),
        (PAYROLLS.replace("2015-03-06,08", "9999-12-31,23") + END, "Expected a date and a time"),
        (PAYROLLS.replace("America/New_York", "New York") + END, "Expected an IANA time zone"),
        (PAYROLLS.replace("America/New_York", "America") + END, "Expected an IANA time zone"),
        (PAYROLLS.replace("payrolls", "nfp") + END, "Expected a kind of payrolls, cpi"),
        (PAYROLLS.replace(",payrolls", "") + END, "Expected 4 cells"),
        (PAYROLLS.replace("03-06", "03-07") + END, "Expected working days, got Saturday 2015-03-07 in line 2"),
        (CPI + PAYROLLS + END, "Expected dates in order, got 2015-03-06 after 2015-03-24 in line 3"),
        (PAYROLLS + CPI + CPI + END, "Expected one cpi a day, got two on 2015-03-24 in line 4"),
        (PAYROLLS + PAYROLLS.replace("08:30", "10:00") + END, "Expected one payrolls a day"),
        (PAYROLLS, "Expected one row of kind end, got 0"),
        ("", "Expected one row of kind end, got 0"),
    ],
)
def test_a_wrong_table_is_one_sentence(tmp_path: Path, rows: str, said: str) -> None:
    path = write(tmp_path, HEADER + rows)
    with pytest.raises(ConfigError) as refused:
        load_announcements(path)
    assert str(refused.value).startswith(said)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "day,time,zone,kind\n", "date;time;zone;kind\n", "# nothing but this\n"])
def test_other_columns_are_one_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="Expected the columns date,time,zone,kind"):
        load_announcements(write(tmp_path, text))


def test_a_file_that_is_no_text_or_is_absent_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"PK\x03\x04\xff\xfe\x00")
    with pytest.raises(ConfigError, match="Expected a CSV file in UTF-8"):
        load_announcements(path)
    for absent in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(NoSuchFile, match="Expected a table of announcements"):
            load_announcements(absent)


def test_every_kind_of_row_is_used_and_present() -> None:
    used = {span.kind for spans in COLUMNS.values() for span in spans} | {"end"}
    assert used == set(ROW_KINDS) == set(pl.read_csv(TABLE, comment_prefix="#")["kind"])


def test_the_table_travels_in_the_package() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    inside = str(TABLE.relative_to(ROOT / "lstm_ts"))
    assert any(fnmatch.fnmatch(inside, pattern) for pattern in setup["package-data"]["lstm_ts"])


@pytest.mark.real_data
def test_silver_moves_when_the_table_says_so(real_minutes: str) -> None:
    minutes = pl.read_parquet(real_minutes).sort("ts")
    hours = minutes.group_by_dynamic("ts", every="1h").agg(move=(pl.col("close").last() / pl.col("open").first()).log())
    moves = hours["move"].abs().to_numpy()
    columns_GK = announcement_columns(hours["ts"].dt.replace_time_zone(None).to_numpy())
    local_hour = hours["ts"].dt.convert_time_zone("America/New_York").dt.hour().to_numpy()
    plain = columns_GK.sum(axis=1) == 0

    def factor(kind: str, hour: int) -> float:
        marked = (columns_GK[:, KINDS.index(kind)] == 1) & (local_hour == hour)
        return float(moves[marked].mean() / moves[plain & (local_hour == hour)].mean())

    assert factor("fomc", 14) > 3
    assert factor("fomc", 12) > 3
    assert factor("fomc_minutes", 14) > 2
    assert factor("payrolls", 8) > 1.7
    assert factor("us_holiday", 9) < 0.6
