"""Folds of a walk forward: what each trains on, stops on and is scored on, and a table of them. Pure.

    train_from ──────────── valid_from ──── seen_until · embargo · test_from ──── test_until
    training (purged)       validation (purged)                    scored

The last `horizon` hours before valid_from and before seen_until are no origins (see `find_origins`), so no
target crosses a border; the embargo leaves out `embargo_hours` more before the first origin that is scored.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import polars as pl

from lstm_ts.errors import ConfigError, NotEnoughBars
from lstm_ts.market.session import Moment, moment
from lstm_ts.model.features import make_grid
from lstm_ts.model.symbol_data import SymbolBars
from lstm_ts.model.windows import WindowSpec, find_origins
from lstm_ts.scoring.tables import align, p_cell, percent

MOST_HOURS = 100_000  # of an embargo


@dataclass(frozen=True)
class Fold:
    number: int
    train_from: datetime
    valid_from: datetime
    seen_until: datetime  # neither training nor validation has seen a bar from here on
    test_from: datetime
    test_until: datetime

    @property
    def label(self) -> str:
        return f"{self.test_from:%Y-%m-%d}"


class WalkForward:
    """Schedule of a walk forward: a refit every calendar `every`; lengths in the notation of polars: 1w, 3mo, 1q, 2y.

    train   length of the training span, so that it slides; None: from the first bar on, so that it grows
    """

    def __init__(
        self, *, start: Moment, end: Moment | None, every: str, train: str | None, valid: str, embargo_hours: float
    ) -> None:
        if embargo_hours < 0:
            raise ConfigError(f"Expected walk.embargo_hours >= 0, got {embargo_hours}")
        if embargo_hours > MOST_HOURS:
            raise ConfigError(f"Expected walk.embargo_hours of at most {MOST_HOURS}, got {embargo_hours}")
        self.start = start
        self.end = end
        self.every = every
        self.train = train
        self.valid = valid
        self.embargo = timedelta(hours=embargo_hours)

    def folds(self, first: datetime, last: datetime) -> list[Fold]:
        """Return the folds over bars whose opens are first..last.

        Raises    ConfigError: a length polars cannot read, or no room for a training before the first fold
        """
        start = moment(self.start, first, last)
        end = moment(self.end, first, last) if self.end is not None else last + timedelta(hours=1)
        if not first < start < end:
            raise ConfigError(f"Expected {first} < walk.start < walk.end, got {self.start} and {self.end}")
        borders = self._borders(start, end)
        return [self._fold(number, first, *span) for number, span in enumerate(pairwise(borders))]

    def _borders(self, start: datetime, end: datetime) -> list[datetime]:
        try:
            calendar = pl.datetime_range(_truncate(start, self.every), end, self.every, eager=True)
        except pl.exceptions.PolarsError as error:
            raise ConfigError(f"Expected walk.every as 1w, 1mo or 1q, got {self.every}; correct it") from error
        return [start, *(border for border in calendar if start < border < end), end]

    def _fold(self, number: int, first: datetime, test_from: datetime, test_until: datetime) -> Fold:
        seen_until = test_from - self.embargo
        valid_from = before(seen_until, self.valid)
        train_from = max(first, before(valid_from, self.train)) if self.train else first
        if not train_from < valid_from < seen_until:
            raise ConfigError(
                f"Expected bars before {valid_from} to train a fold on, and hours from there to {seen_until} to stop "
                f"on, got the first bar at {first}; move walk.start or change walk.valid"
            )
        return Fold(number, train_from, valid_from, seen_until, test_from, test_until)


def before(end: datetime, length: str) -> datetime:
    """Return the moment a `length` of the calendar before `end`, in the notation of polars: 2w, 3mo, 1y.

    Raises    ConfigError: no such length
    """
    try:
        earlier: datetime = pl.select(pl.lit(end).dt.offset_by(f"-{length}")).item()
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"Expected a length such as 2w, 3mo or 1y, got {length}") from error
    return earlier


def _truncate(ts: datetime, every: str) -> datetime:
    truncated: datetime = pl.select(pl.lit(ts).dt.truncate(every)).item()
    return truncated


def check_bars(bars: SymbolBars, spec: WindowSpec, folds: Sequence[Fold]) -> None:
    """Raises    NotEnoughBars: a fold lacks windows of the symbol to train on, to stop on, or to score"""
    grid = make_grid(bars.hourly_bars, bars.symbol.session, ahead=spec.horizon)
    for fold in folds:
        spans = {
            "train on": (fold.train_from, fold.valid_from, True),
            "stop on": (fold.valid_from, fold.seen_until, True),
            "score": (fold.test_from, fold.test_until, False),
        }
        for purpose, (start, end, purge) in spans.items():
            if not len(find_origins(grid, spec, start=start, end=end, purge=purge).rows_N):
                first, last = bars.hourly_bars["ts"][0], bars.hourly_bars["ts"][-1]
                raise NotEnoughBars(
                    f"Expected windows of {bars.symbol.name} to {purpose} from {start} to {end} in the fold of "
                    f"{fold.label}, got none among bars from {first} to {last}; move walk.start or walk.end, or choose "
                    f"other symbols"
                )


@dataclass(frozen=True)
class FoldRow:
    """One training of a walk forward, and its forecasts one hour ahead."""

    fold: str  # where its forecasts begin, ISO date
    start: str  # whose weights it began with: scratch, or previous
    origins: int
    pinball_bps: float
    best: str  # baseline
    skill: Mapping[str, float]  # over each baseline
    dm_p: Mapping[str, float]
    losses: tuple[float, ...]  # validation, after each epoch
    steps_per_epoch: int
    seconds: float


def format_folds(rows: Sequence[FoldRow]) -> str:
    """Format a table with a row per training, and the total training time of each start."""
    over = list(rows[0].skill)
    headings = ("fold from", "start", "origins", "bps", *over, "p", "val loss", "epoch", "steps", "s")
    cells = [
        (
            row.fold,
            row.start,
            f"{row.origins:,}",
            f"{row.pinball_bps:.3f}",
            *(percent(row.skill.get(name, math.nan), signed=True) for name in over),
            p_cell(row.dm_p[row.best]),
            f"{min(row.losses):.4f}",
            f"{1 + row.losses.index(min(row.losses))} of {len(row.losses)}",
            f"{row.steps_per_epoch * len(row.losses):,}",
            f"{row.seconds:.1f}",
        )
        for row in rows
    ]
    costs = [
        f"From {start}: {sum(mine):.0f} s of training, {sum(mine) / len(mine):.1f} s a fold."
        for start in dict.fromkeys(row.start for row in rows)
        if (mine := [row.seconds for row in rows if row.start == start])
    ]
    first = "One hour ahead, by fold: pinball, skill over each baseline, DM p over the best; then what training took"
    return "\n".join([first, *align([headings, *cells]), *costs])


def describe_warm_start(rows: Sequence[FoldRow]) -> str:
    """Describe how soon the weights of the fold before reach the lowest validation loss of a start from scratch."""
    scratch = {row.fold: row for row in rows if row.start == "scratch"}
    warm = [row for row in rows if row.start == "previous"]
    shares = [_share_of_steps(row, scratch[row.fold]) for row in warm]
    reached = [share for share in shares if share is not None]
    half = sum(share <= 0.5 for share in reached)
    return (
        f"Weights of the fold before reach the validation loss of a start from scratch in {len(reached)} of "
        f"{len(warm)} folds, in {half} of them within half its steps."
    )


def _share_of_steps(warm: FoldRow, scratch: FoldRow) -> float | None:
    goal = min(scratch.losses)
    epochs = next((epoch for epoch, loss in enumerate(warm.losses, 1) if loss <= goal), None)
    needed = (1 + scratch.losses.index(goal)) * scratch.steps_per_epoch
    return None if epochs is None else epochs * warm.steps_per_epoch / needed
