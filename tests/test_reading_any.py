"""Any bars in any layout are read as they were written; damaged files give rejects or one sentence."""

import gzip
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from conftest import make_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstm_ts.errors import LstmTsError
from lstm_ts.market.bars import BarBatch
from lstm_ts.sources.files.chunks import open_chunks

Row = tuple[datetime, float, float, float, float, float]
FEW = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])

STAMPS = {  # strptime formats, and the hours that stamps are ahead of UTC
    "%Y-%m-%d %H:%M:%S": 0, "%Y-%m-%d %H:%M": 0, "%Y-%m-%dT%H:%M:%S.%f": 0, "%Y.%m.%d %H:%M": 0, "%Y/%m/%d %H:%M:%S": 0,
    "%d.%m.%Y %H:%M:%S": 0, "%m/%d/%Y %H:%M": 0, "%d-%b-%Y %H:%M": 0, "%Y%m%d %H%M%S": 0, "%Y%m%d%H%M": 0,
    "%Y-%m-%d %I:%M:%S %p": 0, "%Y-%m-%dT%H:%M:%SZ": 0, "%Y-%m-%d %H:%M:%S UTC": 0, "%Y-%m-%d %H:%M:%S+02:00": 2,
    "%d.%m.%Y %H:%M:%S.%f GMT-0500": -5,
}  # fmt: skip
EPOCHS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
NAMES = (
    ("time", "open", "high", "low", "close", "volume"),
    ("Date", "Open", "High", "Low", "Close", "Vol"),
    ("timestamp", "o", "h", "l", "c", "v"),
    ("<DATE>", "<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<TICKVOL>"),
    ("", "open_price", "high_price", "low_price", "close_price", "Volume USDT"),
)
EXTRAS = ("spread", "bid", "ask", "close_time", "symbol", "ignore")


@st.composite
def bars(draw: st.DrawFn) -> list[Row]:
    """Minutes of the 20th to the 22nd, so that no date can be read in two ways."""
    first = datetime(2025, 1, 20, tzinfo=UTC)
    minutes = draw(st.lists(st.integers(1, 4000), min_size=15, max_size=40, unique=True))
    level = draw(st.sampled_from([3.0e-6, 1.2, 29.5, 2650.0, 97_000.0]))
    rows = []
    for minute in sorted(minutes):
        low, a, b, high = sorted(draw(st.lists(st.integers(0, 2000), min_size=4, max_size=4)))
        values = [round(level * (1 + step / 100_000), 12) for step in (a, high, low, b)]
        rows.append((first + timedelta(minutes=minute), *values, float(draw(st.integers(0, 10**6)))))
    return rows


@st.composite
def written(draw: st.DrawFn) -> tuple[bytes, list[Row]]:
    """A text file in some layout, and its bars."""
    rows = draw(bars())
    separator = draw(st.sampled_from([",", ";", "\t", "|"]))
    comma = separator != "," and draw(st.booleans())
    stamp = draw(st.sampled_from([*STAMPS, *EPOCHS]))
    names = draw(st.sampled_from(NAMES))
    extras = draw(st.lists(st.sampled_from(EXTRAS), unique=True))
    order = draw(st.permutations(range(6 + len(extras))))
    quote = draw(st.sampled_from(["", '"']))

    def line(cells: list[str]) -> str:
        return separator.join(f"{quote}{cells[i]}{quote}" for i in order)

    def number(value: float) -> str:
        text = f"{value:.12f}".rstrip("0")
        return (text + "0" if text.endswith(".") else text).replace(".", "," if comma else ".")

    def extra(name: str) -> str:
        return {"symbol": "XAGUSD", "close_time": "1737331199999"}.get(name, "1")

    lines = [line([*names, *extras])]
    for ts, *values in rows:
        local = ts + timedelta(hours=STAMPS.get(stamp, 0))
        text = local.strftime(stamp) if stamp in STAMPS else str(int(ts.timestamp()) * EPOCHS[stamp])
        lines.append(line([text, *map(number, values), *map(extra, extras)]))
    ends = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    return ends.join(lines).encode(encoding) + b"", rows


def read(path: Path, content: bytes, rows: int) -> list[BarBatch]:
    path.write_bytes(content)
    source = make_files(str(path), batch_rows=rows)
    return list(source.read_batches())


@FEW
@given(file=written(), rows=st.sampled_from([7, 1000]), packed=st.booleans())
def test_bars_in_any_layout_come_back_as_they_were_written(
    tmp_path: Path, file: tuple[bytes, list[Row]], rows: int, packed: bool
) -> None:
    content, wanted = file
    path = tmp_path / "bars"
    path.write_bytes(gzip.compress(content) if packed else content)
    (opened,) = open_chunks(path, rows, symbol="XAGUSD", dates=None)
    found = pl.concat(list(opened.rows))
    assert found["reason"].null_count() == found.height
    stamps = found["stamp"] if opened.utc else found["stamp"].dt.replace_time_zone("UTC")
    columns = found.select(stamps.alias("ts"), "open", "high", "low", "close", "volume")
    assert columns.rows() == wanted


def parquet() -> bytes:
    out = io.BytesIO()
    stamps = [datetime(2025, 1, 20, tzinfo=UTC) + timedelta(minutes=i) for i in range(40)]
    pl.DataFrame({"ts": stamps} | dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0)).write_parquet(out)
    return out.getvalue()


TEXT = "Gmt time,Open,High,Low,Close,Volume\n" + "".join(
    f"20.01.2025 10:{minute:02}:00.000,29.5,29.6,29.4,29.55,{minute}\n" for minute in range(40)
)
TICKS = "<DATE>\t<TIME>\t<BID>\t<ASK>\n" + "".join(f"2025.01.20\t10:00:{i:02}.5\t29.5\t29.6\n" for i in range(40))
GOOD = {
    "text": TEXT.encode(),
    "quoted": TEXT.replace(",", '","').encode("utf-16"),
    "ticks": TICKS.encode(),
    "gzip": gzip.compress(TEXT.encode()),
    "Parquet": parquet(),
}


@settings(FEW, max_examples=40)
@given(
    kind=st.sampled_from(sorted(GOOD)),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3), st.integers(0, 3)), min_size=1, max_size=6),
)
def test_damaged_bytes_give_rejects_or_one_sentence(
    tmp_path: Path, kind: str, changes: list[tuple[float, bytes, int]]
) -> None:
    content = GOOD[kind]
    for at, inserted, removed in changes:
        cut = int(at * len(content))
        content = content[:cut] + inserted + content[cut + removed :]
    try:
        batches = read(tmp_path / "bars", content, 16)
    except LstmTsError as error:
        assert str(error).startswith("Expected") and str(error).isprintable()
    else:
        assert all(
            batch.bars.null_count().select("ts", "open", "close").sum_horizontal().item() == 0 for batch in batches
        )


@pytest.mark.parametrize("kind", sorted(GOOD))
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_anywhere_gives_its_rows_or_one_sentence(tmp_path: Path, kind: str, share: float) -> None:
    content = GOOD[kind]
    try:
        read(tmp_path / "bars", content[: int(share * len(content))], 16)
    except LstmTsError as error:
        assert str(error).startswith("Expected") and str(error).isprintable()
