"""Manifest of a store: its files, and checks of which bars may join them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lstm_ts.errors import ConfigError, DataError
from lstm_ts.market.bars import is_synthetic
from lstm_ts.market.session import Session
from lstm_ts.market.symbol import SYMBOL
from lstm_ts.store.journal import STORE_FILE
from lstm_ts.store.month_file import MonthFile

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class StoreManifest:
    id: str  # of this store: one that replaces a deleted one has another
    source: str
    months: dict[str, MonthFile]
    revisions: dict[str, MonthFile]
    calendar: str = ""  # of the sessions that the bars belong to; a store may be older than it
    zone: str = ""

    def months_within(self, start: datetime | None, end: datetime | None) -> list[MonthFile]:
        """Return the files of the months that a span from `start` to before `end` touches."""
        return [file for month, file in self.months.items() if _overlaps(month, start, end)]

    @property
    def files(self) -> dict[str, MonthFile]:
        """Entries by the name of their file."""
        return {file.file: file for file in (*self.months.values(), *self.revisions.values())}

    def check_session(self, folder: Path, session: Session) -> None:
        """Raises    ConfigError: the bars were stored with another calendar or zone"""
        stored, got = (self.calendar, self.zone), (session.calendar, session.zone)
        if self.calendar and stored != got:
            raise ConfigError(
                f"Expected the sessions that {folder} was stored with, {' in '.join(stored)}, got "
                f"{' in '.join(got)}; set symbol.session.calendar={stored[0]} symbol.session.zone={stored[1]}, "
                f"or another paths.data"
            )

    def check_mixture(self, folder: Path, source: str) -> None:
        """Raises    DataError: synthetic bars would join real ones, or real ones synthetic"""
        if self.months and is_synthetic(self.source) != is_synthetic(source):
            raise DataError(
                f"Expected bars like those in {folder} ({self.source}), got {source}; "
                f"synthetic and real bars never share a store: set another paths.data"
            )


def read_manifest(folder: Path) -> StoreManifest:
    """Read a store's manifest, empty where there is none.    Raises    DataError: no manifest of a store"""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return StoreManifest("", "nothing", {}, {})
    except (ValueError, RecursionError):
        raise DataError(f"Expected JSON in {path}, got something else; restore it, or refill {folder}") from None
    try:
        months, revisions = (
            {month: _read_entry(month, entry, prefix) for month, entry in content.get(files, {}).items()}
            for files, prefix in (("months", ""), ("revisions", "revisions-"))  # a store may be older than these
        )
        given, calendar, zone = (_text(content.get(key, "")) for key in ("id", "calendar", "zone"))
        return StoreManifest(given, _text(content["source"]), months, revisions, calendar, zone)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise DataError(
            f"Expected the manifest of a store of bars in {path}, got other JSON; "
            f"restore it, or move it elsewhere and set another paths.data"
        ) from None


def _read_entry(month: str, entry: Mapping[str, Any], prefix: str) -> MonthFile:
    """Raises    ValueError, KeyError, TypeError: not as a store writes it, say a path out of the folder"""
    file = MonthFile(**entry)
    if not STORE_FILE.fullmatch(file.file) or not file.file.startswith(f"{prefix}{month}-") or len(month) != 7:
        raise ValueError(file.file)
    if not isinstance(file.rows, int) or file.rows < 0 or not _text(file.sha256).startswith(Path(file.file).stem[-12:]):
        raise ValueError(file.rows)
    return file


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def stores_in(folder: Path) -> list[str]:
    """Return the symbols whose stores lie in the folder, sorted."""
    names = (path.parent.name for path in folder.glob(f"*/{MANIFEST}"))
    return sorted(name for name in names if SYMBOL.fullmatch(name))


def _overlaps(month: str, start: datetime | None, end: datetime | None) -> bool:
    after_start = start is None or month >= start.astimezone(UTC).strftime("%Y-%m")
    return after_start and (end is None or month <= end.astimezone(UTC).strftime("%Y-%m"))
