"""Candlesticks: how they are drawn, and the columns that they are drawn of."""

from typing import Any

import numpy as np
import polars as pl
from bokeh.models import ColumnDataSource
from bokeh.plotting import figure

from dashboard.ui.views import Shade
from lstm_ts.market.bars import PRICES

CANDLE = (*PRICES, "middle", "height", "volume", "spread", "colour", "fill")


def draw_candles(plot: figure, source: ColumnDataSource, width: str | float) -> None:
    """source   has CANDLE, and `x`"""
    plot.segment("x", "low", "x", "high", source=source, color="colour")
    # Rectangles, since Bokeh draws bars that lie out of sight at the edge.
    plot.rect("x", "middle", width, "height", source=source, line_color="colour", fill_color="fill")


def candle_columns(bars: pl.DataFrame, colours: Shade) -> dict[str, Any]:
    """bars     frame PRICES, `volume, spread`; without one of these two it is unknown"""
    falls_N = (bars["close"] < bars["open"]).to_numpy()
    nothing = np.full(bars.height, np.nan)
    return {
        **{price: bars[price].to_numpy() for price in PRICES},
        **{
            name: bars[name].cast(pl.Float64).fill_null(np.nan).to_numpy() if name in bars.columns else nothing
            for name in ("volume", "spread")
        },
        "middle": (bars["open"] + bars["close"]).to_numpy() / 2,
        "height": (bars["open"] - bars["close"]).abs().to_numpy(),
        "colour": np.where(falls_N, colours.falling, colours.rising).tolist(),
        "fill": np.where(falls_N, colours.falling, colours.paper).tolist(),
    }
