"""The body of `POST /predict`. It is not in `http_schema.py`, since a plain installation lacks Pydantic."""

import json

import polars as pl

from lstm_ts.market.bars import PRICES


def write_request(symbol: str, hourly_bars: pl.DataFrame) -> str:
    """Return the JSON that requests a forecast of the hours after these."""
    bars = [
        {"ts": f"{ts:%Y-%m-%dT%H:%M:%SZ}", **dict(zip(PRICES, prices, strict=True))}
        for ts, *prices in hourly_bars.select("ts", *PRICES).iter_rows()
    ]
    return json.dumps({"symbol": symbol, "bars": bars})
