"""Ticks → minute bars of the mid price and their mean spread, for any order of rows and any size of blocks."""

import polars as pl

from lstm_ts.market.bars import BAR_SCHEMA, SPREAD_DIGITS, TS

# The part of a minute that one block or file has; its spread is the sum over its ticks. A visit is a run of rows of one
# minute: a sorted file visits each minute once, and a file of two exports visits their common minutes twice. A partial
# has the first and the last of its visits, so that a block has one row for each minute, whatever the order of its rows.
PARTIAL = pl.Schema(BAR_SCHEMA | {"first": TS, "last": TS, "visit": pl.Int64(), "last_visit": pl.Int64()})
MOST_TICKS = 500_000  # of minutes that are visited again, in memory at a time


class Visits:
    """Number the visits of a file, block by block."""

    def __init__(self) -> None:
        self._visit, self._minute = 0, None

    def number(self, ticks: pl.DataFrame) -> pl.DataFrame:
        """Add the column `visit` to ticks, `ts, mid, spread`, in the order of the file."""
        minutes = ticks["ts"].dt.truncate("1m")
        visits = minutes.rle_id().cast(pl.Int64) + self._visit
        if len(minutes):
            visits += minutes[0] != self._minute
            self._visit, self._minute = visits[-1], minutes[-1]
        return ticks.with_columns(visits.alias("visit"))


def make_partials(ticks: pl.DataFrame) -> pl.DataFrame:
    """Return PARTIAL, a row for each minute, of ticks `ts, mid, spread, visit` in the order of the file."""
    ordered = ticks.sort("ts", maintain_order=True).with_columns(minute=pl.col("ts").dt.truncate("1m"))
    mid, ts = pl.col("mid"), pl.col("ts")
    return (
        ordered.group_by("minute", maintain_order=True)
        .agg(
            open=mid.first(),
            high=mid.max(),
            low=mid.min(),
            close=mid.last(),
            volume=pl.len().cast(pl.Float64),
            spread=pl.col("spread").sum(),
            first=ts.first(),
            last=ts.last(),
            visit=pl.col("visit").min(),
            last_visit=pl.col("visit").max(),
        )
        .rename({"minute": "ts"})
        .select(PARTIAL.names())
    )


def join_partials(partials: pl.DataFrame) -> pl.DataFrame:
    """Merge the parts of each minute; return PARTIAL, ascending and unique in `ts`."""
    return (
        partials.group_by("ts")
        .agg(
            pl.col("open").sort_by("first").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").sort_by("last").last(),
            pl.col("volume", "spread").sum(),
            pl.col("first").min(),
            pl.col("last").max(),
            pl.col("visit").min(),
            pl.col("last_visit").max(),
        )
        .sort("ts")
    )


def to_bars(partials: pl.DataFrame) -> pl.DataFrame:
    """Convert whole minutes to BAR_SCHEMA."""
    spread = (pl.col("spread") / pl.col("volume")).round_sig_figs(SPREAD_DIGITS)
    return partials.with_columns(spread).select(BAR_SCHEMA.names())


def find_visited_again(partials: pl.DataFrame) -> pl.DataFrame:
    """Return the minutes with more than one visit, ascending in `minute`, in groups of some MOST_TICKS ticks."""
    minutes = partials.group_by(minute="ts").agg(
        pl.col("volume").sum(), again=pl.col("visit").min() < pl.col("last_visit").max()
    )
    group = (pl.col("volume").cum_sum() // MOST_TICKS).cast(pl.Int64)
    return minutes.filter("again").sort("minute").select("minute", group=group.rle_id())


def without_repeats(ticks: pl.DataFrame) -> pl.DataFrame:
    """Remove ticks that another visit repeats: each is kept as often as in the visit with most of it.

    ticks   `ts, mid, spread, visit` of whole minutes
    """
    tick = ("ts", "mid", "spread")
    counts = ticks.group_by(*tick, "visit", maintain_order=True).len("count")
    most = counts.group_by(*tick, maintain_order=True).agg(pl.col("count").max())
    return (
        most.select(*tick, pl.lit(0, pl.Int64).alias("visit"), pl.int_ranges(pl.col("count")).alias("n"))
        .explode("n")
        .drop("n")
    )


class Borders:
    """First and last minutes of the files of one command: a minute may be divided between two files."""

    def __init__(self) -> None:
        self._edges = pl.DataFrame(schema=PARTIAL)

    def join(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return PARTIAL of the minutes that this file and an earlier one share without overlap in time."""
        own = pl.concat([partials.head(1), partials[1:].tail(1)])
        theirs = self._edges.join(own.select("ts", begin="first", end="last"), on="ts")
        apart = (pl.col("last") < pl.col("begin")) | (pl.col("first") > pl.col("end"))
        parts = theirs.filter(apart).drop("begin", "end")
        self._edges = pl.concat([self._edges, own])
        return join_partials(pl.concat([parts, own.join(parts, on="ts", how="semi")]))
