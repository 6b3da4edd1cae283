"""Bars for Python: frames of polars or pandas, and files, as checked session hours; see `lstm_ts.read_bars`.

A frame of pandas gives frames of pandas back, anything else frames of polars.
"""

import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload
from zoneinfo import ZoneInfo

import polars as pl

from lstm_ts import IMPORTED_BY
from lstm_ts.cli import compose
from lstm_ts.configuration.conf_files import CONF
from lstm_ts.configuration.overrides import to_overrides
from lstm_ts.configuration.parts import construct
from lstm_ts.errors import ConfigError
from lstm_ts.market.bars import Source
from lstm_ts.market.symbol import Symbol, check_symbol
from lstm_ts.model.symbol_data import SymbolBars
from lstm_ts.sources.files.frames import FrameSource, is_pandas, to_pandas, to_polars
from lstm_ts.sources.files.hourly_files import own_keys, read_hourly_bars
from lstm_ts.sources.files.source import Files

if TYPE_CHECKING:
    import pandas as pd

Frame = TypeVar("Frame", pl.DataFrame, "pd.DataFrame")
BATCH_ROWS = 500_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False, eq=False)
class HourlyBars(Generic[Frame]):
    """Checked session hours of one symbol, which every function of the package takes."""

    symbol_bars: SymbolBars
    rejected: int  # bad rows, which are left out
    pandas: bool  # whether frames come back as pandas', else as polars'

    @property
    def symbol(self) -> Symbol:
        return self.symbol_bars.symbol

    @property
    def source(self) -> str:
        """Name of the source of the bars."""
        return self.symbol_bars.source

    @property
    def frame(self) -> Frame:
        """Columns `ts` (the hour's open, UTC), `open, high, low, close, volume, spread, minutes_share`."""
        return self.as_kind(self.symbol_bars.hourly_bars)

    def as_kind(self, frame: pl.DataFrame) -> Frame:
        """Return rows as a frame of the kind that the bars came in."""
        return to_pandas(frame) if self.pandas else frame

    def __len__(self) -> int:
        return self.symbol_bars.hourly_bars.height

    def __repr__(self) -> str:
        ts = self.symbol_bars.hourly_bars["ts"]
        return f"{self.symbol.name}: {len(self):,} session hours, {ts[0]} to {ts[-1]}; bars: {self.source}"


@overload
def read_bars(
    data: str | Path,
    *,
    symbol: str | Symbol,
    zone: str | ZoneInfo | None = None,
    stamps: str = "open",
    dates: str | None = None,
    decimal: str | None = None,
    price_factor: float = 1.0,
    source: str | None = None,
) -> HourlyBars[pl.DataFrame]: ...
@overload
def read_bars(
    data: Frame,
    *,
    symbol: str | Symbol,
    zone: str | ZoneInfo | None = None,
    stamps: str = "open",
    dates: str | None = None,
    decimal: str | None = None,
    price_factor: float = 1.0,
    source: str | None = None,
) -> HourlyBars[Frame]: ...
def read_bars(
    data: Any,
    *,
    symbol: str | Symbol,
    zone: str | ZoneInfo | None = None,
    stamps: str = "open",
    dates: str | None = None,
    decimal: str | None = None,
    price_factor: float = 1.0,
    source: str | None = None,
) -> HourlyBars[Any]:
    """Read hourly or minute bars, distinguished by their spacing, as session hours.

    data     a frame with open, high, low, close and stamps, in columns of any usual names or in pandas' index; or the
             path of files that `python -m lstm_ts.ingest source=files` reads, a glob too
    symbol   a name of conf/symbol, or a Symbol of your own; its sessions count
    zone     of stamps without a zone, such as "UTC", "America/New_York" or a ZoneInfo
    stamps   "close" where bars are stamped when they close
    dates    "dayfirst" or "monthfirst", where dates as text are ambiguous
    decimal  "comma" or "point", where prices as text are ambiguous
    price_factor   every price is multiplied by it
    source   name of the bars' source; begins with "synthetic" if they are made up

    Raises   DataError: no bars, or none of that symbol's sessions; ConfigError
    """
    check_process(os.getpid())
    found = symbol if isinstance(symbol, Symbol) else _read_symbol(check_symbol(symbol))
    settings: dict[str, Any] = {"symbol": found.name, "zone": zone and str(zone), "dates": dates, "decimal": decimal}
    settings |= {"price_factor": price_factor, "stamps": stamps}
    with own_keys():
        return _read(_open(data, source, settings), found, name=source, pandas=is_pandas(data))


@cache
def check_process(number: int) -> None:
    """number    of this process

    Raises    ConfigError: a fork of one that uses Polars, which would wait for threads that a fork does not copy
    """
    if number == IMPORTED_BY or sys.platform != "linux":  # others tell no names of threads
        return
    threads = Path("/proc/self/task")
    before = {*threads.iterdir()}
    pl.thread_pool_size()  # begins Polars' threads, unless this process, or the one it is a fork of, has
    if before.issuperset(now := {*threads.iterdir()}) and not any(map(_is_of_polars, now)):
        raise ConfigError(
            "Expected a process that begins anew, got a fork of one that uses Polars, whose threads it lacks; give "
            "ProcessPoolExecutor mp_context=multiprocessing.get_context('spawn')"
        )


def _is_of_polars(thread: Path) -> bool:
    with suppress(OSError):  # it has ended
        return (thread / "comm").read_text().startswith("polars")
    return False


@cache
def _read_symbol(name: str) -> Symbol:
    """Raises    ConfigError: no file of conf/symbol"""
    if name not in (known := _symbol_names()):
        raise ConfigError(
            f"Expected a symbol among {', '.join(known)}, or one of your own, got {name}; make it by "
            f"lstm_ts.Symbol(name={name!r}, session=lstm_ts.Session(calendar=…, zone=…), currency=…, decimals=…)"
        )
    found: Symbol = construct(compose("project", [f"symbol={name}"]).symbol)
    return found


def _symbol_names() -> list[str]:
    return sorted(path.stem for path in (CONF / "symbol").glob("*.yaml"))


@cache
def _read_limits() -> dict[str, float]:
    cfg = compose("project", [])
    return {"min_minutes_share": cfg.min_minutes_share, "max_mismatch": cfg.max_mismatch}


def _open(data: Any, name: str | None, settings: Mapping[str, Any]) -> Source:
    if isinstance(data, str | Path):
        path = os.path.expanduser(data)  # noqa: PTH111 - a Path holds no URL
        return Files(paths=path, batch_rows=BATCH_ROWS, keep_spikes=False, **settings)
    return FrameSource(to_polars(data), name=name or "a frame", **settings)


def _read(source: Source, symbol: Symbol, *, name: str | None = None, pandas: bool) -> HourlyBars[Any]:
    hourly_bars, rejected = read_hourly_bars(source, symbol.session, **_read_limits())
    if rejected:
        log.warning("%d bad rows of %s left out", rejected, source.name)
    return HourlyBars(SymbolBars(symbol, hourly_bars, name or source.name), rejected, pandas)


def synthetic_bars(
    symbol: str = "XAGUSD", *, start: str = "2019-01-01", end: str = "2020-01-01", seed: int = 7, signal: str = "silver"
) -> HourlyBars[pl.DataFrame]:
    """Make synthetic hours for experiments: as volatile as silver, with an unpredictable direction.

    start, end   ISO, UTC; a later end adds bars and changes none
    signal       "random_walk" has no structure at all, "planted_ar" one that can be found; see conf/source
    """
    if isinstance(symbol, Symbol):
        raise ConfigError("Expected a name of conf/symbol such as XAGUSD, got a Symbol; read_bars takes one")
    if check_symbol(symbol) not in _symbol_names():
        raise ConfigError(f"Expected a symbol among {', '.join(_symbol_names())}, got {symbol}; choose one of them")
    check_process(os.getpid())
    own = {"source.start": start, "source.end": end, "source.seed": seed, "source.signal": signal}
    with own_keys():
        cfg = compose("ingest", to_overrides({"symbol": symbol, "source": "synthetic", **own}))
        return _read(construct(cfg.source), construct(cfg.symbol), pandas=False)
