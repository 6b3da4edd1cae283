"""What someone else has put into a store's folder is named, and neither read, changed nor removed."""

import hashlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import Start
from processes import let_go, output, wait_for
from test_store import WRITER, bars, upsert

from lstm_ts.cli import compose
from lstm_ts.configuration.parts import processed_store
from lstm_ts.errors import DataError, NoRows
from lstm_ts.market.bars import BAR_SCHEMA
from lstm_ts.store.bar_store import BarStore
from lstm_ts.store.journal import HEADER, JOURNAL

OWN = {"manifest.json", "reader.lock", "writer.lock"}


@pytest.fixture
def store(tmp_path: Path) -> BarStore:
    return BarStore(tmp_path / "XAGUSD", BAR_SCHEMA)


def lay(folder: Path, *names: str) -> dict[str, bytes]:
    """Files of the user, each with content of its own."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(f"mine: {name}".encode())
    return {name: (folder / name).read_bytes() for name in names}


MINE = (
    "silver-2015-03-minutes.parquet",
    "2015-03-0123456789ab.parquet",
    "revisions-2015-03-0123456789ab.parquet",
    "2015-03-copy.parquet",
    "staging/notes.txt",
    "staging/2015-03.0.parquet",
    "staging-0123456789ab/2015-03.0.parquet",
    "old/2015-03-0123456789ab.parquet",
    "notes.txt",
)


def test_an_upsert_leaves_every_file_of_the_user_as_it_was(store: BarStore) -> None:
    mine = lay(store.folder, *MINE)
    assert upsert(store, bars([1.0, 2.0, 3.0])).new == 3
    with pytest.raises(ZeroDivisionError), store.upsert("test minutes") as staging:
        staging.add(bars([9.0]))
        _ = 1 / 0
    upsert(store, bars([5.0, 2.0, 6.0]))
    assert {name: (store.folder / name).read_bytes() for name in MINE} == mine
    assert store.read()["close"].to_list() == [5.0, 2.0, 6.0]


def test_the_files_of_the_user_are_named_in_a_sentence(store: BarStore) -> None:
    lay(store.folder, "silver.parquet", ".hidden")
    upsert(store, bars([1.0, 2.0, 3.0]))
    assert store.foreign_files() == ["silver.parquet"]
    assert store.describe_foreign_files() == (
        f"{store.folder} holds 1 file that no command has written there (silver.parquet), left alone and not read; "
        f"move it elsewhere, and store bars by python -m lstm_ts.ingest source=files source.paths=<file> symbol=XAGUSD"
    )
    (store.folder / "silver.parquet").unlink()
    assert store.describe_foreign_files() == ""


def test_a_command_warns_of_them_when_it_opens_a_store(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lay(tmp_path / "data/processed/XAGUSD", "hours.parquet")
    processed_store(compose("process", [f"paths.data={tmp_path}/data"]))
    assert "holds 1 file that no command has written there (hours.parquet)" in caplog.text


def test_an_empty_store_names_the_files_that_were_laid_into_it(store: BarStore) -> None:
    lay(store.folder, *(f"{month}.parquet" for month in "abcdefg"))
    with pytest.raises(NoRows, match=r"got an empty store; .* holds 7 files .* \(a\.parquet, .*, e\.parquet … \(7\)\)"):
        store.read()


def test_a_copy_of_a_month_of_another_store_is_kept(store: BarStore, tmp_path: Path) -> None:
    other = BarStore(tmp_path / "other", BAR_SCHEMA)
    upsert(other, bars([7.0]))
    (month,) = other.folder.glob("*.parquet")
    store.folder.mkdir()
    shutil.copy(month, store.folder)
    upsert(store, bars([1.0]))
    upsert(store, bars([2.0]))
    assert (store.folder / month.name).read_bytes() == month.read_bytes()
    assert store.foreign_files() == [month.name]


def test_a_file_of_another_kind_where_a_month_belongs_is_not_overwritten(store: BarStore, tmp_path: Path) -> None:
    other = BarStore(tmp_path / "other", BAR_SCHEMA)
    upsert(other, bars([1.0]))
    (month,) = other.folder.glob("*.parquet")
    mine = lay(store.folder, month.name)
    with pytest.raises(DataError, match=rf"Expected no file of another kind at .*{month.name}, got one; move it"):
        upsert(store, bars([1.0]))
    assert (store.folder / month.name).read_bytes() == mine[month.name]
    assert {path.name for path in store.folder.iterdir()} == {month.name, "reader.lock", "writer.lock"}


def test_what_a_killed_writer_left_is_removed_and_nothing_else(store: BarStore, start: Start) -> None:
    mine = lay(store.folder, "2013-05-0123456789ab.parquet", "staging/x")
    (writer,) = start(WRITER, store.folder, "20.0")
    let_go(writer)
    wait_for(lambda: list(store.folder.glob("staging-*/*.parquet")), process=writer)
    writer.kill()
    output(writer)
    (left,) = store.folder.glob("staging-*")
    mine |= {f"{left.name}/thesis.txt": (left / "thesis.txt").write_bytes(b"mine: x") and b"mine: x"}
    assert store.foreign_files() == ["2013-05-0123456789ab.parquet", "staging"]
    upsert(store, bars([1.0]))
    assert {name: (store.folder / name).read_bytes() for name in mine} == mine
    assert [path.name for path in left.iterdir()] == ["thesis.txt"]
    assert store.foreign_files() == ["2013-05-0123456789ab.parquet", "staging", left.name]


def test_a_journal_that_was_cut_off_is_no_obstacle(store: BarStore) -> None:
    store.folder.mkdir()
    kept = lay(store.folder, "2015-03-0123456789ab.parquet")
    for text in ("", HEADER[:10], HEADER, f"{HEADER}staging-0123", f"{HEADER}2015-03-0123456789ab.parquet"):
        (store.folder / JOURNAL).write_text(text)
        upsert(store, bars([1.0]))
        assert not (store.folder / JOURNAL).exists()
    assert (store.folder / "2015-03-0123456789ab.parquet").read_bytes() == kept["2015-03-0123456789ab.parquet"]


def test_a_journaled_name_with_other_bytes_is_kept(store: BarStore) -> None:
    content = b"as it was written"
    written = f"2015-03-{hashlib.sha256(content).hexdigest()[:12]}.parquet"
    mine = lay(store.folder, "2015-03-0123456789ab.parquet")
    (store.folder / written).write_bytes(content)
    (store.folder / JOURNAL).write_text(f"{HEADER}{written}\n2015-03-0123456789ab.parquet\n")
    upsert(store, bars([1.0]))
    assert not (store.folder / written).exists()
    assert (store.folder / "2015-03-0123456789ab.parquet").read_bytes() in mine.values()


@pytest.mark.parametrize("text", ["my diary\n", f"{HEADER}../x.parquet\n", f"{HEADER}notes.txt\n"])
def test_a_journal_of_another_kind_is_refused_and_kept(store: BarStore, text: str) -> None:
    store.folder.mkdir()
    (store.folder / JOURNAL).write_text(text)
    with pytest.raises(DataError, match=r"upsert\.journal as an interrupted upsert leaves it, got another file"):
        upsert(store, bars([1.0]))
    assert (store.folder / JOURNAL).read_text() == text


@pytest.mark.parametrize(
    "content",
    [
        {"name": "my-app", "icons": []},
        [],
        "text",
        None,
        {"source": "x", "months": []},
        {"source": "x", "months": {"2015-03": {}}},
        {"source": 3, "months": {}},
    ],
)
def test_json_of_another_kind_is_a_sentence_and_kept(store: BarStore, content: object) -> None:
    store.folder.mkdir()
    (store.folder / "manifest.json").write_text(json.dumps(content))
    for act in (store.read, store.read_stamps, lambda: upsert(store, bars([1.0])), store.foreign_files):
        with pytest.raises(DataError, match=r"Expected the manifest of a store of bars in .*, got other JSON"):
            act()
    assert json.loads((store.folder / "manifest.json").read_text()) == content
    assert [path.name for path in store.folder.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("name", ["../other.parquet", "/etc/passwd", "a/2014-12-0123456789ab.parquet", "x.parquet", 7])
def test_a_manifest_that_points_out_of_its_folder_is_refused(store: BarStore, name: object) -> None:
    upsert(store, bars([1.0]))
    manifest = store.folder / "manifest.json"
    content = json.loads(manifest.read_text())
    content["months"]["2014-12"]["file"] = name
    manifest.write_text(json.dumps(content))
    for act in (store.read, lambda: upsert(store, bars([2.0]))):
        with pytest.raises(DataError, match="got other JSON"):
            act()


def test_a_folder_that_is_a_link_is_a_store_like_any_other(store: BarStore, tmp_path: Path) -> None:
    elsewhere = tmp_path / "disk" / "silver"
    elsewhere.mkdir(parents=True)
    mine = lay(elsewhere, "notes.txt")
    store.folder.symlink_to(elsewhere)
    upsert(store, bars([1.0]))
    upsert(store, bars([2.0], datetime(2014, 12, 31, 23, 58, tzinfo=UTC)))
    assert store.read()["close"].to_list() == [2.0]
    assert (elsewhere / "notes.txt").read_bytes() == mine["notes.txt"]
    assert {path.name for path in elsewhere.iterdir()} > OWN
    assert store.folder.is_symlink()
