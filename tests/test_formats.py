"""Formats and zones: one literal sample of each format, and the weeks around a change of the clocks."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ts.errors import NoRows, UnknownFormat, WrongZone
from lstm_ts.market.bars import PRICES, TS
from lstm_ts.sources.files.recognition.formats import recognise
from lstm_ts.sources.files.recognition.zones import parse_zone
from lstm_ts.sources.files.text_rows import parse

# One bar at 2025-01-06 22:00 UTC in each format: text, zone, volume.
FORMATS = {
    "HistData": ("20250106 170000;29.5;29.6;29.4;29.55;0\n", "America/New_York", 0),
    "Dukascopy web": (
        "Gmt time,Open,High,Low,Close,Volume\n06.01.2025 22:00:00.000,29.5,29.6,29.4,29.55,7.5\n", None, 7.5),
    "dukascopy-node": ("timestamp,open,high,low,close,volume\n1736200800000,29.5,29.6,29.4,29.55,8\n", None, 8),
    "MetaTrader 4": ("2025.01.06,22:00,29.5,29.6,29.4,29.55,52\n", "Europe/London", 52),
    "MetaTrader 5": (
        "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
        "2025.01.07\t00:00:00\t29.5\t29.6\t29.4\t29.55\t40\t0\t15\n", "America/New_York+7h", 40),
    "MT5 Python": (
        "time,open,high,low,close,tick_volume\n2025-01-07 00:00:00,29.5,29.6,29.4,29.55,6148\n", "Etc/GMT-2", 6148),
    "ISO with offset": (
        "time,open,high,low,close,volume\n2025-01-06 17:00:00-05:00,29.5,29.6,29.4,29.55,207\n", None, 207),
    "ISO with Z": ("time,open,high,low,close\n2025-01-06T22:00Z,29.5,29.6,29.4,29.55\n", None, None),
    "Capitalised Date": (
        "Date,Open,High,Low,Close,Volume\n2025-01-06 22:00:00,29.5,29.6,29.4,29.55,3\n", "UTC", 3),
    "Capitalised DateTime": ("DateTime,Open,High,Low,Close\n2025-01-06T22:00,29.5,29.6,29.4,29.55\n", "UTC", None),
    "Capitalised DateTime with seconds": (
        "DateTime,Open,High,Low,Close,Volume\n2025-01-06T22:00:00,29.5,29.6,29.4,29.55,3\n", "UTC", 3),
    "Semicolon": (
        "datetime;open;high;low;close;volume\n2025-01-06 17:00:00;29.5;29.6;29.4;29.55;0\n", "America/New_York", 0),
}  # fmt: skip


def read(text: str, zone: str | None) -> pl.DataFrame:
    """Frame `ts, open, high, low, close, volume`; a null zone stands for stamps that the format says are UTC."""
    layout = recognise(text.splitlines(), file="sample")
    assert layout.utc or str(layout.zone) == "UTC" if zone is None else not layout.utc
    lines = pl.DataFrame({"text": text.splitlines()[layout.header :]}).with_row_index("line")
    rows = parse(lines, layout)
    assert rows["reason"].null_count() == rows.height
    ts = parse_zone(zone).to_utc(pl.col("stamp"))[0] if zone else _aware(rows["stamp"])
    return rows.select(ts.alias("ts"), *PRICES, "volume")


def _aware(stamps: pl.Series) -> pl.Series:
    return stamps if stamps.dtype == TS else stamps.dt.replace_time_zone("UTC")


def utc_of(zone: str, *stamps: str) -> list[str]:
    text = "".join(f"{stamp},29.5,29.6,29.4,29.55,1\n" for stamp in stamps)
    return read(text, zone)["ts"].dt.strftime("%m-%d %H:%M").to_list()


@pytest.mark.parametrize(("text", "zone", "volume"), FORMATS.values(), ids=FORMATS.keys())
def test_each_format_gives_the_same_bar_in_utc(text: str, zone: str | None, volume: float | None) -> None:
    assert read(text, zone).rows() == [(datetime(2025, 1, 6, 22, tzinfo=UTC), 29.5, 29.6, 29.4, 29.55, volume)]


@pytest.mark.parametrize(
    "header", ["", "time,bid,ask,bid volume,ask volume\n", "Gmt time,Bid,Ask,Bid volume,Ask volume\n"]
)
def test_a_tick_spans_from_bid_to_ask(header: str) -> None:
    zone = "UTC" if header.startswith("time") else None
    rows = read(header + "2025.01.06 22:00:00.137,0.29,0.31,0.02,0.03\n", zone).rows()
    assert rows == [(datetime(2025, 1, 6, 22, 0, 0, 137_000, tzinfo=UTC), 0.29, 0.31, 0.29, 0.31, None)]


def test_a_damaged_first_row_does_not_hide_the_format() -> None:
    assert recognise(["2025.01.06,22:0", "2025.01.06,22:01,1,1,1,1,1"], file="sample").separator == ","


@st.composite
def valid_bars(draw: st.DrawFn) -> list[tuple[datetime, float, float, float, float, float]]:
    price = st.floats(1e-3, 1e6)
    minutes = draw(st.lists(st.integers(1, 20_000_000), min_size=1, max_size=30, unique=True))
    rows = []
    for minute in minutes:
        low, first, last, high = sorted(draw(st.tuples(price, price, price, price)))
        opened, closed = draw(st.permutations([first, last]))
        ts = datetime(1990, 1, 1, 0, 1, tzinfo=UTC) + timedelta(minutes=minute)
        rows.append((ts, opened, high, low, closed, float(draw(st.integers(0, 10_000)))))
    return rows


@given(rows=valid_bars(), style=st.sampled_from(["%Y.%m.%d,%H:%M", "%Y%m%d %H%M%S"]))
def test_bars_written_in_a_format_come_back_identical(rows: list[tuple[datetime, float]], style: str) -> None:
    separator = "," if "," in style else ";"
    lines = [separator.join([ts.strftime(style), *map(repr, values)]) for ts, *values in rows]
    assert read("\n".join(lines), "UTC").rows() == rows


@pytest.mark.parametrize(
    ("zone", "before", "after"),
    [
        ("America/New_York", "03-03 05:00", "03-10 04:00"),
        ("America/New_York+7h", "03-02 22:00", "03-09 21:00"),
        ("Europe/London", "03-03 00:00", "03-10 00:00"),
    ],
)
def test_monday_midnight_moves_with_the_zones_own_summer_time(zone: str, before: str, after: str) -> None:
    # The US changed its clocks on 2025-03-09, London three weeks later.
    assert utc_of(zone, "2025.03.03,00:00", "2025.03.10,00:00") == [before, after]


def test_a_zone_prints_as_it_was_written() -> None:
    assert [str(parse_zone(zone)) for zone in ("UTC", "America/New_York+7h")] == ["UTC", "America/New_York+7h"]


@pytest.mark.parametrize("zone", ["Mars/Olympus", "Mars/Olympus+7h", "+7h", -1])
def test_an_unknown_zone_is_named(zone: Any) -> None:
    with pytest.raises(WrongZone) as error:
        parse_zone(zone)
    assert f"source.zone={zone}" in str(error.value)


def test_an_unknown_format_shows_the_first_lines_and_names_the_known_ones() -> None:
    with pytest.raises(UnknownFormat) as error:
        recognise(["when,what", "2025,1"], file="sample")
    assert all(repr(line) in str(error.value) for line in ("when,what", "2025,1"))
    assert "MetaTrader 5" in str(error.value)


@pytest.mark.parametrize("lines", [[], ["time,open,high,low,close"]])
def test_a_file_without_rows_is_named(lines: list[str]) -> None:
    with pytest.raises(NoRows, match="sample"):
        recognise(lines, file="sample")
