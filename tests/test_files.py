"""Files: blocks, rejects, duplicates, hours, ticks and Parquet; and the real samples. Formats: test_formats.py."""

import gzip
import random
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import make_files
from omegaconf import OmegaConf

from lstm_ts.errors import ConfigError, DataError, NoSuchFile, UnknownFormat, WrongZone
from lstm_ts.market.bars import BAR_SCHEMA, PRICES, REJECT_SCHEMA, BarBatch
from lstm_ts.sources.files import ticks
from lstm_ts.sources.files.hourly_files import own_keys

REAL = Path(__file__).parents[2] / "shared" / "data"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data, the real silver minutes, is absent")


def batches(
    paths: object, zone: str | None = None, factor: float = 1.0, rows: int = 1000, stamps: str = "open"
) -> list[BarBatch]:
    patterns = [str(path) for path in paths] if isinstance(paths, Sequence) else str(paths)
    source = make_files(patterns, zone=zone, price_factor=factor, batch_rows=rows, stamps=stamps)
    return list(source.read_batches())


def bars_of(found: list[BarBatch]) -> pl.DataFrame:
    return pl.concat([batch.bars for batch in found]).unique("ts", keep="last", maintain_order=True).sort("ts")


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
    assert batch.bars.rows() == [(datetime(2025, 1, 6, 22, tzinfo=UTC), 29.5, 29.6, 29.4, 29.55, None, None)]
    assert batch.rejects.is_empty() and not batch.hourly


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ([0.02, 0.04, 0.0], [0.02, 0.04, 0.0]),
        ([0.02, None, -1.0], [0.02, None, None]),
        ([float("nan"), float("inf"), 1.25], [None, None, 1.25]),
        ([20, 35, 0], [None, None, 0.0]),  # points
        ([20.0, 35.5, 0.0], [None, None, 0.0]),
    ],
)
def test_a_spread_is_kept_where_it_is_a_price_and_refuses_no_row(
    tmp_path: Path, suffix: str, told: list[float | None], kept: list[float | None]
) -> None:
    ts = [datetime(2025, 1, 6, 22, minute) for minute in range(3)]
    frame = pl.DataFrame({"Time": ts, **dict.fromkeys(("open", "high", "low", "close"), [29.5] * 3), "Spread": told})
    path = tmp_path / f"bars.{suffix}"
    frame.write_csv(path) if suffix == "csv" else frame.write_parquet(path)
    found = batches(path, "UTC", rows=2)
    assert bars_of(found)["spread"].to_list() == kept
    assert rejects_of(found) == []


@pytest.mark.parametrize("name", ["Spread (pips)", "spread [points]", "Spread %", "quoted spread"])
def test_a_spread_in_another_unit_is_none(tmp_path: Path, name: str) -> None:
    text = f"Time,Open,High,Low,Close,{name}\n2025-01-06 17:00,29.5,29.6,29.4,29.5,0.5\n"
    assert bars_of(batches(write(tmp_path, text), "UTC"))["spread"].to_list() == [None]


def test_a_spread_is_in_the_unit_of_the_prices(tmp_path: Path) -> None:
    text = "Time;Open;High;Low;Close;Volume;Spread\n2025-01-06 17:00;2950,0;2960,0;2940,0;2955,0;1;2,5\n"
    (spread,) = bars_of(batches(write(tmp_path, text), "UTC", factor=0.01))["spread"]
    assert spread == pytest.approx(0.025)


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_the_spread_of_a_minute_is_the_mean_of_its_ticks(tmp_path: Path, rows: int) -> None:
    asks = {"17:00:01": 29.5, "17:00:02": 29.25, "17:00:50": 29.75}
    text = "Time,Bid,Ask\n" + "".join(f"2025-01-06 {at},29.0,{ask}\n" for at, ask in asks.items())
    bars = bars_of(batches(write(tmp_path, text), "UTC", rows=rows))
    assert bars.select("close", "volume", "spread").rows() == [(29.375, 3.0, pytest.approx(0.5))]


def test_a_time_that_the_spring_change_skips_is_a_reject(tmp_path: Path) -> None:
    found = batches(write(tmp_path, mt4("2024.03.31,00:59", "2024.03.31,01:30", "2024.03.31,02:00")), "Europe/London")
    assert stamps_of(found) == ["03-31 00:59", "03-31 01:00"]
    assert rejects_of(found) == [(2, "does not exist in Europe/London")]


# New York on 2024-11-03: 01:00 to 02:00 comes at 05:00 UTC (summer time), and again at 06:00.
AUTUMN = ["00:59", "01:00", "01:59", "01:00", "01:59", "02:00"]
AUTUMN_UTC = ["11-03 04:59", "11-03 05:00", "11-03 05:59", "11-03 06:00", "11-03 06:59", "11-03 07:00"]


def priced(*stamps: str, day: str = "2024.11.03") -> str:
    """The close counts the rows, in the order of `stamps`."""
    return "".join(f"{day},{at},1,99,1,{i},1\n" for i, at in enumerate(stamps, start=1))


@pytest.mark.parametrize("rows", [1, 2, 3, 1000])
@pytest.mark.parametrize("newest_first", [False, True])
def test_the_hour_that_autumn_repeats_is_told_apart_in_either_order(
    tmp_path: Path, rows: int, newest_first: bool
) -> None:
    lines = priced(*AUTUMN).splitlines()
    text = "\n".join(lines[::-1] if newest_first else lines)
    bars = bars_of(found := batches(write(tmp_path, text), "America/New_York", rows=rows))
    assert stamps_of(found) == AUTUMN_UTC and bars["close"].to_list() == [1, 2, 3, 4, 5, 6]
    assert rejects_of(found) == []


@pytest.mark.parametrize("newest_first", [1, -1])
@pytest.mark.parametrize("cut", [2, 3, 4, 5])
def test_the_hour_that_autumn_repeats_may_be_cut_between_files(tmp_path: Path, cut: int, newest_first: int) -> None:
    lines = priced(*AUTUMN).splitlines()
    for name, part in (("a.csv", lines[:cut]), ("b.csv", lines[cut:])):
        (tmp_path / name).write_text("\n".join(part[::newest_first]))
    found = batches(tmp_path / "*.csv", "America/New_York")
    assert stamps_of(found) == AUTUMN_UTC and bars_of(found)["close"].to_list() == [1, 2, 3, 4, 5, 6]
    passes = [note[-11:] for batch in found for note in batch.notes if "begins in the hour" in note]
    assert passes == (["second pass"] if cut in (3, 4) else [])


@pytest.mark.slow
@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("minutes", [1, 15, 30, 60])
def test_bars_of_any_spacing_are_told_apart_in_the_hour_that_autumn_repeats(
    tmp_path: Path, minutes: int, newest_first: bool
) -> None:
    # 2024-10-27 01:00 UTC ends Berlin's summer time.
    autumn = [datetime(2024, 10, 26, 20, tzinfo=UTC) + timedelta(minutes=i) for i in range(0, 24 * 60, minutes)]
    local = pl.Series(autumn).dt.convert_time_zone("Europe/Berlin").dt.strftime("%Y.%m.%d,%H:%M").to_list()
    path = write(tmp_path, mt4(*(local[::-1] if newest_first else local)))
    for rows in (7, 100_000):
        found = batches(path, "Europe/Berlin", rows=rows)
        assert bars_of(found)["ts"].to_list() == autumn and rejects_of(found) == []


def test_a_repeated_hour_that_comes_once_is_the_earlier_one(tmp_path: Path) -> None:
    for order in (1, -1):
        path = write(tmp_path, mt4(*["2024.11.03,01:00", "2024.11.03,01:31", "2024.11.03,02:00"][::order]))
        assert stamps_of(batches(path, "America/New_York")) == ["11-03 05:00", "11-03 05:31", "11-03 07:00"]


@pytest.mark.parametrize("rows", [1, 1000])
def test_ambiguous_stamps_of_a_file_in_no_order_are_rejects(tmp_path: Path, rows: int) -> None:
    shuffled = ["02:00", "00:58", "01:00", "03:00", "01:59", "00:59", "01:00", "02:30"]
    found = batches(write(tmp_path, priced(*shuffled)), "America/New_York", rows=rows)
    assert stamps_of(found) == ["11-03 04:58", "11-03 04:59", "11-03 07:00", "11-03 07:30", "11-03 08:00"]
    why = "in the hour that autumn repeats, in a file whose rows are not in order"
    assert rejects_of(found) == [(3, why), (5, why), (7, why)]
    # Of both of their moments nothing is proved: 05:00, 05:59, 06:00 and 06:59 UTC.
    answered = [(answer.start, answer.end) for batch in found for answer in batch.answers]
    for hour, minute in ((5, 0), (5, 59), (6, 0), (6, 59)):
        moment = datetime(2024, 11, 3, hour, minute, tzinfo=UTC)
        assert not any(start <= moment < end for start, end in answered)


def test_a_repeated_hour_in_no_order_of_its_own_is_a_reject_in_a_file_that_goes_forward(tmp_path: Path) -> None:
    twice = ["00:57", "00:58", "01:00", "01:30", "01:10", "01:40", "01:20", "02:00", "02:01", "02:02"]
    found = batches(write(tmp_path, priced(*twice)), "America/New_York")
    assert [line for line, _ in rejects_of(found)] == [3, 4, 5, 6, 7] and bars_of(found).height == 5


def test_a_row_that_comes_twice_begins_no_second_pass_where_another_row_does(tmp_path: Path) -> None:
    found = batches(write(tmp_path, priced("00:59", "01:00", "01:00", "01:59", "01:00", "02:00")), "America/New_York")
    assert stamps_of(found) == ["11-03 04:59", "11-03 05:00", "11-03 05:59", "11-03 06:00", "11-03 07:00"]
    assert rejects_of(found) == [] and bars_of(found)["close"].to_list()[1] == 3


@pytest.mark.parametrize("newest_first", [False, True])
def test_ticks_of_one_moment_begin_no_second_pass(tmp_path: Path, newest_first: bool) -> None:
    clock = ["01:10:00.100", "01:10:00.100", "01:50:00.200", "01:50:00.100", "01:10:00.000", "02:00:00.000"]
    lines = [f"2024.11.03 {at},1.{i},1.{i}\n" for i, at in enumerate(clock, start=1)]
    path = write(tmp_path, "time,bid,ask\n" + "".join(lines[::-1] if newest_first else lines))
    bars = bars_of(found := batches(path, "America/New_York", rows=2))
    assert stamps_of(found) == ["11-03 05:10", "11-03 05:50", "11-03 06:10", "11-03 07:00"]
    assert bars["volume"].to_list() == [2, 2, 1, 1]


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
    assert bars_of(found)["open"].to_list() == [29.5, 30.5, 29.5]
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
    ]


def test_the_file_that_ends_later_is_taken_where_files_overlap_and_a_difference_is_told(tmp_path: Path) -> None:
    ends_later = write(tmp_path, mt4("2025.01.06,22:02", "2025.01.06,22:01") + "x" * 300, "a.csv")
    unfinished = mt4("2025.01.06,22:00") + "2025.01.06,22:01,29.5,29.6,29.4,29.5205,1\n"
    write(tmp_path, unfinished, "b.csv")
    for order in ([tmp_path / "*.csv", ends_later], [tmp_path / "b.csv", ends_later]):
        found = batches(order, "UTC")
        bars = pl.concat([batch.bars for batch in found]).unique("ts", keep="last", maintain_order=True).sort("ts")
        assert bars["ts"].dt.strftime("%H:%M").to_list() == ["22:00", "22:01", "22:02"]
        assert bars["close"].to_list() == [29.55] * 3
        assert rejects_of(found) == [(3, "expected 7 columns, got 1")]
        (note,) = [note for batch in found for note in batch.notes]
        assert "share bars, 1 of 1 bars (100.0 %) with other prices, by 2.5 bps on average" in note
    same = write(tmp_path, mt4("2025.01.06,22:01"), "c.csv")
    assert not [note for batch in batches([ends_later, same], "UTC") for note in batch.notes]


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_a_file_that_descends_has_the_later_of_two_rows_of_a_minute_first(tmp_path: Path, rows: int) -> None:
    minutes = [f"2025.01.06,22:{i:02}" for i in range(30)]
    unfinished = mt4(*minutes[:10]) + f"{minutes[10]},29.5,29.6,29.4,29.5,1\n"
    lines = (unfinished + mt4(*minutes[9:])).splitlines()
    found = batches(write(tmp_path, "\n".join(lines[::-1])), "UTC", rows=rows)
    assert bars_of(found)["close"].to_list() == [29.55] * 30
    damaged = "2025.01.06,22:30,29.5,29.4,29.6,29.5,1\n"
    found = batches(write(tmp_path, damaged + "\n".join(lines[::-1])), "UTC", rows=rows)
    assert bars_of(found)["close"].to_list() == [29.55] * 30


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_the_last_of_two_rows_of_a_minute_is_taken_and_told(tmp_path: Path, rows: int) -> None:
    """As where two exports that overlap were joined to one file."""
    unfinished = mt4("2025.01.06,22:00", "2025.01.06,22:01") + "2025.01.06,22:02,29.5,29.6,29.4,29.5,1\n"
    path = write(tmp_path, unfinished + mt4("2025.01.06,22:01", "2025.01.06,22:02", "2025.01.06,22:03"))
    found = batches(path, "UTC", rows=rows)
    assert bars_of(found)["close"].to_list() == [29.55] * 4 and rejects_of(found) == []
    assert [note for batch in found for note in batch.notes] == [
        f"{path} has 2 bars again, 1 of them with other prices; the latest is taken"
    ]
    assert sum(answer.bars for batch in found for answer in batch.answers) == 4


def test_a_bad_row_is_shown_with_its_file_line_and_the_beginning_of_its_text(tmp_path: Path) -> None:
    path = write(tmp_path, mt4("2025.01.06,22:02") + "x" * 300, "b.csv")
    assert batches(path, "UTC")[0].rejects.rows() == [
        (str(path), 2, "expected 7 columns, got 1", "x" * 200),
    ]


def test_a_list_from_the_configuration_is_accepted(tmp_path: Path) -> None:
    write(tmp_path, mt4("2025.01.06,22:00"))
    paths = OmegaConf.create([str(tmp_path / "*.csv")])
    source = make_files(paths, batch_rows=10)
    assert source.name == f"files {tmp_path}/*.csv"
    assert [batch.bars.height for batch in source.read_batches()] == [1]


def spaced(minutes: int, rows: int, start: str = "2025-01-06 00:00") -> list[str]:
    first = datetime.fromisoformat(start)
    return [f"{first + timedelta(minutes=minutes * i):%Y.%m.%d,%H:%M}" for i in range(rows)]


@pytest.mark.parametrize("minutes", [1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60])
def test_bars_of_any_spacing_that_divides_an_hour_are_known(tmp_path: Path, minutes: int) -> None:
    found = batches(write(tmp_path, mt4(*spaced(minutes, 30))), "UTC")
    assert [(batch.minutes, batch.bars.height) for batch in found] == [(minutes, 30)]
    assert found[0].hourly == (minutes == 60) and bool(found[0].answers) == (minutes == 1)


@pytest.mark.parametrize(
    ("stamps", "said"),
    [
        (spaced(7, 30), "got bars 7 minutes apart in"),
        (spaced(7, 100) + spaced(7, 100, "2025-01-07"), "got bars 7 minutes apart in"),
        (spaced(45, 30), "got bars 45 minutes apart in"),
        (spaced(90, 30), "got bars 90 minutes apart in"),
        (spaced(240, 30), "got bars 4 hours apart in"),
        (spaced(1440, 30), "got bars 1 day apart in"),
        (spaced(7 * 1440, 30), "got bars 1 week apart in"),
        (spaced(60, 24, "2025-01-06 23:30"), "got bars 1 hour apart that open 30 minutes past the full hour in"),
        (spaced(5, 24, "2025-01-06 23:02"), "got bars 5 minutes apart that open 2 minutes past the full one in"),
    ],
)
def test_bars_that_make_no_hours_are_refused_with_their_spacing(tmp_path: Path, stamps: list[str], said: str) -> None:
    path, longer = write(tmp_path, mt4(*stamps)), "M30" if "30 minutes past" in said else "H1"
    for rows in (1, 1000):
        with pytest.raises(UnknownFormat, match=rf"{said} .*bars\.csv; export M1 or {longer}"):
            batches(path, "UTC", rows=rows)


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_the_whole_file_decides_whatever_its_blocks_and_order(tmp_path: Path, rows: int, order: str) -> None:
    stamps = [*spaced(15, 40), "2025.01.06,02:07"]  # a damaged row
    stamps = {"ascending": sorted(stamps), "descending": sorted(stamps)[::-1], "shuffled": stamps[::3] + stamps}[order]
    stamps = list(dict.fromkeys(stamps))
    found = batches(write(tmp_path, mt4(*stamps)), "UTC", rows=rows)
    assert {batch.minutes for batch in found} == {15} and bars_of(found).height == 40
    assert [reason for _, reason in rejects_of(found)] == ["not on the grid of 15 minutes"]


@pytest.mark.parametrize(("minutes", "first"), [(1, "01-05 23:59"), (15, "01-05 23:45"), (60, "01-05 23:00")])
def test_bars_stamped_at_their_close_are_shifted_on_request_alone(tmp_path: Path, minutes: int, first: str) -> None:
    path = write(tmp_path, mt4(*spaced(minutes, 40)))
    for rows in (7, 1000):
        assert stamps_of(batches(path, "UTC", rows=rows))[0] == "01-06 00:00"
        shifted = batches(path, "UTC", rows=rows, stamps="close")
        assert stamps_of(shifted)[0] == first and bars_of(shifted).height == 40
        assert {batch.minutes for batch in shifted} == {minutes}


def test_what_a_stamp_is_of_a_bar_is_open_or_close_and_nothing_for_ticks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Expected source\.stamps=open or close, got middle"):
        batches(write(tmp_path, mt4(*spaced(1, 3))), "UTC", stamps="middle")
    with pytest.raises(ConfigError, match=r"Expected source\.stamps=open for ticks, which do not close, got close"):
        batches(write(tmp_path, TICKS), stamps="close")


def test_thin_minutes_stay_minutes(tmp_path: Path) -> None:
    thin = ["00:00", "00:05", "00:15", "00:16", "00:25", "00:30", "00:47", "00:50", "01:00", "01:05", "01:10"]
    assert batches(write(tmp_path, mt4(*(f"2025.01.06,{at}" for at in thin))), "UTC")[0].minutes == 1
    assert batches(write(tmp_path, mt4("2025.01.06,00:01", "2025.01.06,01:01")), "UTC")[0].minutes == 1


@pytest.mark.parametrize("minutes", [5, 30, 60])
def test_few_bars_are_of_the_spacing_that_their_file_says_or_refused(tmp_path: Path, minutes: int) -> None:
    few = spaced(minutes, 2)
    period = "H1" if minutes == 60 else f"M{minutes}"
    with pytest.raises(
        UnknownFormat, match=rf"got 2 bars .* apart in .*bars.csv; add a column timeframe with {period}, or with M1 if"
    ):
        batches(write(tmp_path, mt4(*few)), "UTC")
    for text, spacing in ((period, minutes), (f"{minutes}m", minutes), (f"{minutes} min", minutes), ("M1", 1)):
        rows = "".join(f"{text},{row}\n" for row in mt4(*few).splitlines())
        path = write(tmp_path, f"timeframe,date,time,open,high,low,close,volume\n{rows}")
        assert [(batch.minutes, batch.bars.height) for batch in batches(path, "UTC")] == [(spacing, 2)]
    path.write_text(path.read_text().replace("M1,", "D1,"))
    with pytest.raises(UnknownFormat, match="got bars of 1 day in"):
        batches(path, "UTC")


def test_a_file_of_too_few_bars_has_the_spacing_of_the_file_before_it(tmp_path: Path) -> None:
    quarters = write(tmp_path, mt4(*spaced(15, 96)), "a.csv")
    rest = write(tmp_path, mt4("2025.01.07,00:00"), "b.csv")
    assert [batch.minutes for batch in batches([quarters, rest], "UTC")] == [15, 15]
    first, *others = batches([rest, quarters], "UTC")
    assert [batch.minutes for batch in (first, *others)] == [1, 15]
    assert first.notes == ("The one bar of b.csv is taken for a minute; add a column timeframe with H1 if it is not",)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (spaced(1440, 20, "2024-12-01"), spaced(60, 50, "2024-12-21 00:00"), "bars 1 day apart from 2024-12-01 00:00"),
        (spaced(15, 100), spaced(1, 60, "2025-01-07 01:00"), "bars 15 minutes apart from 2025-01-06 00:00"),
        (spaced(15, 3000, "2024-12-01"), spaced(1, 60, "2025-01-01 06:00"), "bars 15 minutes apart from 2024-12-01"),
        (spaced(60, 100), spaced(5, 60, "2025-01-10 04:00"), "bars 1 hour apart from 2025-01-06 00:00"),
        (spaced(60, 5), spaced(1, 60, "2025-01-06 05:00"), "bars 1 hour apart from 2025-01-06 00:00"),
    ],
)
@pytest.mark.parametrize("rows", [100, 10_000])
def test_a_file_whose_spacing_changes_says_since_when_and_that_part_is_taken_if_asked(
    tmp_path: Path, before: list[str], after: list[str], said: str, rows: int
) -> None:
    path = write(tmp_path, mt4(*before, *after))
    with pytest.raises(UnknownFormat, match=said) as error:
        batches(path, "UTC", rows=rows)
    since = str(error.value).split("add span.start=")[1].split()[0]
    with pytest.raises(UnknownFormat, match=f"on; give those from {since} UTC on alone$"), own_keys():
        raise error.value
    assert since[:10].replace("-", ".") in (after[0][:10], after[1][:10])
    start = datetime.fromisoformat(since).replace(tzinfo=UTC)
    source = make_files(str(path), symbol="X", batch_rows=rows)
    found = list(source.read_batches(start))
    assert len(after) - 1 <= sum(batch.bars.height for batch in found) <= len(after) and not rejects_of(found)


def test_older_longer_bars_behind_minutes_are_outside_the_span_that_leaves_them_out(tmp_path: Path) -> None:
    path = write(tmp_path, mt4(*spaced(1, 300, "2025-01-10 04:00"), *spaced(60, 100)))
    with pytest.raises(UnknownFormat, match=r"add span\.start=2025-01-10T04:01"):
        batches(path, "UTC")
    found = make_files(str(path), symbol="X").read_batches(datetime(2025, 1, 10, 4, tzinfo=UTC))
    assert sum(batch.bars.height for batch in found) == 300


@pytest.mark.parametrize(("minutes", "longer"), [(1, 15), (60, 1440)])
@pytest.mark.parametrize("order", [1, -1])
def test_longer_bars_behind_or_before_others_of_their_time_are_refused(
    tmp_path: Path, minutes: int, longer: int, order: int
) -> None:
    exports = [spaced(minutes, 300), spaced(longer, 12)][::order]
    with pytest.raises(UnknownFormat, match=r"got bars 1 \w+ apart and, .* apart; leave one of them in the file"):
        batches(write(tmp_path, mt4(*exports[0], *exports[1])), "UTC")


def test_minutes_in_no_order_are_no_longer_bars(tmp_path: Path) -> None:
    stamps = spaced(1, 20_000)
    random.Random(0).shuffle(stamps)
    assert bars_of(batches(write(tmp_path, mt4(*stamps)), "UTC", rows=10**6)).height == 20_000
    by_clock = sorted(spaced(1, 12 * 1440), key=lambda stamp: (stamp[11:], stamp))
    assert bars_of(batches(write(tmp_path, mt4(*by_clock)), "UTC", rows=10**6)).height == 12 * 1440


def test_a_spacing_that_a_column_says_and_the_stamps_deny_is_refused(tmp_path: Path) -> None:
    rows = "".join(f"1,{row}\n" for row in mt4(*spaced(15, 40)).splitlines())
    path = write(tmp_path, f"interval,date,time,open,high,low,close,volume\n{rows}")
    with pytest.raises(UnknownFormat, match=r"Expected bars 1 minute apart, as a column .* got bars 15 minutes apart"):
        batches(path, "UTC")


def test_a_file_that_grows_coarser_is_taken_up_to_there_if_asked(tmp_path: Path) -> None:
    path = write(tmp_path, mt4(*spaced(60, 100), *spaced(1440, 20, "2025-01-11")))
    with pytest.raises(UnknownFormat, match=r"1 day apart .*; add span\.end=2025-01-1\dT\d\d:00 to take those before"):
        batches(path, "UTC")
    with pytest.raises(UnknownFormat, match=r"; give those before 2025-01-1\dT\d\d:00 UTC alone$"), own_keys():
        batches(path, "UTC")
    source = make_files(str(path), symbol="X")
    assert bars_of(list(source.read_batches(None, datetime(2025, 1, 10, tzinfo=UTC)))).height == 96


def test_stamps_that_cannot_be_are_rejects(tmp_path: Path) -> None:
    good = spaced(1, 120)
    odd = ["1970.01.01,00:00", "1899.12.31,00:00", "2568.01.06,00:00", f"{datetime.now(UTC).year + 1}.03.01,00:00"]
    for rows in (1, 1000):
        found = batches(write(tmp_path, mt4(odd[0], *good[:60], *odd[1:], *good[60:])), "UTC", rows=rows)
        assert bars_of(found).height == 120
        assert rejects_of(found) == [
            (1, "far from the rest of its file"),
            (62, "before 1900"),
            (63, "in the future, or in another time zone"),
            (64, "in the future, or in another time zone"),
        ]


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("day", ["2025.01.16", "2025.01.05"])
def test_a_row_days_off_in_a_file_in_order_is_a_reject(tmp_path: Path, day: str, newest_first: bool) -> None:
    stamps = spaced(1, 120)
    stamps[60] = f"{day},01:00"
    for rows in (7, 1000):
        found = batches(write(tmp_path, mt4(*stamps[:: -1 if newest_first else 1])), "UTC", rows=rows)
        assert rejects_of(found) == [(60 if newest_first else 61, "a day or more from the rows about it")]
        assert bars_of(found).height == 119 and bars_of(found)["ts"].dt.day().unique().to_list() == [6]


@pytest.mark.parametrize("ticks", [False, True])
@pytest.mark.parametrize(
    ("first", "count"),
    [
        ("2000-01-04 00:00:40", 1),
        ("1970-01-01 00:00:00", 5),
        ("2024-12-30 10:00:00", 9),
        ("2025-01-05 10:00:00", 9),
    ],
)
def test_few_damaged_stamps_in_a_row_are_rejects(tmp_path: Path, first: str, count: int, ticks: bool) -> None:
    minute = timedelta(minutes=1)
    stamps = [datetime(2025, 1, 6, 8) + minute * i for i in range(1000)]
    stamps[500 : 500 + count] = [datetime.fromisoformat(first) + minute * i for i in range(count)]
    header, prices = ("time,bid,ask", "30.2,30.25") if ticks else ("time,open,high,low,close", "30,30.1,29.9,30")
    if not ticks:
        stamps = [stamp.replace(second=0) for stamp in stamps]
    path = write(tmp_path, "\n".join([header, *(f"{stamp},{prices}" for stamp in stamps)]))
    for rows in (7, 10_000):
        found = batches(path, "UTC", rows=rows)
        assert [line for line, _ in rejects_of(found)] == list(range(502, 502 + count))
        assert bars_of(found).height == 1000 - count and bars_of(found)["ts"].min() == stamps[0].replace(tzinfo=UTC)


def test_a_bar_that_has_not_closed_is_left_out(tmp_path: Path) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    stamps = [f"{hour - timedelta(hours=i):%Y.%m.%d,%H:%M}" for i in range(20)]
    found = batches(write(tmp_path, mt4(*stamps)), "UTC")
    assert rejects_of(found) == [(1, "not closed yet")] and bars_of(found).height == 19


def test_gaps_between_many_bars_are_no_damage(tmp_path: Path) -> None:
    years = [*spaced(60, 500, "2019-01-07"), *spaced(60, 12, "2021-01-04"), *spaced(60, 500, "2023-01-02")]
    assert bars_of(batches(write(tmp_path, mt4(*years)), "UTC")).height == 1012
    weeks = [*spaced(1, 20, "2025-01-03 21:00"), *spaced(1, 1, "2025-01-16 22:00")]
    assert bars_of(batches(write(tmp_path, mt4(*weeks)), "UTC")).height == 21


def test_an_hour_and_its_first_minute_are_no_duplicates(tmp_path: Path) -> None:
    hours = write(tmp_path, mt4(*(f"2025.01.06,{hour:02}:00" for hour in range(12))), "h1.csv")
    minutes = write(tmp_path, mt4("2025.01.06,00:00", "2025.01.06,00:01"), "m1.csv")
    assert [(batch.hourly, batch.bars.height) for batch in batches([hours, minutes], "UTC")] == [(True, 12), (False, 2)]


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


@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_the_order_of_ticks_changes_no_minute(tmp_path: Path, rows: int) -> None:
    lines = TICKS.splitlines()
    usual = bars_of(batches(write(tmp_path, "\n".join(lines)), rows=1000))
    for order in (lines[::-1], lines[1::2] + lines[::2]):
        assert bars_of(batches(write(tmp_path, "\n".join(order)), rows=rows)).equals(usual)


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("again", [0, 130])
def test_ticks_of_one_second_that_come_newest_first_make_the_same_minutes(
    tmp_path: Path, rows: int, again: int
) -> None:
    def tick(i: int) -> str:
        return f"{datetime(2025, 1, 6, 22) + timedelta(seconds=i // 3)},{29 + i / 1000:.3f},{29.02 + i / 1000:.3f}"

    lines = [tick(i) for i in [*range(300), *range(300 - again, 400)]]
    usual = bars_of(batches(write(tmp_path, "\n".join(["time,bid,ask", *lines])), "UTC"))
    newest_first = write(tmp_path, "\n".join(["time,bid,ask", *lines[::-1]]))
    assert bars_of(batches(newest_first, "UTC", rows=rows)).equals(usual)


def quotes(*seconds: int) -> str:
    """A tick at each of so many seconds after 22:00, with prices of its own."""
    rows = ((datetime(2025, 1, 6, 22) + timedelta(seconds=at), 29 + at / 1000) for at in seconds)
    return "time,bid,ask\n" + "".join(f"{ts},{bid:.3f},{bid + 0.02:.3f}\n" for ts, bid in rows)


EVERY_10_S = range(0, 600, 10)


@pytest.mark.parametrize("most", [1, 10, 500_000])
@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("order", [1, -1], ids=["oldest first", "newest first"])
@pytest.mark.parametrize("cut", [300, 320])
def test_ticks_of_exports_that_overlap_or_part_a_minute_count_once(
    tmp_path: Path, rows: int, order: int, cut: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticks, "MOST_TICKS", most)
    whole = bars_of(batches(write(tmp_path, quotes(*EVERY_10_S), "whole.csv"), "UTC"))
    early, late = ([at for at in EVERY_10_S if at < cut][::order], [at for at in EVERY_10_S if at >= cut][::order])
    overlapping = [at for at in EVERY_10_S if at >= cut - 80][::order]
    joined = write(tmp_path, quotes(*early, *overlapping), "joined.csv")
    a, b = write(tmp_path, quotes(*early), "a.csv"), write(tmp_path, quotes(*late), "b.csv")
    c = write(tmp_path, quotes(*overlapping), "c.csv")
    for files in (joined, [a, b], [b, a]):
        found = batches(files, "UTC", rows=rows)
        assert bars_of(found).equals(whole) and not any(batch.notes for batch in found)
    assert bars_of(batches([a, c], "UTC", rows=rows))["volume"].max() == 6


def test_parquet_is_read_naive_or_in_any_zone_and_its_rejects_show_values(tmp_path: Path) -> None:
    local = pl.Series([datetime(2025, 1, 6, 17), datetime(2025, 1, 6, 17, 1)]).cast(pl.Datetime("ns"))
    frame = pl.DataFrame({"close": [29, 29], "ts": local, "open": 29.0, "high": [30.0, 28.0], "low": 29.0, "spread": 1})
    frame.write_parquet(tmp_path / "naive.dat")
    frame.with_columns(pl.col("ts").dt.replace_time_zone("America/New_York")).write_parquet(tmp_path / "aware.dat")
    for name, zone in (("naive.dat", "America/New_York"), ("aware.dat", None)):
        found = batches(tmp_path / name, zone, rows=1)
        assert bars_of(found).rows() == [(datetime(2025, 1, 6, 22, tzinfo=UTC), 29, 30, 29, 29, None, None)]
        assert rejects_of(found) == [(2, "high below low")]
        assert found[1].rejects["text"].item().endswith(",29.0,28.0,29.0,29.0")


def test_brackets_in_names_are_no_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "old [2024]"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    ts = [datetime(2025, 1, 6, 17), datetime(2025, 1, 6, 17, 1)]
    for name, price in (("silver[1]", 30.0), ("silver1", 29.0)):
        frame = pl.DataFrame({"ts": ts, **dict.fromkeys(PRICES, price)})
        frame.write_parquet(folder / f"{name}.parquet")
    assert bars_of(batches(folder / "silver[1].parquet", "UTC", rows=1))["close"].to_list() == [30, 30]


def test_no_clock_is_four_days_ahead_of_another() -> None:
    with pytest.raises(WrongZone, match=r"a shift of at most 14 hours, got source\.zone=UTC\+99h"):
        make_files("bars.csv", zone="UTC+99h")


def test_bytes_that_are_no_text_are_no_fault_of_parquet(tmp_path: Path) -> None:
    columns = {"ts": [datetime(2025, 1, 6, 15, tzinfo=UTC)]} | {price: [1.0] for price in PRICES}
    pl.DataFrame(columns | {"digest": [b"\xff\xfe"]}).write_parquet(tmp_path / "x.parquet")
    assert sum(batch.bars.height for batch in batches(tmp_path / "x.parquet")) == 1


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
        make_files("x.csv", zone=None, price_factor=factor, batch_rows=rows)


@pytest.mark.parametrize("pattern", ["absent.csv", "*.absent", "/absent/**/*.csv"])
def test_a_pattern_that_matches_nothing_is_named(pattern: str) -> None:
    with pytest.raises(NoSuchFile) as error:
        batches(Path(pattern))
    assert f"source.paths={pattern};" in str(error.value)


def test_a_file_that_cannot_be_read_is_an_error_of_one_sentence() -> None:
    with pytest.raises(DataError, match="Expected a file that can be read, got /proc/self/mem: "):
        batches(Path("/proc/self/mem"), "UTC")


@pytest.mark.parametrize("paths", [[1, 2], None, [], "", [""], 7])
def test_paths_that_name_nothing_are_a_sentence(paths: Any) -> None:
    with pytest.raises(ConfigError, match=r"Expected source\.paths as a file, a glob or a list of them, got "):
        make_files(paths)


def test_a_folder_is_told_from_the_files_in_it(tmp_path: Path) -> None:
    with pytest.raises(NoSuchFile, match=rf"got the folder source\.paths={tmp_path}; .* such as {tmp_path}/\*\.csv"):
        batches(tmp_path)


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
