"""Checks of the rows of a file, each by itself and beside the others of its file."""

from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lstm_ts import clock
from lstm_ts.errors import UnknownFormat
from lstm_ts.market.bars import FIRST_YEAR, PRICES, TS, reject_reason
from lstm_ts.market.spacing import HOUR_US, MINUTE_US, Times
from lstm_ts.sources.files.recognition.layout import SHOWN_CHARS
from lstm_ts.sources.files.recognition.zones import Zone

FUTURE = "in the future, or in another time zone"
APART = 14 * 24 * 60 * MINUTE_US  # no market pauses longer, but files may have larger gaps between many bars
ISOLATED_SHARE = 1e-3  # of a file's bars, or one: fewer on the far side of such a gap are damaged stamps
WRONG_DAY = 23 * 60 * MINUTE_US  # at least, for a wrong day, by which a row breaks the order of its file
NEAR = 0.1  # of that break: what may lie between the rows about it
BULK = 10  # bars that others can be far from
DAY_US = 24 * HOUR_US


def check_rows(raw: pl.DataFrame, zone: Zone | None, *, ticks: bool, now: datetime) -> pl.DataFrame:
    """Add `ts` and `late` (UTC, see `RepeatedHour.add`), and to `reason` any fault of a row by itself."""
    stamp = pl.col("stamp")
    ts, late = zone.to_utc(stamp) if zone else (stamp.dt.convert_time_zone("UTC"), pl.lit(None, TS))
    rows = raw.with_columns(ts=ts, late=late)
    if zone:
        rows = refuse(rows, pl.col("stamp").is_not_null() & pl.col("ts").is_null(), f"does not exist in {zone}")
    if ticks:
        rows = refuse(rows, pl.col("high") < pl.col("low"), "ask below bid")
    rows = refuse(rows, pl.col("ts").dt.year() < FIRST_YEAR, f"before {FIRST_YEAR}")
    rows = refuse(rows, pl.col("ts") > now + clock.SKEW, FUTURE)
    return rows.with_columns(reason=pl.coalesce("reason", reject_reason()))


def refuse(rows: pl.DataFrame, bad: pl.Expr | pl.Series, reason: str) -> pl.DataFrame:
    """Set `reason` of the rows where `bad` holds and it is still null."""
    return rows.with_columns(reason=pl.coalesce("reason", pl.when(bad).then(pl.lit(reason))))


def kinds_of_bars(rows: pl.DataFrame) -> set[tuple[bool | None, bool | None]]:
    """Return of each kind of good bars whether they have a volume above 0, and whether their price moves."""
    kinds = rows.select(traded=pl.col("volume") > 0, moves=pl.col("high") > pl.col("low"))
    return set(kinds.filter(rows["reason"].is_null()).unique().rows())


def check_sides(sides: Collection[str], file: Path) -> None:
    """sides    of the quotes that the bars of all files so far are of, where these say it

    Raises    UnknownFormat: several
    """
    if len(sides) > 1:
        raise UnknownFormat(
            f"Expected bars of one side of the quotes, got those of {' and '.join(sorted(sides))} with {file}; "
            "give the files of one side"
        )


def make_rejects(rows: pl.DataFrame, file: Path) -> pl.DataFrame:
    """Return the refused rows as REJECT_SCHEMA; a Parquet row is shown as its values."""
    values = [pl.col(column).cast(pl.String).fill_null("") for column in ("stamp", *PRICES)]
    return rows.filter(pl.col("reason").is_not_null()).select(
        file=pl.lit(str(file)),
        line=pl.col("line").cast(pl.Int64),
        reason=pl.col("reason"),
        text=pl.coalesce("text", pl.concat_str(values, separator=",")).str.head(SHOWN_CHARS),
    )


def find_isolated(stamps_N: Times) -> list[tuple[int, int]]:
    """Return the first and last stamp of each group of few stamps far from the bulk of their file.

    stamps_N   ascending and unique, microseconds
    """
    borders = np.flatnonzero(np.diff(stamps_N) > APART) + 1
    clusters = np.split(stamps_N, borders)
    few = max(1, int(ISOLATED_SHARE * len(stamps_N)))
    isolated = [cluster for cluster in clusters if len(cluster) <= few]
    bulk = len(stamps_N) - sum(map(len, isolated))
    if bulk < BULK or bulk < 0.9 * len(stamps_N):
        return []
    return [(int(cluster[0]), int(cluster[-1])) for cluster in isolated]


def find_out_of_order(stamps_N: Times) -> NDArray[np.int64]:
    """Return the positions of the few rows that lie days off the order of their file, which then continues as before.

    stamps_N   in the order of the file, microseconds
    """
    if len(stamps_N) < BULK:
        return np.empty(0, np.int64)
    there, back = np.diff(stamps_N)[:-1], np.diff(stamps_N)[1:]
    shortest = np.minimum(abs(there), abs(back))
    found: NDArray[np.int64] = 1 + np.flatnonzero((shortest >= WRONG_DAY) & (abs(there + back) <= NEAR * shortest))
    return found if len(found) <= max(1, ISOLATED_SHARE * len(stamps_N)) else found[:0]


def check_clock(stamps_N: Times, blocks: Callable[[], Iterable[pl.DataFrame]], file: Path) -> None:
    """stamps_N   in the order of the file, microseconds; blocks   returns its rows, with `stamp`

    Raises    UnknownFormat: a clock of 12 hours without AM and PM, which goes from 12:59 back to 1:00 every day
    """
    steps_D = np.diff(stamps_N)
    steps_D = steps_D if 2 * (steps_D > 0).sum() > len(steps_D) else -steps_D
    turns = ((steps_D > -12 * HOUR_US) & (steps_D <= -11 * HOUR_US)).sum()
    daily = turns and 2 * turns >= len(np.unique(stamps_N // DAY_US))
    if daily and not any((rows["stamp"].dt.hour() > 12).any() for rows in blocks()):
        raise UnknownFormat(
            f"Expected clocks of 24 hours, or AM and PM beside them, got such that go from 12:59 back to 1:00 in "
            f"{file}; write 24 hours"
        )
