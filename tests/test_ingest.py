from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lstm_ts.bars import BAR_SCHEMA, HOURLY_SCHEMA
from lstm_ts.errors import NoRows, TooManyRejects, WrongZone
from lstm_ts.ingest import IngestResult, ingest
from lstm_ts.process import process
from lstm_ts.session import Session
from lstm_ts.sources.files import Files
from lstm_ts.store import BarStore

START = datetime(2019, 3, 5, 10, tzinfo=UTC)


class Stores:
    def __init__(self, folder: Path) -> None:
        self.raw = BarStore(folder / "raw" / "XAGUSD", BAR_SCHEMA)
        self.processed = BarStore(folder / "processed" / "XAGUSD", HOURLY_SCHEMA)
        self.rejects = folder / "rejects.csv"

    def ingest(self, path: Path, session: Session, *, zone: str = "UTC", max_reject_share: float = 0.1) -> IngestResult:
        return ingest(
            Files(paths=str(path), zone=zone, price_factor=1.0, batch_rows=1000),
            raw=self.raw,
            processed=self.processed,
            session=session,
            max_reject_share=max_reject_share,
            max_mismatch=0.02,
            rejects_csv=self.rejects,
        )


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    return Stores(tmp_path)


def mt4(path: Path, start: datetime, minutes: int, *, extra: tuple[str, ...] = ()) -> Path:
    stamps = [start + timedelta(minutes=i) for i in range(minutes)]
    lines = [f"{ts:%Y.%m.%d,%H:%M},15.1,15.2,15.0,15.1,7" for ts in stamps]
    path.write_text("\n".join([*lines, *extra]) + "\n")
    return path


def test_good_rows_are_stored_and_bad_ones_named(stores: Stores, tmp_path: Path, silver: Session) -> None:
    path = mt4(tmp_path / "m.csv", START, 60, extra=("2019.03.05,11:00,15.1,14.0,15.0,15.1,7",))
    result = stores.ingest(path, silver)
    assert result.upserts[stores.raw.folder].new == 60
    assert result.rejected == 1
    assert pl.read_csv(stores.rejects).row(0) == (
        str(path),
        61,
        "high below low",
        "2019.03.05,11:00,15.1,14.0,15.0,15.1,7",
    )


def test_too_many_bad_rows_store_nothing(stores: Stores, tmp_path: Path, silver: Session) -> None:
    path = mt4(tmp_path / "m.csv", START, 60, extra=("2019.03.05,11:00,-1,-1,-1,-1,7",) * 2)
    with pytest.raises(
        TooManyRejects, match=r"at most 1\.00% bad rows .* got 2 of 62 .*nothing was stored; .*rejects\.csv"
    ):
        stores.ingest(path, silver, max_reject_share=0.01)
    assert pl.read_csv(stores.rejects).height == 2
    with pytest.raises(NoRows):
        stores.raw.read()


def test_a_wrong_zone_stores_nothing(stores: Stores, tmp_path: Path, silver: Session) -> None:
    new_york_evening = datetime(2019, 3, 4, 18, tzinfo=UTC)  # the stamps are New York's, the session's opening
    path = mt4(tmp_path / "m.csv", new_york_evening, 23 * 60)
    with pytest.raises(WrongZone, match=r"stamps 5 hours later would leave 0\.00%"):
        stores.ingest(path, silver, zone="UTC")
    with pytest.raises(NoRows):
        stores.raw.read()
    stores.ingest(path, silver, zone="America/New_York")
    assert stores.raw.read()["ts"][0] == datetime(2019, 3, 4, 23, tzinfo=UTC)


def test_hourly_files_go_straight_to_the_processed_bars(stores: Stores, tmp_path: Path, silver: Session) -> None:
    hours = silver.hours(START, START + timedelta(days=2))["ts"]
    lines = ["time,open,high,low,close,tick_volume", *(f"{ts:%Y-%m-%d %H:%M:%S},15.1,15.2,15.0,15.1,7" for ts in hours)]
    path = tmp_path / "h1.csv"
    path.write_text("\n".join(lines) + "\n")
    result = stores.ingest(path, silver)
    assert list(result.upserts) == [stores.processed.folder]
    assert stores.processed.read()["minutes_share"].to_list() == [1.0] * len(hours)


def test_processing_makes_whole_hours_and_counts_the_missing_ones(
    stores: Stores, tmp_path: Path, silver: Session
) -> None:
    stores.ingest(mt4(tmp_path / "a.csv", START, 90), silver)
    first = process(stores.raw, stores.processed, silver, min_minutes_share=0.25)
    assert (first.upsert.new, first.session_hours, first.missing) == (1, 2, 1)
    stores.ingest(mt4(tmp_path / "b.csv", START + timedelta(minutes=90), 30), silver)
    second = process(stores.raw, stores.processed, silver, min_minutes_share=0.25)
    assert (second.upsert.new, second.upsert.same, second.missing) == (1, 1, 0)


def test_processing_again_changes_nothing(stores: Stores, tmp_path: Path, silver: Session) -> None:
    stores.ingest(mt4(tmp_path / "a.csv", START, 240), silver)
    process(stores.raw, stores.processed, silver, min_minutes_share=0.25)
    again = process(stores.raw, stores.processed, silver, min_minutes_share=0.25)
    assert (again.upsert.new, again.upsert.same, again.upsert.revised) == (0, 4, 0)


@pytest.mark.real_data
def test_real_silver_fits_its_sessions(stores: Stores, real_minutes: str, silver: Session) -> None:
    result = stores.ingest(Path(real_minutes), silver)
    assert result.upserts[stores.raw.folder].new == 1_687_457
    assert result.rejected == 0
    assert result.mismatch.total < 0.005
    processed = process(stores.raw, stores.processed, silver, min_minutes_share=0.25)
    by_year = stores.processed.read().group_by(pl.col("ts").dt.year()).len().sort("ts")
    session_hours = [
        silver.hours(datetime(y, 1, 1, tzinfo=UTC), datetime(y + 1, 1, 1, tzinfo=UTC)).height for y in range(2012, 2016)
    ]
    missing = [hours - bars for hours, bars in zip(session_hours, by_year["len"].to_list()[1:], strict=True)]
    assert all(7 <= count <= 50 for count in missing), missing
    assert processed.missing / processed.session_hours < 0.005
