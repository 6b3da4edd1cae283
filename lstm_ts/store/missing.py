"""What a store's folder lacks, or holds beside its own files, in words."""

from collections.abc import Sequence
from pathlib import Path

from lstm_ts.store.manifest import stores_in

SHOWN = 5
STAGES = ("raw", "processed")


def describe_foreign(folder: Path, names: Sequence[str]) -> str:
    """A sentence about files that are not the store's; empty where there are none."""
    if not names:
        return ""
    one = len(names) == 1
    return (
        f"{folder} holds {len(names)} file{'' if one else 's'} that no command has written there ({_listed(names)}), "
        f"left alone and not read; move {'it' if one else 'them'} elsewhere, and store bars by "
        f"python -m lstm_ts.ingest source=files source.paths=<file> symbol={folder.name}"
    )


def describe_elsewhere(folder: Path) -> str:
    """Name the nearest folders with bars to one without: beside it, or beside `paths.data`; empty if there are none."""
    data = folder.parent.parent
    if symbols := [name for name in stores_in(folder.parent) if name != folder.name]:
        return f"there are bars of {_listed(symbols)}: set symbol to one of those"
    if not data.exists() and (others := _data_folders(data.parent)):
        return f"there is no folder {data}, but there are bars in {_listed(others)}: set paths.data to one of those"
    return ""


def _data_folders(parent: Path) -> list[str]:
    """What `paths.data` may be set to: the folder itself, or one in it."""
    if not parent.is_dir():
        return []
    return sorted(str(path) for path in (parent, *parent.iterdir()) if any(stores_in(path / stage) for stage in STAGES))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" … ({len(names)})" if len(names) > SHOWN else "")
