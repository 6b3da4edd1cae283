"""The sessions of a calendar by year, kept in the user's cache: laying them out takes pandas, which takes a second.

`$XDG_CACHE_HOME/lstm_ts/sessions-<key>/<calendar>-<year>.arrow`, or below `~/.cache`; nothing is lost with it. The key
changes with the calendars' code and with the time zones. Where nothing can be written, nothing is kept.
"""

import hashlib
import os
import warnings
import zoneinfo
from contextlib import suppress
from datetime import date
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import polars as pl
from polars.exceptions import PolarsError

from lstm_ts.errors import ConfigError

SCHEMA = {"opens": pl.Datetime("us", "UTC"), "closes": pl.Datetime("us", "UTC")}


@lru_cache(maxsize=128)
def sessions_of_year(calendar: str, year: int) -> pl.DataFrame:
    """Frame `opens, closes` (UTC) by trading date.    Raises    ConfigError: unknown calendar"""
    with suppress(OSError, RuntimeError, PolarsError):
        kept = pl.read_ipc(_cached(calendar, year).read_bytes())
        if kept.schema == SCHEMA:
            return kept
    sessions = _lay_out(calendar, year)
    with suppress(OSError, RuntimeError):  # RuntimeError: the user has no home
        _keep(sessions, _cached(calendar, year))
    return sessions


def _keep(sessions: pl.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent) as folder:
        sessions.write_ipc(part := Path(folder, path.name))
        part.replace(path)


def _cached(calendar: str, year: int) -> Path:
    """Raises    RuntimeError: the user has no home"""
    return _folder() / f"{quote(calendar, safe='', errors='replace')}-{year}.arrow"


@cache
def _folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path("~", ".cache").expanduser()
    code = [Path(__file__), Path(__file__).with_name("calendars.py")]
    zones = [str(Path(path).stat().st_mtime_ns) for path in zoneinfo.TZPATH if Path(path).exists()]
    libraries = [version(name) for name in ("pandas_market_calendars", "tzdata")]
    text = "\n".join([*(path.read_text() for path in code), *zones, *libraries])
    return Path(root, "lstm_ts", f"sessions-{hashlib.sha256(text.encode()).hexdigest()[:12]}")


def _lay_out(calendar: str, year: int) -> pl.DataFrame:
    """A schedule of any number of days takes the calendar 30 ms."""
    from lstm_ts.market.calendars import get_calendar

    try:
        known = get_calendar(calendar)
    except RuntimeError:
        raise ConfigError(
            f"Expected a calendar known to pandas_market_calendars, got symbol.session.calendar={calendar}"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pandas', of what the calendars call
        schedule = known.schedule(date(year, 1, 1), date(year, 12, 31))
    columns = (
        ("opens", "market_open"),
        ("break_start", "break_start"),
        ("break_end", "break_end"),
        ("closes", "market_close"),
    )
    stamps = {
        name: pl.Series(schedule[column].dt.as_unit("us").astype("int64").to_numpy())
        for name, column in columns
        if column in schedule
    }
    sessions = pl.DataFrame(stamps).with_columns(pl.all().cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))
    return _without_breaks(sessions) if "break_start" in sessions.columns else sessions


def _without_breaks(sessions: pl.DataFrame) -> pl.DataFrame:
    """Two sessions of each that has a lunch break."""
    has_break = (pl.col("break_start") > pl.col("opens")) & (pl.col("break_end") > pl.col("break_start"))
    has_break = has_break.fill_null(False)
    first = sessions.select("opens", closes=pl.when(has_break).then("break_start").otherwise("closes"))
    second = sessions.filter(has_break).select(opens="break_end", closes="closes")
    return pl.concat([first, second]).sort("opens")
