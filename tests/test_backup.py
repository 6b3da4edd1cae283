"""`python -m lstm_ts.backup`: what is restored is what was there at one moment, while everything went on."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest
import sqlalchemy as sa
from commands import mistake, run
from processes import WAIT_S, wait_for
from serving import Server, frame, make_bars, make_servable, running, save_model
from test_faults import at_most
from test_ledger import FORECAST
from test_registry import promote, register

from lstm_ts.backup import SUMMARY, Place, _alone, check, restore, write
from lstm_ts.errors import ConfigError, DataError, LedgerError, RegistryError
from lstm_ts.faults import describe_fault
from lstm_ts.ledger import dumps
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.session import HOUR, Session
from lstm_ts.registry.registry import Registry
from lstm_ts.registry.version import CHAMPION
from lstm_ts.store.bar_store import BarStore
from lstm_ts.store.disk import temporary_lock

LONG_AGO, FAR = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def make_ledger(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], str]]:
    """Urls of empty ledgers of a kind."""
    if request.param == "sqlite":
        yield lambda folder: f"sqlite:///{folder}/ledger.db"
        return
    url, names = sa.make_url(request.getfixturevalue("postgres_url")), list[str]()
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)

    def make(folder: Path) -> str:
        names.append(f"test_{uuid4().hex}")
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {names[-1]}"))
        return url.set(database=names[-1]).render_as_string(hide_password=False)

    yield make
    with engine.connect() as connection:
        for name in names:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


def place_of(folder: Path, ledger: str = "") -> Place:
    return Place(folder / "data", f"sqlite:///{folder}/mlflow.db", ledger or f"sqlite:///{folder}/ledger.db")


def fill(place: Place, model: Path, bars: pl.DataFrame, session: Session) -> None:
    """Bars, a champion, and forecasts of two requests."""
    with BarStore(place.data / "processed/XAGUSD", HOURLY_SCHEMA).upsert("test hours", session) as staging:
        staging.add(bars)
    with closing(Ledger(place.ledger)) as ledger:
        registry = Registry(place.registry, ledger)
        register(registry, model)
        promote(registry, 1)
        ledger.record_forecasts([FORECAST, replace(FORECAST, request_id="another")])


@pytest.fixture(scope="module")
def model(hourly_bars: pl.DataFrame, silver: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("backup") / "model", hourly_bars, silver, seed=1)


@pytest.fixture
def place(tmp_path: Path, model: Path, hourly_bars: pl.DataFrame, silver: Session) -> Place:
    (tmp_path / "here").mkdir()
    place = place_of(tmp_path / "here")
    fill(place, model, hourly_bars, silver)
    return place


@pytest.fixture(scope="module")
def written(model: Path, hourly_bars: pl.DataFrame, silver: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    place = place_of(folder)
    fill(place, model, hourly_bars, silver)
    write(place, folder / "backup")
    return folder / "backup"


@pytest.fixture
def backup(written: Path, tmp_path: Path) -> Path:
    """One that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "backup"))


def test_what_is_restored_is_what_was_there(
    make_ledger: Callable[[Path], str], model: Path, hourly_bars: pl.DataFrame, silver: Session, tmp_path: Path
) -> None:
    here, there = (tmp_path / name for name in ("here", "there"))
    here.mkdir()
    place, empty = place_of(here, make_ledger(here)), place_of(there, make_ledger(there))
    fill(place, model, hourly_bars, silver)
    summary = write(place, tmp_path / "backup")
    assert summary["stores"] == {"processed/XAGUSD": hourly_bars.height}
    assert summary["databases"]["ledger.dump"]["rows"]["forecasts"] == 2
    assert restore(tmp_path / "backup", empty) == summary
    if file := dumps.sqlite_file(empty.ledger):
        with closing(sqlite3.connect(file)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    setting = "paths.data and paths.outputs" if "sqlite" in empty.ledger else r"registry.ledger \(LSTM_TS_LEDGER\)"
    with pytest.raises(ConfigError, match=rf"Expected an empty place .*; set another {setting}$"):
        restore(tmp_path / "backup", place_of(tmp_path / "third", empty.ledger))
    stored = [BarStore(each.data / "processed/XAGUSD", HOURLY_SCHEMA) for each in (place, empty)]
    assert stored[1].read().equals(stored[0].read()) and stored[1].id == stored[0].id
    with closing(Ledger(place.ledger)) as before, closing(Ledger(empty.ledger)) as after:
        assert after.identity == before.identity
        assert after.forecasts("XAGUSD", since=LONG_AGO, until=FAR) == before.forecasts(
            "XAGUSD", since=LONG_AGO, until=FAR
        )
        registry = Registry(empty.registry, after)
        assert registry.history("XAGUSD", CHAMPION) == Registry(place.registry, before).history("XAGUSD", CHAMPION)
        assert registry.version("XAGUSD", CHAMPION).source.startswith(there.as_uri())
        with pytest.raises(LedgerError, match="forecasts"), after.transaction() as connection:
            connection.execute(sa.text("UPDATE forecasts SET last_close = 1"))
    with BarStore(empty.data / "processed/XAGUSD", HOURLY_SCHEMA).upsert("test hours", silver) as staging:
        staging.add(hourly_bars)
    assert staging.result.same == hourly_bars.height


@pytest.mark.slow
def test_everything_goes_on_while_a_backup_is_written(
    make_ledger: Callable[[Path], str], model: Path, hourly_bars: pl.DataFrame, silver: Session, tmp_path: Path
) -> None:
    here, there = (tmp_path / name for name in ("here", "there"))
    here.mkdir()
    place, empty = place_of(here, make_ledger(here)), place_of(there, make_ledger(there))
    fill(place, model, hourly_bars.head(-200), silver)
    done, written = threading.Event(), list[int]()

    def go_on() -> None:
        with closing(Ledger(place.ledger)) as ledger:
            registry = Registry(place.registry, ledger)
            while not done.is_set():
                number = len(written)
                ledger.record_forecasts([replace(FORECAST, request_id=f"meanwhile {number}")])
                if number % 20 == 0:
                    register(registry, model)
                    promote(registry, len(registry.versions("XAGUSD")))
                    with BarStore(place.data / "processed/XAGUSD", HOURLY_SCHEMA).upsert("test hours") as staging:
                        staging.add(hourly_bars[-200 + number : -200 + number + 20])
                written.append(number)

    writer = threading.Thread(target=go_on)
    writer.start()
    try:
        wait_for(lambda: len(written) > 5)
        before = len(written)
        write(place, tmp_path / "backup")
        after = len(written)
    finally:
        done.set()
        writer.join(WAIT_S)
    restore(tmp_path / "backup", empty)
    with closing(Ledger(empty.ledger)) as ledger:
        found = [row.request_id for row in ledger.forecasts("XAGUSD", since=LONG_AGO, until=FAR)]
        kept = [int(text.split()[1]) for text in found if text.startswith("meanwhile")]
        assert sorted(kept) == list(range(len(kept))) and before <= len(kept) <= after + 1
        registry = Registry(empty.registry, ledger)
        moves = registry.history("XAGUSD", CHAMPION)
        assert registry.version("XAGUSD", CHAMPION).number == moves[-1].to_version
        assert {move.actor for move in moves} == {"a test"}, "no move is found that was not written down"


@pytest.mark.parametrize("damage", ["changed", "missing", "added"])
def test_a_damaged_backup_is_named_and_restores_nothing(backup: Path, tmp_path: Path, damage: str) -> None:
    file = next((backup / "bars/processed/XAGUSD").glob("2014-*.parquet"))
    match damage:
        case "changed":
            file.write_bytes(file.read_bytes()[:-1] + b"x")
        case "missing":
            file.unlink()
        case "added":
            file = file.with_name("more.parquet")
            file.touch()
    with pytest.raises(DataError, match=f"Expected {file} as it was written"):
        restore(backup, place_of(tmp_path / "there"))
    assert not (tmp_path / "there").exists()


def test_a_backup_takes_a_new_folder_and_a_restore_an_empty_place(place: Place, tmp_path: Path) -> None:
    write(place, tmp_path / "backup")
    with pytest.raises(ConfigError, match="Expected a new folder for the backup"):
        write(place, tmp_path / "backup")
    with pytest.raises(ConfigError, match=r"an empty place.*processed/XAGUSD.*artifacts, .*/ledger.db, .*/mlflow.db;"):
        restore(tmp_path / "backup", place)
    with pytest.raises(ConfigError, match=r"an empty place.*got .*artifacts, .*/ledger.db, .*/mlflow.db;"):
        restore(tmp_path / "backup", replace(place, data=tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(ConfigError, match=f"Expected a folder outside of the backup {tmp_path}/backup, got"):
        write(place, tmp_path / "backup/another/deeper")
    with pytest.raises(ConfigError, match=f"Expected a folder outside of {place.data}"):
        write(place, place.data / "backup")
    with pytest.raises(ConfigError, match=f"Expected a folder outside of {place.artifacts}"):
        write(place, (place.artifacts or tmp_path) / "backup")
    with pytest.raises(ConfigError, match="Expected a new folder for the backup"):
        write(place, tmp_path / "absent/..")
    with pytest.raises(ConfigError, match=f"Expected a place outside of the backup {tmp_path}/backup"):
        restore(tmp_path / "backup", place_of(tmp_path / "backup/there"))
    with pytest.raises(ConfigError, match=f"Expected bars to back up in paths.data={tmp_path}/nowhere, got none"):
        write(replace(place, data=tmp_path / "nowhere"), tmp_path / "another")
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=f"Expected a backup in {folder}, got no {SUMMARY}"):
            check(folder)


@pytest.mark.parametrize("log", ["ledger.db-wal", "ledger.db-shm", "mlflow.db-journal"])
def test_logs_of_a_killed_process_are_not_replayed_over_what_is_restored(
    written: Path, tmp_path: Path, log: str
) -> None:
    (tmp_path / log).touch()
    with pytest.raises(ConfigError, match=f"Expected an empty place to restore into, got {tmp_path}/{log}; set "):
        restore(written, place_of(tmp_path))


def test_one_backup_is_written_to_a_folder_and_one_restored_into_a_place_at_a_time(
    written: Path, tmp_path: Path
) -> None:
    place = place_of(written.parent)
    (tmp_path / "there/data").mkdir(parents=True)
    locks = (tmp_path / ".another.lock", tmp_path / "there/data/.restore.lock")
    held = "Expected no other backup or restore.*"
    with temporary_lock(locks[0]), pytest.raises(ConfigError, match=f"{held}, or give another folder"):
        write(place, tmp_path / "another")
    with temporary_lock(locks[1]), pytest.raises(ConfigError, match=f"{held}, or set another paths.data"):
        restore(written, place_of(tmp_path / "there"))
    with pytest.raises(BlockingIOError, match="of the work"), _alone(locks[0], "wait"):
        raise BlockingIOError("of the work")
    assert not any(lock.exists() for lock in locks) and not (tmp_path / "another").exists()
    assert write(place, tmp_path / "another")["stores"] == restore(written, place_of(tmp_path / "there"))["stores"]


def test_a_full_disk_keeps_nothing_of_a_backup_or_restore(written: Path, tmp_path: Path) -> None:
    here, there = place_of(written.parent), place_of(tmp_path / "to")
    with at_most(60_000), pytest.raises(LedgerError, match="got: disk I/O error"):
        write(here, tmp_path / "to/another")
    assert [path for path in (tmp_path / "to").rglob("*") if path.is_file()] == []
    with at_most(60_000), pytest.raises(OSError, match="File too large") as told:
        restore(written, there)
    assert [path for path in (tmp_path / "to").rglob("*") if path.is_file()] == []
    assert "or the folder that was named, to another disk" in str(describe_fault(told.value))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda summary: summary.pop("at"), "at: Field required"),
        (lambda summary: summary.update(format="1"), "format: Input should be 1"),
        (lambda summary: summary.update(databases=[]), "databases: Input should be"),
        (lambda summary: summary.update(stores={"../../../evil": 1}), "evil.*String should match"),
        (lambda summary: summary.update(stores={"raw/..": 1}), "String should match"),
        (lambda summary: summary["stores"].update({"raw/XAGUSD": 1}), "Expected bars/raw/XAGUSD/manifest.json among"),
        (lambda summary: summary["files"].pop("ledger.dump"), "Expected ledger.dump among"),
    ],
)
def test_a_summary_of_other_content_is_refused(
    change: Callable[[Any], object], words: str, backup: Path, tmp_path: Path
) -> None:
    summary = json.loads((backup / SUMMARY).read_text())
    change(summary)
    (backup / SUMMARY).write_text(json.dumps(summary))
    with pytest.raises(DataError, match=words):
        restore(backup, place_of(tmp_path / "there"))
    assert not (tmp_path / "there").exists()


def test_a_database_without_a_ledger_is_refused_and_stays_empty(
    make_ledger: Callable[[Path], str], written: Path, tmp_path: Path
) -> None:
    (tmp_path / "ledger.db").touch()
    url = make_ledger(tmp_path)
    with pytest.raises(LedgerError, match=r"Expected a ledger in .*, got a database without one"):
        write(replace(place_of(written.parent), ledger=url, registry=url), tmp_path / "backup")
    assert dumps.is_empty(url)


def test_a_ledger_that_is_missing_is_told_so(written: Path, tmp_path: Path) -> None:
    missing = f"sqlite:///{tmp_path}/ledger.db"
    with pytest.raises(LedgerError, match=f"Expected the ledger {missing}, got no file there; put it back"):
        write(replace(place_of(written.parent), ledger=missing), tmp_path / "backup")
    assert list(tmp_path.iterdir()) == []


def test_the_registry_of_another_ledger_is_not_backed_up(written: Path, empty: Path, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="got one without XAGUSD"):
        write(replace(place_of(written.parent), registry=place_of(empty).registry), tmp_path / "backup")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["s3:bucket", "[a]", "null"])
def test_what_is_neither_a_folder_nor_a_url_is_refused(tmp_path: Path, folder: str) -> None:
    assert "a URL such as s3://bucket/folder" in mistake(run("backup", tmp_path, f"folder={folder}"))


def test_a_restore_into_another_kind_of_place_copies_nothing(backup: Path, tmp_path: Path) -> None:
    there = place_of(tmp_path / "there")
    served = replace(there, registry="http://127.0.0.1:5000")
    of_another_kind = replace(there, ledger="postgresql+psycopg://a@127.0.0.1:1/b")
    with pytest.raises(ConfigError, match=r"a place for ledger.dump and registry.dump, got one for ledger.dump: "):
        restore(backup, served)
    with pytest.raises(LedgerError, match="Expected a sqlite database, of which this is a backup, got postgresql"):
        restore(backup, of_another_kind)
    leave_out_registry(backup)
    with pytest.raises(ConfigError, match=r"a place for ledger.dump, got one for ledger.dump and registry.dump: "):
        restore(backup, there)
    assert not (tmp_path / "there").exists()
    restore(backup, served)  # MLflow's server is started once its database is restored


def leave_out_registry(backup: Path) -> None:
    """As it would be had the registry been a server."""
    summary = json.loads((backup / SUMMARY).read_text())
    del summary["databases"]["registry.dump"]
    for name in [name for name in summary["files"] if name.startswith(("registry", "artifacts"))]:
        (backup / name).unlink()
        del summary["files"][name]
    (backup / SUMMARY).write_text(json.dumps(summary))


def test_a_restore_that_fails_half_way_can_be_repeated(backup: Path, tmp_path: Path) -> None:
    there = place_of(tmp_path / "there")
    in_the_way = tmp_path / "there/registry"
    there = replace(there, registry=f"sqlite:///{in_the_way}/mlflow.db")
    in_the_way.parent.mkdir()
    in_the_way.touch()
    with pytest.raises(OSError, match=str(in_the_way)):
        restore(backup, there)
    in_the_way.unlink()
    assert restore(backup, there) == check(backup)


def test_a_damaged_champion_is_not_backed_up(place: Place, tmp_path: Path) -> None:
    assert place.artifacts
    next(place.artifacts.rglob("weights.safetensors")).write_bytes(b"")
    with pytest.raises(RegistryError, match="files of version 1 of XAGUSD as they were registered"):
        write(place, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_damaged_bars_are_not_backed_up(place: Place, tmp_path: Path) -> None:
    file = next((place.data / "processed/XAGUSD").glob("2014-*.parquet"))
    file.write_bytes(b"other bytes")
    with pytest.raises(DataError, match=f"Expected {file} as it was written"):
        write(place, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_what_a_registry_keeps_elsewhere_is_told(tmp_path: Path) -> None:
    served = Place(tmp_path, "http://127.0.0.1:5000", f"sqlite:///{tmp_path}/ledger.db")
    assert served.left_out == ["Not included: MLflow's server; back that up separately"]
    database = Place(tmp_path, "postgresql://a@b/c", "postgresql://a@b/c")
    assert "the models, which MLflow's artifact store has" in database.left_out[0]
    assert list(database.databases) == ["ledger.dump"]


@pytest.mark.slow
def test_a_killed_backup_leaves_nothing_in_its_place(place: Place, hourly_bars: pl.DataFrame, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    where = [f"paths.data={place.data}", f"registry.uri={place.registry}", f"registry.ledger={place.ledger}"]
    command = [sys.executable, "-m", "lstm_ts.backup", f"folder={folder}", *where]
    for _ in range(2):
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: (tmp_path / ".backup.part").exists())
        os.kill(process.pid, signal.SIGKILL)
        process.wait(WAIT_S)
        assert not folder.exists()
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    assert check(folder)["stores"] == {"processed/XAGUSD": hourly_bars.height}
    assert not (tmp_path / ".backup.part").exists()


@pytest.mark.slow
def test_an_installation_is_moved_while_it_serves(
    empty: Path, hourly_bars: pl.DataFrame, silver: Session, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    window = {"symbol": "XAGUSD", "bars": make_bars(silver)}
    with running(Server(make_servable(here, empty, hourly_bars, silver))) as server:
        wait_for(lambda: server.health().ready)
        path = server.predict(window).json()["path"]
        summary = write(place_of(here), tmp_path / "backup")
        with BarStore(here / "data/processed/XAGUSD", HOURLY_SCHEMA).upsert("test hours", silver) as staging:
            staging.add(frame(make_bars(silver)))
        assert server.predict(window).status_code == 200
    restore(tmp_path / "backup", place_of(there))
    (tmp_path / "here").rename(tmp_path / "away")
    with running(Server(there)) as server:
        wait_for(lambda: server.health().ready)
        assert server.predict(window).json()["path"] == path
        last = server.client.get("/forecast", params={"symbol": "XAGUSD"}).json()["origin_ts"]
    assert datetime.fromisoformat(last) == hourly_bars["ts"][-1] + HOUR
    assert json.loads((tmp_path / "backup" / SUMMARY).read_text()) == summary
    assert datetime.now(UTC) - datetime.fromisoformat(summary["at"]) < timedelta(hours=1)
