"""Bars on disk: one Parquet file per month under one folder, changed only as a whole.

    <folder>/manifest.json                            id, source, session; month -> file, rows, sha256: what it holds
    <folder>/2015-03-9f86d081884c.parquet             named by its content: never changes once a manifest names it
    <folder>/revisions-2015-03-60303ae22b99.parquet   bars that came again with other values: the old beside the new
    <folder>/staging/                                 an upsert that has not ended
    <folder>/writer.lock                              held by a writer from the first row to the last: a second waits
    <folder>/reader.lock                              shared by readers, exclusive while unnamed files are removed

Replacing the manifest is the one step that changes what a reader sees. A process killed before it leaves
the old rows, one killed after it the new ones; the next writer removes what was left lying.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import polars as pl

from lstm_ts.bars import is_synthetic
from lstm_ts.errors import ConfigError, DataError, NoRows
from lstm_ts.manifest import MANIFEST, Manifest, MonthFile, read_manifest
from lstm_ts.session import Session
from lstm_ts.staging import REVISED, Staging, UpsertResult, find_changes

MONTH_FILES = "*[0-9][0-9][0-9][0-9]-[0-9][0-9]-*.parquet"


class BarStore:
    """The bars of one symbol: `data/raw/<symbol>` in BAR_SCHEMA, `data/processed/<symbol>` in HOURLY_SCHEMA."""

    def __init__(self, folder: Path, schema: pl.Schema) -> None:
        self.folder = folder
        self.schema = schema
        revised = {REVISED.format(name): dtype for name, dtype in schema.items() if name != "ts"}
        self.revision_schema = pl.Schema(schema | revised | {"revised_at": schema["ts"], "source": pl.String()})

    def read(self, start: datetime | None = None, end: datetime | None = None) -> pl.DataFrame:
        """Bars with start <= ts < end, ascending in `ts`; only the months of the span are opened.

        Raises    NoRows: nothing in the span; DataError: a file is not as it was written
        """
        with self._reading() as manifest:
            months = [self._read_month(file) for file in manifest.months_within(start, end)]
        bars = pl.concat([pl.DataFrame(schema=self.schema), *months])
        if start is not None:
            bars = bars.filter(pl.col("ts") >= start)
        if end is not None:
            bars = bars.filter(pl.col("ts") < end)
        if bars.is_empty():
            raise NoRows(self._nothing_found(manifest, start, end))
        return bars

    def read_stamps(self) -> pl.Series:
        """`ts` of every bar, ascending; empty where nothing is stored."""
        with self._reading() as manifest:
            months = [self._read_month(file, ["ts"]) for _, file in sorted(manifest.months.items())]
        return pl.concat([pl.DataFrame(schema={"ts": self.schema["ts"]}), *months])["ts"]

    def read_revisions(self) -> pl.DataFrame:
        """Every bar that was stored and came again with other values, by `ts` and then as they came.

        Returns   the columns of a bar as it was stored, `<column>_revised` as it came, `revised_at`, and its `source`
        """
        with self._reading() as manifest:
            months = [self._read_month(file) for _, file in sorted(manifest.revisions.items())]
        return pl.concat([pl.DataFrame(schema=self.revision_schema), *months]).sort("ts", maintain_order=True)

    @property
    def id(self) -> str:
        """Given at the first commit, and never changed; empty before."""
        return read_manifest(self.folder).id

    @property
    def source(self) -> str:
        """What delivered the bars, by the last upsert that changed any."""
        return read_manifest(self.folder).source

    @property
    def changed(self) -> int:
        """When, in nanoseconds since 1970, by the disk: another number after each change; 0 before the first."""
        try:
            return (self.folder / MANIFEST).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def check_session(self, session: Session) -> None:
        """Raises    ConfigError: the bars were stored with another calendar or zone"""
        manifest = read_manifest(self.folder)
        stored, got = (manifest.calendar, manifest.zone), (session.calendar, session.zone)
        if manifest.calendar and stored != got:
            raise ConfigError(
                f"Expected the sessions that {self.folder} was stored with, {' in '.join(stored)}, got "
                f"{' in '.join(got)}; add session.calendar={stored[0]} session.zone={stored[1]}"
            )

    @contextmanager
    def upsert(self, source: str, session: Session | None = None) -> Iterator[Staging]:
        """Add rows to what this yields; they are stored together when the block ends, or not at all if it raises.

        A second writer waits until the block has ended; readers see the old rows until then.

        session   that the rows belong to; none: the one that is stored
        Raises    DataError: synthetic bars would join real ones, or real ones synthetic; ConfigError: another session
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        staging = Staging(self.folder / "staging", self.schema)
        with _locked(self.folder / "writer.lock", fcntl.LOCK_EX):
            self._remove_unnamed()
            self._check_mixture(source)
            if session:
                self.check_session(session)
            staging.folder.mkdir()
            try:
                yield staging
                staging.result, staging.store_id = self._commit(staging, source, session)
            finally:
                self._remove_unnamed()

    def _check_mixture(self, source: str) -> None:
        manifest = read_manifest(self.folder)
        if manifest.months and is_synthetic(manifest.source) != is_synthetic(source):
            raise DataError(
                f"Expected bars like those in {self.folder} ({manifest.source}), got {source}; "
                f"synthetic and real bars never share a store: set another paths.data"
            )

    def _commit(self, staging: Staging, source: str, session: Session | None) -> tuple[UpsertResult, str]:
        """Merge month by month, so memory holds one month whatever was staged. A store without a row has an id, too."""
        manifest = read_manifest(self.folder)
        store_id = manifest.id or uuid4().hex
        months, revisions = manifest.months, manifest.revisions
        new = revised = total = 0
        changed = []
        for month in sorted(staging.parts):
            staged = staging.read(month)
            stored = self._read_month(months[month]) if month in months else staged.clear()
            month_new, differing = find_changes(stored, staged)
            new, revised, total = new + month_new, revised + differing.height, total + staged.height
            if month_new or differing.height:
                merged = pl.concat([stored, staged]).unique("ts", keep="last", maintain_order=True).sort("ts")
                months[month] = self._write(month, merged)
                changed.append(month)
            if differing.height:
                revisions[month] = self._add_revisions(month, revisions.get(month), differing, source)
        calendar, zone = (session.calendar, session.zone) if session else (manifest.calendar, manifest.zone)
        if changed or not manifest.id or calendar != manifest.calendar:
            said = source if changed or not months else manifest.source
            files = dict(sorted(months.items())), dict(sorted(revisions.items()))
            written = Manifest(store_id, said, *files, calendar, zone)
            self._publish(MANIFEST, json.dumps(asdict(written), indent=1).encode())
        return UpsertResult(new, total - new - revised, revised, tuple(changed)), store_id

    def _add_revisions(self, month: str, before: MonthFile | None, differing: pl.DataFrame, source: str) -> MonthFile:
        rows = differing.with_columns(revised_at=pl.lit(datetime.now(UTC)), source=pl.lit(source))
        rows = rows.select(self.revision_schema.names()).cast(self.revision_schema)
        return self._write(f"revisions-{month}", pl.concat([self._read_month(before), rows]) if before else rows)

    def _write(self, name: str, rows: pl.DataFrame) -> MonthFile:
        buffer = BytesIO()
        rows.write_parquet(buffer, compression="zstd", compression_level=3, statistics=True, row_group_size=1 << 16)
        sha256 = hashlib.sha256(buffer.getbuffer()).hexdigest()
        written = MonthFile(f"{name}-{sha256[:12]}.parquet", rows.height, sha256)
        self._publish(written.file, buffer.getvalue())
        return written

    def _publish(self, name: str, content: bytes) -> None:
        """Put a file in place whole, and on the disk before the next step."""
        staged = self.folder / "staging" / name
        with staged.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(self.folder / name)
        with _opened(self.folder, os.O_RDONLY) as folder:
            os.fsync(folder)

    def _remove_unnamed(self) -> None:
        with _locked(self.folder / "reader.lock", fcntl.LOCK_EX):
            manifest = read_manifest(self.folder)
            named = {file.file for file in (*manifest.months.values(), *manifest.revisions.values())}
            for path in self.folder.glob(MONTH_FILES):
                if path.name not in named:
                    path.unlink()
            if (self.folder / "staging").exists():
                shutil.rmtree(self.folder / "staging")

    @contextmanager
    def _reading(self) -> Iterator[Manifest]:
        """The manifest, whose files stay until the block ends. A reader creates nothing, not even a lock."""
        if not (self.folder / MANIFEST).exists():
            yield read_manifest(self.folder)
            return
        lock = self.folder / "reader.lock"
        if not lock.exists():
            raise DataError(f"Expected {lock} beside the bars, got none; copy the whole folder, or touch that file")
        with _locked(lock, fcntl.LOCK_SH):
            yield read_manifest(self.folder)

    def _read_month(self, file: MonthFile, columns: list[str] | None = None) -> pl.DataFrame:
        path = self.folder / file.file
        content = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise DataError(
                f"Expected {path} as it was written, got other bytes or none; delete {self.folder} and refill it"
            )
        return pl.read_parquet(content, columns=columns)

    def _nothing_found(self, manifest: Manifest, start: datetime | None, end: datetime | None) -> str:
        command = "python -m lstm_ts." + ("process" if "minutes_share" in self.schema else "ingest")
        if not manifest.months:
            return f"Expected bars in {self.folder}, got an empty store; run {command} first"
        months, rows = manifest.months, sum(file.rows for file in manifest.months.values())
        return (
            f"Expected bars in {self.folder} from {start or 'the first'} to {end or 'the last'}, got none of its "
            f"{rows} rows in {min(months)} to {max(months)}; ask for a span within, or add to it with {command}"
        )


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _locked(path: Path, operation: int) -> Iterator[None]:
    """Hold a lock on the file until the block ends; the kernel frees it when the process dies."""
    writable = os.O_RDWR | os.O_CREAT if operation == fcntl.LOCK_EX else os.O_RDONLY
    with _opened(path, writable) as descriptor:
        fcntl.flock(descriptor, operation)
        yield
