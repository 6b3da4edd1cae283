"""Ticks → minute bars of the mid price and their mean spread, whatever the order and the blocks the ticks come in."""

from collections.abc import Sequence

import polars as pl

from lstm_ts.market.bars import BAR_SCHEMA, SPREAD_DIGITS, TS

# A minute, as far as one block has ticks of it; the spread is that of all its ticks together.
PARTIAL = pl.Schema(BAR_SCHEMA | {"first": TS, "last": TS})


def make_partials(ticks: pl.DataFrame) -> pl.DataFrame:
    """ticks   `ts, mid, spread`, in file order
    Returns   PARTIAL, ascending
    """
    minutes = ticks.sort("ts", maintain_order=True).group_by_dynamic("ts", every="1m")
    mid = pl.col("mid")
    return minutes.agg(
        open=mid.first(),
        high=mid.max(),
        low=mid.min(),
        close=mid.last(),
        volume=pl.len().cast(pl.Float64),
        spread=pl.col("spread").sum(),
        first=pl.col("ts").first().alias("first"),
        last=pl.col("ts").last().alias("last"),
    ).select(PARTIAL.names())


def join_partials(partials: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """BAR_SCHEMA, ascending and unique in `ts`."""
    joined = pl.concat([pl.DataFrame(schema=PARTIAL), *partials])
    return (
        joined.group_by("ts")
        .agg(
            pl.col("open").sort_by("first").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").sort_by("last").last(),
            pl.col("volume").sum(),
            (pl.col("spread").sum() / pl.col("volume").sum()).round_sig_figs(SPREAD_DIGITS),
        )
        .sort("ts")
    )
