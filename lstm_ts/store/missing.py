"""Messages on bars missing from a store's folder, and on files in it that are not the store's."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from lstm_ts.store.manifest import StoreManifest, stores_in

SHOWN = 5  # names
STAGES = ("raw", "processed")


def describe_foreign(folder: Path, names: Sequence[str]) -> str:
    """Describe files that are not the store's; empty where there are none."""
    if not names:
        return ""
    one = len(names) == 1
    return (
        f"{folder} holds {len(names)} file{'' if one else 's'} that no command has written there ({_listed(names)}), "
        f"left alone and not read; move {'it' if one else 'them'} elsewhere, and store bars by "
        f"python -m lstm_ts.ingest source=files source.paths=<file> symbol={folder.name}"
    )


def describe_nothing(
    folder: Path, manifest: StoreManifest, start: datetime | None, end: datetime | None, *, command: str, foreign: str
) -> str:
    """Describe a span without bars.

    command   command that adds bars
    foreign   description of files that are not the store's
    """
    months, rows = manifest.months, sum(file.rows for file in manifest.months.values())
    if months:
        return (
            f"Expected bars in {folder} from {start or 'the first'} to {end or 'the last'}, got none of its "
            f"{rows} rows in {min(months)} to {max(months)}; choose a span within, or add to it with {command}"
        )
    run = f"run {command} first"
    elsewhere = _describe_elsewhere(folder)
    hint = foreign or (f"{elsewhere}, or {run}" if elsewhere else run)
    return f"Expected bars in {folder}, got an empty store; {hint}"


def _describe_elsewhere(folder: Path) -> str:
    """Name the nearest folders with bars to one without: beside it, or beside `paths.data`; empty if there are none."""
    data = folder.parent.parent
    if folder.parent.name == "raw" and folder.name in stores_in(hours := data / "processed"):
        return f"{hours / folder.name} has its hours already: go on with python -m lstm_ts.train"
    if symbols := [name for name in stores_in(folder.parent) if name != folder.name]:
        return f"there are bars of {_listed(symbols)}: set symbol to one of those"
    if not data.exists() and (others := _data_folders(data.parent)):
        return f"there is no folder {data}, but there are bars in {_listed(others)}: set paths.data to one of those"
    return ""


def _data_folders(parent: Path) -> list[str]:
    """Return the folders that `paths.data` may be set to: `parent` and those in it, if they hold stores."""
    if not parent.is_dir():
        return []
    return sorted(str(path) for path in (parent, *parent.iterdir()) if any(stores_in(path / stage) for stage in STAGES))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" … ({len(names)})" if len(names) > SHOWN else "")
