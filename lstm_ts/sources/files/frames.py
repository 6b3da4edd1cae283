"""Bars and ticks from a frame of polars or pandas, read as a Parquet file of it would be; results of the same kind."""

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from lstm_ts.errors import ConfigError, NoRows
from lstm_ts.sources.files.chunks import Chunks, open_frame
from lstm_ts.sources.files.source import Files

if TYPE_CHECKING:
    import pandas as pd

NAME = "the frame"  # in sentences
FIRST_EPOCH = 10**8  # of nine digits; row numbers are less
MICROSECONDS = {"M": "datetime64[us]", "m": "timedelta64[us]"}  # by kind: polars has no seconds


class FrameSource(Files):
    """Bars of one frame; see `Files`."""

    def __init__(
        self,
        frame: pl.DataFrame,
        *,
        name: str,
        symbol: str,
        zone: str | None,
        dates: str | None,
        decimal: str | None,
        price_factor: float,
        stamps: str,
    ) -> None:
        """name   origin of the bars; begins with "synthetic" where they are made up"""
        super().__init__(
            paths=NAME,
            symbol=symbol,
            zone=zone,
            dates=dates,
            decimal=decimal,
            price_factor=price_factor,
            batch_rows=1,
            stamps=stamps,
            keep_spikes=False,
        )
        self.frame, self._name = frame, name

    @property
    def name(self) -> str:
        return self._name

    def _find(self) -> Iterable[Path]:
        return [Path(NAME)]

    def _open(self, path: Path) -> list[Chunks]:
        if self.frame.is_empty():
            raise NoRows("Expected bars, got a frame without a row; give one with bars")
        return [open_frame(self.frame, str(path), symbol=self.symbol, dates=self.dates, decimal=self.decimal)]


def is_pandas(frame: object) -> bool:
    """Return whether an object is a frame of pandas, without importing pandas."""
    return any(kind.__module__.split(".")[0] == "pandas" for kind in type(frame).__mro__) and hasattr(frame, "columns")


def to_polars(frame: object) -> pl.DataFrame:
    """Convert a frame to polars; an index of pandas that is more than row numbers becomes the first column.

    Raises    ConfigError: no frame, or one whose columns have several levels or a name twice
    """
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        raise ConfigError("Expected a frame with its rows, got a LazyFrame; give frame.collect()")
    if not is_pandas(frame):
        raise ConfigError(f"Expected a frame of polars or pandas, or a path, got {type(frame).__name__}; give one")
    return _from_pandas(frame)


def _from_pandas(frame: Any) -> pl.DataFrame:
    if frame.columns.nlevels > 1:
        raise ConfigError(
            f"Expected columns with one name each, got names of several levels, as {frame.columns[0]}; choose one "
            f"symbol's columns, and drop the level of its name, as by frame.droplevel(1, axis=1) if it is the second"
        )
    numbered = type(frame.index).__name__ == "RangeIndex" and frame.index.stop < FIRST_EPOCH
    table = frame if numbered or _is_column_too(frame) else frame.reset_index(allow_duplicates=True)
    names = [str(name) for name in table.columns]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"Expected every column once, got several named {twice[0]}; rename them, or leave one")
    return pl.DataFrame([_series(name, table[label]) for name, label in zip(names, table.columns, strict=True)])


def _is_column_too(frame: Any) -> bool:
    """Return whether the index repeats columns, as by `set_index(…, drop=False)`."""
    names = frame.index.names
    if not set(names) <= set(frame.columns) or not frame.columns.is_unique:
        return False
    levels = {name: frame.index.get_level_values(name).to_series() for name in names}
    return all(_series("", levels[name]).equals(_series("", frame[name])) for name in names)


def _series(name: str, column: Any) -> pl.Series:
    """Convert a column of pandas to polars without pyarrow, which pandas does not require."""
    kind = column.dtype.kind
    if kind == "O" or column.dtype.type is date or (kind == "b" and column.hasnans):  # text, dates, or a mixture
        return pl.Series(
            name, [str(cell) if known else None for cell, known in zip(column, column.notna(), strict=True)]
        )
    zone = column.dt.tz if kind == "M" else None
    naive = column if zone is None else column.dt.tz_convert("UTC").dt.tz_localize(None)
    series = pl.Series(name, naive.to_numpy(MICROSECONDS.get(kind)))
    return series if zone is None else series.dt.replace_time_zone("UTC")


def to_pandas(frame: pl.DataFrame) -> "pd.DataFrame":
    import pandas as pd

    columns = {}
    for column in frame.get_columns():
        zone = getattr(column.dtype, "time_zone", None)
        values = column.dt.replace_time_zone(None) if zone else column
        series = pd.Series(values.to_numpy())
        columns[column.name] = series.dt.tz_localize(zone) if zone else series
    return pd.DataFrame(columns)
