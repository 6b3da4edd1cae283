"""Bars and ticks from a frame of polars or pandas, read as a Parquet file of it would be; results of the same kind."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from lstm_ts.errors import ConfigError, NoRows
from lstm_ts.sources.chunks import Chunks, open_frame
from lstm_ts.sources.files import Files

if TYPE_CHECKING:
    import pandas as pd

NAME = "the frame"  # in sentences


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
    return type(frame).__module__.split(".")[0] == "pandas" and hasattr(frame, "columns")


def to_polars(frame: object) -> pl.DataFrame:
    """Convert a frame to polars; an index of pandas that is more than row numbers becomes the first column.

    Raises    ConfigError: no frame
    """
    if isinstance(frame, pl.DataFrame):
        return frame
    if not is_pandas(frame):
        raise ConfigError(f"Expected a frame of polars or pandas, or a path, got {type(frame).__name__}; give one")
    table: Any = frame if type(frame.index).__name__ == "RangeIndex" else frame.reset_index()  # type: ignore[attr-defined]
    return pl.DataFrame([_series(str(name), table[name]) for name in table.columns])


def _series(name: str, column: Any) -> pl.Series:
    """Convert a column of pandas to polars without pyarrow, which pandas does not require."""
    zone = getattr(column.dtype, "tz", None)
    if zone is not None:
        return pl.Series(name, column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()).dt.replace_time_zone("UTC")
    if column.dtype.kind == "O":  # text, dates, or a mixture
        return pl.Series(
            name, [str(cell) if known else None for cell, known in zip(column, column.notna(), strict=True)]
        )
    return pl.Series(name, column.to_numpy())


def to_pandas(frame: pl.DataFrame) -> "pd.DataFrame":
    import pandas as pd

    columns = {}
    for column in frame.get_columns():
        zone = getattr(column.dtype, "time_zone", None)
        values = column.dt.replace_time_zone(None) if zone else column
        series = pd.Series(values.to_numpy())
        columns[column.name] = series.dt.tz_localize(zone) if zone else series
    return pd.DataFrame(columns)
