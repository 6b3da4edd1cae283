"""Uploaded files, read within limits."""

import gzip
import re
import time
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from conftest import random_hours
from panel.models.file_dropper import UploadEvent
from test_configs import compose

from dashboard.forecast.file_upload import COMING, FAILED, FileUpload
from dashboard.forecast.upload_parser import OverLimit, ReadOptions, UploadedBars, read, recognise_file, unzip
from dashboard.server import read_settings
from dashboard.settings import DashboardSettings
from lstm_ts.errors import DataError, LstmTsError, NoRows, UnknownFormat, WrongZone
from lstm_ts.market.session import HOUR, Session

OPEN = ReadOptions()
PRICED = ("ts", "open", "high", "low", "close")


def settings_of(*overrides: str) -> DashboardSettings:
    return read_settings(compose("dashboard", *overrides), Path("uploads"))


def write(path: Path, bars: pl.DataFrame, stamp: str = "%Y-%m-%d %H:%M:%S") -> Path:
    bars.select(pl.col("ts").dt.strftime(stamp).alias("time"), "open", "high", "low", "close").write_csv(path)
    return path


def read_file(path: Path, *overrides: str, symbol: str = "XAGUSD", options: ReadOptions = OPEN) -> UploadedBars:
    settings = settings_of(*overrides)
    found = recognise_file(path, "mine.csv", symbol, options, settings.upload)
    return read(path, "mine.csv", symbol, options, found, settings, lambda rows: None)


def test_hours_are_read_as_they_are(hourly_bars: pl.DataFrame, tmp_path: Path) -> None:
    path = write(tmp_path / "bars", hourly_bars)
    found = recognise_file(path, "mine.csv", "XAGUSD", OPEN, settings_of().upload)
    assert found.words == "Bars as text, separated by commas (time, open, high, low, close)"
    assert not found.zoned
    done = read_file(path)
    assert done.hourly_bars["ts"].equals(hourly_bars["ts"])
    assert (done.rows, done.rejected, done.minutes) == (hourly_bars.height, 0, False)


def test_stamps_with_an_offset_and_gzip_and_parquet_are_recognised(hourly_bars: pl.DataFrame, tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", hourly_bars, "%Y-%m-%dT%H:%M:%SZ")
    (tmp_path / "zipped").write_bytes(gzip.compress(plain.read_bytes()))
    unzip(tmp_path / "zipped", "mine.gz", settings_of().upload)
    assert recognise_file(tmp_path / "zipped", "mine.gz", "XAGUSD", OPEN, settings_of().upload).zoned
    assert read_file(tmp_path / "zipped").hourly_bars.height == hourly_bars.height
    hourly_bars.write_parquet(tmp_path / "parquet")
    found = recognise_file(tmp_path / "parquet", "mine.parquet", "XAGUSD", OPEN, settings_of().upload)
    assert (found.words, found.zoned) == ("Parquet", True)


def test_a_disk_that_takes_no_file_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    drop, seen = FileUpload(tmp_path / "gone", 1_000_000), list[str]()
    drop.param.watch(lambda event: seen.append(event.new), "state")
    for _ in range(2):  # the second failure is shown as well
        drop._process_event(UploadEvent(None, {"chunk": 1, "total_chunks": 2, "name": "mine.csv", "data": b"time,"}))
    assert seen == 2 * [COMING, FAILED]
    assert "got: No such file or directory; tell who runs the dashboard" in drop.failure
    assert "An uploaded file cannot be kept" in caplog.text
    (tmp_path / "whole").write_bytes(gzip.compress(b"time"))
    (tmp_path / "whole.plain").mkdir()
    with pytest.raises(IsADirectoryError):
        unzip(tmp_path / "whole", "mine.gz", settings_of().upload)


def test_a_cut_gzip_and_a_letter_are_named_as_the_visitor_named_them(tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(gzip.compress(b"time,open,high,low,close\n" * 999)[:40])
    with pytest.raises(DataError, match=r"cut or damaged one: mine\.gz"):
        unzip(tmp_path / "cut", "mine.gz", settings_of().upload)
    (tmp_path / "letter").write_text("Dear reader,\n")
    with pytest.raises(UnknownFormat, match=r"mine\.csv that begins"):
        recognise_file(tmp_path / "letter", "mine.csv", "XAGUSD", OPEN, settings_of().upload)
    (tmp_path / "long").write_bytes(b"x" * 50_000_000)  # one line, not read as one
    with pytest.raises(UnknownFormat):
        recognise_file(tmp_path / "long", "mine.csv", "XAGUSD", OPEN, settings_of().upload)


def test_bad_rows_are_counted_and_nothing_but_bad_rows_is_refused(hourly_bars: pl.DataFrame, tmp_path: Path) -> None:
    path = write(tmp_path / "bars", hourly_bars)
    path.write_text(path.read_text() + "2014-06-01 00:00:00,x,1,1,1\n")
    assert read_file(path).rejected == 1
    path.write_text("time,open,high,low,close\n" + "2014-06-02 00:00:00,x,1,1,1\n" * 3)
    with pytest.raises(NoRows, match="no good row and 3 bad ones"):
        read_file(path)


def test_a_file_of_two_levels_is_refused_and_one_damaged_row_is_left_out(
    hourly_bars: pl.DataFrame, tmp_path: Path
) -> None:
    def scaled(rows: pl.Expr) -> Path:
        prices = pl.col("open", "high", "low", "close")
        bars = hourly_bars.with_columns(pl.when(rows).then(prices * 100).otherwise(prices).name.keep())
        return write(tmp_path / "bars", bars)

    at = pl.int_range(pl.len())
    done = read_file(scaled(at == 1000))
    assert (done.rejected, done.hourly_bars.height) == (1, hourly_bars.height - 1)
    with pytest.raises(
        DataError, match=r"prices of one level, got .* in mine\.csv; correct it, or give the bars of one"
    ):
        read_file(scaled(at >= 1000))


def test_a_wrong_zone_is_explained_without_the_path(hourly_bars: pl.DataFrame, tmp_path: Path) -> None:
    path = write(tmp_path / "bars", hourly_bars)
    with pytest.raises(WrongZone, match=r"Choose another zone\.$") as caught:
        read_file(path, options=ReadOptions(zone="Asia/Bangkok"))
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "stamps"),
    [("time", pl.col("ts").dt.epoch("s")), ("Time (EET)", pl.col("ts").dt.strftime("%F %T"))],  # as MT5 through Python
)
def test_the_chosen_zone_is_taken_where_that_of_the_file_does_not_fit(
    hourly_bars: pl.DataFrame, tmp_path: Path, column: str, stamps: pl.Expr
) -> None:
    path, local = tmp_path / "bars", hourly_bars.with_columns(pl.col("ts") + 7 * HOUR)
    local.select(stamps.alias(column), *PRICED[1:]).write_csv(path)
    with pytest.raises(WrongZone, match=r"Choose another zone\.$"):
        read_file(path)
    done = read_file(path, options=ReadOptions(zone="Asia/Bangkok"))
    assert done.hourly_bars["ts"].equals(hourly_bars["ts"])
    assert not done.zoned
    assert "Stamps of mine.csv are taken as Asia/Bangkok" in str(done.notes)


def test_where_no_zone_fits_better_the_symbol_is_asked_for(hourly_bars: pl.DataFrame, tmp_path: Path) -> None:
    ts = pl.datetime_range(hourly_bars["ts"][0], hourly_bars["ts"][-1], "1h", eager=True).alias("ts")
    path = write(tmp_path / "bars", hourly_bars.head(1).drop("ts").join(ts.to_frame(), how="cross"))
    with pytest.raises(WrongZone, match=r"Choose another zone, or the symbol that the file is of\.$"):
        read_file(path)


def test_dates_that_do_not_tell_day_from_month_are_as_the_visitor_chooses(
    hourly_bars: pl.DataFrame, tmp_path: Path
) -> None:
    first = hourly_bars.filter(pl.col("ts").dt.day() <= 12)  # no date tells
    path = write(tmp_path / "bars", first, "%d/%m/%Y %H:%M")
    with pytest.raises(UnknownFormat, match=r"in mine\.csv\. Choose whether the day or the month comes first\.$"):
        recognise_file(path, "mine.csv", "XAGUSD", OPEN, settings_of().upload)
    assert recognise_file(path, "mine.csv", "XAGUSD", ReadOptions(dates="dayfirst"), settings_of().upload)
    assert read_file(path, options=ReadOptions(dates="dayfirst")).hourly_bars["ts"].equals(first["ts"])


def test_a_decimal_sign_that_is_not_told_is_as_the_visitor_chooses(hourly_bars: pl.DataFrame, tmp_path: Path) -> None:
    rounded = hourly_bars.with_columns((pl.col("open", "high", "low", "close") + 1).round(0) + 0.125)
    prices = [pl.col(price).map_elements("{:.3f}".format, pl.String).str.replace(".", ",", literal=True)
              for price in ("open", "high", "low", "close")]  # fmt: skip
    path = tmp_path / "bars"
    rounded.select(pl.col("ts").dt.strftime("%Y-%m-%d %H:%M"), *prices).write_csv(path, separator=";")
    with pytest.raises(UnknownFormat, match=r"got '.*,125' in mine\.csv, .* Choose the decimal sign\.$"):
        read_file(path)
    chosen = read_file(path, options=ReadOptions(decimal="comma"))
    assert chosen.hourly_bars["close"].to_list() == rounded["close"].to_list()


def test_bars_stamped_when_they_close_are_doubted_and_shifted_on_request(
    silver: Session, hourly_bars: pl.DataFrame, tmp_path: Path
) -> None:
    whole = random_hours(silver, datetime(2014, 1, 6, tzinfo=UTC), datetime(2014, 3, 3, tzinfo=UTC), missing=0)
    path = write(tmp_path / "bars", whole.with_columns(pl.col("ts") + HOUR))
    with pytest.raises(WrongZone, match=r"Choose another zone, or that its bars are stamped when they close\.$"):
        read_file(path)
    done = read_file(path, "max_mismatch=1")
    (doubt,) = done.doubts
    assert doubt.endswith("the bars of 60 minutes seem to be stamped when they close")
    done = read_file(path, options=ReadOptions(stamps="close"))
    assert (done.hourly_bars["ts"].equals(whole["ts"]), done.doubts) == (True, [])


TICKS = "time,bid,ask\n2014-06-02 00:00:01,1.5,1.6\n2014-06-02 00:00:02,1.5,1.6\n"


@pytest.mark.parametrize(
    ("text", "stamps", "words"),
    [
        ("", "open", "got an empty file: mine.csv. Send another file."),
        ("time,open,high,low,close\n", "open", "got only a header in mine.csv. Send another file."),
        (TICKS, "close", "Expected bars stamped when they open for ticks, which do not close, got close for mine.csv"),
        (
            "time,symbol,open,high,low,close\n2014-06-02 00:00,XAUUSD,1,1,1,1\n",
            "open",
            "Choose that symbol, or leave out",
        ),
    ],
)
def test_what_is_wrong_is_said_in_the_pages_words(tmp_path: Path, text: str, stamps: str, words: str) -> None:
    (tmp_path / "bars").write_text(text)
    with pytest.raises(LstmTsError, match=re.escape(words)) as told:
        read_file(tmp_path / "bars", options=ReadOptions(stamps=stamps))
    assert "source." not in str(told.value)


def test_a_small_gzip_of_much_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bomb").write_bytes(gzip.compress(b"0" * 3_000_000))
    with pytest.raises(OverLimit, match="at most 1,000,000 bytes unpacked"):
        unzip(tmp_path / "bomb", "mine.gz", settings_of("upload.max_bytes=1000000").upload)


def test_a_file_of_the_symbol_that_was_chosen_is_read_whatever_the_configured_one_is(
    hourly_bars: pl.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "bars"
    time = pl.col("ts").dt.strftime("%Y-%m-%d %H:%M:%S").alias("time")
    hourly_bars.select(time, pl.lit("XAUUSD").alias("symbol"), "open", "high", "low", "close").write_csv(path)
    assert read_file(path, symbol="XAUUSD").hourly_bars.height == hourly_bars.height
    with pytest.raises(DataError, match="XAUUSD"):
        read_file(path)


def test_a_file_that_is_named_like_another_symbol_is_told(hourly_bars: pl.DataFrame, tmp_path: Path) -> None:
    drop, data = FileUpload(tmp_path, 1_000_000), write(tmp_path / "hours", hourly_bars).read_bytes()
    name = "../ XAUUSD_H1?*.csv"
    drop._process_event(UploadEvent(None, {"chunk": 1, "total_chunks": 1, "name": name, "data": data}))
    assert read_file(drop.path).notes == ["mine.csv is named like XAUUSD; its rows are taken as XAGUSD"]
    drop.clean()


def test_one_line_without_an_end_in_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "long.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bars.csv", "time,open,high,low,close\n" + "0" * 3_000_000)
    with pytest.raises(DataError, match="Expected lines of at most 1,048,576 characters"):
        read_file(tmp_path / "long.zip")


@pytest.mark.parametrize(
    ("option", "words"), [("upload.max_rows=50", "at most 50 rows"), ("upload.max_s=1e-9", "longer than")]
)
def test_reading_stops_at_a_limit(hourly_bars: pl.DataFrame, tmp_path: Path, option: str, words: str) -> None:
    with pytest.raises(OverLimit, match=words):
        read_file(write(tmp_path / "bars", hourly_bars), option)


def test_a_limit_ends_the_reading_before_all_is_read(hourly_bars: pl.DataFrame, tmp_path: Path) -> None:
    path = write(tmp_path / "bars", hourly_bars)
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.write(path, "bars.csv")
    with path.open("a") as file:
        file.write("Datum;open;high;low;close\n")  # which is refused where it is read
    with pytest.raises(OverLimit, match="at most 50 rows"):
        read_file(path, "upload.max_rows=50", "upload.batch_rows=20")
    hourly_bars.write_parquet(tmp_path / "parquet")
    for name, option in (("parquet", "upload.max_rows=50"), ("zip", "upload.max_s=1e-9")):
        with pytest.raises(OverLimit):
            recognise_file(tmp_path / name, name, "XAGUSD", OPEN, settings_of(option).upload)


def test_the_time_limit_counts_from_the_recognition_on(hourly_bars: pl.DataFrame, tmp_path: Path) -> None:
    path, settings = write(tmp_path / "bars", hourly_bars), settings_of("upload.max_s=1")
    found = recognise_file(path, "mine.csv", "XAGUSD", OPEN, settings.upload)
    time.sleep(1)
    with pytest.raises(OverLimit, match="longer than 1 s"):
        read(path, "mine.csv", "XAGUSD", OPEN, found, settings, lambda rows: None)


def test_an_archive_whose_files_name_no_zone_alike_is_read_in_the_chosen_one(
    hourly_bars: pl.DataFrame, tmp_path: Path
) -> None:
    first, second = hourly_bars.head(60), hourly_bars[60:120]
    with zipfile.ZipFile(tmp_path / "hours.zip", "w") as archive:
        archive.writestr("a.csv", first.select(PRICED).with_columns(pl.col("ts").dt.strftime("%FT%TZ")).write_csv())
        archive.writestr("b.csv", second.select(PRICED).with_columns(pl.col("ts").dt.strftime("%F %T")).write_csv())
        archive.writestr("readme.txt", "no table")
    found = read_file(tmp_path / "hours.zip")
    assert found.hourly_bars["ts"].to_list() == hourly_bars["ts"].head(120).to_list()
    (note,) = found.notes
    assert note.startswith("A part of an archive or workbook is left out: ") and str(tmp_path) not in note
