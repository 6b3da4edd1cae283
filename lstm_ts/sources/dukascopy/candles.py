"""Delta-coded minute candles → bars; those of bid and ask → bars of the mid.

timestamp    epoch ms of the first candle, less `times[0]` shifts; `shift` is 60000
times        shifts since the candle before
opens …      in units of `multiplier`, difference to the candle before; the first one's to `open` …
volumes      plain
"""

import math
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lstm_ts.market.bars import BAR_SCHEMA, PRICES, TS, reject_reason

MINUTE_MS = 60_000
LARGEST = 2.0**53  # whole numbers above are not exact
DIGITS = 14  # of the largest price; rounding to them leaves no trace of binary fractions
COLUMNS = ("times", *(f"{price}s" for price in PRICES), "volumes")
RATED_SCHEMA = pl.Schema(BAR_SCHEMA | {"reason": pl.String()})
LONE = "a bid without an ask, or an ask without a bid"
CROSSED = "bid above ask"

Numbers = NDArray[np.float64]


class InvalidAnswer(ValueError):
    """Answer without candles of the requested span; the message continues "Expected "."""


def decode(answer: Any, *, first_ms: int, until_ms: int) -> pl.DataFrame:
    """Decode an answer to BAR_SCHEMA, ascending and unique in `ts`.

    Raises    InvalidAnswer: another shape, or a time outside first_ms <= time < until_ms
    """
    if not isinstance(answer, dict):
        raise InvalidAnswer(f"an object with lists of candles, got {_shown(answer)}")
    columns = {name: _read_numbers(answer, name) for name in COLUMNS}
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        each = ", ".join(f"{len(column)} {name}" for name, column in columns.items())
        raise InvalidAnswer(f"lists of one length, got {each}")
    if lengths == {0}:
        return pl.DataFrame(schema=BAR_SCHEMA)
    times_ms = _read_times_ms(answer, columns["times"], first_ms, until_ms)
    multiplier = _read_number(answer, "multiplier")
    if not 0 < multiplier < LARGEST:
        raise InvalidAnswer(f"multiplier above 0, got {multiplier:g}")
    plain = {name: _read_number(answer, name) + np.cumsum(columns[f"{name}s"]) * multiplier for name in PRICES}
    prices = {name: _round(price_N, price_N) for name, price_N in plain.items()}
    volume = np.where(columns["volumes"] >= 0, columns["volumes"], np.nan)
    bars = pl.DataFrame({"ts": times_ms * 1000} | prices | {"volume": volume, "spread": None})
    return bars.with_columns(pl.col("volume").fill_nan(None), pl.col("ts").cast(TS)).cast(BAR_SCHEMA)


def _read_times_ms(answer: dict[str, Any], times_N: Numbers, first_ms: int, until_ms: int) -> NDArray[np.int64]:
    shift = _read_number(answer, "shift")
    if shift != MINUTE_MS:
        raise InvalidAnswer(f"shift {MINUTE_MS}, as of minutes, got {shift:g}")
    if times_N[0] < 0 or (times_N[1:] < 1).any():
        raise InvalidAnswer(f"times that ascend, got steps down to {times_N.min():g}")
    times_ms = _read_number(answer, "timestamp") + np.cumsum(times_N) * MINUTE_MS
    if times_ms[0] < first_ms or times_ms[-1] >= until_ms:
        raise InvalidAnswer(
            f"times of {_moment(first_ms)} to {_moment(until_ms)}, got {_moment(times_ms[0])} to "
            f"{_moment(times_ms[-1])}"
        )
    if (times_ms % MINUTE_MS).any():
        raise InvalidAnswer(f"times of whole minutes, got timestamp {answer['timestamp']}")
    return times_ms.astype(np.int64)


def _round(values_N: Numbers, prices_N: Numbers) -> Numbers:
    """Round to the floats nearest to decimals of few digits, as any feed quotes.

    prices_N   prices that the values are made of; the largest determines the digits
    """
    largest = np.max(np.abs(prices_N), initial=1e-6, where=np.isfinite(prices_N))
    return np.round(values_N, DIGITS - math.ceil(math.log10(largest)))


def _read_numbers(answer: dict[str, Any], name: str) -> Numbers:
    values = answer.get(name)
    if not isinstance(values, list):
        raise InvalidAnswer(f"a list of {name}, got {_shown(values)}")
    for value in values:
        if not _is_number(value) or (name != "volumes" and value != int(value)):
            kind = "numbers" if name == "volumes" else "whole numbers"
            raise InvalidAnswer(f"{kind} in {name}, got {_shown(value)}")
    return np.array(values, dtype=np.float64)


def _read_number(answer: dict[str, Any], name: str) -> float:
    value: Any = answer.get(name)
    if not _is_number(value):
        raise InvalidAnswer(f"a number as {name}, got {_shown(value)}")
    return float(value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= LARGEST  # NaN is not


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return f"{type(value).__name__} {str(value)[:40]!r}" if isinstance(value, str | list | dict) else f"{value}"[:40]


def _moment(ms: float) -> str:
    with_year = math.isfinite(ms) and 0 <= ms < 4e12
    return f"{np.datetime64(int(ms), 'ms').astype('datetime64[m]')}" if with_year else f"{ms:g} ms"


def rate(bars: pl.DataFrame) -> pl.DataFrame:
    """Return RATED_SCHEMA: BAR_SCHEMA, and `reason` where a row is bad."""
    return bars.with_columns(reason=reject_reason()).select(RATED_SCHEMA.names())


def make_mid(bid: pl.DataFrame, ask: pl.DataFrame) -> pl.DataFrame:
    """Return the mean of both sides in every column, volume too; the spread is that of the closes.

    bid, ask   BAR_SCHEMA
    Returns    RATED_SCHEMA
    """
    both = rate(bid).join(rate(ask), on="ts", how="full", coalesce=True, suffix="_ask").sort("ts")
    lone = pl.any_horizontal(pl.col("close", "close_ask").is_null())
    crossed = pl.any_horizontal([pl.col(price) > pl.col(f"{price}_ask") for price in PRICES])
    means = {name: (both[name] + both[f"{name}_ask"]).to_numpy() / 2 for name in PRICES}
    mids = {name: _round(mid_N, mid_N) for name, mid_N in means.items()}
    spread_N = _round((both["close_ask"] - both["close"]).to_numpy(), mids["close"])
    return both.select(
        "ts",
        *(pl.Series(name, values_N).fill_nan(None) for name, values_N in (mids | {"spread": spread_N}).items()),
        volume=(pl.col("volume") + pl.col("volume_ask")) / 2,
        reason=pl.coalesce(
            "reason", "reason_ask", pl.when(lone).then(pl.lit(LONE)), pl.when(crossed).then(pl.lit(CROSSED))
        ),
    ).select(RATED_SCHEMA.names())
