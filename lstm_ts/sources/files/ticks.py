"""Ticks → minute bars of the mid price and their mean spread, for any order of rows and any size of blocks."""

import polars as pl

from lstm_ts.market.bars import BAR_SCHEMA, SPREAD_DIGITS, TS

# The part of a minute that one block or file has; its spread is the sum over its ticks. A run is of rows of one minute:
# a sorted file has one run of each minute, and a file of two exports has two of their common minutes. A partial has the
# first and the last of its runs, so that a block has one row for each minute, whatever the order of its rows.
PARTIAL = pl.Schema(BAR_SCHEMA | {"first": TS, "last": TS, "run": pl.Int64(), "last_run": pl.Int64()})
MOST_TICKS = 500_000  # of minutes of several runs, in memory at a time


class RunCounter:
    """Number the runs of a file, block by block."""

    def __init__(self) -> None:
        self._run, self._minute = 0, None

    def number(self, ticks: pl.DataFrame) -> pl.DataFrame:
        """Add the column `run` to ticks, `ts, mid, spread`, in the order of the file."""
        minutes = ticks["ts"].dt.truncate("1m")
        runs = minutes.rle_id().cast(pl.Int64) + self._run
        if len(minutes):
            runs += minutes[0] != self._minute
            self._run, self._minute = runs[-1], minutes[-1]
        return ticks.with_columns(runs.alias("run"))


def make_partials(ticks: pl.DataFrame, *, descends: bool) -> pl.DataFrame:
    """Return PARTIAL, a row for each minute, of ticks `ts, mid, spread, run` in the order of the file.

    descends   of two ticks with one stamp the file has the later one first
    """
    ordered = (
        (ticks.reverse() if descends else ticks)
        .sort("ts", maintain_order=True)
        .with_columns(minute=pl.col("ts").dt.truncate("1m"))
    )
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
            run=pl.col("run").min(),
            last_run=pl.col("run").max(),
        )
        .rename({"minute": "ts"})
        .select(PARTIAL.names())
    )


def join_partials(partials: pl.DataFrame) -> pl.DataFrame:
    """Merge the parts of each minute, in order of time; return PARTIAL, ascending and unique in `ts`."""
    return (
        partials.group_by("ts")
        .agg(
            pl.col("open").sort_by("first", maintain_order=True).first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").sort_by("last", maintain_order=True).last(),
            pl.col("volume", "spread").sum(),
            pl.col("first").min(),
            pl.col("last").max(),
            pl.col("run").min(),
            pl.col("last_run").max(),
        )
        .sort("ts")
    )


def to_bars(partials: pl.DataFrame) -> pl.DataFrame:
    """Convert whole minutes to BAR_SCHEMA."""
    spread = (pl.col("spread") / pl.col("volume")).round_sig_figs(SPREAD_DIGITS)
    return partials.with_columns(spread).select(BAR_SCHEMA.names())


def find_minutes_of_several_runs(partials: pl.DataFrame) -> pl.DataFrame:
    """Return the minutes of more than one run, ascending in `minute`, in groups of some MOST_TICKS ticks."""
    minutes = partials.group_by(minute="ts").agg(
        pl.col("volume").sum(), again=pl.col("run").min() < pl.col("last_run").max()
    )
    group = (pl.col("volume").cum_sum() // MOST_TICKS).cast(pl.Int64)
    return minutes.filter("again").sort("minute").select("minute", group=group.rle_id())


def without_repeats(ticks: pl.DataFrame) -> pl.DataFrame:
    """Remove ticks that another run repeats: each is kept as often as in the run with most of it.

    ticks   `ts, mid, spread, run` of whole minutes
    """
    tick = ("ts", "mid", "spread")
    counts = ticks.group_by(*tick, "run", maintain_order=True).len("count")
    most = counts.group_by(*tick, maintain_order=True).agg(pl.col("count").max())
    return (
        most.select(*tick, pl.lit(0, pl.Int64).alias("run"), pl.int_ranges(pl.col("count")).alias("n"))
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
