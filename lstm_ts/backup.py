"""`python -m lstm_ts.backup`: bars, registry and ledger into a folder, here or at a URL, and back into an empty place.

<folder>/backup.json      what is in it: hashes, rows by table, triggers
<folder>/ledger.dump      SQLite's file, or pg_dump's
<folder>/registry.dump    the same of MLflow's database
<folder>/artifacts/       the models of the versions
<folder>/bars/            stores: processed/<symbol>, raw/<symbol>

Everything keeps running meanwhile, except that no alias moves. Items are written in this order, so each is as new as
those before it or newer, as after a process killed between two writes: the next process and monitor runs catch up.
"""

import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lstm_ts.cli import check_arguments

if __name__ == "__main__":
    check_arguments("backup")  # before what is slow to import

from omegaconf import DictConfig, OmegaConf

from lstm_ts import __version__, clock
from lstm_ts.backup_place import (
    BARS,
    FORMAT,
    LEDGER,
    SCHEMAS,
    SUMMARY,
    Place,
    check_empty,
    check_new,
    check_parts,
    list_moves,
    read_summary,
)
from lstm_ts.cli import entry_point
from lstm_ts.configuration.parts import check_action, check_registry
from lstm_ts.errors import ConfigError, DataError
from lstm_ts.ledger import dumps
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.registry.registry import Registry
from lstm_ts.registry.uri import ARTIFACTS, check_there
from lstm_ts.store.bar_store import BarStore
from lstm_ts.store.disk import fsync_folder, hash_file, temporary_lock
from lstm_ts.store.manifest import stores_in
from lstm_ts.store.object_storage import check_free, is_url, local_copy, upload

log = logging.getLogger(__name__)


def write(place: Place, folder: Path) -> dict[str, Any]:
    """Write a backup, which appears as a whole; return the contents of `backup.json`.

    Raises    ConfigError: the folder exists, lies in what is copied, or is one that another backup is written to
    """
    folder = folder.resolve()
    check_new(folder, place)
    if not any(place.data.glob("*/*")):
        raise ConfigError(f"Expected bars to back up in paths.data={place.data}, got none; correct paths.data")
    check_there(place.registry)
    staged = folder.with_name(f".{folder.name}.part")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_name(f".{folder.name}.lock"), "give another folder"), ExitStack() as left_over:
        check_new(folder, place)  # another one may have been written meanwhile
        _remove(staged)
        left_over.callback(_remove, staged)
        staged.mkdir()
        summary = _write_parts(place, staged)
        staged.replace(folder)
    fsync_folder(folder.parent)
    return summary


@contextmanager
def _alone(lock: Path, advice: str) -> Iterator[None]:
    """Raises    ConfigError: another process writes a backup to this folder, or restores one into this paths.data"""
    with ExitStack() as held:
        try:
            held.enter_context(temporary_lock(lock))
        except BlockingIOError:
            raise ConfigError(
                f"Expected no other backup or restore that holds {lock}, got one that runs; "
                f"wait for its end, or {advice}"
            ) from None
        yield


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _write_parts(place: Place, staged: Path) -> dict[str, Any]:
    summary = {"format": FORMAT, "lstm_ts": __version__, "at": clock.now().isoformat(timespec="seconds")}
    summary |= {"databases": _write_databases(place, staged), "stores": _write_stores(place.data, staged / BARS)}
    summary["files"] = {path.relative_to(staged).as_posix(): hash_file(path) for path in _files_of(staged)}
    (staged / SUMMARY).write_text(json.dumps(summary, indent=1))
    return summary


def _write_databases(place: Place, folder: Path) -> dict[str, Any]:
    with closing(Ledger(place.ledger, make=False)) as ledger, ExitStack() as still:
        registry = Registry(place.registry, ledger, make=False)  # now: its tables may be made in the ledger's database
        _check_champions(registry)
        for name in registry.names():
            still.enter_context(ledger.exclusive(f"{name}'s aliases"))
        found = {file: asdict(dumps.dump(url, folder / file)) for file, url in place.databases.items()}
    if place.artifacts and place.artifacts.exists():
        shutil.copytree(place.artifacts, folder / ARTIFACTS)
    return found


def _write_stores(data: Path, folder: Path) -> dict[str, int]:
    """Copy the stores; return rows by store."""
    rows = {}
    for stage, schema in SCHEMAS.items():
        for symbol in stores_in(data / stage):
            manifest = BarStore(data / stage / symbol, schema).copy_to(folder / stage / symbol)
            rows[f"{stage}/{symbol}"] = sum(month.rows for month in manifest.months.values())
    return rows


def check(folder: Path) -> dict[str, Any]:
    """Check every file of a backup; return its summary.    Raises    DataError: it is not as it was written"""
    summary = read_summary(folder)
    files: Mapping[str, str] = summary["files"]
    there = {path.relative_to(folder).as_posix(): path for path in _files_of(folder) if path != folder / SUMMARY}
    for name in sorted(files.keys() | there.keys()):
        if name not in there or files.get(name) != hash_file(there[name]):
            raise DataError(f"Expected {folder / name} as it was written, got another one or none; take another backup")
    return summary


def restore(folder: Path, place: Place) -> dict[str, Any]:
    """Fill an empty place, and compare it with the backup; return the backup's summary.

    Files are moved once all are copied. If the second of two PostgreSQL databases fails, empty the first, and repeat.

    Raises    ConfigError: the place is not empty, or of other parts than the backup
              DataError: the backup is damaged, or the result differs from it
              LedgerError: a database does not answer, or is of another kind
    """
    summary = check(folder)
    check_parts(summary, place)
    moves = list_moves(summary, folder, place)
    check_empty(summary, place)
    place.data.mkdir(parents=True, exist_ok=True)
    with _alone(place.data / ".restore.lock", "set another paths.data"), ExitStack() as left_over:
        check_empty(summary, place)  # another one may have been restored meanwhile
        staged = [(_stage(source, target, left_over), target) for source, target in moves]
        for file, url in place.databases.items():
            if not dumps.sqlite_file(url):
                dumps.restore(folder / file, url)
        for part, target in staged:
            part.replace(target)
    _compare(summary, place)
    return summary


def _stage(source: Path, target: Path, left_over: ExitStack) -> Path:
    """Copy beside the target; `left_over` removes the copy unless it is moved."""
    part = target.with_name(f".{target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    _remove(part)
    left_over.callback(_remove, part)
    if source.is_dir():
        shutil.copytree(source, part)
    else:
        shutil.copyfile(source, part)
    return part


def _compare(summary: Mapping[str, Any], place: Place) -> None:
    """Raises    DataError: something was not restored"""
    for store, rows in summary["stores"].items():
        found = BarStore(place.data / store, SCHEMAS[store.split("/")[0]]).read_stamps().len()
        _expect(f"{rows} bars in {place.data / store}", rows, found)
    for file, url in place.databases.items():
        _expect(f"the tables and triggers of {file}", summary["databases"][file], asdict(dumps.content(url)))
    Ledger(place.ledger, make=False).close()
    if not place.is_served:  # else its server is started once the database is restored
        _check_champions(Registry(place.registry, None))


def _check_champions(registry: Registry) -> None:
    """Raises    RegistryError: a champion's files are not as they were registered"""
    for champion in filter(None, map(registry.champion, registry.names())):
        registry.load(champion)


def _expect(what: str, wanted: object, got: object) -> None:
    if wanted != got:
        raise DataError(f"Expected {what} as they were backed up, got {got}; restore again, into another place")


def _files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _describe(summary: Mapping[str, Any]) -> Iterator[str]:
    for store, rows in summary["stores"].items():
        yield f"{store}: {rows:,} bars"
    for file, found in summary["databases"].items():
        rows, tables = sum(found["rows"].values()), len(found["rows"])
        yield f"{file.removesuffix('.dump')}: {rows:,} rows in {tables} tables"


@entry_point("backup")
def main(cfg: DictConfig) -> None:
    check_registry(cfg)
    check_action(cfg, dict.fromkeys(("write", "check", "restore"), ()))
    if cfg.folder is None or OmegaConf.is_list(cfg.folder) or re.match(r"\w+:(?!//)", str(cfg.folder)):
        raise ConfigError(f"Expected a folder or a URL such as s3://bucket/folder, got folder={cfg.folder}; correct it")
    place = Place(Path(cfg.paths.data), cfg.registry.uri, cfg.registry.ledger)
    match cfg.action:
        case "write":
            summary, done = _write_to(str(cfg.folder), place), "Backed up as of {at} → {folder}"
        case "check":
            with local_copy(str(cfg.folder)) as folder:
                summary, done = check(folder), "{folder} of {at} is as it was written"
        case _:
            with local_copy(str(cfg.folder)) as folder:
                summary, done = restore(folder, place), "Restored as of {at} from {folder}"
    print(*_describe(summary), *place.left_out, sep="\n")
    print(done.format(at=summary["at"], folder=cfg.folder))


def _write_to(folder: str, place: Place) -> dict[str, Any]:
    if not is_url(folder):
        return write(place, Path(folder))
    check_free(folder, mark=SUMMARY)
    with TemporaryDirectory() as name:
        summary = write(place, Path(name) / "backup")
        upload(Path(name) / "backup", folder, first=LEDGER, last=SUMMARY)
    return summary


if __name__ == "__main__":
    main()
