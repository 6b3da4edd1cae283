import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from commands import succeed
from conftest import make_files

from dashboard.data.coverage import in_words
from lstm_ts.cli import compose
from lstm_ts.configuration.parts import processed_store, raw_store
from lstm_ts.errors import ConfigError, DataError, NoRows, TooManyRejects, UnknownFormat, WrongZone
from lstm_ts.ingest import run
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.bars import BAR_SCHEMA, HOURLY_SCHEMA, PRICES, AnsweredSpan, BarBatch
from lstm_ts.market.hours import without_closed
from lstm_ts.market.revisions import keep_last
from lstm_ts.market.session import Session
from lstm_ts.process import ProcessResult, process
from lstm_ts.process import run as process_run
from lstm_ts.sources.delivery import IngestLimits
from lstm_ts.sources.ingestion import IngestResult, ingest
from lstm_ts.store.bar_store import BarStore
from lstm_ts.store.coverage import Status, compute_status, format_status

START = datetime(2019, 3, 5, 10, tzinfo=UTC)


class Stores:
    def __init__(self, folder: Path) -> None:
        self.raw = BarStore(folder / "raw" / "XAGUSD", BAR_SCHEMA)
        self.processed = BarStore(folder / "processed" / "XAGUSD", HOURLY_SCHEMA)
        self.ledger = Ledger(f"sqlite:///{folder}/ledger.db")
        self.rejects = folder / "rejects.csv"

    def ingest(
        self,
        path: Path,
        session: Session,
        *,
        zone: str = "UTC",
        max_reject_share: float = 0.1,
        span: tuple[datetime | None, datetime | None] = (None, None),
        allow_revisions: bool = False,
        batch_rows: int = 1000,
    ) -> IngestResult:
        return ingest(
            make_files(str(path), zone=zone, batch_rows=batch_rows),
            raw=self.raw,
            processed=self.processed,
            session=session,
            ledger=self.ledger,
            symbol="XAGUSD",
            limits=IngestLimits(
                min_minutes_share=0.25,
                max_reject_share=max_reject_share,
                max_mismatch=0.02,
                allow_level_change=False,
                allow_revisions=allow_revisions,
            ),
            rejects_csv=self.rejects,
            start=span[0],
            end=span[1],
        )

    def answers(self) -> list[AnsweredSpan]:
        return self.ledger.answers("XAGUSD", self.raw.id)

    def process(
        self, session: Session, *, complete_until: datetime | None = None, allow_revisions: bool = False
    ) -> ProcessResult:
        return process(
            self.raw,
            self.processed,
            session,
            min_minutes_share=0.25,
            max_unknown_share=0.1,
            answers=self.answers(),
            complete_until=complete_until,
            allow_revisions=allow_revisions,
        )

    def status(self, session: Session, *, start: datetime | None = None, end: datetime | None = None) -> Status:
        answers = self.answers()
        revisions = self.raw.read_revisions()
        return compute_status("XAGUSD", self.raw.read_stamps(), answers, revisions, session, start=start, end=end)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    opened = Stores(tmp_path)
    yield opened
    opened.ledger.close()


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
        TooManyRejects, match=r"at most 1\.00 % bad rows .* got 2 of 62 .*nothing was stored; .*rejects\.csv"
    ):
        stores.ingest(path, silver, max_reject_share=0.01)
    assert pl.read_csv(stores.rejects).height == 2
    with pytest.raises(NoRows):
        stores.raw.read()


def test_a_store_in_a_folder_with_brackets_takes_bars_and_names_bad_rows(tmp_path: Path, silver: Session) -> None:
    folder = tmp_path / "old[2]"
    folder.mkdir()
    stores = Stores(folder)
    assert stores.ingest(mt4(folder / "good.csv", START, 60), silver).new == 60
    with pytest.raises(TooManyRejects, match="price is not positive"):
        stores.ingest(mt4(folder / "bad.csv", START, 6, extra=("2019.03.05,11:00,-1,-1,-1,-1,7",)), silver)
    stores.ledger.close()


def test_a_bar_that_still_runs_is_no_bad_row(
    stores: Stores, tmp_path: Path, silver: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mt4(tmp_path / "m.csv", START, 60)
    monkeypatch.setenv("LSTM_TS_CLOCK", (START + timedelta(minutes=59, seconds=30)).isoformat())
    result = stores.ingest(path, silver, max_reject_share=0.01)
    assert (result.new, result.rejected) == (59, 1)
    assert pl.read_csv(stores.rejects)["reason"].to_list() == ["not closed yet"]


def test_a_file_without_one_good_row_says_why_its_first_rows_are_bad(
    stores: Stores, silver: Session, tmp_path: Path
) -> None:
    path = tmp_path / "negative.csv"
    path.write_text("time,open,high,low,close\n" + "2025-01-06 22:00,-1,-1,-1,-1\n" * 3)
    with pytest.raises(
        NoRows,
        match=r"no good row and 3 bad ones: price is not positive \(line 2: price is not positive in "
        r"'2025-01-06 22:00,-1,-1,-1,-1'; line 3: .*rejects\.csv names each",
    ):
        stores.ingest(path, silver)


def test_a_wrong_zone_stores_nothing(stores: Stores, tmp_path: Path, silver: Session) -> None:
    new_york_evening = datetime(2019, 3, 4, 18, tzinfo=UTC)  # the stamps are New York's, the session's opening
    path = mt4(tmp_path / "m.csv", new_york_evening, 23 * 60)
    with pytest.raises(WrongZone, match=r"stamps 5 hours later would leave 0\.00 %.* raise max_mismatch .*nothing was"):
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
    first = stores.process(silver)
    assert (first.upsert.new, first.session_hours, first.missing) == (1, 2, 1)
    stores.ingest(mt4(tmp_path / "b.csv", START + timedelta(minutes=90), 30), silver)
    second = stores.process(silver)
    assert (second.upsert.new, second.upsert.same, second.missing) == (1, 1, 0)


def test_minutes_to_come_are_the_clocks_fault(
    stores: Stores, tmp_path: Path, silver: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.ingest(mt4(tmp_path / "a.csv", START, 90), silver)
    monkeypatch.setenv("LSTM_TS_CLOCK", START.isoformat())
    with pytest.raises(ConfigError, match=r"a time after the last stored bar, .*; unset LSTM_TS_CLOCK"):
        stores.process(silver)


def test_processing_again_changes_nothing(stores: Stores, tmp_path: Path, silver: Session) -> None:
    stores.ingest(mt4(tmp_path / "a.csv", START, 240), silver)
    stores.process(silver)
    again = stores.process(silver)
    assert (again.upsert.new, again.upsert.same, again.upsert.revised) == (0, 4, 0)


def test_a_file_answers_for_its_span_once_its_bars_are_stored(stores: Stores, tmp_path: Path, silver: Session) -> None:
    path = mt4(tmp_path / "a.csv", START, 90)
    before = datetime.now(UTC)
    stores.ingest(path, silver)
    [answer] = stores.answers()
    assert (answer.start, answer.end, answer.bars) == (START, START + timedelta(minutes=90), 90)
    assert before <= answer.at <= datetime.now(UTC)


def test_a_span_takes_its_bars_alone_and_proves_nothing_outside(
    stores: Stores, tmp_path: Path, silver: Session
) -> None:
    path = without_minute_30(mt4(tmp_path / "whole.csv", START, 90), name="thinned.csv")
    span = START + timedelta(minutes=20), START + timedelta(minutes=40)
    assert stores.ingest(path, silver, span=span).upserts[stores.raw.folder].new == 19
    assert stores.raw.read_stamps().to_list()[::18] == [span[0], span[1] - timedelta(minutes=1)]
    (answer,) = stores.answers()
    assert (answer.start, answer.end, answer.bars) == (*span, 19)


def test_an_ingest_that_stores_nothing_claims_nothing(stores: Stores, tmp_path: Path, silver: Session) -> None:
    with pytest.raises(TooManyRejects):
        stores.ingest(mt4(tmp_path / "m.csv", START, 3, extra=("2019.03.05,11:00,-1,-1,-1,-1,7",)), silver)
    assert stores.answers() == []


def without_minute_30(path: Path, *, name: str) -> Path:
    kept = [line for line in path.read_text().splitlines() if "10:30" not in line]
    thinned = path.with_name(name)
    thinned.write_text("\n".join(kept) + "\n")
    return thinned


def test_files_are_one_observer_however_many_lack_a_minute(stores: Stores, tmp_path: Path, silver: Session) -> None:
    """As of an export that grows, or is cut by the day: a gap of its vendor is in every one of them."""
    for minutes in (90, 91, 92):
        whole = mt4(tmp_path / f"{minutes}.csv", START, minutes)
        stores.ingest(without_minute_30(whole, name=f"thin{minutes}.csv"), silver)
    assert stores.status(silver).coverage.rows() == [("2019-03", 91, 0, 1, 0)]
    end = START + timedelta(hours=1)
    stores.ledger.record_answers("XAGUSD", stores.raw.id, "a broker", [AnsweredSpan(START, end, end, "a broker", 59)])
    assert stores.status(silver).coverage.rows() == [("2019-03", 91, 1, 0, 0)]


def test_answers_about_another_store_of_the_symbol_prove_nothing(
    stores: Stores, tmp_path: Path, silver: Session
) -> None:
    stores.ingest(without_minute_30(mt4(tmp_path / "whole.csv", START, 90), name="thinned.csv"), silver)
    told = stores.answers()
    stores.raw = BarStore(tmp_path / "other" / "XAGUSD", BAR_SCHEMA)
    with stores.raw.upsert("a broker") as staging:
        staging.add(pl.DataFrame([(START + timedelta(hours=2), *(15.0,) * 4, 1.0, None)], BAR_SCHEMA, orient="row"))
    assert len(told) == 1 and stores.answers() == []
    assert stores.status(silver).coverage.rows() == [("2019-03", 1, 0, 0, 0)]


def test_a_minute_whose_only_row_is_bad_stays_unknown(stores: Stores, tmp_path: Path, silver: Session) -> None:
    bad = "2019.03.05,10:30,15.1,14.0,15.0,15.1,7"
    path = without_minute_30(mt4(tmp_path / "m.csv", START, 60), name="n.csv")
    path.write_text(path.read_text() + bad + "\n")
    stores.ingest(path, silver)
    found = stores.status(silver)
    assert found.coverage.rows() == [("2019-03", 59, 0, 0, 1)]
    assert found.unknown["start"].to_list() == [START + timedelta(minutes=30)]


@pytest.mark.parametrize("time", ["25:00", "24:01"])
def test_a_file_with_a_row_of_no_readable_time_proves_nothing(
    stores: Stores, tmp_path: Path, silver: Session, time: str
) -> None:
    stores.ingest(mt4(tmp_path / "m.csv", START, 60, extra=(f"2019.03.05,{time},15.1,15.2,15.0,15.1,7",)), silver)
    assert stores.answers() == []


def test_a_store_that_takes_the_place_of_a_deleted_one_begins_with_nothing_known(
    stores: Stores, tmp_path: Path, silver: Session
) -> None:
    stores.ingest(without_minute_30(mt4(tmp_path / "a.csv", START, 61), name="b.csv"), silver)
    shutil.rmtree(stores.raw.folder)
    with pytest.raises(NoRows):
        stores.status(silver)
    stores.ingest(mt4(tmp_path / "c.csv", START + timedelta(minutes=50), 10), silver)
    assert stores.status(silver).coverage.rows() == [("2019-03", 10, 0, 0, 0)]


def test_bars_that_are_gone_since_their_answer_are_unknown(stores: Stores, tmp_path: Path, silver: Session) -> None:
    """As in a store that was put back from an older copy: the ledger is ahead of it."""
    stores.ingest(mt4(tmp_path / "a.csv", START, 10), silver)
    shutil.copytree(stores.raw.folder, tmp_path / "copy")
    stores.ingest(mt4(tmp_path / "b.csv", START, 61), silver)
    shutil.rmtree(stores.raw.folder)
    (tmp_path / "copy").rename(stores.raw.folder)
    assert stores.status(silver).coverage.rows() == [("2019-03", 10, 0, 0, 51)]


def test_an_hour_that_nobody_answered_for_to_its_end_is_left_out(
    stores: Stores, tmp_path: Path, silver: Session
) -> None:
    """As after a process that was killed between the store and the ledger: the bars are there, the answer is not."""
    stores.ingest(mt4(tmp_path / "a.csv", START, 60), silver)
    with stores.raw.upsert("killed") as staging:
        later = stores.raw.read().with_columns(pl.col("ts") + pl.duration(hours=1))
        staging.add(later.head(45))
        staging.add(later.tail(15).with_columns(pl.col("ts") + pl.duration(hours=1)))
    result = stores.process(silver)
    assert stores.processed.read()["ts"].to_list() == [START]
    assert (result.session_hours, result.missing, result.unknown) == (3, 2, 2)


def test_an_hour_without_a_last_bar_counts_once_a_source_has_answered_past_its_end(
    stores: Stores, tmp_path: Path, silver: Session
) -> None:
    stores.ingest(mt4(tmp_path / "a.csv", START, 59), silver)
    assert stores.process(silver).upsert.new == 0
    end = START + timedelta(hours=1)
    stores.ledger.record_answers("XAGUSD", stores.raw.id, "a broker", [AnsweredSpan(START, end, end, "one", 59)])
    stores.process(silver)
    assert stores.processed.read()["minutes_share"].to_list() == [59 / 60]


def test_a_store_from_before_the_ledger_is_processed_by_the_span_of_its_minutes(
    stores: Stores, tmp_path: Path, silver: Session
) -> None:
    with stores.raw.upsert("before") as staging:
        minutes = [START + timedelta(minutes=i) for i in range(0, 150, 2)]
        staging.add(pl.DataFrame([(ts, 15.0, 15.0, 15.0, 15.0, 1.0, None) for ts in minutes], BAR_SCHEMA, orient="row"))
    assert stores.process(silver).upsert.new == 2
    assert stores.process(silver, complete_until=START + timedelta(hours=3)).upsert.new == 1
    later = [
        AnsweredSpan(START + timedelta(hours=h), START + timedelta(hours=h, minutes=9), START, "one", 0)
        for h in (2, 20)
    ]
    stores.ledger.record_answers("XAGUSD", stores.raw.id, "a broker", later[1:])  # of the next session
    assert stores.process(silver).unknown == 1
    stores.ledger.record_answers("XAGUSD", stores.raw.id, "a broker", later[:1])
    assert stores.process(silver).unknown == 3


def test_an_older_file_that_joins_a_store_from_before_the_ledger_takes_no_hour_from_it(
    stores: Stores, tmp_path: Path, silver: Session
) -> None:
    with stores.raw.upsert("before") as staging:
        minutes = [START + timedelta(minutes=i) for i in range(0, 180, 2)]
        staging.add(pl.DataFrame([(ts, 15.0, 15.0, 15.0, 15.0, 1.0, None) for ts in minutes], BAR_SCHEMA, orient="row"))
    stores.ingest(mt4(tmp_path / "older.csv", START - timedelta(days=1), 60), silver)
    stores.process(silver)
    hours = stores.processed.read()["ts"].to_list()
    assert hours == [START - timedelta(days=1), START, START + timedelta(hours=1)]


def test_an_hour_whose_last_minute_lies_between_two_files_is_made(
    stores: Stores, tmp_path: Path, silver: Session
) -> None:
    stores.ingest(mt4(tmp_path / "a.csv", START, 119), silver)
    stores.ingest(mt4(tmp_path / "b.csv", START + timedelta(minutes=121), 59), silver)
    result = stores.process(silver)
    assert stores.processed.read()["minutes_share"].to_list() == [1.0, 59 / 60, 59 / 60]
    assert (result.missing, result.unknown) == (0, 0)


def test_hours_up_to_which_somebody_vouches_count_whatever_was_answered(
    stores: Stores, tmp_path: Path, silver: Session
) -> None:
    stores.ingest(mt4(tmp_path / "a.csv", START, 100), silver)
    stores.ingest(mt4(tmp_path / "b.csv", START + timedelta(minutes=400), 35), silver)
    assert stores.process(silver).upsert.new == 1
    assert stores.process(silver, complete_until=START + timedelta(hours=2)).upsert.new == 1
    assert stores.process(silver, complete_until=START + timedelta(hours=7)).upsert.new == 1
    assert stores.processed.read()["minutes_share"].to_list() == [1.0, 40 / 60, 20 / 60]


def test_status_names_gaps_unknown_spans_and_revisions(stores: Stores, tmp_path: Path, silver: Session) -> None:
    stores.ingest(mt4(tmp_path / "a.csv", START, 60), silver)
    stores.ingest(mt4(tmp_path / "b.csv", START + timedelta(hours=26), 60), silver)
    revised = tmp_path / "c.csv"
    revised.write_text(
        (tmp_path / "a.csv").read_text().replace("10:07,15.1,15.2,15.0,15.1", "10:07,15.1,15.3,15.0,15.2")
    )
    stores.ingest(without_minute_30(revised, name="d.csv"), silver)
    said = format_status(stores.status(silver)).splitlines()
    assert said[0].startswith("XAGUSD, 2019-03-05 10:00 to 2019-03-06 13:00 UTC; ")
    assert [line.split() for line in said[1:4]] == [
        ["month", "present", "empty", "waiting", "unknown", "known"],
        ["2019-03", "120", "0", "0", "1,440", "7.69", "%"],
        ["total", "120", "0", "0", "1,440", "7.69", "%"],
    ]
    gap = "  2019-03-05 11:00 to 2019-03-06 12:00  1,440"
    assert said[4:9] == [
        "Stored: 120 minutes, 0 of them in closed hours, which the table leaves out",
        "Largest gaps, of minutes without a bar: 1,440 minutes in 1 spans",
        gap,
        "Unknown, as no source has answered for them: 1,440 minutes in 1 spans",
        gap,
    ]
    assert said[-2] == "Bars that came again with other values: 1"
    assert said[-1].startswith("  2019-03-05 10:07  15.1/15.2/15.0/15.1 → 15.1/15.3/15.0/15.2, on 20")


def test_status_of_a_span_that_is_none_says_what_there_is(stores: Stores, tmp_path: Path, silver: Session) -> None:
    stores.ingest(mt4(tmp_path / "a.csv", START, 60), silver)
    known = r"XAGUSD is known of from 2019-03-05 10:00 to 2019-03-05 11:00 UTC"
    for start, end in ((datetime(2030, 1, 1, tzinfo=UTC), None), (START, START), (None, START)):
        with pytest.raises(ConfigError, match=rf"span\.start before span\.end.*{known}"):
            stores.status(silver, start=start, end=end)
    weekend = datetime(2019, 3, 9, 12, tzinfo=UTC)
    said = format_status(stores.status(silver, start=weekend, end=weekend + timedelta(hours=1)))
    assert "Largest gaps, of minutes without a bar: 0 minutes" in said


def test_minutes_in_closed_hours_are_told_where_the_table_leaves_them_out(
    stores: Stores, tmp_path: Path, silver: Session
) -> None:
    break_at = datetime(2019, 3, 5, 22, 0, tzinfo=UTC)  # 17:00 in New York
    assert stores.ingest(mt4(tmp_path / "a.csv", break_at - timedelta(hours=8), 8 * 60 + 4), silver).new == 484
    status = stores.status(silver)
    assert (status.stored, status.closed, int(status.coverage["present"].sum())) == (484, 4, 480)
    said = "Stored: 484 minutes, 4 of them in closed hours, which the table leaves out"
    assert said in format_status(status).splitlines()
    page = in_words(status)
    assert "<strong>484 minutes are stored</strong>, 4 of them in closed hours, which are not counted here." in page
    assert "100.00 % of the 480 session minutes" in page
    part = stores.status(silver, start=break_at - timedelta(minutes=5), end=break_at + timedelta(minutes=2))
    assert (part.stored, part.closed) == (7, 2)


def test_bars_that_fill_closed_hours_are_left_out_and_counted(
    stores: Stores, tmp_path: Path, silver: Session, caplog: pytest.LogCaptureFixture
) -> None:
    friday = datetime(2019, 3, 8, 12, tzinfo=UTC)
    path = mt4(tmp_path / "a.csv", friday, 10 * 60)
    quiet = [friday + timedelta(minutes=i) for i in (*range(600, 700), 3600)]  # the last one on Monday
    flats = "".join(f"{ts:%Y.%m.%d,%H:%M},15.1,15.1,15.1,15.1,0\n" for ts in quiet)
    path.write_text(path.read_text() + flats)
    assert stores.ingest(path, silver).new == 601
    text, said = path.read_text(), "100 bars of one price and no volume in closed hours are left out"
    assert said in caplog.text
    caplog.clear()
    path.write_text(flats)
    assert stores.ingest(path, silver).new == 0 and said in caplog.text
    path.write_text(text.replace(",7\n", ",0\n"))
    with pytest.raises(WrongZone):  # its volumes say nothing
        stores.ingest(path, silver)
    again = pl.DataFrame({"ts": quiet[:1] * 2, **dict.fromkeys(PRICES, 15.1), "volume": [0.0, 5.0]})
    assert without_closed(BarBatch(again), silver)["volume"].to_list() == [5]


def test_bars_that_came_and_are_not_stored_are_told(tmp_path: Path) -> None:
    mt4(tmp_path / "a.csv", START, 60)
    mt4(tmp_path / "b.csv", START + timedelta(minutes=20), 60)
    files = ("source=files", f"source.paths={tmp_path}/?.csv", "source.zone=UTC")
    said = succeed("ingest", tmp_path, *files)
    assert said[0].endswith("/raw/XAGUSD: 80 new, 0 the same, 0 revised")
    assert said[1] == "40 minutes came more than once in these files; each is stored once"
    stamps = [START + timedelta(minutes=5 * i) for i in range(30)]
    (tmp_path / "five.txt").write_text("".join(f"{ts:%Y.%m.%d,%H:%M},15.1,15.2,15.0,15.1,7\n" for ts in stamps))
    said = succeed("ingest", tmp_path / "five", *files[::2], f"source.paths={tmp_path}/five.txt")
    assert said[0].endswith("/processed/XAGUSD: 2 new, 0 the same, 0 revised")
    assert said[1] == "30 bars longer than a minute make 2 hours; parts of hours make none"


@pytest.mark.parametrize("value", ["commit_s=x", "commit_s=-1", "commit_s=True", "again=maybe", "again=1"])
def test_a_value_that_fits_nothing_is_one_sentence(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"Expected .*{value.partition('=')[0]}.* got .*{value.partition('=')[2]}"):
        run(compose("ingest", [value, f"paths.outputs={tmp_path}", f"paths.data={tmp_path}"]))
    assert not list(tmp_path.iterdir())


def test_a_span_that_ends_before_it_starts_is_a_sentence(tmp_path: Path) -> None:
    span = ["span.start=2022-02-01", "span.end=2022-01-01", f"paths.outputs={tmp_path}", f"paths.data={tmp_path}"]
    with pytest.raises(ConfigError, match=r"Expected span\.start before span\.end, got 2022-02-01"):
        run(compose("ingest", span))


def test_status_of_nothing_says_what_to_run(stores: Stores, silver: Session) -> None:
    with pytest.raises(NoRows, match=r"got an empty store; run python -m lstm_ts\.ingest first"):
        stores.status(silver)


@pytest.mark.slow
@pytest.mark.real_data
def test_real_silver_fits_its_sessions(stores: Stores, real_minutes: str, silver: Session) -> None:
    result = stores.ingest(Path(real_minutes), silver, batch_rows=500_000)
    assert result.upserts[stores.raw.folder].new == 1_687_457
    assert result.rejected == 0
    assert result.mismatch.total < 0.005
    processed = stores.process(silver)
    by_year = stores.processed.read().group_by(pl.col("ts").dt.year()).len().sort("ts")
    session_hours = [
        silver.hours(datetime(y, 1, 1, tzinfo=UTC), datetime(y + 1, 1, 1, tzinfo=UTC)).height for y in range(2012, 2016)
    ]
    missing = [hours - bars for hours, bars in zip(session_hours, by_year["len"].to_list()[1:], strict=True)]
    assert all(7 <= count <= 50 for count in missing), missing
    assert processed.missing / processed.session_hours < 0.005


def test_minutes_of_closed_hours_alone_make_no_hour(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saturday = pl.DataFrame({"ts": [datetime(2015, 3, 7, 12, tzinfo=UTC)], **dict.fromkeys(PRICES, 15.1)})
    with stores.raw.upsert("somebody's minutes") as staging:
        staging.add(saturday.with_columns(volume=None, spread=None).cast(BAR_SCHEMA))
    process_run(compose("process", [f"paths.data={tmp_path}", f"registry.ledger=sqlite:///{tmp_path}/ledger.db"]))
    assert capsys.readouterr().out.endswith("\n0 of 0 session hours have no bar\n")


def test_no_command_opens_a_store_with_other_sessions_than_it_was_stored_with(stores: Stores, tmp_path: Path) -> None:
    nyse = Session(calendar="NYSE", zone="America/New_York")
    stores.ingest(mt4(tmp_path / "m.csv", START + timedelta(hours=4, minutes=30), 120), nyse)
    stores.process(nyse)
    before = stores.processed.read()
    paths = [f"paths.data={tmp_path}", f"paths.outputs={tmp_path}"]
    cfg = compose("process", paths)
    ledger = f"registry.ledger=sqlite:///{tmp_path}/ledger.db"
    commands: list[Callable[[], object]] = [
        lambda: process_run(compose("process", [*paths, ledger])),
        lambda: run(compose("ingest", [*paths, ledger, "action=status"])),
        lambda: raw_store(cfg),  # which ingest, process and status read
        lambda: processed_store(cfg),  # which train, retrain, backtest, evaluate, predict, serve and pipeline read
        lambda: stores.process(Session(calendar="CMEGlobex_Silver", zone="America/New_York")),
    ]
    stored = "NYSE in America/New_York, got CMEGlobex_Silver in America/New_York"
    for command in commands:
        with pytest.raises(
            ConfigError, match=rf"{stored}; set symbol\.session\.calendar=NYSE symbol\.session\.zone=America/New_York"
        ):
            command()
    assert stores.processed.read().equals(before)


def spaced(path: Path, start: datetime, bars: int, *, minutes: int, price: float = 15.1) -> Path:
    stamps = [start + timedelta(minutes=minutes * i) for i in range(bars)]
    path.write_text("".join(f"{ts:%Y.%m.%d,%H:%M},{price},15.2,15.0,{price},7\n" for ts in stamps))
    return path


@pytest.mark.parametrize("minutes", [5, 15, 30])
def test_bars_that_divide_an_hour_make_hours_and_are_no_minutes(
    stores: Stores, tmp_path: Path, silver: Session, minutes: int
) -> None:
    begin = START + timedelta(minutes=30)  # 10:30 to 15:00
    result = stores.ingest(spaced(tmp_path / "m.csv", begin, 270 // minutes, minutes=minutes), silver)
    assert list(result.upserts) == [stores.processed.folder]
    hours = stores.processed.read()
    assert hours["ts"].to_list() == [START + timedelta(hours=i) for i in range(1, 5)]
    assert hours["volume"].to_list() == [7.0 * 60 / minutes] * 4 and hours["minutes_share"].to_list() == [1.0] * 4
    with pytest.raises(NoRows):
        stores.raw.read()


def test_few_bars_are_what_the_store_holds_about_them(stores: Stores, tmp_path: Path, silver: Session) -> None:
    stores.ingest(spaced(tmp_path / "h1.csv", START, 12, minutes=60), silver)
    for hours in (1, 2):
        stores.ingest(spaced(tmp_path / "h.csv", START + timedelta(hours=24), hours, minutes=60), silver)
    assert stores.processed.read().height == 14
    with pytest.raises(NoRows):
        stores.raw.read()


def test_few_longer_bars_do_not_replace_stored_minutes(stores: Stores, tmp_path: Path, silver: Session) -> None:
    stores.ingest(mt4(tmp_path / "m1.csv", START, 120), silver)
    before = stores.raw.read()
    for start in (START + timedelta(minutes=20), START + timedelta(minutes=120)):
        with pytest.raises(UnknownFormat, match=r"got 5 bars 5 minutes apart .*; add a column timeframe with M5, or"):
            stores.ingest(spaced(tmp_path / "m5.csv", start, 5, minutes=5), silver)
    assert stores.raw.read().equals(before)


def test_the_share_of_an_hour_is_that_of_its_bars(stores: Stores, tmp_path: Path, silver: Session) -> None:
    quarters = spaced(tmp_path / "m.csv", START, 48, minutes=15).read_text().splitlines()
    del quarters[5:7]  # of 11:00
    del quarters[-8:-5]  # of 20:00, which keeps one
    (tmp_path / "m.csv").write_text("\n".join(quarters))
    stores.ingest(tmp_path / "m.csv", silver)
    assert stores.processed.read()["minutes_share"].to_list() == [1.0, 0.5, *[1.0] * 8, 0.25, 1.0]


def test_hours_that_minutes_have_made_stay_when_longer_bars_come(
    stores: Stores, tmp_path: Path, silver: Session
) -> None:
    stores.ingest(mt4(tmp_path / "m1.csv", START, 120), silver)
    minutes = stores.raw.read()
    longer = spaced(tmp_path / "m15.csv", START, 12, minutes=15, price=15.15)
    stores.ingest(longer, silver)
    assert stores.process(silver).upsert.revised == 2  # and where they came first, minutes revise them
    made = stores.processed.read()
    result = stores.ingest(longer, silver)
    assert (result.kept_hours, result.new, result.revised) == (2, 0, 0)
    assert stores.processed.read().equals(made) and stores.raw.read().equals(minutes)
    assert made["close"].to_list() == [15.1, 15.1, 15.15]


def test_bars_stamped_at_their_close_are_told(
    stores: Stores, tmp_path: Path, silver: Session, caplog: pytest.LogCaptureFixture
) -> None:
    hours = silver.hours(START, START + timedelta(days=7))["ts"]
    for minutes, shift, told in ((60, 0, False), (15, 15, True)):
        stamps = [ts + timedelta(minutes=i) for ts in hours for i in range(shift, 60 + shift, minutes)]
        path = tmp_path / f"{minutes}.csv"
        path.write_text("".join(f"{ts:%Y.%m.%d,%H:%M},15.1,15.2,15.0,15.1,7\n" for ts in stamps))
        stores.ingest(path, silver)
        assert ("add source.stamps=close to shift them" in caplog.text) == told


def test_parts_of_hours_alone_are_refused(stores: Stores, tmp_path: Path, silver: Session) -> None:
    path = spaced(tmp_path / "m.csv", START + timedelta(minutes=5), 10, minutes=5)
    with pytest.raises(NoRows, match="got parts of hours only"):
        stores.ingest(path, silver)


def test_a_damaged_stamp_costs_no_time(stores: Stores, tmp_path: Path, silver: Session) -> None:
    far = ("1970.01.01,00:00,15.1,15.2,15.0,15.1,7", "2205.01.01,00:00,15.1,15.2,15.0,15.1,7")
    result = stores.ingest(mt4(tmp_path / "m.csv", START, 60, extra=far), silver)
    assert (result.new, result.rejected, result.mismatch.bare_hours) == (60, 2, 0)


def priced(path: Path, start: datetime, price: float, *, rows: int = 60) -> Path:
    stamps = [start + timedelta(minutes=i) for i in range(rows)]
    path.write_text("".join(f"{ts:%Y.%m.%d,%H:%M},{price},{price * 1.01},{price * 0.99},{price},7\n" for ts in stamps))
    return path


@pytest.mark.parametrize("hours", [-3, 3, 24 * 42])
@pytest.mark.parametrize(
    ("price", "factor"), [(3010.0, "100 times as"), (0.301, "100 times as"), (2650.0, "88 times as")]
)
def test_another_price_level_than_the_stored_one_is_refused_with_both(
    stores: Stores, tmp_path: Path, silver: Session, hours: int, price: float, factor: str
) -> None:
    stores.ingest(priced(tmp_path / "a.csv", START, 30.1), silver)
    before = stores.raw.read()
    with pytest.raises(DataError, match=rf"got .*(30\.1 at|and 30\.1).*, {factor}.*allow_level_change=true"):
        stores.ingest(priced(tmp_path / "b.csv", START + timedelta(hours=hours), price), silver)
    assert stores.raw.read().equals(before)


def test_a_jump_of_the_level_within_a_file_is_refused(stores: Stores, tmp_path: Path, silver: Session) -> None:
    path = priced(tmp_path / "a.csv", START, 30.1)
    path.write_text(path.read_text() + priced(tmp_path / "b.csv", START + timedelta(hours=1), 3010.0).read_text())
    with pytest.raises(DataError, match=r"got 30\.1 at 2019-03-05 10:59 and 3010 at 2019-03-05 11:00 UTC, 100 times"):
        stores.ingest(path, silver)


def test_a_jump_of_the_level_within_a_bar_is_refused(stores: Stores, tmp_path: Path, silver: Session) -> None:
    path = priced(tmp_path / "a.csv", START, 30.1)
    torn = "2019.03.05,11:00,30.1,3010,30.1,3010,7\n"
    after = priced(tmp_path / "b.csv", START + timedelta(minutes=61), 3010.0).read_text()
    path.write_text(path.read_text() + torn + after)
    with pytest.raises(DataError, match=r"got 30\.1 at 2019-03-05 11:00 and 3010 at 2019-03-05 11:00 UTC, 100 times"):
        stores.ingest(path, silver)


@pytest.mark.parametrize(
    "price", ["3010,3010,3010,3010", "0,0,0,0", "-1,-1,-1,-1", "1e300,1e300,1e300,1e300", "x,1,1,1"]
)
def test_one_wrong_row_is_named_and_the_rest_is_stored(
    stores: Stores, tmp_path: Path, silver: Session, price: str
) -> None:
    path = priced(tmp_path / "a.csv", START, 30.1, rows=120)
    lines = path.read_text().splitlines()
    lines[60] = f"{lines[60][:16]},{price},7"
    path.write_text("\n".join(lines))
    result = stores.ingest(path, silver)
    assert (result.new, result.rejected) == (119, 1)
    assert pl.read_csv(stores.rejects)["line"].to_list() == [61]
    assert stores.status(silver).unknown["start"].to_list() == [START + timedelta(minutes=60)]
    assert stores.ingest(path, silver).same == 119


def test_the_last_rows_of_a_new_level_are_named_and_the_next_file_of_it_is_refused(
    stores: Stores, tmp_path: Path, silver: Session
) -> None:
    path = priced(tmp_path / "a.csv", START, 30.1)
    later = priced(tmp_path / "b.csv", START + timedelta(hours=1), 3010.0, rows=40)
    path.write_text(path.read_text() + "".join(later.read_text().splitlines(keepends=True)[:3]))
    assert stores.ingest(path, silver).rejected == 3
    with pytest.raises(DataError, match=r"got 30\.1 at .* and 3010 at .*, 100 times as much"):
        stores.ingest(later, silver)


def test_what_markets_do_is_no_other_level(stores: Stores, tmp_path: Path, silver: Session) -> None:
    stores.ingest(priced(tmp_path / "a.csv", START, 30.1), silver)
    stores.ingest(priced(tmp_path / "b.csv", START + timedelta(hours=1), 26.4), silver)  # 12 % in an hour, as in 2011
    stores.ingest(priced(tmp_path / "c.csv", START + timedelta(days=364), 66.0), silver)
    assert stores.raw.read().height == 180


MINUTES = [START + timedelta(minutes=i) for i in range(120)]


def offset(path: Path, by: float, *, stamps: Sequence[datetime] = MINUTES, from_row: int = 0, digits: int = 5) -> Path:
    """Bars around 20.00, those from `from_row` on `by` above it."""
    lines = []
    for i, ts in enumerate(stamps):
        close = round(20 + 0.001 * (i % 7) + by * (i >= from_row), digits)
        lines.append(f"{ts:%Y.%m.%d,%H:%M},{close},{close + 0.01},{close - 0.01},{close},7\n")
    path.write_text("".join(lines))
    return path


def test_another_series_over_the_stored_one_is_refused(
    stores: Stores, tmp_path: Path, silver: Session, caplog: pytest.LogCaptureFixture
) -> None:
    stores.ingest(offset(tmp_path / "bid.csv", 0.0), silver)
    ask, before = offset(tmp_path / "ask.csv", 0.02), stores.raw.read()
    told = r"120 of 120 bars \(100\.0 %\) with other prices, by 10 bps .*mean difference \+10 bps"
    with pytest.raises(DataError, match=rf"{told}.*allow_revisions=true.*nothing of this was stored"):
        stores.ingest(ask, silver)
    assert stores.raw.read().equals(before) and stores.raw.read_revisions().is_empty()
    assert stores.ingest(ask, silver, allow_revisions=True).revised == 120
    assert re.search(told, caplog.text)
    assert stores.raw.read_revisions()["close_revised"][0] == 20.02


@pytest.mark.parametrize(("common", "alike"), [(10, 0), (60, 0), (120, 59)])
def test_another_series_over_a_few_of_the_stored_bars_is_refused(
    stores: Stores, tmp_path: Path, silver: Session, common: int, alike: int
) -> None:
    stores.ingest(offset(tmp_path / "bid.csv", 0.0), silver)
    ask = offset(tmp_path / "ask.csv", 0.02, stamps=MINUTES[-common:], from_row=alike)
    before = stores.raw.read()
    with pytest.raises(DataError, match=rf"got {common - alike} of {common} bars .*allow_revisions=true"):
        stores.ingest(ask, silver)
    assert stores.raw.read().equals(before)


def test_another_series_over_that_of_another_file_is_refused(
    stores: Stores, tmp_path: Path, silver: Session, caplog: pytest.LogCaptureFixture
) -> None:
    offset(tmp_path / "bid.csv", 0.0, stamps=MINUTES[:-1])
    offset(tmp_path / "ask.csv", 0.05)
    said = (
        r"Expected .*bid\.csv to bring the bars of .*ask\.csv again, .*; the other side of the quote .*nothing of this"
    )
    with pytest.raises(DataError, match=said):
        stores.ingest(tmp_path / "*.csv", silver)
    assert stores.raw.read_stamps().is_empty()
    assert stores.ingest(tmp_path / "*.csv", silver, allow_revisions=True).new == len(MINUTES)


def test_another_series_of_hours_over_stored_hours_is_refused(stores: Stores, tmp_path: Path, silver: Session) -> None:
    opens = silver.hours(START, START + timedelta(days=7))["ts"].to_list()
    halves = [ts + timedelta(minutes=minutes) for ts in opens for minutes in (0, 30)]
    stores.ingest(offset(tmp_path / "bid.csv", 0.0, stamps=halves), silver)
    before = stores.processed.read()
    with pytest.raises(DataError, match=r"with other prices, by 10 bps.*allow_revisions=true"):
        stores.ingest(offset(tmp_path / "ask.csv", 0.02, stamps=halves), silver)
    assert before.height >= 100 and stores.processed.read().equals(before)


def test_minutes_of_another_series_do_not_replace_stored_hours(stores: Stores, tmp_path: Path, silver: Session) -> None:
    hours = [START + timedelta(hours=i) for i in range(11)]
    minutes = [START + timedelta(minutes=i) for i in range(660)]
    stores.ingest(offset(tmp_path / "h1.csv", 0.0, stamps=hours), silver)
    half = offset(tmp_path / "half.csv", 0.02, stamps=[ts for ts in minutes if ts.minute < 30])
    stores.ingest(half, silver)
    before = stores.processed.read()
    with pytest.raises(DataError, match=r"got 10 of 10 bars .* by 10 bps.*allow_revisions=true.*nothing of this was"):
        stores.process(silver)
    assert stores.processed.read().equals(before)
    assert stores.process(silver, allow_revisions=True).upsert.revised == 10
    stores.ingest(offset(tmp_path / "rest.csv", 0.04, stamps=[ts for ts in minutes if ts.minute >= 30]), silver)
    assert stores.process(silver).upsert.revised == 11  # more minutes of an hour are no other series


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"by": 0.02, "from_row": 110}, "10 of 120 bars (8.3 %) with other prices, by 10 bps"),
        ({"by": 0.02, "from_row": 60}, "60 of 120 bars (50.0 %)"),
        ({"by": 0.0003}, "120 of 120 bars (100.0 %) with other prices, by 0.15 bps"),
        ({"by": 0.02, "stamps": MINUTES[:9]}, "9 of 9 bars (100.0 %)"),
        ({"by": 0.02, "stamps": MINUTES[:20], "from_row": 2}, "18 of 20 bars (90.0 %)"),
        ({"by": 0.02, "stamps": MINUTES[:99], "from_row": 38}, "61 of 99 bars (61.6 %)"),
        ({"by": -0.02, "from_row": 119}, "(mean difference -10 bps)"),
    ],
)
def test_corrections_are_stored_and_told(
    stores: Stores,
    tmp_path: Path,
    silver: Session,
    change: dict[str, Any],
    told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stores.ingest(offset(tmp_path / "before.csv", 0.0), silver)
    path = offset(tmp_path / "after.csv", **change)
    assert stores.ingest(path, silver).revised == len(change.get("stamps", MINUTES)) - change.get("from_row", 0)
    assert told in caplog.text


def test_the_same_bars_again_are_no_revision(
    stores: Stores, tmp_path: Path, silver: Session, caplog: pytest.LogCaptureFixture
) -> None:
    stores.ingest(offset(tmp_path / "a.csv", 0.0), silver)
    stores.ingest(offset(tmp_path / "b.csv", 1e-7, digits=9), silver)
    stores.ingest(offset(tmp_path / "c.csv", 0.0), silver)
    assert "other prices" not in caplog.text


@pytest.mark.parametrize("every", [1, 60])
def test_a_correction_of_the_one_bar_of_a_file_is_taken_and_a_part_if_asked(
    stores: Stores, tmp_path: Path, silver: Session, every: int
) -> None:
    stamps = [START + timedelta(minutes=every * i) for i in range(11)]
    stores.ingest(offset(tmp_path / "a.csv", 0.0, stamps=stamps), silver)
    store, path, bar = stores.raw if every == 1 else stores.processed, tmp_path / "b.csv", f"{stamps[5]:%Y-%m-%d %H:%M}"
    for high, volume, allowed, taken in ((20.01, 7, False, True), (20.008, 6, False, False), (20.008, 6, True, True)):
        path.write_text(
            "timeframe,time,open,high,low,close,volume\n"
            f"{'H1' if every == 60 else 'M1'},{bar},20.005,{high},19.995,20.005,{volume}\n"
        )
        assert stores.ingest(path, silver, allow_revisions=allowed).revised == taken
        assert not taken or store.read()["high"][5] == high


def test_hours_follow_minutes_whose_corrections_were_taken(stores: Stores, tmp_path: Path, silver: Session) -> None:
    minutes = [START + timedelta(minutes=i) for i in range(660)]
    path = offset(tmp_path / "m.csv", 0.0, stamps=minutes)
    stores.ingest(path, silver)
    stores.process(silver)
    pairs = zip(*(offset(path, by, stamps=minutes).read_text().splitlines() for by in (0, 0.02)), strict=True)
    path.write_text("\n".join(pair[i % 60 == 59] for i, pair in enumerate(pairs)))
    assert stores.ingest(path, silver).revised == 11
    assert stores.process(silver).upsert.revised == 11


def test_bars_of_five_minutes_half_an_hour_off_are_refused(stores: Stores, tmp_path: Path) -> None:
    nyse = Session(calendar="NYSE", zone="America/New_York")
    opens = nyse.spans(START, START + timedelta(days=30))["opens"]
    early = [ts + timedelta(minutes=5 * i - 30) for ts in opens for i in range(78)]
    with pytest.raises(WrongZone, match="of the bars outside; stamps 30 minutes later would leave 0"):
        stores.ingest(offset(tmp_path / "m5.csv", 0.0, stamps=early), nyse)


def test_longer_bars_of_closed_hours_beside_minutes_are_no_fault(
    stores: Stores, tmp_path: Path, silver: Session
) -> None:
    mt4(tmp_path / "m1.csv", START, 60)
    saturday = datetime(2019, 3, 9, 10, tzinfo=UTC)
    flats = (f"{saturday + timedelta(hours=i):%Y.%m.%d,%H:%M},15.1,15.1,15.1,15.1,0\n" for i in range(12))
    (tmp_path / "h1.csv").write_text("".join(flats))
    assert stores.ingest(tmp_path / "?1.csv", silver).new == 60


@pytest.mark.parametrize("every", [1, 60])
def test_the_unfinished_last_bar_of_an_older_file_does_not_replace_the_stored_one(
    stores: Stores, tmp_path: Path, silver: Session, every: int, caplog: pytest.LogCaptureFixture
) -> None:
    stamps = [START + timedelta(minutes=every * i) for i in range(11)]
    newer = offset(tmp_path / "b.csv", 0.0, stamps=stamps)
    older = "".join(newer.read_text().splitlines(keepends=True)[:6])
    older += f"{stamps[6]:%Y.%m.%d,%H:%M},20.006,20.006,20.001,20.001,3\n"
    stores.ingest(newer, silver)
    (tmp_path / "a.csv").write_text(older)
    result = stores.ingest(tmp_path / "a.csv", silver)
    assert (result.same, result.revised, caplog.text) == (7, 0, "")


def ticks(path: Path, first_s: int, last_s: int) -> Path:
    """A tick each second, whose bid rises and falls."""
    rows = ((START + timedelta(seconds=at), 20 + 0.001 * (at * 37 % 91)) for at in range(first_s, last_s))
    path.write_text("time,bid,ask\n" + "".join(f"{ts:%Y-%m-%d %H:%M:%S},{b:.3f},{b + 0.02:.3f}\n" for ts, b in rows))
    return path


def test_halves_of_a_minute_or_of_an_hour_in_two_commands_are_told(
    stores: Stores, tmp_path: Path, silver: Session, caplog: pytest.LogCaptureFixture
) -> None:
    whole = ticks(tmp_path / "whole.csv", 0, 600)
    stores.ingest(whole, silver)
    for part in ((90, 600), (0, 550)):  # a part of a stored minute at either end
        assert stores.ingest(ticks(tmp_path / "part.csv", *part), silver).revised == 0
    assert caplog.text == ""
    stores.ingest(ticks(tmp_path / "half.csv", 600, 610), silver)
    stores.ingest(ticks(tmp_path / "other.csv", 610, 660), silver)
    assert "if two files of ticks part a minute, ingest both in one command" in caplog.text
    later = START + timedelta(days=1)
    for first in (0, 10):
        stores.ingest(spaced(tmp_path / "m15.csv", later + timedelta(minutes=15 * first), 10, minutes=15), silver)
    assert "has only a part of the hour 2019-03-06 12:00 UTC, which makes none; ingest the files of" in caplog.text


@pytest.mark.parametrize("order", [1, -1])
def test_a_known_volume_outlives_a_file_without_volumes(
    stores: Stores, tmp_path: Path, silver: Session, order: int, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["a.csv", "b.csv"][::order]
    offset(tmp_path / names[0], 0.0, stamps=MINUTES[:-1])
    path = offset(tmp_path / names[1], 0.0)
    path.write_text(path.read_text().replace(",7\n", "\n"))
    stores.ingest(tmp_path / "?.csv", silver)
    assert stores.raw.read()["volume"].to_list() == [7.0] * 119 + [None]
    again = stores.raw.read()[:2].with_columns(ts=START, volume=pl.Series([7.0, float("nan")]))
    assert keep_last(again)["volume"].to_list() == [7]
    path.write_text(offset(tmp_path / "c", 0.0).read_text().replace(",7\n", ",70\n"))
    assert stores.ingest(path, silver).revised == 120
    assert "119 of 120 bars with other volumes" in caplog.text


def test_however_files_are_cut_they_make_the_same_hours(tmp_path: Path, silver: Session) -> None:
    minutes = [START + timedelta(minutes=i) for i in range(600) if not 100 <= i < 130 and not 235 <= i < 250]
    minutes = [ts for ts in minutes if not START + timedelta(minutes=297) <= ts < START + timedelta(minutes=300)]
    lines = [f"{ts:%Y.%m.%d,%H:%M},15.1,15.2,15.0,15.1,7" for ts in minutes]
    made = []
    for number, cuts in enumerate([[], [100], [220, 400], [95, 100, 205, 252], [100, 220, 265]]):
        stores = Stores(tmp_path / str(number))
        edges = [0, *cuts, len(lines)]
        parts = list(pairwise(edges))
        for first, last in parts[::-1] if number % 2 else parts:
            path = tmp_path / f"{number}-{first}.csv"
            path.write_text("\n".join(lines[first:last]))
            stores.ingest(path, silver)
        stores.process(silver)
        made.append(stores.processed.read())
        stores.ledger.close()
    assert made[0].height == 10 and all(hours.equals(made[0]) for hours in made)


def test_a_hole_of_hours_cuts_the_hours_about_it_in_one_file_as_between_two(
    stores: Stores, tmp_path: Path, silver: Session
) -> None:
    path = mt4(tmp_path / "m.csv", START, 90)
    path.write_text(path.read_text() + mt4(tmp_path / "b.csv", START + timedelta(hours=7, minutes=20), 100).read_text())
    stores.ingest(path, silver)
    stores.process(silver)
    assert stores.processed.read()["ts"].to_list() == [START, START + timedelta(hours=8)]
