"""Rows whose prices jump away and back, in files of any kind, blocks and order."""

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from conftest import make_files
from test_files import bars_of, batches, rejects_of, write

from lstm_ts.market.bars import BarBatch

START = datetime(2025, 1, 6, 9)
SPIKE = "far from the prices before and after"
COUNT = 240
Prices = tuple[float, float, float, float]
GOOD: Prices = (30.0, 30.03, 29.98, 30.01)


def times(factor: float) -> Prices:
    return (GOOD[0] * factor, GOOD[1] * factor, GOOD[2] * factor, GOOD[3] * factor)


def lines_of(bad: Mapping[int, Prices], *, minutes: int = 1, count: int = COUNT) -> list[str]:
    """Rows, those in `bad` with other prices."""
    stamps = [START + timedelta(minutes=minutes * i) for i in range(count)]
    return [f"{ts:%Y.%m.%d,%H:%M},{','.join(map(repr, bad.get(i, GOOD)))},7" for i, ts in enumerate(stamps)]


def read(folder: Path, lines: Sequence[str], rows: int = 1000) -> tuple[list[BarBatch], list[int]]:
    """What comes of the file, and the lines that are refused as spikes, the first one 0."""
    found = batches(write(folder, "\n".join(lines) + "\n"), "UTC", rows=rows)
    assert {reason for _, reason in rejects_of(found)} <= {SPIKE}
    return found, sorted(line - 1 for line, _ in rejects_of(found))


MIDDLE = (100, 101, 102, 103, 104)
SPIKES: dict[str, Mapping[int, Prices]] = {
    "100 times": {100: times(100)},
    "a hundredth": {100: times(0.01)},
    "twice": {100: times(2)},
    "half": {100: times(0.5)},
    "beyond any price": {100: times(1e299)},
    "next to nothing": {100: times(1e-299)},
    "five rows": dict.fromkeys(MIDDLE, times(100)),
    "five rows of different factors": {100 + i: times(10.0**power) for i, power in enumerate((2, -3, 5, 1, 2))},
    "two, with two good rows between": {100: times(100), 103: times(0.01)},
    "the first row": {0: times(100)},
    "the first five": dict.fromkeys(range(5), times(0.01)),
    "the second row": {1: times(100)},
    "the last row": {COUNT - 1: times(100)},
    "the last five": dict.fromkeys(range(COUNT - 5, COUNT), times(100)),
    "first and last": {0: times(100), COUNT - 1: times(0.01)},
    "the high alone": {100: (30.0, 3003.0, 29.98, 30.01)},
    "the low alone": {100: (30.0, 30.03, 0.2998, 30.01)},
    "the close alone": {100: (30.0, 3001.0, 29.98, 3001.0)},
    "from one close to the next": {100: (30.0, 3001.0, 29.98, 3001.0), 101: (3001.0, 3001.0, 30.0, 30.0)},
}


@pytest.mark.parametrize("name", SPIKES)
@pytest.mark.parametrize("rows", [50, 1000])
def test_rows_whose_prices_jump_away_and_back_are_rejects(tmp_path: Path, name: str, rows: int) -> None:
    bad = SPIKES[name]
    found, refused = read(tmp_path, lines_of(bad), rows)
    assert refused == sorted(bad)
    assert bars_of(found).height == COUNT - len(bad)
    assert bars_of(found)["high"].max() == 30.03 and bars_of(found)["low"].min() == 29.98


@pytest.mark.parametrize("name", SPIKES)
@pytest.mark.parametrize("order", ["descending", "shuffled"])
def test_the_order_of_rows_does_not_matter(tmp_path: Path, name: str, order: str) -> None:
    lines, bad = lines_of(SPIKES[name]), SPIKES[name]
    again = lines[::-1] if order == "descending" else random.Random(1).sample(lines, len(lines))
    found, refused = read(tmp_path, again, 100)
    assert [lines.index(again[at]) for at in refused] != [] and {lines.index(again[at]) for at in refused} == set(bad)
    assert bars_of(found).height == COUNT - len(bad)


@pytest.mark.parametrize("minutes", [1, 5, 15, 60])
def test_bars_of_any_spacing_are_looked_at(tmp_path: Path, minutes: int) -> None:
    found, refused = read(tmp_path, lines_of({100: times(100), 101: times(100)}, minutes=minutes))
    assert refused == [100, 101] and found[0].minutes == minutes


KEPT: dict[str, Mapping[int, Prices]] = {
    "a level that stays": dict.fromkeys(range(120, COUNT), times(100)),
    "six rows": dict.fromkeys(range(100, 106), times(100)),
    "a shock and back": {100: times(1.5)},
    "a crash of half, step by step, and back": {
        **{100 + i: times(0.8**i) for i in range(4)},
        **{104 + i: times(0.8 ** (3 - i)) for i in range(4)},
    },
    "a wick of three times": {100: (30.0, 90.0, 29.98, 30.01)},
    "thrice as dear within a bar, and back within one": {
        100: (30.0, 90.0, 30.0, 90.0),
        101: (90.0, 90.0, 30.0, 30.0),
    },
}


@pytest.mark.parametrize("name", KEPT)
def test_what_a_market_can_do_and_what_stays_is_no_spike(tmp_path: Path, name: str) -> None:
    found, refused = read(tmp_path, lines_of(KEPT[name]), 50)
    assert refused == [] and bars_of(found).height == COUNT


def test_a_file_without_six_rows_of_one_level_proves_none_damaged(tmp_path: Path) -> None:
    lines = lines_of({2: times(100), 5: times(100)}, count=8)
    assert read(tmp_path, lines)[1] == []
    assert read(tmp_path, lines_of({2: times(100)}, count=9))[1] == [2]


def test_a_damaged_row_beside_the_good_one_of_its_minute_is_left_out_whichever_comes_first(tmp_path: Path) -> None:
    lines = lines_of({100: times(100)})
    good = lines_of({})[100]
    for both in ([lines[100], good], [good, lines[100]]):
        found, refused = read(tmp_path, [*lines[:100], *both, *lines[101:]], 101)
        assert len(refused) == 1 and bars_of(found).height == COUNT


BROKEN = {
    "0.0,30.03,29.98,30.01": "price is not positive",
    "30.0,30.03,-29.98,30.01": "price is not positive",
    "30.0,29.0,29.98,30.01": "high below low",
    "nan,30.03,29.98,30.01": "price is not finite",
    "30.0,inf,29.98,30.01": "price is not finite",
}


@pytest.mark.parametrize("prices", BROKEN)
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a spike"])
def test_rows_that_are_wrong_by_themselves_keep_their_reason(tmp_path: Path, prices: str, beside: bool) -> None:
    lines = lines_of({101: times(100)} if beside else {})
    lines[100] = f"{lines[100][:16]},{prices},7"
    found = batches(write(tmp_path, "\n".join(lines) + "\n"), "UTC", rows=100)
    assert rejects_of(found) == [(101, BROKEN[prices])] + [(102, SPIKE)] * beside
    assert bars_of(found).height == COUNT - 1 - beside


def ticks_of(bad: Mapping[int, tuple[float, float]], count: int = 1200) -> str:
    """Six ticks a minute, as Dukascopy's."""
    head = "Gmt time,Ask,Bid,AskVolume,BidVolume\n"
    stamps = [START + timedelta(seconds=10 * i) for i in range(count)]
    sides = [bad.get(i, (30.01, 29.99)) for i in range(count)]
    return head + "".join(
        f"{ts:%d.%m.%Y %H:%M:%S}.000,{ask!r},{bid!r},1,1\n" for ts, (ask, bid) in zip(stamps, sides, strict=True)
    )


@pytest.mark.parametrize("rows", [50, 10_000])
@pytest.mark.parametrize(
    "bad",
    [
        {603: (3001.0, 2999.0)},
        {603: (3001.0, 29.99)},
        {603: (30.01, 0.2999)},
        dict.fromkeys(range(600, 630), (3001.0, 2999.0)),
        {0: (3001.0, 2999.0)},
        {1199: (0.3001, 0.2999)},
    ],
    ids=["one tick", "its ask", "its bid", "five minutes", "the first", "the last"],
)
def test_ticks_that_jump_away_and_back_are_rejects(
    tmp_path: Path, rows: int, bad: Mapping[int, tuple[float, float]]
) -> None:
    found = batches(write(tmp_path, ticks_of(bad)), "UTC", rows=rows)
    assert rejects_of(found) == [(at + 2, SPIKE) for at in sorted(bad)]
    bars = bars_of(found)
    assert bars["volume"].sum() == 1200 - len(bad)
    assert (bars["high"].max(), bars["low"].min()) == (pytest.approx(30.0), pytest.approx(30.0))


def test_a_spike_in_the_hour_that_autumn_repeats_is_found(tmp_path: Path) -> None:
    start = datetime(2024, 11, 3, 4, 30, tzinfo=UTC)
    stamps = [start + timedelta(minutes=i) for i in range(180)]
    frame = pl.DataFrame({"ts": stamps}).with_columns(pl.col("ts").dt.convert_time_zone("America/New_York"))
    local = frame["ts"].dt.strftime("%Y.%m.%d,%H:%M").to_list()
    rows = [f"{stamp},{','.join(map(repr, times(100) if i == 100 else GOOD))},7" for i, stamp in enumerate(local)]
    for size in (25, 1000):
        found = batches(write(tmp_path, "\n".join(rows) + "\n"), "America/New_York", rows=size)
        assert rejects_of(found) == [(101, SPIKE)] and bars_of(found).height == 179


def test_spikes_are_kept_where_the_market_moved_so(tmp_path: Path) -> None:
    path = write(tmp_path, "\n".join(lines_of({100: times(100)})))
    source = make_files(str(path), batch_rows=99, keep_spikes=True)
    assert bars_of(list(source.read_batches())).height == COUNT


def test_a_damaged_minute_stays_unknown(tmp_path: Path) -> None:
    found, _ = read(tmp_path, lines_of({100: times(100)}))
    at = START.replace(tzinfo=UTC) + timedelta(minutes=100)
    spans = [(answer.start, answer.end) for answer in found[-1].answers]
    assert [end for _, end in spans[:-1]] == [at] and spans[1][0] == at + timedelta(minutes=1)
