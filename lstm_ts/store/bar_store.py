"""Bars on disk: one Parquet file per month under one folder, changed only as a whole.

    <folder>/manifest.json                            id, source, session; month -> file, rows, sha256: what it holds
    <folder>/2015-03-9f86d081884c.parquet             named by its content: never changes once a manifest names it
    <folder>/revisions-2015-03-60303ae22b99.parquet   bars that came again with other values: old and new
    <folder>/staging-<12 hex digits>/                 an upsert that has not ended
    <folder>/upsert.journal                           names that it creates, or is about to drop
    <folder>/writer.lock                              held by a writer from the first row to the last: a second waits
    <folder>/reader.lock                              shared by readers, exclusive while files are removed

Replacing the manifest is the one step that changes what a reader sees. A process killed before it leaves
the old rows, one killed after it the new ones; the next writer removes what the journal names. No other file is
read, overwritten or removed: a warning names foreign files in the folder.
"""

import fcntl
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import polars as pl

from lstm_ts import clock
from lstm_ts.errors import DataError, NoRows
from lstm_ts.market.session import Session
from lstm_ts.store.disk import fsync_folder, hash_file, locked, write_durably
from lstm_ts.store.journal import JOURNAL, STAGING, Journal, remove_staging
from lstm_ts.store.manifest import MANIFEST, StoreManifest, read_manifest
from lstm_ts.store.missing import describe_foreign, describe_nothing
from lstm_ts.store.month_file import MonthFile, write_month
from lstm_ts.store.staging import REVISED, Staging, UpsertResult, find_changes, merge

WRITER_LOCK, READER_LOCK = "writer.lock", "reader.lock"

log = logging.getLogger(__name__)


class BarStore:
    """The bars of one symbol: `data/raw/<symbol>` in BAR_SCHEMA, `data/processed/<symbol>` in HOURLY_SCHEMA."""

    def __init__(self, folder: Path, schema: pl.Schema) -> None:
        self.folder = folder
        self.schema = schema
        self._journal = Journal(folder)
        revised = {REVISED.format(name): dtype for name, dtype in schema.items() if name != "ts"}
        self.revision_schema = pl.Schema(schema | revised | {"revised_at": schema["ts"], "source": pl.String()})

    def read(self, start: datetime | None = None, end: datetime | None = None) -> pl.DataFrame:
        """Return bars with start <= ts < end, ascending in `ts`; only the months of the span are opened.

        Raises    NoRows: nothing in the span; DataError: a damaged file
        """
        with self._reading() as manifest:
            months = [file.read(self.folder) for file in manifest.months_within(start, end)]
        bars = _concat(self.schema, *months)
        if start is not None:
            bars = bars.filter(pl.col("ts") >= start)
        if end is not None:
            bars = bars.filter(pl.col("ts") < end)
        if bars.is_empty():
            command = "python -m lstm_ts." + ("process" if "minutes_share" in self.schema else "ingest")
            foreign = "" if manifest.months else self.describe_foreign_files()
            raise NoRows(describe_nothing(self.folder, manifest, start, end, command=command, foreign=foreign))
        return bars

    def read_stamps(self) -> pl.Series:
        """Return `ts` of every bar, ascending; empty if nothing is stored."""
        with self._reading() as manifest:
            months = [file.read(self.folder, ["ts"]) for _, file in sorted(manifest.months.items())]
        return pl.concat([pl.DataFrame(schema={"ts": self.schema["ts"]}), *months])["ts"]

    def last_ts(self) -> datetime | None:
        """Return the open of the newest bar; None: there is none.    Raises    DataError: a damaged file"""
        with self._reading() as manifest:
            newest = max(manifest.months, default=None)
            last: datetime | None = manifest.months[newest].read(self.folder, ["ts"])["ts"][-1] if newest else None
        return last

    def read_revisions(self) -> pl.DataFrame:
        """Return every stored bar that came again with other values, by `ts` and then by arrival.

        Returns   the columns of a bar as it was stored, `<column>_revised` as it came, `revised_at`, and its `source`
        """
        with self._reading() as manifest:
            months = [file.read(self.folder) for _, file in sorted(manifest.revisions.items())]
        return _concat(self.revision_schema, *months).sort("ts", maintain_order=True)

    @property
    def id(self) -> str:
        """Identifier of the store, given at the first commit and never changed; empty before."""
        return read_manifest(self.folder).id

    @property
    def source(self) -> str:
        """Source of the last upsert that changed any bar."""
        return read_manifest(self.folder).source

    @property
    def changed(self) -> int:
        """Modification time in ns since 1970, by the disk: another number after each change; 0 before the first."""
        try:
            return (self.folder / MANIFEST).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def check_session(self, session: Session) -> None:
        """Raises    ConfigError: the bars were stored with another calendar or zone"""
        read_manifest(self.folder).check_session(self.folder, session)

    @contextmanager
    def upsert(self, source: str, session: Session | None = None) -> Iterator[Staging]:
        """Yield a staging area whose rows are stored together when the block ends, or not at all if it raises.

        A second writer waits until the block has ended; readers see the old rows until then.

        session   of the rows; None: the stored one
        Raises    DataError: synthetic bars would join real ones, or real ones synthetic; ConfigError: another session
        """
        read_manifest(self.folder)  # raises for a foreign folder before anything is written
        self.folder.mkdir(parents=True, exist_ok=True)
        staging = Staging(self.folder / f"staging-{uuid4().hex[:12]}", self.schema)
        with locked(self.folder / WRITER_LOCK, fcntl.LOCK_EX):
            self._remove_leftovers()
            manifest = read_manifest(self.folder)
            manifest.check_mixture(self.folder, source)
            if session:
                manifest.check_session(self.folder, session)
            try:
                self._journal.add([staging.folder.name])
                staging.folder.mkdir()
                yield staging
                staging.result, staging.store_id = self._commit(staging, source, session)
                self._log_stored(staging, source)
            finally:
                self._remove_leftovers()

    def _log_stored(self, staging: Staging, source: str) -> None:
        """Log where the bars came from: docs/LOGS.md traces a bar by these lines."""
        done, (first, last) = staging.result, staging.span or (None, None)
        if first and last:
            facts = {"store": str(self.folder), "source": source, "first_ts": first, "last_ts": last}
            facts |= {"new": done.new, "same": done.same, "revised": done.revised}
            log.info("Stored bars", extra={"event": "bars_stored", **facts})

    def copy_to(self, folder: Path) -> StoreManifest:
        """Copy the store's present state into a new folder; return its manifest.

        Raises    DataError: a damaged file
        """
        folder.mkdir(parents=True)
        with self._reading() as manifest:
            for file in manifest.files.values():
                file.copy(self.folder, folder)
        (folder / READER_LOCK).touch()
        write_durably(folder / MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
        return manifest

    def foreign_files(self) -> list[str]:
        """Return the names in the folder that no upsert created, without those that begin with a dot."""
        if not self.folder.is_dir():
            return []
        with self._reading(lenient=True) as before:
            found = {path.name for path in self.folder.iterdir() if not path.name.startswith(".")}
            own = {MANIFEST, JOURNAL, WRITER_LOCK, READER_LOCK, *self._journal.names()}
            own |= before.files.keys() | read_manifest(self.folder).files.keys()  # a writer may be replacing it
        return sorted(found - own)

    def describe_foreign_files(self) -> str:
        """Return a sentence that names foreign files; empty: there are none."""
        return describe_foreign(self.folder, self.foreign_files())

    def _commit(self, staging: Staging, source: str, session: Session | None) -> tuple[UpsertResult, str]:
        """Merge month by month, so that memory holds one month. A store without a row gets an id, too."""
        manifest = read_manifest(self.folder)
        store_id = manifest.id or uuid4().hex
        months, revisions = dict(manifest.months), dict(manifest.revisions)
        new = revised = total = 0
        changed = []
        for month in sorted(staging.parts):
            staged = staging.read(month)
            stored = _concat(self.schema, *([months[month].read(self.folder)] if month in months else []))
            merged, total = merge(stored, staged), total + staged.height
            differing = find_changes(stored, merged)
            new, revised = new + merged.height - stored.height, revised + differing.height
            if not merged.equals(stored):
                months[month] = write_month(staging.folder, month, merged)
                changed.append(month)
            if differing.height:
                rows = self._revisions(revisions.get(month), differing, source)
                revisions[month] = write_month(staging.folder, f"revisions-{month}", rows)
        calendar, zone = (session.calendar, session.zone) if session else (manifest.calendar, manifest.zone)
        if changed or not manifest.id or calendar != manifest.calendar:
            new_source = source if changed or not months else manifest.source
            files = dict(sorted(months.items())), dict(sorted(revisions.items()))
            self._publish(staging.folder, manifest, StoreManifest(store_id, new_source, *files, calendar, zone))
        return UpsertResult(new, total - new - revised, revised, tuple(changed)), store_id

    def _revisions(self, before: MonthFile | None, differing: pl.DataFrame, source: str) -> pl.DataFrame:
        rows = differing.with_columns(revised_at=pl.lit(clock.now()), source=pl.lit(source))
        rows = rows.select(self.revision_schema.names()).cast(self.revision_schema)
        return _concat(self.revision_schema, before.read(self.folder), rows) if before else rows

    def _publish(self, staging: Path, before: StoreManifest, after: StoreManifest) -> None:
        """Move the new files into place, then the manifest that names them."""
        new = [file for file in after.files.values() if not file.is_in(self.folder)]
        self._journal.add([*(file.file for file in new), *(before.files.keys() - after.files.keys())])
        for file in new:
            (staging / file.file).rename(self.folder / file.file)
        fsync_folder(self.folder)
        write_durably(staging / MANIFEST, json.dumps(asdict(after), indent=1).encode())
        (staging / MANIFEST).replace(self.folder / MANIFEST)
        fsync_folder(self.folder)

    def _remove_leftovers(self) -> None:
        """Remove the files that the journal names and the manifest does not, if their content matches their name."""
        with locked(self.folder / READER_LOCK, fcntl.LOCK_EX):
            named = read_manifest(self.folder).files
            for name in self._journal.names():
                path = self.folder / name
                if STAGING.fullmatch(name):
                    remove_staging(path)
                elif name not in named and path.is_file() and hash_file(path).startswith(path.stem[-12:]):
                    path.unlink()
            self._journal.clear()

    @contextmanager
    def _reading(self, *, lenient: bool = False) -> Iterator[StoreManifest]:
        """Yield the manifest, whose files stay until the block ends. A reader creates nothing, not even a lock.

        lenient   continue without a lock if the folder has none
        """
        lock = self.folder / READER_LOCK
        if not (self.folder / MANIFEST).exists() or (lenient and not lock.exists()):
            yield read_manifest(self.folder)
            return
        if not lock.exists():
            read_manifest(self.folder)  # raises if the manifest is no store's
            raise DataError(f"Expected {lock} beside the bars, got none; copy the whole folder, or touch that file")
        with locked(lock, fcntl.LOCK_SH):
            yield read_manifest(self.folder)


def _concat(schema: pl.Schema, *frames: pl.DataFrame) -> pl.DataFrame:
    """Concatenate frames; those of an older version have no spread."""
    return pl.concat([pl.DataFrame(schema=schema), *frames], how="diagonal")
