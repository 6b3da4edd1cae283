"""Files: blocks, rejects, duplicates, hours, ticks and Parquet; and the real samples. Formats: test_formats.py."""

import gzip
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from omegaconf import OmegaConf

from lstm_ts.bars import BAR_SCHEMA, PRICES, REJECT_SCHEMA, BarBatch
from lstm_ts.errors import ConfigError, DataError, NoSuchFile, UnknownFormat, WrongZone
from lstm_ts.sources.files import Files

REAL = Path(__file__).parents[2] / "shared" / "data"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data, the real silver minutes, is absent")


def batches(paths: object, zone: str | None = None, factor: float = 1.0, rows: int = 1000) -> list[BarBatch]:
    patterns = [str(path) for path in paths] if isinstance(paths, Sequence) else str(paths)
    source = Files(paths=patterns, symbol="XAGUSD", zone=zone, dates=None, price_factor=factor, batch_rows=rows)
    return list(source.read_batches())


def bars_of(found: list[BarBatch]) -> pl.DataFrame:
    return pl.concat([batch.bars for batch in found]).sort("ts")


def rejects_of(found: list[BarBatch]) -> list[tuple[int, str]]:
    return pl.concat([batch.rejects for batch in found]).select("line", "reason").rows()


def stamps_of(found: list[BarBatch]) -> list[str]:
    return bars_of(found)["ts"].dt.strftime("%m-%d %H:%M").to_list()


def write(folder: Path, text: str, name: str = "bars.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def mt4(*stamps: str) -> str:
    return "".join(f"{stamp},29.5,29.6,29.4,29.55,1\n" for stamp in stamps)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_text_is_read_whatever_its_packing_extension_line_ends_and_blank_lines(tmp_path: Path, packed: bool) -> None:
    text = "\ufeff\r\nTime;Open;High;Low;Close;Volume\r\n\r\n2025-01-06 17:00:00;29.5;29.6;29.4;29.55;\r\n"
    path = tmp_path / "no_extension"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    (batch,) = batches(path, "America/New_York")
    assert batch.bars.schema == BAR_SCHEMA and batch.rejects.schema == REJECT_SCHEMA
    assert batch.bars.rows() == [(datetime(2025, 1, 6, 22, tzinfo=UTC), 29.5, 29.6, 29.4, 29.55, None)]
    assert batch.rejects.is_empty() and not batch.hourly


def test_a_time_that_the_spring_change_skips_is_a_reject(tmp_path: Path) -> None:
    found = batches(write(tmp_path, mt4("2024.03.31,00:59", "2024.03.31,01:30", "2024.03.31,02:00")), "Europe/London")
    assert stamps_of(found) == ["03-31 00:59", "03-31 01:00"]
    assert rejects_of(found) == [(2, "does not exist in Europe/London")]


BAD_ROWS = """Date,Open,High,Low,Close,Volume
2025-01-06 22:00:00,29.5,29.6,29.4,29.55,3
2025-01-06 22:01:00,29.5,29.3,29.4,29.55,3

2025-01-06 22:02:00,29.7,29.6,29.4,29.55,3
2025-01-06 22:03:00,29.5,29.6,29.4,29.3,3
2025-01-06 22:04:00,0,29.6,0,29.55,3
2025-01-06 22:05:00,29.5,inf,29.4,29.55,3
2025-01-06 22:06:00,29.5,29.6,29.4,,3
2025-01-06 22:07:00,29.5,29.6,29.4,29.55
06.01.2025 22:08,29.5,29.6,29.4,29.55,3
2025-01-06 22:09:30,29.5,29.6,29.4,29.55,3
2025-01-06 22:10:00,29.5,29.6,29.4,29.55,many
2025-01-06 22:00:00,30.5,30.6,30.4,30.55,3
2025-01-06 21:59:00,29.5,29.6,29.4,29.55,3
2025-01-06 22:01:00,29.5,29.6,29.4,29.55,3
"""


@pytest.mark.parametrize("rows", [1, 2, 5, 1000])
def test_bad_rows_are_rejected_with_their_line_and_reason_in_batches_of_any_size(tmp_path: Path, rows: int) -> None:
    found = batches(write(tmp_path, BAD_ROWS), "UTC", rows=rows)
    assert stamps_of(found) == ["01-06 21:59", "01-06 22:00", "01-06 22:01"]
    assert bars_of(found)["open"].to_list() == [29.5, 29.5, 29.5]
    assert rejects_of(found) == [
        (3, "high below low"),
        (5, "open or close above high"),
        (6, "open or close below low"),
        (7, "price is not positive"),
        (8, "price is not finite"),
        (9, "unparseable price"),
        (10, "expected 6 columns, got 5"),
        (11, "unparseable time stamp"),
        (12, "not on a whole minute"),
        (13, "unparseable volume"),
        (14, "duplicate time stamp"),
    ]


def test_the_later_file_of_a_glob_rejects_the_stamps_of_the_earlier_with_file_line_and_text(tmp_path: Path) -> None:
    first = write(tmp_path, mt4("2025.01.06,22:00", "2025.01.06,22:01"), "a.csv")
    second = write(tmp_path, mt4("2025.01.06,22:02", "2025.01.06,22:01") + "x" * 300, "b.csv")
    found = batches([tmp_path / "*.csv", first], "UTC")
    assert stamps_of(found) == ["01-06 22:00", "01-06 22:01", "01-06 22:02"]
    assert found[1].rejects.rows() == [
        (str(second), 2, "duplicate time stamp", "2025.01.06,22:01,29.5,29.6,29.4,29.55,1"),
        (str(second), 3, "expected 7 columns, got 1", "x" * 200),
    ]


def test_a_list_from_the_configuration_is_accepted(tmp_path: Path) -> None:
    write(tmp_path, mt4("2025.01.06,22:00"))
    paths = OmegaConf.create([str(tmp_path / "*.csv")])
    source = Files(paths=paths, symbol="XAGUSD", zone="UTC", dates=None, price_factor=1.0, batch_rows=10)
    assert source.name == f"files {tmp_path}/*.csv"
    assert [batch.bars.height for batch in source.read_batches()] == [1]


def test_twelve_whole_hours_and_nothing_else_make_a_file_hourly(tmp_path: Path) -> None:
    hours = [f"2025.01.06,{hour:02}:00" for hour in range(12)]
    assert batches(write(tmp_path, mt4(*hours)), "UTC")[0].hourly
    assert not batches(write(tmp_path, mt4(*hours[:11])), "UTC")[0].hourly
    late_minute = write(tmp_path, mt4(*hours, "2025.01.06,12:01"))
    assert not batches(late_minute, "UTC")[0].hourly
    assert rejects_of(batches(late_minute, "UTC", rows=12)) == [(13, "not on a whole hour")]


def test_an_hour_and_its_first_minute_are_no_duplicates(tmp_path: Path) -> None:
    hours = write(tmp_path, mt4(*(f"2025.01.06,{hour:02}:00" for hour in range(12))), "h1.csv")
    minutes = write(tmp_path, mt4("2025.01.06,00:00"), "m1.csv")
    assert [(batch.hourly, batch.bars.height) for batch in batches([hours, minutes], "UTC")] == [(True, 12), (False, 1)]


def test_daily_bars_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, mt4(*(f"2025.01.{day:02},00:00" for day in range(1, 13))))
    with pytest.raises(UnknownFormat, match="got bars 24 hours apart"):
        batches(path, "UTC")


TICKS = """2025.01.06 22:00:00.137,0.29,0.31,0.02,0.02\r
2025.01.06 22:00:30,0.31,0.33,0.02,0.02\r
2025.01.06 22:00:59.999,0.27,0.29,0.02,0.02\r
2025.01.06 22:02:00.000,0.30,0.32,0.02,0.02\r
2025.01.06 22:02:01.000,0.32,0.30,0.02,0.02\r
2025.01.06 22:02:02.000,-0.32,0.30,0.02,0.02\r
2025.01.06 22:02:03.000,0.40,0.42,0.02,0.02\r
"""


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 1000])
def test_ticks_become_whole_minutes_of_the_mid_price_across_batches(tmp_path: Path, rows: int) -> None:
    found = batches(write(tmp_path, TICKS), factor=100, rows=rows)
    assert stamps_of(found) == ["01-06 22:00", "01-06 22:02"]
    prices = bars_of(found).select(*PRICES, "volume").rows()
    assert prices == [pytest.approx((30, 32, 28, 28, 3)), pytest.approx((31, 41, 31, 41, 2))]
    assert rejects_of(found) == [(5, "ask below bid"), (6, "price is not positive")]


def test_a_tick_that_comes_after_its_minute_was_read_is_a_reject(tmp_path: Path) -> None:
    lines = TICKS.splitlines()
    found = batches(write(tmp_path, "\n".join([lines[0], lines[3], lines[1]])), rows=2)
    assert bars_of(found)["volume"].to_list() == [1, 1]
    assert rejects_of(found) == [(3, "tick of a minute already read")]


def test_parquet_is_read_naive_or_in_any_zone_and_its_rejects_show_values(tmp_path: Path) -> None:
    local = pl.Series([datetime(2025, 1, 6, 17), datetime(2025, 1, 6, 17, 1)]).cast(pl.Datetime("ns"))
    frame = pl.DataFrame({"close": [29, 29], "ts": local, "open": 29.0, "high": [30.0, 28.0], "low": 29.0, "spread": 1})
    frame.write_parquet(tmp_path / "naive.dat")
    frame.with_columns(pl.col("ts").dt.replace_time_zone("America/New_York")).write_parquet(tmp_path / "aware.dat")
    for name, zone in (("naive.dat", "America/New_York"), ("aware.dat", None)):
        found = batches(tmp_path / name, zone, rows=1)
        assert bars_of(found).rows() == [(datetime(2025, 1, 6, 22, tzinfo=UTC), 29, 30, 29, 29, None)]
        assert rejects_of(found) == [(2, "high below low")]
        assert found[1].rejects["text"].item().endswith(",29.0,28.0,29.0,29.0")


def test_a_file_without_a_zone_needs_one_and_parquet_too(tmp_path: Path) -> None:
    path, message = write(tmp_path, mt4("2025.01.06,22:00")), r"Expected source\.zone for .*bars\.csv"
    with pytest.raises(WrongZone, match=message):
        batches(path)
    pl.DataFrame({"ts": [datetime(2025, 1, 6)]} | {price: [1.0] for price in PRICES}).write_parquet(path)
    with pytest.raises(WrongZone, match=message):
        batches(path)


@pytest.mark.parametrize(("factor", "rows"), [(0.0, 10), (-1.0, 10), (float("inf"), 10), (1.0, 0)])
def test_a_value_out_of_range_is_a_config_error(factor: float, rows: int) -> None:
    with pytest.raises(ConfigError, match=r"got source\."):
        Files(paths="x.csv", symbol="XAGUSD", zone=None, dates=None, price_factor=factor, batch_rows=rows)


@pytest.mark.parametrize("pattern", ["absent.csv", "*.absent", "", "/absent/**/*.csv"])
def test_a_pattern_that_matches_nothing_is_named(pattern: str) -> None:
    with pytest.raises(NoSuchFile) as error:
        batches(Path(pattern) if pattern else [""])
    assert f"source.paths={pattern};" in str(error.value)


def test_parquet_without_the_columns_is_an_unknown_format(tmp_path: Path) -> None:
    pl.DataFrame({"ts": ["2025-01-06"], "open": [1.0]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(UnknownFormat, match="got ts String, open Float64"):
        batches(tmp_path / "x.parquet")


def test_a_cut_gzip_file_is_an_error_of_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cut.gz").write_bytes(gzip.compress(mt4("2025.01.06,22:00").encode())[:-12])
    with pytest.raises(DataError, match=r"cut or damaged one: .*cut\.gz"):
        batches(tmp_path / "cut.gz", "UTC")


@needs_real
@pytest.mark.real_data
def test_five_real_years_of_parquet_are_read_whole() -> None:
    found = batches(REAL / "*.parquet", rows=500_000)
    assert sum(batch.bars.height for batch in found) == 1_687_457
    assert rejects_of(found) == [] and not any(batch.hourly for batch in found)


@needs_real
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("file", "zone", "factor", "rows", "hourly", "first", "low", "high"),
    [
        ("mt4_xagusd_m1.csv", "Europe/London", 1, 300, False, datetime(2024, 12, 23, 18, 19), 29.5, 29.8),
        ("mt5_python_xagusd_h1.csv", "America/New_York+7h", 1, 300, True, datetime(2018, 3, 18, 22), 16, 17),
        ("dukascopy_ticks_xagusd.csv", None, 100, 28, False, datetime(2015, 1, 2), 15.7, 15.9),
    ],
)
def test_the_real_samples_are_read(
    file: str, zone: str | None, factor: float, rows: int, hourly: bool, first: datetime, low: float, high: float
) -> None:
    found = batches(REAL / "formats" / file, zone, factor)
    bars = bars_of(found)
    assert (bars.height, found[0].hourly, rejects_of(found)) == (rows, hourly, [])
    assert bars["ts"][0] == first.replace(tzinfo=UTC)
    assert bars.filter(pl.col("low") < low).is_empty() and bars.filter(pl.col("high") > high).is_empty()


def test_a_cut_parquet_file_is_an_error_of_one_sentence(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    prices = [pl.lit(1.0).alias(price) for price in PRICES]
    pl.DataFrame({"ts": [datetime(2025, 1, 6, 22, tzinfo=UTC)]}).with_columns(prices).write_parquet(whole)
    (tmp_path / "cut.parquet").write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cut or damaged one: .*cut\.parquet"):
        batches(tmp_path / "cut.parquet")
