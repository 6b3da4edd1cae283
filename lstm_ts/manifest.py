"""What a store holds: its manifest."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lstm_ts.errors import DataError
from lstm_ts.symbol import SYMBOL

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class MonthFile:
    file: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    id: str  # of this store: one that takes the place of a deleted one has another
    source: str
    months: dict[str, MonthFile]
    revisions: dict[str, MonthFile]
    calendar: str = ""  # of the sessions that the bars belong to; a store may be older than it
    zone: str = ""

    def months_within(self, start: datetime | None, end: datetime | None) -> list[MonthFile]:
        """Those that a span from start to before end touches."""
        return [file for month, file in self.months.items() if _overlaps(month, start, end)]


def read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not path.exists():
        return Manifest("", "nothing", {}, {})
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        raise DataError(f"Expected JSON in {path}, got something else; restore it, or refill {folder}") from None
    months, revisions = (
        {month: MonthFile(**entry) for month, entry in content.get(files, {}).items()}
        for files in ("months", "revisions")  # a store may be older than its revisions, and than its id
    )
    session = (content.get(key, "") for key in ("calendar", "zone"))
    return Manifest(content.get("id", ""), content["source"], months, revisions, *session)


def stores_in(folder: Path) -> list[str]:
    """Symbols whose stores lie below."""
    names = (path.parent.name for path in folder.glob(f"*/{MANIFEST}"))
    return sorted(name for name in names if SYMBOL.fullmatch(name))


def _overlaps(month: str, start: datetime | None, end: datetime | None) -> bool:
    after_start = start is None or month >= start.astimezone(UTC).strftime("%Y-%m")
    return after_start and (end is None or month <= end.astimezone(UTC).strftime("%Y-%m"))
