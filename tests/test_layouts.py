"""What people bring: one small file of each kind, read through `Files`, and the sentence where it cannot be read."""

import gzip
import io
import os
import re
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Literal

import polars as pl
import pytest
from conftest import make_files

from lstm_ts.errors import ConfigError, DataError, UnknownFormat
from lstm_ts.market.bars import BarBatch
from lstm_ts.market.session import HOUR
from lstm_ts.sources.files.recognition.stamps import recognise_stamp
from lstm_ts.sources.files.symbols import same_symbol
from lstm_ts.sources.files.workbook import ONE_AT_A_TIME, read_sheets

Row = tuple[datetime, float, float, float, float, float | None]
FIRST = datetime(2025, 1, 7, 14, tzinfo=UTC)
PRICES = "29.5,29.6,29.4,29.55"


def read(path: Path, zone: str | None = "UTC", dates: str | None = None, rows: int = 7) -> list[BarBatch]:
    source = make_files(str(path), zone=zone, dates=dates, batch_rows=rows)
    return list(source.read_batches())


def bars_of(batches: list[BarBatch]) -> list[Row]:
    assert all(batch.rejects.is_empty() for batch in batches), batches
    return pl.concat([batch.bars for batch in batches]).sort("ts").drop("spread").rows()


def expected(volume: float | None = 3, first: datetime = FIRST, count: int = 15) -> list[Row]:
    return [(first + timedelta(minutes=i), 29.5, 29.6, 29.4, 29.55, volume) for i in range(count)]


def table(header: str, stamp: str, rest: str = PRICES + ",3", *, first: datetime = FIRST) -> str:
    rows = [f"{(first + timedelta(minutes=i)).strftime(stamp)},{rest}\n" for i in range(15)]
    return f"{header}\n" * bool(header) + "".join(rows)


def epochs(per_second: int, since_1970: int = 0) -> str:
    seconds = [int((FIRST + timedelta(minutes=i)).timestamp()) + since_1970 for i in range(15)]
    rows = [f"{second * per_second},{PRICES},3\n" for second in seconds]
    return "unix,open,high,low,close,volume\n" + "".join(rows)


BARS = "time,open,high,low,close,volume"
OHLCV = BARS.removeprefix("time,")
NANOS = "29500000000,29600000000,29400000000,29550000000"
DATABENTO = f"ts_event,rtype,publisher_id,instrument_id,{OHLCV},symbol"
PLAIN = table(BARS, "%Y-%m-%d %H:%M:%S")
READ = {
    "quotes beside the bars": table("time,open,high,low,close,bid,ask,volume", "%Y-%m-%d %H:%M", PRICES + ",29,30,3"),
    "quotes before the bars": table(
        "bid,time,ask,open,high,low,close,volume", "29,%Y-%m-%d %H:%M,30", first=FIRST, rest=PRICES + ",3"
    ),
    "columns in another order": table("time,volume,close,low,high,open", "%Y-%m-%d %H:%M", "3,29.55,29.4,29.6,29.5"),
    "an unnamed first column": table(",Open,High,Low,Close,Volume", "%Y-%m-%d %H:%M:%S"),
    "a name of one's own": table("moment,open,high,low,close,volume", "%Y-%m-%d %H:%M:%S"),
    "letters": table("t,o,h,l,c,v", "%Y-%m-%d %H:%M:%S"),
    "numbered names": table("timestamp,1. open,2. high,3. low,4. close,5. volume", "%Y-%m-%d %H:%M:%S"),
    "digits in one": table(BARS, "%Y%m%d%H%M"),
    "digits in one, with seconds": table(BARS, "%Y%m%d%H%M%S"),
    "digits in one, without a header": table("", "%Y%m%d%H%M"),
    "twelve hours": table(BARS, "%Y-%m-%d %I:%M:%S %p"),
    "twelve hours without seconds": table(BARS, "%Y-%m-%d %I:%M %p"),
    "UTC behind the stamp": table(BARS, "%Y-%m-%d %H:%M:%S UTC"),
    "nanoseconds": table(BARS, "%Y-%m-%dT%H:%M:%S.000000000Z"),
    "GMT and an offset": table("Local time,Open,High,Low,Close,Volume", "%d.%m.%Y 15:%M:%S.000 GMT+0100"),
    "an offset without a colon": table(BARS, "%Y-%m-%d 12:%M:%S -0200"),
    "an abbreviated zone": table(BARS, "%Y-%m-%d 09:%M:%S EST"),
    "a month by its name": table(BARS, "%d-%b-%Y %H:%M"),
    "no leading zeros": table(BARS, "2025-1-7 14:%M"),
    "fourteen digits": table(BARS, "%Y%m%d%H%M%S"),
    "HistData's digits": table(BARS, "%Y%m%d %H%M%S"),
    "Barchart": table("Time,Open,High,Low,Latest,Volume", "%Y-%m-%d %H:%M"),
    "FXCM": table("time,open,high,low,close,TickQty", "%Y-%m-%d %H:%M"),
    "JForex": table("Time (EET),Open,High,Low,Close,Volume ", "%Y.%m.%d 16:%M:%S"),
    "a zone by its IANA name": table("time (America/New_York),open,high,low,close,volume", "%Y.%m.%d 09:%M:%S"),
    "Finam": table("<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>", "XAGUSD,1,%Y%m%d,%H%M%S"),
    "Finam without a header": table("", "XAGUSD,1,%Y%m%d,%H%M%S"),
    "MetaStock": table("<TICKER>,<DTYYYYMMDD>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>", "XAGUSD,%Y%m%d,%H%M"),
    "MetaTrader in one column": table("", "%Y.%m.%d %H:%M"),
    "Binance": table("", "{epoch}", PRICES + ",3,1736258459999,1.5,9,2.0,3.0,0").replace("{epoch}", "{}"),
    "epoch seconds": epochs(1),
    "epoch milliseconds": epochs(1000),
    "epoch microseconds": epochs(1_000_000),
    "epoch nanoseconds": epochs(1_000_000_000),
    "ticks of .NET": epochs(10_000_000, 62_135_596_800),
    "Windows' FILETIME": epochs(10_000_000, 11_644_473_600),
    "a time that the header forgot": table("Date,Open,High,Low,Close,Volume", "%Y-%m-%d,%H:%M:%S"),
    "a comma at each row's end": table(BARS, "%Y-%m-%d %H:%M:%S", PRICES + ",3,"),
    "numbered rows": BARS + "\n" + "".join(f"{i},{row}\n" for i, row in enumerate(PLAIN.splitlines()[1:], 1)),
    "a vendor's line above": "https://www.example.com\n" + table("unix,date," + BARS[5:], "%s,%Y-%m-%d %H:%M:%S"),
    "Excel's line above": "sep=;\n" + PLAIN.replace(",", ";"),
    "Yahoo's three lines": "Price,Open,High,Low,Close,Volume\nTicker,X,X,X,X,X\nDatetime,,,,,\n"
    + table("", "%Y-%m-%d %H:%M:%S+00:00"),
    "two exports in one file": PLAIN[: len(PLAIN) // 2 + 7].rsplit("\n", 1)[0] + "\n" + BARS + "\n"
    + PLAIN[: len(PLAIN) // 2 + 7].rsplit("\n", 1)[1] + PLAIN[len(PLAIN) // 2 + 7 :],
    "a bar between the cells": PLAIN.replace(",", "|"),
    "blanks around the cells": PLAIN.replace(",", " , "),
    "quotes": PLAIN.replace(",", '","').replace("\n", '"\n"').rstrip('"').replace("time", '"time', 1),
    "decimal commas": PLAIN.replace(",", ";").replace(".", ","),
    "decimal commas in quotes": table(BARS, "%Y-%m-%d %H:%M", '"29,5","29,6","29,4","29,55",3'),
    "decimal commas between tabs": PLAIN.replace(",", "\t").replace(".", ","),
    "a volume in thousands": table(BARS, "%Y-%m-%d %H:%M", PRICES + ",0.003K"),
    "a volume in dollars before one in ounces": table(
        "time,open,high,low,close,Volume (USD),Volume (XAG)", "%Y-%m-%d %H:%M", PRICES + ",88,3"
    ),
    "a volume of the base currency": table(
        "time,open,high,low,close,quote volume,Volume BTC", "%Y-%m-%d %H:%M", PRICES + ",9,3"
    ),
    "MetaTrader 5 in Python": table(
        "time,open,high,low,close,tick_volume,real_volume", "%Y-%m-%d %H:%M", PRICES + ",3,0"
    ),
    "when a row was written": table(
        f"date,{BARS},imported_at", "%Y-%m-%d,%H:%M", PRICES + ",3,2025-02-01 00:00:00"
    ),
    "a close before the open": table(f"time_close,{BARS}".replace(",time", ",time_open"), "2025-01-07T14:59Z,%FT%TZ"),
    **{f"{to} before {since}": table(f"{to},{since},{OHLCV}", "2025-01-07 %H:%M:59,%F %T")
       for to, since in (("To", "From"), ("Bis", "Von"), ("time_to", "time_from"))},
    **{f"{local} beside {utc}": table(f"{local},{utc},{OHLCV}", "%Y-%m-%d 09:%M,%Y-%m-%d %H:%M")
       for local, utc in (
           ("Time", "Time (UTC)"), ("Date", "Date UTC"), ("snapshotTime", "snapshotTimeUTC"), ("time", "utc"),
           ("DateTime", "DateTimeUtc"), ("Local", "UTC"), ("localtime", "utctime"), ("Timestamp", "Timestamp (GMT)"),
       )},
    "an end before the start": table(f"period_end,{BARS}".replace(",time", ",period_start"), "2025-01-07 14:59,%F %T"),
    "a time as of 1970": table(f"date,{BARS}", "%Y-%m-%d,1970-01-01 %H:%M:%S"),
    "a day with a midnight": table(f"date,{BARS}", "%Y-%m-%d 00:00:00,%H:%M:%S"),
    "a day with a midnight of twelve hours": table(f"date,{BARS}", "%Y/%m/%d 12:00:00 AM,%I:%M %p"),
    "AM and PM beside a clock": table(f"date,time,AM/PM,{OHLCV}", "%Y-%m-%d,%I:%M:%S,%p"),
    "AM and PM beside a stamp": table(f"time,AM/PM,{OHLCV}", "%Y-%m-%d %I:%M,%p"),
    "AM and PM beside a clock of 24 hours": table(f"date,time,AM/PM,{OHLCV}", "%Y-%m-%d,%H:%M:%S,%p"),
    "AM and PM under any name": table(f"date,time,Half,{OHLCV}", "%Y-%m-%d,%I:%M,%p"),
    "AM and PM that the header forgot": table(f"date,time,{OHLCV}", "%Y-%m-%d,%I:%M,%p"),
    "A and P beside a clock": table(f"date,time,A/P,{OHLCV}", "%Y-%m-%d,%I:%M,P"),
    "P behind a clock": table(BARS, "%Y-%m-%d 2:%MP"),
    **{f"AM or PM in a column {name}": table(f"time,{name},{OHLCV}", f"%Y-%m-%d %H:%M,{half}")
       for name, half in (("settle", "PM"), ("session", "AM"), ("AM/PM", "AM"))},
    "an hour and a minute": table(f"date,hour,minute,{OHLCV}", "%Y-%m-%d,%H,%M"),
    "an hour, a minute and a second without zeros": table(f"date,hh,mm,ss,{OHLCV}", "%Y-%m-%d,%-H,%-M,0"),
    "Tickstory's colon before the milliseconds": table(f"Date,Timestamp,{OHLCV}", "%Y%m%d,%H:%M:%S:000"),
    "a blank in the noon": table(BARS, "%Y-%m-%d 2:%M:%S p. m."),
    "a no-break space before the clock": table(BARS, "%Y-%m-%d\N{NO-BREAK SPACE}%H:%M"),
    "two blanks": table(BARS, "%Y%m%d  %H:%M:%S"),
    "a dash": table(BARS, "%Y%m%d-%H:%M:%S"),
    "an epoch with a fraction": table(BARS, "%s.000"),
    "an epoch of floats": BARS
    + "\n"
    + "".join(f"{1_736_258_400 + 60 * i:.8E},{PRICES},3\n" for i in range(15)),
    "a month before its day": table(BARS, '"%b %d, %Y %H:%M"'),
    "a month in full": table(BARS, "7 January 2025 %H:%M"),
    "points in the clock": table(f"date,{BARS}", "%Y-%m-%d,%H.%M.%S"),
    "points in the noon": table(BARS, "%Y-%m-%d 2:%M p.m."),
    "a narrow blank before the noon": table(BARS, "%Y-%m-%d 2:%M\N{NARROW NO-BREAK SPACE}PM"),
    "an offset by its name": table(BARS, "2025-01-08 01:%M:%S AEDT"),
    "UTC beside a day": table("Date,Time (UTC),Open,High,Low,Close,Volume", "%Y-%m-%d,%H:%M:%S"),
    "a comment that names the columns": f"# columns: {BARS}\n# read them so\n{PLAIN}",
    "a comment of fewer columns": f"# columns: time, open, high, low, close\n{PLAIN}",
    "a header in a comment": f"# {PLAIN}",
    "R's names of rows": PLAIN.replace("time,", "", 1),
    "no name of the stamps": PLAIN.replace(BARS, "Open Price,High Price,Low Price,Last Price,Volume", 1),
    "many lines above": "".join(f"# note {i}\n" for i in range(30)) + PLAIN,
    "carriage returns alone": PLAIN.replace("\n", "\r"),
    "NULs at the end": PLAIN + "\0" * 400,
    "Databento": table(DATABENTO, "%FT%T.000000000Z,33,1,42", "29.5,29.600000000,29.4,29.550000000,3,XAGUSD"),
    "Databento's whole numbers": table(DATABENTO, "%s000000000,33,1,42", f"{NANOS},3,XAGUSD"),
}  # fmt: skip


@pytest.mark.parametrize("text", READ.values(), ids=READ.keys())
def test_each_kind_of_text_gives_the_same_bars(tmp_path: Path, text: str) -> None:
    if "{}" in text:
        stamps = [int((FIRST + timedelta(minutes=i)).timestamp()) * 1000 for i in range(15)]
        text = "".join(row.replace("{}", str(ms)) + "\n" for row, ms in zip(text.splitlines(), stamps, strict=True))
    (tmp_path / "bars.csv").write_text(text, newline="")
    zone = None if re.match(r".*time \(", text, re.IGNORECASE) else "UTC"
    assert bars_of(read(tmp_path / "bars.csv", zone)) == expected()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [PLAIN, table("", "%Y.%m.%d,%H:%M")], ids=["header", "headerless"])
def test_each_encoding_gives_the_same_bars(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "bars.csv").write_bytes(text.encode(encoding))
    assert bars_of(read(tmp_path / "bars.csv")) == expected()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_an_encoding_that_changes_on_the_way_is_refused(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "bars.csv").write_bytes(PLAIN.encode(encoding) + LATER.encode())
    with pytest.raises(UnknownFormat, match=r"got .*bars\.csv, which changes it at line 17"):
        read(tmp_path / "bars.csv")


def test_bytes_of_latin_1_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "bars.csv").write_bytes(table(BARS + ",Währung", "%Y-%m-%d %H:%M", PRICES + ",3,é").encode("latin-1"))
    assert bars_of(read(tmp_path / "bars.csv")) == expected()


@pytest.mark.parametrize("rows", [1, 5, 1000])
def test_a_row_is_read_with_its_own_am_and_pm_alone(tmp_path: Path, rows: int) -> None:
    """12:00 AM stays midnight; beside clocks of 24 hours no other column counts; damaged cells spoil their rows."""
    ts = [datetime(2025, 1, 7, 0, 0) + timedelta(minutes=30 * i) for i in range(48)]
    lines = [f"{one:%Y-%m-%d,%I:%M},{one:%p},{PRICES}" for one in ts]
    lines[5:8] = [re.sub(",[AP]M,", ",,", line) for line in lines[5:8]]
    lines[20] = re.sub(r",\d\d:\d\d,", ",PM,", lines[20])
    (tmp_path / "bars.csv").write_text("\n".join(["date,time,AM/PM,open,high,low,close", *lines]))
    found = read(tmp_path / "bars.csv", rows=rows)
    assert pl.concat([batch.rejects for batch in found])["line"].to_list() == [7, 8, 9, 22]
    kept = [one.replace(tzinfo=UTC) for i, one in enumerate(ts) if i not in (5, 6, 7, 20)]
    assert pl.concat([batch.bars for batch in found])["ts"].sort().to_list() == kept
    mornings = [f"{one:%Y-%m-%d,%H:%M},PM,{PRICES}" for one in ts[18:26]]
    for name in ("settle", "session"):
        (tmp_path / "bars.csv").write_text("\n".join([f"date,time,{name},open,high,low,close", *mornings]))
        assert [row[0].hour for row in bars_of(read(tmp_path / "bars.csv", rows=rows))][::2] == [9, 10, 11, 12]


NONE = ["", "nan", "NaN", "None", "null", "NULL", "-", "n/a", "N/A", "#N/A", "NA", "nil", "<NA>", "#VALUE!", r"\N", "—"]


@pytest.mark.parametrize("word", NONE)
@pytest.mark.parametrize(("minutes", "header"), [(1, "time,open,high,low,close,volume\n"), (60, "")])
def test_a_vendors_word_for_none_in_bars_of_any_spacing(tmp_path: Path, word: str, minutes: int, header: str) -> None:
    """In a volume it is null; a row of such prices is no bar, and one that has some of its prices is damaged."""
    lines = [f"{FIRST + timedelta(minutes=minutes * i):%Y-%m-%d %H:%M:%S},{PRICES},3" for i in range(40)]
    lines[10] = f"{lines[10][:-1]}{word}"
    for at in (20, 21):
        lines[at] = ",".join([lines[at][:19], *[word] * 5])
    lines[30] = f"{lines[30][:20]}29.5,29.6,29.4,{word},3"
    path = tmp_path / "bars.csv"
    path.write_text(header + "\n".join(lines) + "\n")
    for rows in (7, 1000):
        found = read(path, rows=rows)
        bars = pl.concat([batch.bars for batch in found])
        rejects = pl.concat([batch.rejects for batch in found])
        assert (bars.height, bars["volume"].null_count(), found[0].minutes) == (37, 1, minutes)
        assert rejects["line"].to_list() == [31 + bool(header)]
        assert [note for batch in found for note in batch.notes] == [
            f"2 rows of {path} have no prices and are left out"
        ]


def test_hours_that_a_table_of_numbers_leaves_blank_are_no_bars(tmp_path: Path) -> None:
    frame = FRAME.with_columns(
        pl.when(pl.int_range(pl.len()).is_in([3, 4]))
        .then(None)
        .otherwise(pl.col("open", "high", "low", "close"))
        .name.keep()
    )
    for blank in (None, float("nan")):
        path = tmp_path / "bars.parquet"
        frame.with_columns(pl.col(pl.Float64).fill_null(pl.lit(blank))).write_parquet(path)
        assert len(bars_of(read(path))) == FRAME.height - 2


@pytest.mark.parametrize("word", ["", "nan", "None", "null", "-", "n/a", "-1", "no data", "N/D", "N.D.", "(none)", "*"])
def test_a_vendors_word_for_no_volume_is_none(tmp_path: Path, word: str) -> None:
    (tmp_path / "bars.csv").write_text(table(BARS, "%Y-%m-%d %H:%M", f"{PRICES},{word}"))
    assert bars_of(read(tmp_path / "bars.csv")) == expected(None)


def test_a_price_keeps_all_its_digits(tmp_path: Path) -> None:
    rows = "2025-01-07 14:00,0.0000030250,0.0000030260,0.0000030240,0.0000030255,3\n"
    (tmp_path / "bars.csv").write_text(f"{BARS}\n{rows}")
    assert bars_of(read(tmp_path / "bars.csv")) == [(FIRST, 3.0250e-6, 3.0260e-6, 3.0240e-6, 3.0255e-6, 3)]


@pytest.mark.parametrize(
    ("price", "value"),
    [
        ("2\N{RIGHT SINGLE QUOTATION MARK}030.25", 2030.25),
        ('"2,030.250"', 2030.25),
        ('"1,234,567.5"', 1234567.5),
        ("2 030.25", 2030.25),
        ("2'030.25", 2030.25),
    ],
)
def test_thousands_may_be_set_apart(tmp_path: Path, price: str, value: float) -> None:
    (tmp_path / "bars.csv").write_text(table(BARS, "%Y-%m-%d %H:%M", ",".join([price] * 4 + ["3"])))
    assert bars_of(read(tmp_path / "bars.csv"))[0] == (FIRST, value, value, value, value, 3)


@pytest.mark.parametrize("stamp", ["%Y-%m-%d 0:%M PM", "%Y-%m-%d 0:%M,PM"])
def test_noon_may_be_zero_of_the_afternoon(tmp_path: Path, stamp: str) -> None:
    header = f"time,half,{OHLCV}" if "," in stamp else BARS
    (tmp_path / "bars.csv").write_text(table(header, stamp))
    assert bars_of(read(tmp_path / "bars.csv")) == expected(first=FIRST.replace(hour=12))


def test_midnight_may_be_24_hours_or_a_date_alone(tmp_path: Path) -> None:
    midnights = ("2025-01-07 24:00:00", "2025-01-08", "2025-01-08 00:00:00")
    for midnight in midnights:
        stamps = ("2025-01-07 23:59:00", midnight, "2025-01-08 00:01:00")
        (tmp_path / "bars.csv").write_text("\n".join([BARS, *(f"{stamp},{PRICES},3" for stamp in stamps)]))
        assert bars_of(read(tmp_path / "bars.csv")) == expected(first=datetime(2025, 1, 7, 23, 59, tzinfo=UTC), count=3)


@pytest.mark.parametrize("stamp", ["%Y%m%dT%HZ", "%Y-%m-%dT%H", "%Y-%m-%d %H+00:00"])
def test_a_clock_of_hours_alone_is_read_as_such(tmp_path: Path, stamp: str) -> None:
    stamps = [FIRST + timedelta(hours=i) for i in range(5)]
    (tmp_path / "bars.csv").write_text("\n".join([BARS, *(f"{ts.strftime(stamp)},{PRICES},3" for ts in stamps)]))
    assert [bar[0] for bar in bars_of(read(tmp_path / "bars.csv"))] == stamps


@pytest.mark.parametrize("day", ["20250107,", "2025-01-07 ", "07-Jan-2025,"])
@pytest.mark.parametrize("per_hour", [100, 10_000], ids=["hhmm", "hhmmss"])
def test_a_clock_whose_leading_zeros_are_lost_is_read_by_the_whole_file(
    tmp_path: Path, day: str, per_hour: int
) -> None:
    clocks = [minute // 60 * per_hour + minute % 60 * (per_hour // 100) for minute in range(300)]
    rows = [f"{day}{clock},{PRICES},3" for clock in clocks]
    stamps = "<DATE>,<TIME>" if "," in day else "<DATE>"
    (tmp_path / "bars.csv").write_text("\n".join([f"{stamps},<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>", *rows]))
    assert bars_of(read(tmp_path / "bars.csv")) == expected(first=datetime(2025, 1, 7, tzinfo=UTC), count=300)


def test_day_and_month_are_told_apart_by_the_last_row(tmp_path: Path) -> None:
    stamps = [f"{day:02}/01/2025 14:{minute:02}" for day in range(1, 14) for minute in range(30)]
    for order in ("{0}/{1}", "{1}/{0}"):
        rows = [f"{order.format(*stamp.split('/')[:2])}{stamp[5:]},{PRICES},3" for stamp in stamps]
        (tmp_path / "bars.csv").write_text("\n".join([BARS, *rows]))
        found = bars_of(read(tmp_path / "bars.csv"))
        assert (found[0][0], found[-1][0]) == (
            datetime(2025, 1, 1, 14, tzinfo=UTC),
            datetime(2025, 1, 13, 14, 29, tzinfo=UTC),
        )


def test_days_that_follow_one_another_tell_day_and_month(tmp_path: Path) -> None:
    rows = [f"01.{day:02}.2025 14:{minute:02},{PRICES},3" for day in (6, 7, 8) for minute in range(30)]
    (tmp_path / "bars.csv").write_text("\n".join([BARS, *rows]))
    assert bars_of(read(tmp_path / "bars.csv"))[-1][0] == datetime(2025, 1, 8, 14, 29, tzinfo=UTC)


@pytest.mark.parametrize("stamp", ["%d/%m/%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%d-%m-%Y %H:%M"])
def test_a_date_that_is_two_dates_is_asked_for(tmp_path: Path, stamp: str) -> None:
    (tmp_path / "bars.csv").write_text(table(BARS, stamp))
    with pytest.raises(UnknownFormat, match=r"got such as 07/01/2025 .*source\.dates=dayfirst or source\.dates=monthf"):
        read(tmp_path / "bars.csv")
    assert bars_of(read(tmp_path / "bars.csv", dates="dayfirst")) == expected()
    july = expected(first=datetime(2025, 7, 1, 14, tzinfo=UTC))
    assert bars_of(read(tmp_path / "bars.csv", dates="monthfirst")) == july


def test_a_zone_that_the_header_names_is_used_and_told(tmp_path: Path) -> None:
    (tmp_path / "bars.csv").write_text(READ["JForex"])
    batches = read(tmp_path / "bars.csv", zone=None)
    assert bars_of(batches) == expected()
    (note,) = [note for batch in batches for note in batch.notes]
    assert "taken as Europe/Athens" in note


QUOTES = [  # bid and ask of each tick, a side blank
    ("14:00:01.5", "30.1", "30.2"),
    ("14:00:02.5", "30.0", ""),
    ("14:00:03.5", "", "30.4"),
    ("14:01:00.5", "30.2", "30.4"),
    ("14:02:00.5", "30.3", ""),
]


def minutes_of_quotes() -> list[object]:
    first = (FIRST, *map(pytest.approx, (30.15, 30.2, 30.1, 30.2)), 3)
    rest = ((1, 30.3), (2, 30.35))
    return [first, *((FIRST + timedelta(minutes=i), *[pytest.approx(mid)] * 4, 1) for i, mid in rest)]


@pytest.mark.parametrize("none", ["", "null", "NaN", "-", "N/A"])
@pytest.mark.parametrize("order", [1, -1], ids=["oldest first", "newest first"])
@pytest.mark.parametrize(("rows", "other"), [(1, False), (2, True), (7, True)])  # beside another symbol, or alone
def test_a_side_that_a_tick_leaves_blank_is_the_last_one(
    tmp_path: Path, none: str, order: int, rows: int, other: bool
) -> None:
    ticks = []
    for clock, *sides in QUOTES[::order]:
        ticks.append("\t".join(["2025.01.07", clock, *(side or none for side in sides), "XAGUSD"]))
        ticks += [f"2025.01.07\t{clock}\t2650.1\t2650.4\tXAUUSD"] * other
    header = "<DATE>\t<TIME>\t<BID>\t<ASK>\t<SYMBOL>"
    (tmp_path / "ticks.csv").write_text("\n".join([header, *ticks]))
    assert bars_of(read(tmp_path / "ticks.csv", rows=rows)) == minutes_of_quotes()


@pytest.mark.parametrize("none", [None, float("nan"), "null", ""])
@pytest.mark.parametrize("order", [1, -1], ids=["oldest first", "newest first"])
def test_a_side_that_parquet_leaves_blank_is_the_last_one(tmp_path: Path, none: float | str | None, order: int) -> None:
    kind = str if isinstance(none, str) else float
    sides = {
        name: pl.Series([kind(quote[at]) if quote[at] else none for quote in QUOTES])
        for at, name in ((1, "bid"), (2, "ask"))
    }
    frame = pl.DataFrame({"time": [f"2025-01-07 {clock}" for clock, *_ in QUOTES], **sides})
    frame[::order].write_parquet(tmp_path / "ticks.parquet")
    for rows in (1, 2, 7):
        assert bars_of(read(tmp_path / "ticks.parquet", rows=rows)) == minutes_of_quotes()


def test_a_side_is_carried_neither_back_in_time_nor_over_days_nor_through_a_file_in_no_order(tmp_path: Path) -> None:
    ticks = [f"2025.01.07\t14:{i:02}:00.5\t30.1\t30.2" for i in range(40)]
    late, days_later = "2025.01.07\t13:59:00.5\t30.0\t", "2025.01.09\t14:00:00.5\t30.0\t"
    unknown = [([*ticks, tick], "unparseable price") for tick in (late, days_later)]
    for lines, why in (*unknown, ([*ticks[1::3], late, *ticks[::-3]], "not in order")):
        (tmp_path / "ticks.csv").write_text("\n".join(["<DATE>\t<TIME>\t<BID>\t<ASK>", *lines]))
        for rows in (1, 1000):
            (reason,) = pl.concat([batch.rejects for batch in read(tmp_path / "ticks.csv", rows=rows)])["reason"]
            assert why in reason


VOLUMES = [
    *("TotalVolume", "Total Volume", "total_volume", "base_volume", "Volumen", "Quantity", "qty", "Size", "n_ticks"),
    *("volumefrom", "Vlm", "Shares", "TickVolume", "Volume BTC", "Contracts"),
    *("Volumes", "Tick Volumes", "Trading Volume", "tickcount", "Lots", "bar volume"),
]


@pytest.mark.parametrize(
    ("name", "mean"), [*zip(VOLUMES, cycle(["Volume MA", "vol_sma_20", "quote_volume", "volumeto"]), strict=False)]
)
def test_a_volume_has_many_names_and_its_mean_is_none(tmp_path: Path, name: str, mean: str) -> None:
    header = f"time,open,high,low,close,{mean},{name}"
    (tmp_path / "bars.csv").write_text(table(header, "%Y-%m-%d %H:%M", f"{PRICES},777,3"))
    assert bars_of(read(tmp_path / "bars.csv")) == expected()
    (tmp_path / "bars.csv").write_text(table(header.rpartition(",")[0], "%Y-%m-%d %H:%M", f"{PRICES},777"))
    assert bars_of(read(tmp_path / "bars.csv")) == expected(None)


@pytest.mark.parametrize("unit", ["cents", "¢", "USX", "USc", "pence"])
def test_a_unit_in_the_header_asks_for_its_factor(tmp_path: Path, unit: str) -> None:
    path = tmp_path / "bars.csv"
    prices = "2950,2960,2940,2955,3"
    path.write_text(table(f"time,Open ({unit}),High ({unit}),Low ({unit}),Close ({unit}),volume", "%F %T", prices))
    with pytest.raises(UnknownFormat, match=rf"got column Open \({unit}\) in .*; set source.price_factor=0.01"):
        read(path)
    found = bars_of(list(make_files(str(path), price_factor=0.01).read_batches()))
    assert [row[1:5] for row in found] == [pytest.approx((29.5, 29.6, 29.4, 29.55))] * 15


@pytest.mark.parametrize("unit", ["USD", "$", "US$", "USD/oz", "Bid"])
def test_a_currency_in_the_header_asks_for_nothing(tmp_path: Path, unit: str) -> None:
    header = f"time,Open ({unit}),High ({unit}),Low ({unit}),Close ({unit}),volume"
    (tmp_path / "bars.csv").write_text(table(header, "%Y-%m-%d %H:%M"))
    assert bars_of(read(tmp_path / "bars.csv")) == expected()


@pytest.mark.parametrize(
    ("name", "flags"), [("complete", "True False"), ("is_closed", "true false"), ("confirm", "1 0")]
)
def test_an_unfinished_bar_is_left_out_and_told(tmp_path: Path, name: str, flags: str) -> None:
    yes, no = flags.split()
    path = tmp_path / "bars.csv"
    lines = table(f"{BARS},{name}", "%Y-%m-%d %H:%M", f"{PRICES},3,{yes}")
    path.write_text(f"{lines}2025-01-07 14:15,{PRICES},3,{no}\n")
    found = read(path)
    assert bars_of(found) == expected()
    assert [note for batch in found for note in batch.notes] == [
        f"1 rows of {path} are of unfinished bars and are left out"
    ]


@pytest.mark.parametrize("column", ["time_close", "closeTime", "period_end", "End Time", "Bar End"])
def test_stamps_that_are_called_closes_are_taken_as_such_on_request(tmp_path: Path, column: str) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(table(BARS.replace("time", column), "%Y-%m-%d %H:%M", first=FIRST + timedelta(minutes=1)))
    with pytest.raises(UnknownFormat, match=f"got column {column} in .*; set source.stamps=close"):
        read(path)
    assert bars_of(list(make_files(str(path), stamps="close").read_batches())) == expected()


@pytest.mark.parametrize("zone", ["America/New_York+7h", "Asia/Tokyo"])
@pytest.mark.parametrize("header", ["Time (EET)", "Gmt time", "time"])
def test_the_zone_that_is_set_goes_before_that_of_the_file(tmp_path: Path, header: str, zone: str) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(table(BARS.replace("time", header), "%Y-%m-%d %H:%M"))
    found = read(path, zone)
    hours = {"Asia/Tokyo": 9, "America/New_York+7h": 2}[zone]
    assert bars_of(found) == expected(first=FIRST - timedelta(hours=hours))
    notes = [note for batch in found for note in batch.notes]
    assert [f"are taken as {zone}, as source.zone says" in note for note in notes] == [True] * (header != "time")


@pytest.mark.parametrize(
    ("label", "zone"),
    [("ET", None), ("US/Eastern", None), ("CST", "America/Chicago"), ("XYZ", "America/New_York"), ("ET", "UTC")],
)
def test_the_name_of_a_zone_is_obeyed_or_source_zone_decides(tmp_path: Path, label: str, zone: str | None) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(table(BARS, f"%Y-%m-%d %H:%M:%S {label}"))
    found = read(path, zone)
    hours = {"America/Chicago": 6, "UTC": 0}.get(zone or "", 5)
    assert bars_of(found) == expected(first=FIRST + timedelta(hours=hours))
    (note,) = [note for batch in found for note in batch.notes]
    assert ("is no one zone: source.zone says theirs" in note) == (label in ("CST", "XYZ"))


@pytest.mark.parametrize("order", [("01 CST", "07 CDT"), ("07 CDT", "01 CST")])
def test_chicago_keeps_both_of_its_names(tmp_path: Path, order: tuple[str, str]) -> None:
    rows = [f"2025-{month[:2]}-07 14:{i:02} {month[3:]},{PRICES},3\n" for month in order for i in range(15)]
    (tmp_path / "bars.csv").write_text(BARS + "\n" + "".join(rows))
    found = bars_of(read(tmp_path / "bars.csv", "America/Chicago"))
    assert [(row[0].month, row[0].hour) for row in found] == [(1, 20)] * 15 + [(7, 19)] * 15


def test_years_of_two_digits_are_read_where_the_days_tell_or_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    minutes = [(day, minute) for day in (6, 7, 8, 9) for minute in range(5)]
    path.write_text(BARS + "\n" + "".join(f"{day:02}/01/25 14:{i:02},{PRICES},3\n" for day, i in minutes))
    assert [(row[0].day, row[0].minute) for row in bars_of(read(path))] == minutes
    path.write_text(BARS + "\n" + "".join(f"07-Jan-25 14:{i:02},{PRICES},3\n" for i in range(15)))
    assert bars_of(read(path)) == expected()
    path.write_text(table(BARS, "%d/%m/%y %H:%M"))
    with pytest.raises(UnknownFormat, match=r"set source\.dates=dayfirst"):
        read(path)
    assert bars_of(read(path, dates="dayfirst")) == expected()
    path.write_text(BARS + "\n" + "".join(f"25/01/{day:02} 14:{i:02},{PRICES},3\n" for day, i in minutes))
    with pytest.raises(UnknownFormat, match=r"years of four digits, .* seem to begin with the year; write 2014/07/08"):
        read(path, dates="dayfirst")
    days = [datetime(2010, 1, 1) + timedelta(days=i) for i in range(13 * 365)]
    path.write_text("\n".join([BARS, *(f"{day:%m/%d/%y} {hour}:00,{PRICES},3" for day in days for hour in (9, 10))]))
    assert [row[0].date() for row in bars_of(read(path, rows=100_000))[::2]] == [day.date() for day in days]


def test_dates_of_excel_and_hours_in_ten_digits_are_read(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    days = [45664 + (14 * 60 + minute) / 1440 for minute in range(15)]
    path.write_text(BARS + "\n" + "".join(f"{day:.10f},{PRICES},3\n" for day in days))
    assert bars_of(read(path)) == expected()
    path.write_text(BARS + "\n" + "".join(f"20250107{hour:02},{PRICES},3\n" for hour in range(20)))
    assert [row[0].hour for row in bars_of(read(path))] == list(range(20))


def test_stamps_of_no_known_form_are_shown_with_the_forms_that_are_read(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(table(BARS, "week 2 of 2025"))
    with pytest.raises(
        UnknownFormat, match=r"stamps such as 2025-01-07 14:00, .*, got 'week 2 of 2025' in column time"
    ):
        read(path)


@pytest.mark.parametrize("end", ["59", "59.999"])
def test_closes_a_second_before_the_minute_are_closes_on_request(tmp_path: Path, end: str) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(table(BARS, f"%Y-%m-%d %H:%M:{end}"))
    with pytest.raises(UnknownFormat, match=r"got such as 2025-01-07 14:00:59 in .*; set source\.stamps=close"):
        read(path)
    assert bars_of(list(make_files(str(path), stamps="close").read_batches())) == expected()


SYMBOL_COLUMNS = [
    *("#RIC", "asset", "Security", "code", "Name", "product", "contract", "market", "Ticker Symbol", "Instrument Name"),
    *(
        "FX Pair",
        "epic",
        "<SECID>",
        "underlying",
        "symbol_id",
        "trading_pair",
        "base_currency",
        "baseAsset",
        "what",
        "",
    ),
]


@pytest.mark.parametrize("column", SYMBOL_COLUMNS)
@pytest.mark.parametrize("kind", ["text", "Parquet"])
def test_a_column_of_symbols_is_known_under_any_name(tmp_path: Path, column: str, kind: str) -> None:
    time = (pl.col("ts").dt.strftime("%Y-%m-%d %H:%M").alias("time"), "open", "high", "low", "close", "volume")
    for symbols, message in (({"XAU=": 15}, f"got 15 of XAU= in column {column} of"), ({"XAG/USD": 15, "Gold": 5}, "")):
        frame = pl.concat(
            FRAME.head(rows).select(pl.lit(symbol).alias(column), *time) for symbol, rows in symbols.items()
        )
        path = tmp_path / "bars"
        frame.write_csv(path) if kind == "text" else frame.write_parquet(path)
        if message:
            with pytest.raises(UnknownFormat, match=message):
                read(path)
        else:
            assert bars_of(read(path)) == expected()


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        *(("Type", "Intraday 1Min"), ("exchange", "COMEX"), ("currency", "USD"), ("side", "BID"), ("what", "true")),
        *(("color", "GREEN"), ("direction", "UP"), ("position", "LONG"), ("regime", "BULL")),
        *(("what", "M1"), ("what", "EST"), ("quote_asset", "USD"), ("code", "7.5"), ("quote asset volume", "1500")),
    ],
)
def test_a_column_of_other_words_names_no_symbol(tmp_path: Path, column: str, cell: str) -> None:
    (tmp_path / "bars.csv").write_text(table(f"{BARS},{column}", "%Y-%m-%d %H:%M", f"{PRICES},3,{cell}"))
    assert bars_of(read(tmp_path / "bars.csv")) == expected()


def test_slots_of_the_day_are_no_timeframe(tmp_path: Path) -> None:
    lines = table(f"{BARS},interval", "%Y-%m-%d %H:%M", f"{PRICES},3,SLOT").splitlines()
    text = "\n".join(line.replace("SLOT", f"0{9 + number % 2}:00-10:00"[-11:]) for number, line in enumerate(lines))
    (tmp_path / "bars.csv").write_text(text)
    assert bars_of(read(tmp_path / "bars.csv")) == expected()


SYMBOLS = "".join(
    f"2025-01-07 14:{minute:02},{symbol},M1,{prices},3\n"
    for symbol, prices in (("XAU/USD", "2650,2651,2649,2650"), ("xag-usd.m", PRICES))
    for minute in range(15)
)


def test_rows_of_another_symbol_are_left_out_and_told(tmp_path: Path) -> None:
    (tmp_path / "bars.csv").write_text("datetime,symbol,timeframe,open,high,low,close,volume\n" + SYMBOLS)
    batches = read(tmp_path / "bars.csv")
    assert bars_of(batches) == expected()
    (note,) = [note for batch in batches for note in batch.notes]
    assert note.endswith("are left out: 15 of XAU/USD")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("xag-usd.m", "XAUUSD", "Expected rows of XAGUSD, got .*XAUUSD"),
        ("XAU/USD", "XAGUSD", "Expected one spelling of XAGUSD, got XAGUSD, xag-usd.m"),
        ("xag-usd.m,M1", "XAGUSD,H1", "Expected one timeframe|left out"),
    ],
)
def test_a_file_of_another_symbol_or_of_two_like_ours_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    text = "datetime,symbol,timeframe,open,high,low,close,volume\n" + SYMBOLS.replace(old, new)
    if new.endswith("H1"):
        text = text.replace("XAU/USD", "XAGUSD")
    (tmp_path / "bars.csv").write_text(text)
    with pytest.raises(UnknownFormat, match=message):
        read(tmp_path / "bars.csv")


REFUSED = {
    "closes alone": ("time,close\n2025-01-07 14:00,29.5\n", "got time, close"),
    "days": (table(BARS, "%Y-%m-%d"), "without a time of day"),
    "a close twice": (
        table("time,open,high,low,close,Close", "%Y-%m-%d %H:%M"),
        "Expected one column close, got 2; rename those",
    ),
    "names in words that nobody knows": (
        table("Datum,Schluss,Hoch,Tief,Anfang,Umsatz", "%Y-%m-%d %H:%M"),
        "that names time, open, high",
    ),
    "hours without minutes": (table("date,time,open,high,low,close,volume", "%Y-%m-%d,14"), "such as 1400 or 140000"),
    "no stamp": (table("what,open,high,low,close,volume", "x"), "a column of time stamps"),
    "two layouts": (PLAIN + "close,low,high,open,volume,time\n", "got another header in line 17"),
    "a word for AM or PM": (table(BARS, "%Y-%m-%d 02:%M NM"), "got 'NM' beside clocks up to 12"),
    "twelve hours": (
        BARS + "".join(f"\n2025-01-07 {h:02}:{m},{PRICES},3" for h in (10, 11, 12, 1, 2, 3, 4) for m in (10, 40)),
        "clocks of 24 hours, or AM and PM beside them, got such that go from 12:59 back to 1:00",
    ),
    "hours and minutes that a dash parts": (table(BARS, "%Y-%m-%d %H-%M"), "got '2025-01-07 14-00' in column time"),
    "bars with quotes whose prices have unknown names": (
        table("Zeit,Er\u00f6ffnung,Hoch,Tief,Schluss,Bid,Ask", "%Y-%m-%d %H:%M", f"{PRICES},29.54,29.56"),
        "got bid and ask of each minute beside prices in columns Er.ffnung, Hoch, Tief, Schluss of .*; export whole",
    ),
    "bars with quotes that lack the open": (
        table("time,high,low,close,bid,ask,volume", "%Y-%m-%d %H:%M", "29.6,29.4,29.55,29.54,29.56,3"),
        "beside prices in columns high, low, close of",
    ),
    "prices in 32nds": (
        table(BARS, "%Y-%m-%d %H:%M", "113'000,113'010,112'310,113'000,3"),
        'that tell thousands from 32nds, got "113\'000"',
    ),
    "a day and its milliseconds": (
        f"date,ms_of_day,{OHLCV}" + "".join(f"\n2025-01-07 00:00:00,{i * 60_000},{PRICES},3" for i in range(15)),
        "without a time of day in .*, and '840000' in column ms_of_day, which is not read; write that time into",
    ),
    "a day and the number of its bar": (
        f"time,bar,{OHLCV}" + "".join(f"\n2025-01-07 00:00,{i},29,40,28,{30 + i / 10},3" for i in range(15)),
        "got 1 bars and 14 again with other prices",
    ),
    "prices that pandas has numbered": (
        table(
            "time,Open,High,Low,Close,Open.1,High.1,Low.1,Close.1", "%Y-%m-%d %H:%M", f"2650,2651,2649,2650,{PRICES}"
        ),
        "Expected one column open, got 2",
    ),
    "from and to": (
        BARS + "".join(f"\n2025-01-07 09:{i:02}-09:{i + 1:02},{PRICES},3" for i in range(15)),
        "got '2025-01-07 09:00-09:01' in column time",
    ),
    "unfinished bars": (table(f"{BARS},final", "%Y-%m-%d %H:%M", f"{PRICES},3,0"), "got 15 that a column flags as unf"),
    "Yahoo's other ticker": (
        READ["Yahoo's three lines"].replace("X,X,X,X,X", ",".join(["XAUUSD=X"] * 5)),
        "Expected rows of XAGUSD, got those of XAUUSD by the lines above the rows",
    ),
    "a contract without a header": (table("", "%Y-%m-%d,%H:%M", f"{PRICES},33,8,SIZ15"), "15 of SIZ15 in column 9 of"),
    "a column too many": (table(BARS, "%Y-%m-%d %H:%M,x,y"), "Expected 6 columns as the header names them, got rows"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_told_is_refused_in_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bars.csv").write_text(text)
    with pytest.raises(UnknownFormat, match=message):
        read(tmp_path / "bars.csv")


def zipped(**members: str | bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return written.getvalue()


def with_directory_of(size: int, size_64: int = 0) -> bytes:
    """An archive that says so of the list of its files."""
    end_64 = b"PK\x06\x06" + bytes(36) + size_64.to_bytes(8, "little") + bytes(8) + b"PK\x06\x07" + bytes(16)
    return b"PK\x03\x04" + end_64 * bool(size_64) + b"PK\x05\x06" + bytes(8) + size.to_bytes(4, "little") + bytes(6)


def tarred() -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        member = tarfile.TarInfo("a.csv")
        member.size = len(PLAIN)
        archive.addfile(member, io.BytesIO(PLAIN.encode()))
    return written.getvalue()


def sheet_cells(rows: list[list[object]]) -> str:
    return "".join(
        f'<row r="{r}">'
        + "".join(
            f'<c t="inlineStr"><is><t>{cell}</t></is></c>'
            if isinstance(cell, str)
            else f'<c s="1"><v>{(cell - datetime(1899, 12, 30)).total_seconds() / 86400!r}</v></c>'
            if isinstance(cell, datetime)
            else f"<c><v>{cell}</v></c>"
            for cell in row
        )
        + "</row>"
        for r, row in enumerate(rows, 1)
    )


def workbook(**sheets: list[list[object]]) -> bytes:
    """An xlsx file as small as it can be, with texts, numbers and one style for dates."""
    main, office = "http://schemas.openxmlformats.org/spreadsheetml/2006/main", "http://schemas.openxmlformats.org"
    relation = f"{office}/officeDocument/2006/relationships"
    part = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    listed = "".join(f'<sheet name="{name}" sheetId="{i}" r:id="r{i}"/>' for i, name in enumerate(sheets, 1))
    related = "".join(
        f'<Relationship Id="r{i}" Type="{relation}/worksheet" Target="worksheets/sheet{i}.xml"/>'
        for i in range(1, len(sheets) + 1)
    )
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{office}/package/2006/content-types"><Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" '
        f'ContentType="{part}.sheet.main+xml"/><Override PartName="/xl/styles.xml" ContentType="{part}.styles+xml"/>'
        "</Types>",
        "_rels/.rels": f'<Relationships xmlns="{office}/package/2006/relationships"><Relationship Id="r1" '
        f'Type="{relation}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{relation}"><sheets>{listed}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{office}/package/2006/relationships">{related}'
        f'<Relationship Id="styles" Type="{relation}/styles" Target="styles.xml"/></Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{main}"><cellXfs><xf numFmtId="0"/><xf numFmtId="22"/></cellXfs>'
        "</styleSheet>",
    }
    for i, rows in enumerate(sheets.values(), 1):
        data = f'<worksheet xmlns="{main}"><sheetData>{sheet_cells(rows)}</sheetData></worksheet>'
        parts[f"xl/worksheets/sheet{i}.xml"] = data
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return written.getvalue()


def test_a_workbook_is_read_with_stamps_as_text_or_as_dates(tmp_path: Path) -> None:
    naive = [FIRST.replace(tzinfo=None) + timedelta(minutes=i) for i in range(15)]
    for stamps in (naive, [f"{stamp}" for stamp in naive]):
        rows: list[list[object]] = [BARS.split(",")]
        rows += [[stamp, 29.5, 29.6, 29.4, 29.55, 3] for stamp in stamps]
        (tmp_path / "bars.xlsx").write_bytes(workbook(M1=rows))
        assert bars_of(read(tmp_path / "bars.xlsx")) == expected()


LATER = table(BARS, "%Y-%m-%d %H:%M:%S", first=FIRST + timedelta(minutes=15))
GOLD = PLAIN.replace("29.", "2650.")


def cells_of(text: str) -> list[list[object]]:
    return [list(line.split(",")) for line in text.splitlines()]


def notes_of(batches: list[BarBatch]) -> list[str]:
    return [note for batch in batches for note in batch.notes]


@pytest.mark.parametrize(
    "content",
    [
        zipped(b_csv=LATER, a_csv=PLAIN),
        zipped(b_txt=LATER, a_csv=PLAIN),
        zipped(b_CSV=LATER.replace(",", "\t"), a_tsv=PLAIN.replace(",", ";")),
        workbook(Jan=cells_of(PLAIN), Feb=cells_of(LATER)),
        workbook(**{"M1 USD": cells_of(PLAIN), "in USD": cells_of(LATER)}),
    ],
    ids=["csv", "csv and txt", "other names and separators", "sheets", "sheets of a currency"],
)
def test_every_file_of_an_archive_and_every_sheet_is_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bars").write_bytes(content)
    found = read(tmp_path / "bars")
    assert bars_of(found) == expected(count=30)
    assert notes_of(found) == []


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (zipped(a_csv=PLAIN, read_txt="Gap report"), "got .*read.txt that begins"),
        (zipped(a_csv=PLAIN, b_png=b"\x89PNG" + bytes(9)), "got a PNG picture"),
        (workbook(Info=[["Made by X"], ["in 2025"]], Bars=cells_of(PLAIN)), "got .*Info that begins"),
        (workbook(XAUUSD=cells_of(GOLD), XAGUSD=cells_of(PLAIN)), r"got those of XAUUSD by the name of .*bars/XAUUSD"),
        (zipped(**{"XAGUSD/a_csv": PLAIN, "XAUUSD/b_csv": GOLD}), "got those of XAUUSD by the name of .*XAUUSD/b.csv"),
        (zipped(DAT_XAUUSD_M1=GOLD, DAT_XAGUSD_M1=PLAIN), r"got those of XAUUSD by the name of .*DAT.XAUUSD.M1"),
        (
            zipped(a_csv=PLAIN, b_csv=GOLD.replace("\n", ",XAUUSD\n").replace("volume,XAUUSD", "volume,symbol")),
            "got 15 of XAUUSD in .*b.csv",
        ),
    ],
)
def test_what_is_left_out_of_an_archive_or_workbook_is_told(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "bars").write_bytes(content)
    found = read(tmp_path / "bars")
    assert bars_of(found) == expected()
    (note,) = notes_of(found)
    assert re.search(f"A part of an archive or workbook is left out: Expected .*{why}", note)


def test_a_workbook_of_another_symbol_alone_is_refused_and_taken_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "bars").write_bytes(workbook(XAUUSD=cells_of(PLAIN)))
    with pytest.raises(UnknownFormat, match=r"Expected rows of XAGUSD, got those of XAUUSD .* or set source\.symbol"):
        read(tmp_path / "bars")
    source = make_files(str(tmp_path / "bars"), symbol="XAUUSD")
    assert bars_of(list(source.read_batches())) == expected()


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


OTHERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "PNG": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(99), "got a PNG picture"),
    "PDF": (lambda: b"%PDF-1.7\n" + bytes(99), "got a PDF document"),
    "SQLite": (lambda: b"SQLite format 3\0" + bytes(99), "got an SQLite database"),
    "xls": (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "got an old Excel file"),
    "Feather": (lambda: b"ARROW1\0\0" + bytes(99), "got a Feather file"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), "got an HDF5 file"),
    "7z": (lambda: b"7z\xbc\xaf\x27\x1c" + bytes(99), "got a 7z archive"),
    "pickle": (lambda: b"\x80\x04\x95" + bytes(99), "got a Python pickle"),
    "bi5": (lambda: b"\x5d\0\0\x80\0" + bytes(99), "got an LZMA file"),
    "hst": (lambda: b"\x91\x01\0\0(C)opyright" + bytes(99), "got a MetaTrader history"),
    "JSON": (lambda: b'{"timestamp": 1736258400000}', "got JSON"),
    "JSON with a blank": (lambda: b'[\n  {"t": 1736258400000}]', "got JSON"),
    "RTF": (lambda: b"{\\rtf1 time}", "got an RTF document"),
    "web page": (lambda: b"<!DOCTYPE html><html>", "got a web page"),
    "web page in capitals": (lambda: b"<HTML><BODY>", "got a web page"),
    "dBase": (lambda: b"\x03\x79\x01\x07" + bytes(300), "got binary data"),
    "DuckDB": (lambda: bytes(8) + b"DUCK" + bytes(300), "got binary data"),
    "noise": (lambda: bytes(range(256)) * 9, "got binary data"),
    "tar": (tarred, "got a tar archive"),
    "gzip in gzip": (lambda: gzip.compress(gzip.compress(PLAIN.encode())), "got a packed file within another"),
    "a picture in a zip": (lambda: zipped(a_png=b"\x89PNG" + bytes(9)), "got a PNG picture"),
    "one endless line": (lambda: b"0" * 3_000_000, "Expected lines of at most 1,048,576 characters"),
    "a bomb in gzip": (lambda: gzip.compress(b"0" * 30_000_000), "Expected lines of at most"),
    "a bomb in zip": (lambda: zipped(a_csv=b"0" * 30_000_000), "Expected lines of at most"),
    "a cut gzip": (lambda: gzip.compress(PLAIN.encode())[:-9], "a cut or damaged one"),
    "a damaged gzip": (lambda: flipped(gzip.compress(PLAIN.encode()), 40), "a cut or damaged one"),
    "rubbish behind gzip": (lambda: gzip.compress(PLAIN.encode()) + b"rubbish", "a cut or damaged one"),
    "a cut zip": (lambda: zipped(a_csv=PLAIN)[:-9], "a cut or damaged one"),
    "a damaged zip": (lambda: flipped(zipped(a_csv=PLAIN), 60), "a cut or damaged one"),
    "a damaged workbook": (
        lambda: flipped(workbook(M1=[["time"], ["x"]]), 400),
        "Expected a whole workbook|a cut or damaged one",
    ),
    "cells of a workbook that are far apart": (
        lambda: workbook(M1=[["a</t></is></c><c r='XFD1048576' t='inlineStr'><is><t>b"]]),
        "Expected a workbook whose cells, with the empty ones between them, fit into 2,048 MB of memory",
    ),
    "too many files in a zip": (lambda: zipped(**{f"{n}_csv": "" for n in range(10_001)}), "at most 10,000 files"),
    "far too many files in a zip": (lambda: with_directory_of(1 << 31), "at most 10,000 files"),
    "far too many files in a zip of 64 bits": (lambda: with_directory_of(0xFFFFFFFF, 1 << 40), "at most 10,000 files"),
    "half a Parquet file": (lambda: b"PAR1" + bytes(99), "a cut or damaged one"),
}


@pytest.mark.parametrize(("content", "message"), OTHERS.values(), ids=OTHERS.keys())
def test_what_is_no_table_is_named_by_what_it_is(tmp_path: Path, content: Callable[[], bytes], message: str) -> None:
    (tmp_path / "bars.csv").write_bytes(content())
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path / "bars.csv")
    assert str(error.value).isprintable() and len(str(error.value)) < 400


@pytest.mark.parametrize("interpreter", ["/bin/false", "", None])
def test_a_workbook_that_no_process_reads_is_not_taken_for_a_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interpreter: str | None
) -> None:
    (tmp_path / "bars.xlsx").write_bytes(workbook(M1=cells_of(PLAIN)))
    monkeypatch.setattr(sys, "executable", interpreter)
    with pytest.raises(DataError, match=r"got (exit code 1 of /bin/false: it says nothing|(''|None) \(.*); .*as CSV"):
        read(tmp_path / "bars.xlsx")


def test_a_workbook_is_read_beside_a_module_of_a_library_name_and_without_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bars.xlsx").write_bytes(workbook(M1=cells_of(PLAIN)))
    (tmp_path / "json.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    assert bars_of(read(tmp_path / "bars.xlsx")) == expected()


def test_a_workbook_waits_for_the_one_before_it_within_the_time_limit(tmp_path: Path) -> None:
    def end(rows: int) -> None:
        raise DataError("over the limit")

    with ONE_AT_A_TIME, pytest.raises(DataError, match="over the limit"):
        read_sheets(tmp_path / "bars.xlsx", end)


FRAME = pl.DataFrame(
    {
        "ts": [FIRST.replace(tzinfo=None) + timedelta(minutes=i) for i in range(15)],
        **{name: [float(value)] * 15 for name, value in zip(BARS.split(",")[1:5], PRICES.split(","), strict=True)},
        "volume": [3.0] * 15,
    }
)
STAMP = pl.col("ts")
PARQUETS = {
    "ticks of .NET": FRAME.with_columns((STAMP.dt.epoch("s") + 62_135_596_800) * 10_000_000),
    "milliseconds": FRAME.with_columns(STAMP.dt.epoch("ms")),
    "seconds as floats": FRAME.with_columns(STAMP.dt.epoch("s").cast(pl.Float64)),
    "text": FRAME.with_columns(STAMP.dt.strftime("%Y-%m-%d %H:%M")),
    "nanoseconds": FRAME.with_columns(STAMP.cast(pl.Datetime("ns"))),
    "a day and its time": FRAME.select(STAMP.dt.date().alias("Date"), STAMP.dt.time().alias("Time"), pl.exclude("ts")),
    "decimals": FRAME.with_columns(pl.col("open", "high", "low", "close").cast(pl.Decimal(10, 3))),
    "prices as text": FRAME.with_columns(pl.col("open", "high", "low", "close").cast(pl.String)),
    "other names": FRAME.rename({"ts": "DateTime", "open": "Open", "high": "HIGH"}),
    "the index of pandas": FRAME.select(pl.exclude("ts"), STAMP.alias("__index_level_0__")),
    "two symbols": pl.concat([FRAME.with_columns(symbol=pl.lit(name)) for name in ("XAGUSD", "XAUUSD")]),
    "a day with a midnight": FRAME.select(
        STAMP.dt.truncate("1d").alias("Date"), STAMP.dt.time().alias("Time"), pl.exclude("ts")
    ),
    "Databento's whole numbers": FRAME.with_columns(
        (pl.col("open", "high", "low", "close") * 1e9).round().cast(pl.Int64), publisher_id=1
    ),
    "a day and its time since midnight": FRAME.select(
        STAMP.dt.date().alias("Date"), (STAMP - STAMP.dt.truncate("1d")).alias("Time"), pl.exclude("ts")
    ),
    "numbers of 32 bits": FRAME.with_columns(pl.col(pl.Float64).cast(pl.Float32)),
    "a symbol of categories": FRAME.with_columns(ticker=pl.lit("XAGUSD").cast(pl.Categorical)),
}


@pytest.mark.parametrize("frame", PARQUETS.values(), ids=PARQUETS.keys())
def test_parquet_of_any_type_and_name_gives_the_same_bars(tmp_path: Path, frame: pl.DataFrame) -> None:
    frame.write_parquet(tmp_path / "bars.parquet")
    assert bars_of(read(tmp_path / "bars.parquet")) == expected()


def test_parquet_without_a_volume_has_none(tmp_path: Path) -> None:
    FRAME.with_columns(volume=None).write_parquet(tmp_path / "bars.parquet")
    assert bars_of(read(tmp_path / "bars.parquet")) == expected(None)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_parquet_stamps_out_of_range_are_rejects(tmp_path: Path, unit: Literal["ms", "us", "ns"]) -> None:
    stamps = FRAME["ts"].cast(pl.Datetime(unit)).to_physical().scatter(3, 2**63 - 1)
    FRAME.with_columns(stamps.cast(pl.Datetime(unit)).alias("ts")).write_parquet(tmp_path / "bars.parquet")
    batches = read(tmp_path / "bars.parquet")
    assert sum(batch.bars.height for batch in batches) >= 14
    refused = pl.concat([batch.rejects for batch in batches]).select("line", "reason").rows()
    assert refused == [(4, "unparseable time stamp")] or unit == "ns"


def test_a_time_of_parquet_outside_its_day_is_a_reject(tmp_path: Path) -> None:
    times = pl.Series("Time", [timedelta(hours=14, minutes=i) for i in range(15)]).scatter([3, 5], [-HOUR, 24 * HOUR])
    FRAME.select(STAMP.dt.date().alias("Date"), times, pl.exclude("ts")).write_parquet(tmp_path / "bars.parquet")
    batches = read(tmp_path / "bars.parquet")
    assert pl.concat([batch.rejects for batch in batches])["line"].to_list() == [4, 6]


def test_parquet_of_another_symbol_or_of_days_is_refused(tmp_path: Path) -> None:
    FRAME.with_columns(symbol=pl.lit("XAUUSD")).write_parquet(tmp_path / "bars.parquet")
    with pytest.raises(UnknownFormat, match="Expected rows of XAGUSD, got 15 of XAUUSD"):
        read(tmp_path / "bars.parquet")
    FRAME.with_columns(STAMP.dt.date()).write_parquet(tmp_path / "bars.parquet")
    with pytest.raises(UnknownFormat, match="without a time of day"):
        read(tmp_path / "bars.parquet")


OPEN = table(BARS, "%Y-%m-%d %H:%M:%S", "48_250,48_255,48_249,48_253,3")


def in_text(text: str, separator: str, sign: str) -> bytes:
    return text.replace(",", separator).replace("_", sign).encode()


def in_quotes(text: str) -> bytes:
    return text.replace("48_250,48_255,48_249,48_253", '"48,250","48,255","48,249","48,253"').encode()


def in_workbook(text: str) -> bytes:
    return workbook(M1=[[cell.replace("_", ",") for cell in line.split(",")] for line in text.splitlines()])


def in_parquet(text: str) -> bytes:
    written = io.BytesIO()
    rows = [line.split(",") for line in text.splitlines()]
    columns = {name: [row[i].replace("_", ",") for row in rows[1:]] for i, name in enumerate(rows[0])}
    pl.DataFrame(columns).write_parquet(written)
    return written.getvalue()


@pytest.mark.parametrize(
    ("written", "point"),
    [
        *((lambda text, cell=cell: in_text(text, cell, ","), 1) for cell in "\t|;"),
        (lambda text: in_text(text, ";", "."), -1),
        (in_quotes, 1),
        (in_workbook, 1),
        (in_parquet, 1),
    ],
    ids=["tab", "bar", "semicolon", "points between semicolons", "quotes", "workbook", "Parquet"],
)
def test_prices_off_by_a_thousand_are_asked_for(tmp_path: Path, written: Callable[[str], bytes], point: int) -> None:
    (tmp_path / "bars").write_bytes(written(OPEN))
    with pytest.raises(UnknownFormat, match=r"got '48[.,]250' in .* source\.decimal=comma or source\.decimal=point"):
        read(tmp_path / "bars")
    for decimal, closes in zip(("point", "comma")[::point], (48253.0, 48.253), strict=True):
        source = make_files(str(tmp_path / "bars"), decimal=decimal)
        assert {row[4] for row in bars_of(list(source.read_batches()))} == {closes}


@pytest.mark.parametrize(("one", "close"), [("1,048,253.5", 48253), ("48,253.25", 48253), ("48,2535", 48.253)])
def test_one_price_tells_the_decimal_sign_of_a_file(tmp_path: Path, one: str, close: float) -> None:
    text = OPEN.replace(",", "\t").replace("_", ",")
    at = text.rindex("48,253")
    (tmp_path / "bars").write_text(text[:at] + one + text[at + 6 :])
    bars = pl.concat([batch.bars for batch in read(tmp_path / "bars")])
    assert bars["close"][0] == close


def test_a_decimal_sign_that_is_none_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"Expected source\.decimal as comma or point or null, got semicolon"):
        make_files("x.csv", decimal="semicolon")


@pytest.mark.parametrize("odd", ["NaT {i},29.5,29.6,29.4,29.55,3\n", BARS + "\n"], ids=["no stamps", "headers"])
def test_rows_that_begin_with_a_letter_cost_little(tmp_path: Path, odd: str) -> None:
    good = "".join(f"{FIRST + timedelta(minutes=i):%Y-%m-%d %H:%M:%S},{PRICES},3\n" for i in range(300))
    (tmp_path / "bars.csv").write_text(f"{BARS}\n{good}" + "".join(odd.format(i=i) for i in range(100_000)))
    began = time.process_time()
    found = read(tmp_path / "bars.csv", rows=200_000)
    assert time.process_time() - began < 5
    assert sum(batch.bars.height for batch in found) == 300
    assert sum(batch.rejects.height for batch in found) == (100_000 if "{i}" in odd else 0)


def rows_of(*lines: str) -> str:
    """Lines, the last of them for each of 40 minutes: `{}` is its stamp, `{day}` and `{clock}` are its parts."""
    stamps = [FIRST + timedelta(minutes=n) for n in range(40)]
    rows = [lines[-1].format(f"{ts:%F %T}", day=f"{ts:%F}", clock=f"{ts:%T}") for ts in stamps]
    return "\n".join([*lines[:-1], *rows]) + "\n"


BESIDE = {
    "a row within a minute": rows_of(f"{{}},{PRICES}").replace("14:05:00", "14:05:27", 1),
    "a contract's day": rows_of(f"start_date,date,time,{OHLCV}", f"2024-12-02,{{day}},{{clock}},{PRICES},3"),
    "open interest": rows_of(f"time,{OHLCV},OpenInt", f"{{}},{PRICES},3,45123.0"),
    "the start of a session": rows_of(f"session_start,time,{OHLCV}", f"2025-01-07 09:00,{{}},{PRICES},3"),
    "a length": rows_of(f"date,interval,time,{OHLCV}", f"{{day}},00:01:00,{{clock}},{PRICES},3"),
    "an offset": rows_of(f"date,utc_offset,time,{OHLCV}", f"{{day}},00:00,{{clock}},{PRICES},3"),
    "days with an offset": rows_of(f"date,time,{OHLCV}", f"{{day}} 00:00:00+00:00,{{clock}},{PRICES},3"),
    "lines that a spreadsheet fills up": rows_of(
        "Security,XAG Curncy,,,,", "Start Date,01/07/2025 00:00,,,,", ",,,,,", f"Date,{OHLCV}", f"{{}},{PRICES},3"
    ),
    "a last price": rows_of("Date\tOpen\tHigh\tLow\tLast Price\tVolume", f"{{}}\t{PRICES}\t3".replace(",", "\t")),
    "a volume in dollars": rows_of(f"date,{OHLCV} XAG,Volume USD", f"{{}},{PRICES},3,88.65"),
    "dollars first": rows_of("date,open,high,low,close,Volume USD,Volume XAG", f"{{}},{PRICES},88.65,3"),
}  # fmt: skip


@pytest.mark.parametrize("text", BESIDE.values(), ids=BESIDE.keys())
def test_what_stands_beside_the_bars_is_not_taken_for_them(tmp_path: Path, text: str) -> None:
    (tmp_path / "bars.csv").write_text(text)
    batches = read(tmp_path / "bars.csv", rows=1000)
    bars = pl.concat([batch.bars for batch in batches])
    odd = "14:05:27" in text
    assert (bars.height, sum(batch.rejects.height for batch in batches)) == (40 - odd, odd)
    assert bars["ts"][0] == FIRST and bars["ts"][-1] == FIRST + timedelta(minutes=39)
    assert bars["close"].unique().to_list() == [29.55]
    assert bars["volume"].drop_nulls().unique().to_list() == ([] if odd else [3])


@pytest.mark.parametrize(
    "name",
    [
        *("ts_event", "timestamp_ms", "unix_ms", "UnixTimeStamp", "date_unix", "mts", "datetime_ms", "utc_timestamp"),
        *("timestamp_utc_ms", "bar_ts", "tick_time", "begins_at", "microtimestamp", "t_ms"),
    ],
)
def test_an_epoch_is_known_under_any_usual_name(tmp_path: Path, name: str) -> None:
    rows = [f"{int((FIRST + timedelta(minutes=n)).timestamp() * 1000)},{PRICES},3" for n in range(15)]
    (tmp_path / "bars.csv").write_text("\n".join([f"{name},{OHLCV}", *rows]))
    assert bars_of(read(tmp_path / "bars.csv", zone=None)) == expected()


@pytest.mark.parametrize("point", [":", ","])
def test_a_fraction_that_strptime_cannot_read_is_not_tried(point: str) -> None:
    stamps = recognise_stamp([f"20250107 14:00:00{point}000"])
    assert stamps and stamps.usual is None


def test_prices_of_the_ask_are_no_volume(tmp_path: Path) -> None:
    (tmp_path / "bars.csv").write_text(rows_of("{},29.5,29.6,29.4,29.55,29.52,29.62,29.42,29.57"))
    assert {row[5] for row in bars_of(read(tmp_path / "bars.csv"))} == {None}


def test_closes_without_a_header_are_closes_on_request(tmp_path: Path) -> None:
    (tmp_path / "bars.csv").write_text(rows_of(f"{{}},{PRICES}").replace(":00,", ":59,"))
    with pytest.raises(UnknownFormat, match=r"set source\.stamps=close"):
        read(tmp_path / "bars.csv")


@pytest.mark.parametrize("name", ["granularity", "resolution"])
def test_bars_of_two_periods_are_not_mixed(tmp_path: Path, name: str) -> None:
    text = rows_of(f"time,{name},open,high,low,close", f"{{}},M1,{PRICES}")
    (tmp_path / "bars.csv").write_text(f"{text}2025-01-07 14:00:00,H1,29.5,31,28,29.9\n")
    with pytest.raises(UnknownFormat, match="Expected one timeframe, got H1, M1"):
        read(tmp_path / "bars.csv")


def test_two_series_in_one_file_are_refused(tmp_path: Path) -> None:
    sides = [rows_of(f"{{}},{side},{prices},3") for side, prices in (("BID", PRICES), ("ASK", "29.6,29.7,29.5,29.65"))]
    (tmp_path / "bars.csv").write_text(f"time,kind,{OHLCV}\n{''.join(sides)}")
    with pytest.raises(UnknownFormat, match=r"got 40 bars and 40 again with other prices in .*, as of two series"):
        read(tmp_path / "bars.csv", rows=1000)


def test_a_column_of_zones_is_told(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(rows_of(f"date,time,timezone,{OHLCV}", f"{{day}},{{clock}},EST,{PRICES},3"))
    notes = [note for batch in read(path) for note in batch.notes]
    assert notes == [f"Column timezone of {path} is not read: source.zone says the zone of its stamps"]


def test_a_name_that_a_header_lacks_is_said(tmp_path: Path) -> None:
    (tmp_path / "bars.csv").write_text(rows_of("time,open,high,low,close", f"{{}},{PRICES},3"))
    with pytest.raises(UnknownFormat, match="Expected 5 columns as the header names them, got rows of 6"):
        read(tmp_path / "bars.csv")


def test_a_date_of_excel_may_have_a_decimal_comma(tmp_path: Path) -> None:
    rows = [f"{45664 + (14 * 60 + n) / 1440:.9f};29.5;29.6;29.4;29.55;3".replace(".", ",") for n in range(15)]
    (tmp_path / "bars.csv").write_text("\n".join(["Date;Open;High;Low;Close;Volume", *rows]))
    assert bars_of(read(tmp_path / "bars.csv")) == expected()


def test_epochs_may_change_their_unit_on_the_way(tmp_path: Path) -> None:
    seconds, milliseconds, microseconds = (epochs(unit).splitlines() for unit in (1, 1_000, 1_000_000))
    (tmp_path / "bars.csv").write_text("\n".join(seconds[:4] + milliseconds[4:9] + microseconds[9:]))
    assert bars_of(read(tmp_path / "bars.csv", zone=None)) == expected()


@pytest.mark.parametrize("name", ["hour", "Hour", "hr"])
@pytest.mark.parametrize("day", ["%Y-%m-%d", "%d/%m/%Y", "%Y%m%d", "%Y-%m-%d 00:00:00"])
def test_a_day_and_its_hour_are_a_stamp(tmp_path: Path, name: str, day: str) -> None:
    hours = [FIRST + timedelta(hours=i) for i in range(90)]
    rows = [f"{ts.strftime(day)},{ts.hour},{PRICES},3\n" for ts in hours]
    (tmp_path / "bars.csv").write_text(f"date,{name},{OHLCV}\n" + "".join(rows))
    assert bars_of(read(tmp_path / "bars.csv")) == [(ts, 29.5, 29.6, 29.4, 29.55, 3) for ts in hours]


@pytest.mark.parametrize("beside", ["AM/PM", "sec"])
def test_an_hour_beside_a_finer_column_is_no_stamp(tmp_path: Path, beside: str) -> None:
    rows = [f"2025-01-{7 + i:02},9,{'PM' if beside == 'AM/PM' else 30},{PRICES}\n" for i in range(15)]
    (tmp_path / "bars.csv").write_text(f"date,hour,{beside},open,high,low,close\n" + "".join(rows))
    with pytest.raises(UnknownFormat, match=r"without a time of day in .*, and '9' in column hour, which is not read"):
        read(tmp_path / "bars.csv")


def test_a_date_of_trading_is_told(tmp_path: Path) -> None:
    (tmp_path / "bars.csv").write_text(table(f"TradeDate,Time,{OHLCV}", "%Y-%m-%d,%H:%M"))
    (note,) = notes_of(read(tmp_path / "bars.csv"))
    assert "where it dates an evening as the next day, write the calendar day" in note


@pytest.mark.parametrize(
    "row",
    [
        "XAG/USD,{:%Y%m%d %H:%M:%S}.123,29.5,29.6",  # TrueFX
        "{:%m/%d/%Y,%H:%M:%S},29.55,29.5,29.6,100",  # Kibot
        "{:%m/%d/%Y,%H:%M:%S},29.5,29.5,29.6,100",  # a trade at the bid
        "{:%Y%m%d %H%M%S}123,29.5,29.6,0",  # HistData
        "{:%Y-%m-%d %H:%M:%S.250},29.5,29.6",
        "{:%s}250,29.5,29.6,1.5,2.5",
        "{:%Y%m%d %H%M%S} 2500000;29.55;29.5;29.6;1",  # NinjaTrader
    ],
)
def test_ticks_without_a_header_are_known_by_their_rows(tmp_path: Path, row: str) -> None:
    rows = [row.format(FIRST + timedelta(days=i // 60, seconds=20 * i)) for i in range(120)]
    (tmp_path / "ticks.csv").write_text("\n".join(rows))
    batches = read(tmp_path / "ticks.csv", rows=1000)
    bars = pl.concat([batch.bars for batch in batches])
    assert [batch.rejects.height for batch in batches] == [0] * len(batches)
    assert bars["ts"].to_list() == [FIRST + timedelta(days=i // 20, minutes=i) for i in range(40)]
    assert bars["close"].round(9).unique().to_list() == [29.55] and bars["spread"].round(9).unique().to_list() == [0.1]


def test_databentos_undefined_prices_are_none_and_its_unit_is_told(tmp_path: Path) -> None:
    path, undefined = tmp_path / "bars.csv", 2**63 - 1
    path.write_text(table(DATABENTO, "%s000000000,33,1,42", f"{NANOS},3,XAGUSD"))
    unit = f"Prices of {path} are taken as Databento's whole numbers of 1e-9"
    assert notes_of(read(path)) == [unit]
    path.write_text(path.read_text() + f"1736259300000000000,33,1,42,{','.join([str(undefined)] * 4)},0,XAGUSD\n")
    assert bars_of(read(path)) == expected()
    assert notes_of(read(path)) == [unit, f"1 rows of {path} have no prices and are left out"]
    quotes = "ts_recv,ts_event,rtype,publisher_id,instrument_id,bid_px_00,ask_px_00,symbol"
    path.write_text(f"""{quotes}
1736258400000000009,1736258400000000000,1,1,42,29500000000,29600000000,XAGUSD
1736258460000000009,1736258460000000000,1,1,42,29540000000,{undefined},XAGUSD
""")
    assert [bar[1:5] for bar in bars_of(read(path))] == [(29.55,) * 4, (29.57,) * 4]


@pytest.mark.parametrize("order", [1, -1])
def test_bars_without_a_header_whose_prices_are_in_another_order_are_refused(tmp_path: Path, order: int) -> None:
    prices = [29 + (i * 7 % 10) / 10 for i in range(31)]
    bars = [(f"{FIRST + timedelta(minutes=i):%Y-%m-%d %H:%M:%S}", *prices[i : i + 2]) for i in range(30)][::order]
    path = tmp_path / "bars.csv"
    for row in ("{0},{2},{3},{4},{1},7", "{0},{4},{3},{1},{2}"):
        path.write_text("\n".join(row.format(ts, a, b, max(a, b), min(a, b)) for ts, a, b in bars))
        with pytest.raises(UnknownFormat, match="a header that names time, open, high, low, close"):
            read(path)
    path.write_text("\n".join(f"{ts},{a},{max(a, b)},{min(a, b)},{b},7" for ts, a, b in bars))
    assert len(bars_of(read(path))) == 30


def test_stamps_that_a_name_tells_from_local_ones_are_in_utc_whatever_the_zone(tmp_path: Path) -> None:
    (tmp_path / "bars.csv").write_text(READ["Time beside Time (UTC)"])
    assert bars_of(read(tmp_path / "bars.csv", "America/New_York")) == expected()


@pytest.mark.parametrize("kind", ["text", "Parquet"])
def test_bars_of_two_sides_of_the_quotes_are_not_mixed(tmp_path: Path, kind: str) -> None:
    sides = [FRAME.with_columns(STAMP + timedelta(hours=i), side=pl.lit(side)) for i, side in enumerate(("BID", "ASK"))]
    mid = sides[1].drop("side").rename({name: f"mid_{name}" for name in ("open", "high", "low", "close")})
    for name, frame in zip("abc", (pl.concat(sides), sides[0], mid), strict=True):
        path = tmp_path / f"{name}.csv"
        frame.write_csv(path) if kind == "text" else frame.write_parquet(path)
    assert len(bars_of(read(tmp_path / "b.csv")) + bars_of(read(tmp_path / "c.csv"))) == 30
    with pytest.raises(UnknownFormat, match="bars of one side of the quotes, got ask, bid in"):
        read(tmp_path / "a.csv")
    with pytest.raises(UnknownFormat, match="bars of one side of the quotes, got those of bid and mid with"):
        read(tmp_path / "[bc].csv")


def test_a_file_that_is_written_while_it_is_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bars.csv").write_text(PLAIN)
    source = make_files(str(tmp_path / "bars.csv"), batch_rows=7)
    source.on_rows = lambda rows: os.truncate(tmp_path / "bars.csv", 0)
    with pytest.raises(DataError, match="Expected a file that is not being written"):
        list(source.read_batches())


def test_a_derivative_is_another_symbol_and_a_brokers_name_is_not() -> None:
    assert not any(same_symbol(f"BTCUSD{end}", "BTCUSD") for end in ("_PERP", ".perp", "_SWAP", "fut", ".P"))
    assert all(same_symbol(f"BTCUSD{end}", "BTCUSD") for end in ("m", ".pro", "_i", ".p"))


def test_a_file_that_is_named_like_another_symbol_is_told(tmp_path: Path) -> None:
    (tmp_path / "xauusd-2025.csv").write_text(PLAIN)
    found = read(tmp_path / "xauusd-2025.csv")
    assert bars_of(found) == expected()
    assert notes_of(found) == [f"{tmp_path}/xauusd-2025.csv is named like xauusd; its rows are taken as XAGUSD"]
    named = PLAIN.replace("\n", ",XAGUSD\n").replace("volume,XAGUSD", "volume,symbol")
    for name, text in (("XAUUSD.csv", named), ("xag_usd.csv", PLAIN), ("noopen.csv", PLAIN), ("my_eur.csv", PLAIN)):
        (tmp_path / name).write_text(text)
        assert notes_of(read(tmp_path / name)) == []
