"""Checks of the rows of a file, each by itself and beside the others of its file, and of their spacing."""

from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lstm_ts import clock
from lstm_ts.errors import UnknownFormat
from lstm_ts.market.bars import FIRST_YEAR, PRICES, TS, reject_reason
from lstm_ts.market.spacing import (
    HOUR_US,
    MINUTE_US,
    SECOND_US,
    Times,
    at_minute,
    contradicts,
    find_longer_run,
    find_segments,
    format_duration,
)
from lstm_ts.sources.files.recognition.layout import SHOWN_CHARS
from lstm_ts.sources.files.recognition.zones import Zone

FUTURE = "in the future, or in another time zone"
DAY_US = 24 * HOUR_US
# Gap, and share of a file's bars: so few, or one, on the far side of such a gap are damaged stamps. No market pauses
# for 14 days, but files may have larger gaps between many bars.
ISOLATED = ((14 * DAY_US, 1e-3), (365 * DAY_US, 1e-2))
WRONG_DAY = 23 * HOUR_US  # at least, for a wrong day, by which rows break the order of their file
NEAR = 0.1  # of that break: what may lie between the rows about them
OUT_OF_ORDER_SHARE = 1e-2  # of a file's rows, or one: more are files joined in no order
BULK = 10  # bars that others can be far from


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
    clusters = [
        cluster
        for gap, share in ISOLATED
        for cluster in np.split(stamps_N, np.flatnonzero(np.diff(stamps_N) > gap) + 1)
        if len(cluster) <= max(1, share * len(stamps_N))
    ]
    bulk = len(stamps_N) - len(np.unique(np.concatenate([stamps_N[:0], *clusters])))
    if bulk < BULK or bulk < 0.9 * len(stamps_N):
        return []
    return [(int(cluster[0]), int(cluster[-1])) for cluster in clusters]


def find_out_of_order(stamps_R: Times, rows_R: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the positions of the few rows that lie days off the order of their file, which then continues as before.

    stamps_R, rows_R   of each run of rows with one stamp, in the order of the file: microseconds; number of rows
    """
    none = np.empty(0, np.int64)
    if len(stamps_R) < BULK:
        return none
    steps = np.diff(stamps_R)
    cuts = np.flatnonzero(np.abs(steps) >= WRONG_DAY)
    there, back = steps[cuts[:-1]], steps[cuts[1:]]
    across = stamps_R[cuts[1:] + 1] - stamps_R[cuts[:-1]]
    shortest = np.minimum(np.abs(there), np.abs(back))
    leaves = np.flatnonzero(((there > 0) != (back > 0)) & (np.abs(across) <= NEAR * shortest))
    # The runs after one that leaves are back in order, though they lie between two that leave.
    begins = np.append(True, np.diff(leaves) > 1)[: len(leaves)]
    first = np.maximum.accumulate(np.where(begins, np.arange(len(leaves)), 0))
    leaves = leaves[(np.arange(len(leaves)) - first) % 2 == 0]
    ends = np.append(0, np.cumsum(rows_R))
    spans = zip(ends[cuts[leaves] + 1].tolist(), ends[cuts[leaves + 1] + 1].tolist(), strict=True)
    found = np.concatenate([none, *(np.arange(start, end) for start, end in spans)])
    return found if len(found) <= max(1, OUT_OF_ORDER_SHARE * ends[-1]) else none


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


def at_whole_minutes(stamps_N: Times, file: Path, *, at_close: bool) -> Times:
    """Closes a second before a minute, as some vendors write them, become that minute.

    Raises    UnknownFormat: most stamps are so, and nothing says that they are closes
    """
    late_N = stamps_N % MINUTE_US >= MINUTE_US - SECOND_US
    if not at_close and 2 * late_N.sum() > len(stamps_N):
        raise UnknownFormat(
            f"Expected stamps of when bars open, got such as {at_minute(int(stamps_N[0]))}:59 in {file}, when they "
            "close; set source.stamps=close"
        )
    return np.where(late_N, stamps_N - stamps_N % MINUTE_US + MINUTE_US, stamps_N) if at_close else stamps_N


def choose_spacing(
    stamps_N: Times, file: Path, named: int | None, near: Callable[[], int | None], notes: list[str]
) -> int:
    """named   spacing that the file names
    near    returns the spacing of the bars around, which too few bars have if their stamps allow it
    notes   gets another one where nothing shows the spacing of one bar

    Raises    UnknownFormat: bars of several spacings, or of another one than minutes that divide an hour
    """
    segments = find_segments(stamps_N)
    if named and _fits(stamps_N, named):
        if len(segments) == 1 and contradicts(stamps_N, segments[0], named):
            raise UnknownFormat(
                f"Expected bars {format_duration(named)} apart, as a column of {file} says, got {segments[0]}; "
                "correct that column, or leave it out"
            )
        return named
    unfit = format_duration(named) if named and HOUR_US % named else ""
    last = segments[-1]
    if len(segments) > 1:
        since, until = at_minute(last.first), at_minute(segments[-2].first)
        edge = "start" if last.usable else "end"
        part = "them from then on" if last.usable else "those before"
        raise UnknownFormat(
            f"Expected bars of one spacing in {file}, got {segments[-2]} from {until} and {last} from {since} UTC on; "
            f"add span.{edge}={since.replace(' ', 'T')} to take {part}"
        )
    if not last.usable or unfit:
        raise UnknownFormat(
            f"Expected bars of a minute or an hour, or of minutes that divide an hour, got "
            f"{f'bars of {unfit}' if unfit else last} in {file}; "
            f"export M1 or {'M30' if last.phase == HOUR_US // 2 else 'H1'}"
        )
    return last.spacing if last.certain else _spacing_of_few(stamps_N, file, last.likely, near(), notes)


def _fits(stamps_N: Times, spacing: int) -> bool:
    return HOUR_US % spacing == 0 and not (stamps_N % spacing).any()


def _spacing_of_few(stamps_N: Times, file: Path, likely: int, near: int | None, notes: list[str]) -> int:
    """Take one bar for a minute, with a note.

    Raises    UnknownFormat: nothing distinguishes bars of a longer spacing from a few minutes
    """
    if near and _fits(stamps_N, near):
        return near
    if likely == MINUTE_US:
        return MINUTE_US
    period = "H1" if likely >= HOUR_US else f"M{likely // MINUTE_US}"
    if len(stamps_N) == 1:
        notes.append(
            f"The one bar of {file.name} is taken for a minute; add a column timeframe with {period} if it is not"
        )
        return MINUTE_US
    raise UnknownFormat(
        f"Expected enough bars to distinguish minutes from longer ones, got {len(stamps_N)} bars "
        f"{format_duration(likely)} apart in {file}; "
        f"add a column timeframe with {period}, or with M1 if they are minutes"
    )


def check_joined(stamps_N: Times, spacing: int, file: Path) -> None:
    """stamps_N   in the order of the file, microseconds; spacing   of its bars

    Raises    UnknownFormat: longer bars stand behind or before others of the same time
    """
    if longer := find_longer_run(stamps_N, spacing):
        raise UnknownFormat(
            f"Expected bars of one spacing in {file}, got bars {format_duration(spacing)} apart and, in the rows from "
            f"{at_minute(longer.first)} UTC on, {longer}; leave one of them in the file"
        )
