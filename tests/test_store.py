"""The store under repetition, interruption and company. The killed and competing writers are real processes."""

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import Start
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import let_go, output

from lstm_ts.errors import ConfigError, DataError, NoRows
from lstm_ts.market.bars import BAR_SCHEMA, HOURLY_SCHEMA
from lstm_ts.market.session import Session
from lstm_ts.store.bar_store import BarStore
from lstm_ts.store.manifest import read_manifest, stores_in
from lstm_ts.store.month_file import write_month
from lstm_ts.store.staging import UpsertResult

YEAR_END = datetime(2014, 12, 31, 23, 58, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

# Waits for a line on stdin, then upserts 24 months whose closes all are argv[2].
WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
import polars as pl
from lstm_ts.market.bars import BAR_SCHEMA
from lstm_ts.store.bar_store import BarStore
close = float(sys.argv[2])
months = [datetime(2013 + m // 12, m % 12 + 1, 1, tzinfo=UTC) for m in range(24)]
print("loaded", flush=True)
sys.stdin.readline()
with BarStore(Path(sys.argv[1]), BAR_SCHEMA).upsert("test minutes") as staging:
    for month in months:
        staging.add(pl.DataFrame([(month, 20.0, 30.0, 1.0, close, 1.0, None)], schema=BAR_SCHEMA, orient="row"))
"""

# Upserts ten times: every fourth minute from argv[2], one minute of two months at a time.
COMPETITOR = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
import polars as pl
from lstm_ts.market.bars import BAR_SCHEMA
from lstm_ts.store.bar_store import BarStore
print("loaded", flush=True)
sys.stdin.readline()
for step in range(10):
    minute = timedelta(minutes=int(sys.argv[2]) + 4 * step)
    with BarStore(Path(sys.argv[1]), BAR_SCHEMA).upsert("test minutes") as staging:
        for month in (datetime(2014, 1, 1, tzinfo=UTC), datetime(2014, 2, 1, tzinfo=UTC)):
            rows = [(month + minute, 20.0, 30.0, 1.0, 20.0, 1.0, None)]
            staging.add(pl.DataFrame(rows, schema=BAR_SCHEMA, orient="row"))
"""


def bars(closes: list[float], first: datetime = YEAR_END) -> pl.DataFrame:
    rows = [(first + i * MINUTE, 20.0, 30.0, 1.0, close, 1.0, None) for i, close in enumerate(closes)]
    return pl.DataFrame(rows, schema=BAR_SCHEMA, orient="row")


def upsert(store: BarStore, *batches: pl.DataFrame) -> UpsertResult:
    with store.upsert("test minutes") as staging:
        for batch in batches:
            staging.add(batch)
    return staging.result


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"close": float("nan")}, "price is not finite"),
        ({"high": float("inf")}, "price is not finite"),
        ({"low": 0.0}, "price is not positive"),
        ({"open": -1.0}, "price is not positive"),
        ({"low": None}, "unparseable price"),
        ({"ts": datetime(1000, 1, 1, tzinfo=UTC)}, "before 1900"),
        ({"ts": datetime(2999, 1, 1, tzinfo=UTC)}, "in the future"),
    ],
)
def test_no_source_stores_a_bar_that_cannot_be(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    store = BarStore(tmp_path / "store", BAR_SCHEMA)
    upsert(store, bars([1.0, 2.0]))
    before = contents(store.folder)
    columns = {name: pl.lit(value, BAR_SCHEMA[name]) for name, value in change.items()}
    with pytest.raises(DataError, match=rf"\({why}\) and 1 more; nothing of this was stored"):
        upsert(store, bars([3.0]), bars([4.0, 5.0]).with_columns(**columns))
    assert contents(store.folder) == before


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time of change and its bytes; the locks are empty and stay."""
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir() if p.suffix != ".lock"}


@pytest.fixture
def store(tmp_path: Path) -> BarStore:
    return BarStore(tmp_path / "XAGUSD", BAR_SCHEMA)


def test_rows_are_kept_by_month_and_read_back_ascending(store: BarStore) -> None:
    result = upsert(store, bars([3.0, 4.0], YEAR_END + 2 * MINUTE), bars([1.0, 2.0]))
    assert result == UpsertResult(new=4, same=0, revised=0, months=("2014-12", "2015-01"))
    assert store.read().equals(bars([1.0, 2.0, 3.0, 4.0]))
    assert sorted(p.name[:8] for p in store.folder.glob("*.parquet")) == ["2014-12-", "2015-01-"]


def test_the_same_ingest_twice_touches_no_file(store: BarStore) -> None:
    upsert(store, bars([1.0, 2.0, 3.0]))
    before = contents(store.folder)
    assert upsert(store, bars([1.0, 2.0, 3.0])) == UpsertResult(new=0, same=3, revised=0, months=())
    assert contents(store.folder) == before


def test_two_stores_of_the_same_rows_have_the_same_bytes_whatever_the_order_of_arrival(tmp_path: Path) -> None:
    one, other = (BarStore(tmp_path / name, BAR_SCHEMA) for name in ("one", "other"))
    upsert(one, bars([1.0, 2.0, 3.0]))
    upsert(other, bars([3.0], YEAR_END + 2 * MINUTE))
    upsert(other, bars([9.0, 2.0]), bars([1.0]))
    bytes_of = [{name: kept for name, (_, kept) in contents(s.folder).items()} for s in (one, other)]
    manifests = [json.loads(kept.pop("manifest.json")) for kept in bytes_of]
    assert bytes_of[0] == bytes_of[1]
    assert manifests[0].pop("id") != manifests[1].pop("id")
    assert manifests[0] == manifests[1]


def test_a_store_keeps_the_id_of_its_first_commit_and_has_one_without_a_row(tmp_path: Path) -> None:
    store = BarStore(tmp_path / "one", BAR_SCHEMA)
    assert store.id == ""
    with store.upsert("nothing new") as staging:
        pass
    assert store.id == staging.store_id != ""
    upsert(store, bars([1.0]))
    assert (store.id, store.source) == (staging.store_id, "test minutes")


def test_a_store_that_is_older_than_its_id_gets_one_by_the_next_commit(tmp_path: Path) -> None:
    store = BarStore(tmp_path / "one", BAR_SCHEMA)
    upsert(store, bars([1.0]))
    manifest = store.folder / "manifest.json"
    content = json.loads(manifest.read_bytes())
    manifest.write_text(json.dumps({key: value for key, value in content.items() if key != "id"}))
    assert store.id == ""
    with store.upsert("others") as staging:
        staging.add(bars([1.0]))
    assert (store.id, store.source) == (staging.store_id, "test minutes")


def test_a_later_row_wins_and_is_counted_as_revised(store: BarStore) -> None:
    upsert(store, bars([1.0, 2.0, 3.0]))
    result = upsert(store, bars([1.0, 7.0, 3.0, 4.0]), bars([8.0], YEAR_END + MINUTE))
    assert result == UpsertResult(new=1, same=2, revised=1, months=("2014-12", "2015-01"))
    assert store.read()["close"].to_list() == [1.0, 8.0, 3.0, 4.0]


def test_an_unchanged_month_keeps_its_file_when_another_is_revised(store: BarStore) -> None:
    upsert(store, bars([1.0, 2.0, 3.0]))
    december = {name: kept for name, kept in contents(store.folder).items() if name.startswith("2014-12")}
    assert upsert(store, bars([1.0, 2.0, 5.0])).months == ("2015-01",)
    assert december.items() <= contents(store.folder).items()
    assert len(list(store.folder.glob("2*.parquet"))) == 2


def test_a_revised_bar_is_kept_with_its_old_values_and_its_new(store: BarStore) -> None:
    upsert(store, bars([1.0, 2.0, 3.0]))
    assert store.read_revisions().schema == store.revision_schema
    assert store.read_revisions().is_empty()
    before = datetime.now(UTC)
    upsert(store, bars([1.0, 7.0, 3.0, 4.0]), bars([8.0], YEAR_END + MINUTE))
    upsert(store, bars([5.0]))
    upsert(store, bars([9.0], YEAR_END + MINUTE))
    found = store.read_revisions()
    assert found.select("ts", "close", "close_revised", "source").rows() == [
        (YEAR_END, 1.0, 5.0, "test minutes"),
        (YEAR_END + MINUTE, 2.0, 8.0, "test minutes"),
        (YEAR_END + MINUTE, 8.0, 9.0, "test minutes"),
    ]
    assert before < found["revised_at"].min() <= found["revised_at"].max() < datetime.now(UTC)


def test_a_bar_that_comes_again_as_it_was_is_no_revision(store: BarStore) -> None:
    without_volume = bars([1.0, 2.0]).with_columns(volume=pl.lit(None, pl.Float64))
    upsert(store, without_volume)
    before = contents(store.folder)
    upsert(store, without_volume)
    assert contents(store.folder) == before
    assert upsert(store, bars([1.0])).revised == 1
    assert store.read_revisions().select("volume", "volume_revised").rows() == [(None, 1.0)]


def test_a_store_from_before_revisions_were_kept_is_read_and_goes_on(store: BarStore) -> None:
    upsert(store, bars([1.0, 2.0]))
    manifest = store.folder / "manifest.json"
    content = json.loads(manifest.read_bytes())
    del content["revisions"]
    manifest.write_text(json.dumps(content))
    assert store.read().height == 2
    assert upsert(store, bars([3.0])).revised == 1
    assert store.read_revisions()["close_revised"].to_list() == [3.0]


def test_a_spread_that_comes_later_revises_nothing_and_stays_where_bars_come_again_without(store: BarStore) -> None:
    upsert(store, bars([1.0, 2.0, 3.0]))
    told = bars([1.0, 2.0]).with_columns(spread=pl.Series([0.02, 0.03]))
    assert upsert(store, told) == UpsertResult(new=0, same=2, revised=0, months=("2014-12",))
    assert store.read()["spread"].to_list() == [0.02, 0.03, None]
    assert upsert(store, bars([1.0, 9.0])) == UpsertResult(new=0, same=1, revised=1, months=("2014-12",))
    assert store.read().select("close", "spread").rows() == [(1.0, 0.02), (9.0, 0.03), (3.0, None)]


@pytest.mark.parametrize("none", [None, 0.0])
def test_a_known_volume_stays_where_bars_come_again_without(store: BarStore, none: float | None) -> None:
    upsert(store, bars([1.0, 2.0]))
    without = bars([1.0, 9.0, 3.0]).with_columns(volume=pl.lit(none, pl.Float64))
    assert upsert(store, without) == UpsertResult(new=1, same=1, revised=1, months=("2014-12", "2015-01"))
    assert store.read().select("close", "volume").rows() == [(1.0, 1.0), (9.0, 1.0), (3.0, none)]
    upsert(store, bars([4.0], YEAR_END + 3 * MINUTE), without.tail(1).with_columns(ts=YEAR_END + 3 * MINUTE))
    assert store.read().select("close", "volume").row(3) == (3.0, 1.0)


def test_a_store_from_before_spreads_were_kept_is_read_and_goes_on(store: BarStore) -> None:
    upsert(store, bars([1.0, 2.0]))
    upsert(store, bars([5.0]))
    manifest = read_manifest(store.folder)
    old: dict[str, dict[str, Any]] = {"months": {}, "revisions": {}}
    for kind, files in (("months", manifest.months), ("revisions", manifest.revisions)):
        for month, file in files.items():
            rows = file.read(store.folder).drop("spread", "spread_revised", strict=False)
            name = month if kind == "months" else f"revisions-{month}"
            old[kind][month] = asdict(write_month(store.folder, name, rows))
    content = json.loads((store.folder / "manifest.json").read_text())
    (store.folder / "manifest.json").write_text(json.dumps(content | old))
    assert store.read().equals(bars([5.0, 2.0]))
    assert upsert(store, bars([5.0, 2.0])) == UpsertResult(new=0, same=2, revised=0, months=())
    assert upsert(store, bars([6.0])) == UpsertResult(new=0, same=0, revised=1, months=("2014-12",))
    assert store.read_revisions().select("close", "close_revised").rows() == [(1.0, 5.0), (5.0, 6.0)]


def test_an_exception_in_the_block_changes_nothing_and_leaves_nothing(store: BarStore) -> None:
    upsert(store, bars([1.0, 2.0, 3.0]))
    before = contents(store.folder)
    with pytest.raises(ZeroDivisionError), store.upsert("test minutes") as staging:
        staging.add(bars([9.0, 9.0, 9.0]))
        _ = 1 / 0
    assert contents(store.folder) == before


def test_a_failure_while_months_are_written_changes_nothing_and_leaves_nothing(store: BarStore) -> None:
    upsert(store, bars([1.0, 2.0, 3.0]))
    with pytest.raises(FileNotFoundError), store.upsert("test minutes") as staging:
        staging.add(bars([9.0, 9.0, 9.0]))
        staging.parts["2015-01"][0].unlink()
    assert store.read().equals(bars([1.0, 2.0, 3.0]))
    assert len(list(store.folder.glob("*.parquet"))) == 2
    assert not list(store.folder.glob("staging*"))


def test_a_span_includes_its_start_and_excludes_its_end(store: BarStore) -> None:
    upsert(store, bars([1.0, 2.0, 3.0, 4.0]))
    assert store.read(YEAR_END + MINUTE, YEAR_END + 3 * MINUTE)["close"].to_list() == [2.0, 3.0]
    assert store.read(start=YEAR_END + 2 * MINUTE)["close"].to_list() == [3.0, 4.0]
    assert store.read(end=YEAR_END + 2 * MINUTE)["close"].to_list() == [1.0, 2.0]


def test_only_the_months_of_the_span_are_opened(store: BarStore) -> None:
    upsert(store, bars([1.0, 2.0, 3.0]))
    next(store.folder.glob("2014-12-*")).unlink()
    assert store.read(start=YEAR_END + 2 * MINUTE)["close"].to_list() == [3.0]


def test_an_empty_store_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(NoRows, match=r"got an empty store; run python -m lstm_ts\.ingest"):
        BarStore(tmp_path / "raw", BAR_SCHEMA).read()
    with pytest.raises(NoRows, match=r"got an empty store; run python -m lstm_ts\.process"):
        BarStore(tmp_path / "processed", HOURLY_SCHEMA).read()
    assert list(tmp_path.iterdir()) == []
    hours = bars([1.0]).with_columns(minutes_share=1.0).select(HOURLY_SCHEMA.names())
    upsert(BarStore(tmp_path / "processed/X", HOURLY_SCHEMA), hours)
    with pytest.raises(NoRows, match=r"processed/X has its hours already: go on with python -m lstm_ts\.train"):
        BarStore(tmp_path / "raw/X", BAR_SCHEMA).read()


def test_a_span_without_rows_says_what_the_store_holds(store: BarStore) -> None:
    upsert(store, bars([1.0, 2.0, 3.0]))
    with pytest.raises(NoRows, match=r"got none of its 3 rows in 2014-12 to 2015-01"):
        store.read(start=YEAR_END + timedelta(days=40))


def test_an_altered_month_is_refused(store: BarStore) -> None:
    upsert(store, bars([1.0]))
    month = next(store.folder.glob("*.parquet"))
    bars([2.0]).write_parquet(month)
    with pytest.raises(DataError, match="got other bytes or none"):
        store.read()
    month.unlink()
    with pytest.raises(DataError, match="got other bytes or none"):
        store.read()


def test_a_folder_that_was_copied_in_part_is_said(store: BarStore) -> None:
    upsert(store, bars([1.0]))
    (store.folder / "reader.lock").unlink()
    with pytest.raises(DataError, match=r"reader\.lock beside the bars, got none; copy the whole folder"):
        store.read()
    (store.folder / "reader.lock").touch()
    (store.folder / "manifest.json").write_text("half")
    with pytest.raises(DataError, match="Expected JSON in"):
        store.read_stamps()


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_the_old_rows_or_the_new(store: BarStore, start: Start) -> None:
    first, *writers = start(WRITER, store.folder, *(str(1.0 + i) for i in range(16)))
    begun = time.monotonic()
    let_go(first)
    output(first)
    whole_s = time.monotonic() - begun
    stored = 1.0
    for i, writer in enumerate(writers):
        let_go(writer)
        time.sleep(whole_s * i / 10)
        writer.kill()
        output(writer)
        found = store.read()["close"]
        assert found.len() == 24
        assert found.unique().to_list() in ([stored], [2.0 + i])
        assert len(set(store.read_revisions()["close_revised"])) * 24 == store.read_revisions().height
        assert found[0] in (1.0, *store.read_revisions()["close_revised"])
        stored = found[0]
    upsert(store, bars([1.0], YEAR_END))
    manifest = json.loads((store.folder / "manifest.json").read_bytes())
    named = {entry["file"] for kind in ("months", "revisions") for entry in manifest[kind].values()}
    assert {p.name for p in store.folder.iterdir()} == named | {"manifest.json", "writer.lock", "reader.lock"}


@pytest.mark.slow
def test_competing_writers_end_with_the_union_and_readers_never_see_half_an_upsert(
    store: BarStore, start: Start
) -> None:
    writers = start(COMPETITOR, store.folder, *"0123")
    upsert(store, bars([20.0], datetime(2014, 1, 1, tzinfo=UTC)), bars([20.0], datetime(2014, 2, 1, tzinfo=UTC)))
    for writer in writers:
        let_go(writer)
    while any(writer.poll() is None for writer in writers):
        by_month = store.read().group_by(pl.col("ts").dt.month()).len()["len"].to_list()
        assert by_month[0] == by_month[1]
    for writer in writers:
        output(writer)
        assert writer.returncode == 0
    january = [datetime(2014, 1, 1, tzinfo=UTC) + i * MINUTE for i in range(40)]
    assert store.read(end=datetime(2014, 2, 1, tzinfo=UTC))["ts"].to_list() == january
    assert store.read().height == 80


MINUTES_FROM_YEAR_END = st.integers(min_value=-2, max_value=3)
BATCH = st.lists(st.tuples(MINUTES_FROM_YEAR_END, st.sampled_from([1.0, 2.0])), max_size=5)


@settings(max_examples=25)
@given(upserts=st.lists(st.lists(BATCH, max_size=3), max_size=3))
def test_any_split_into_upserts_equals_one_dict_of_last_values(
    tmp_path_factory: pytest.TempPathFactory, upserts: list[list[list[tuple[int, float]]]]
) -> None:
    store = BarStore(tmp_path_factory.mktemp("store"), BAR_SCHEMA)
    expected: dict[datetime, float] = {}
    for batches in upserts:
        before = dict(expected)
        frames = [
            pl.concat([pl.DataFrame(schema=BAR_SCHEMA), *(bars([c], YEAR_END + m * MINUTE) for m, c in batch)])
            for batch in batches
        ]
        expected |= {YEAR_END + m * MINUTE: close for batch in batches for m, close in batch}
        result = upsert(store, *frames)
        assert result.new == len(expected) - len(before)
        assert result.revised == sum(expected[ts] != close for ts, close in before.items())
    found = store.read().select("ts", "close").rows() if expected else []
    assert found == sorted(expected.items())


def test_a_change_is_told_and_nothing_stored_is_none(store: BarStore) -> None:
    assert store.changed == 0
    upsert(store, bars([20.0]))
    before = store.changed
    assert before == store.changed > 0
    upsert(store, bars([20.0]))
    upsert(store, bars([21.0]))
    assert store.changed > before
    assert stores_in(store.folder.parent) == [store.folder.name]
    assert stores_in(store.folder) == []


def test_a_store_keeps_its_calendar_and_zone_and_refuses_another(tmp_path: Path) -> None:
    new_york, london = (Session(calendar="NYSE", zone=zone) for zone in ("America/New_York", "Europe/London"))
    silver = Session(calendar="CMEGlobex_Silver", zone="America/New_York")
    store = BarStore(tmp_path / "SPY", BAR_SCHEMA)
    store.check_session(silver)  # an empty one takes any
    with store.upsert("test", new_york) as staging:
        staging.add(bars([20.0]))
    manifest = json.loads((tmp_path / "SPY/manifest.json").read_text())
    assert (manifest["calendar"], manifest["zone"]) == ("NYSE", "America/New_York")
    before = (tmp_path / "SPY/manifest.json").read_bytes()
    for other in (silver, london):
        said = f"NYSE in America/New_York, got {other.calendar} in {other.zone}; set symbol.session.calendar"
        with pytest.raises(ConfigError, match=said), store.upsert("test", other) as staging:
            staging.add(bars([21.0]))
    assert (tmp_path / "SPY/manifest.json").read_bytes() == before
    with store.upsert("test") as staging:  # says nothing of sessions: those that are stored
        staging.add(bars([21.0]))
    store.check_session(new_york)
    with pytest.raises(ConfigError):
        store.check_session(silver)


def test_a_store_older_than_its_calendar_gains_it_though_no_bar_changes(tmp_path: Path) -> None:
    store, nyse = BarStore(tmp_path, BAR_SCHEMA), Session(calendar="NYSE", zone="America/New_York")
    with store.upsert("test") as staging:
        staging.add(bars([20.0]))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["calendar"], manifest["zone"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    store.check_session(nyse)
    with store.upsert("test", nyse) as staging:
        staging.add(bars([20.0]))
    assert json.loads((tmp_path / "manifest.json").read_text()) == manifest | {
        "calendar": "NYSE",
        "zone": "America/New_York",
    }
