"""Delivery of one source in one run, checked as a whole before any of it is stored."""

import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from lstm_ts.errors import DataError, NoRows, TooManyRejects
from lstm_ts.market.bars import (
    BAR_SCHEMA,
    PRICES,
    REJECT_SCHEMA,
    TS,
    AnsweredSpan,
    BarBatch,
    count_by_hour,
    describe_rejects,
)
from lstm_ts.market.close_stamps import warn_of_close_stamps
from lstm_ts.market.hours import make_hours, without_closed
from lstm_ts.market.levels import check_levels
from lstm_ts.market.revisions import compare_bars, find_wholes
from lstm_ts.market.session import HOUR, Session
from lstm_ts.market.zone_check import Mismatch, check_minutes, check_zone
from lstm_ts.scoring.tables import percent
from lstm_ts.sources.backfill import append_rejects
from lstm_ts.sources.files.scan import UNCLOSED
from lstm_ts.sources.stored_series import ANOTHER_SERIES, LEVEL_SCHEMA, SeriesLimits, check_revisions, read_about
from lstm_ts.store.bar_store import BarStore

REMEDY = (
    "set source.price_factor where the unit differs, take another symbol=, or allow_level_change=true if the market "
    "moved so; nothing was stored"
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IngestLimits(SeriesLimits):
    """Share of minutes that makes an hour, and limits beyond which nothing is stored."""

    min_minutes_share: float


class Delivery:
    """A delivery of one source: `add` each batch, then `check`, before the stores change."""

    def __init__(self, name: str, rejects_csv: Path) -> None:
        self.name = name
        self.kept = self.rejected = self._unclosed = self._closed = 0
        self.longer: list[BarBatch] = []  # than minutes
        self.answers: list[tuple[AnsweredSpan, ...]] = []  # of each batch
        self._rejects_csv = rejects_csv
        self._replaces = ""
        self._counts: list[pl.DataFrame] = []
        self._minutes = [pl.DataFrame(schema=LEVEL_SCHEMA)]
        self._stamps: list[tuple[int, pl.Series]] = []  # minutes of a bar, and of each bar its stamp
        self._edges: defaultdict[str, list[datetime]] = defaultdict(list)  # by file: first and last stamp of each batch
        self.wholes = pl.DataFrame(schema=BAR_SCHEMA)  # stored minutes of which the delivered ones are parts

    @property
    def repeated(self) -> int:
        """Number of minute bars that came again: all but the last of each stamp."""
        stamps = pl.concat([bars["ts"] for bars in self._minutes])
        return len(stamps) - stamps.n_unique()

    def add(self, batch: BarBatch, session: Session) -> BarBatch:
        """Return the batch without the bars by which a vendor fills closed hours."""
        bars = without_closed(batch, session)
        self._closed += batch.bars.height - bars.height
        batch = replace(batch, bars=bars)
        if batch.minutes > 1:
            self.longer.append(batch)
        else:
            self._minutes.append(batch.bars.select(LEVEL_SCHEMA.names()))
        self._replaces = self._replaces or batch.replaces
        for note in batch.notes:
            log.warning(note)
        self._counts.append(count_by_hour(batch.bars).with_columns(part=pl.lit(batch.part)))
        self._stamps.append((batch.minutes, batch.bars["ts"]))
        if batch.part:
            self._edges[batch.part] += [*batch.bars["ts"].head(1), *batch.bars["ts"].tail(1)]
        self.answers.append(batch.answers)
        self.kept += batch.bars.height
        self.rejected += append_rejects(self._rejects_csv, batch.rejects)
        self._unclosed += batch.rejects.filter(pl.col("reason") == UNCLOSED).height
        return batch

    def check(self, raw: BarStore, processed: BarStore, session: Session, limits: IngestLimits) -> Mismatch:
        """Check the delivery by itself and beside what is stored of that span.

        Raises    NoRows, TooManyRejects, WrongZone; DataError: another level, or another series than the stored minutes
        """
        if self._closed:
            log.warning(f"{self._closed:,} bars of one price and no volume in closed hours are left out")
        self._check_rejects(limits.max_reject_share)
        if self._replaces and not limits.allow_revisions:
            raise DataError(f"Expected {self._replaces}; {ANOTHER_SERIES}")
        warn_of_close_stamps(self._stamps, session, key="source.stamps")
        remedy = ", or raise max_mismatch (1 allows any, such as extended hours); nothing was stored"
        mismatch = check_zone(session, pl.concat(self._counts), max_mismatch=limits.max_mismatch, remedy=remedy)
        minutes = pl.concat(self._minutes)
        check_minutes(session, self._stamps, max_mismatch=limits.max_mismatch, remedy=remedy)
        came = pl.concat([minutes, *(batch.bars.select(LEVEL_SCHEMA.names()) for batch in self.longer)])
        stored = read_about(came["ts"], raw)
        if not limits.allow_level_change:
            check_levels(came, pl.concat([stored, read_about(came["ts"], processed)]), self.name, remedy=REMEDY)
        wholes = self._find_wholes(minutes, stored, limits)
        self.wholes = wholes.select("ts", *PRICES, "volume", spread=pl.lit(None, pl.Float64))
        self._compare(pl.concat([minutes, wholes]), stored, raw, limits)
        return mismatch

    def make_hours(
        self, raw: BarStore, processed: BarStore, session: Session, limits: IngestLimits
    ) -> tuple[pl.DataFrame, int]:
        """Return the hours of the bars longer than minutes, and how many are left out, since stored minutes made them.

        Raises    NoRows: parts of hours alone were delivered; DataError: another series than the stored hours
        """
        hours = make_hours(self.longer, session, min_minutes_share=limits.min_minutes_share)
        if hours.is_empty() and len(self.longer) == len(self.answers):
            raise NoRows(f"Expected at least one whole session hour from {self.name}, got parts of hours only")
        new = _without_made_hours(hours, raw, processed, session, limits.min_minutes_share)
        self._warn_of_parts(hours["ts"], processed.read_stamps())
        if new.height:
            stored = read_about(new["ts"], processed)
            new = new.update(self._find_wholes(new, stored, limits, "1h"), on="ts")
            self._compare(new, stored, processed, limits)
        return new, hours.height - new.height

    def _find_wholes(
        self, bars: pl.DataFrame, stored: pl.DataFrame, limits: IngestLimits, every: str = "1m"
    ) -> pl.DataFrame:
        """Return the stored bars of which the files have a part, and which stay; none if they may be revised."""
        if limits.allow_revisions:
            return stored.clear()
        wholes = find_wholes(bars, stored, *self._find_edges(every))
        left = compare_bars(bars, wholes)
        if left.told:
            log.info("The first or last bars of %s are parts of stored ones, which stay: %s", self.name, left)
        return wholes

    def _find_edges(self, every: str) -> tuple[pl.Series, pl.Series]:
        """Return the first and the last bar of each file, as starts of minutes or hours."""
        stamps = [stamps for stamps in self._edges.values() if stamps]
        firsts, lasts = (pl.Series([end(of) for of in stamps], dtype=TS).dt.truncate(every) for end in (min, max))
        return firsts, lasts

    def _warn_of_parts(self, hours: pl.Series, stored: pl.Series) -> None:
        """Warn of the first or last hour that is not made while the stored hours go on beside it."""
        parts = pl.concat([batch.bars["ts"] for batch in self.longer]).dt.truncate("1h")
        if parts.is_empty():
            return
        for part, beside in ((parts.min(), -HOUR), (parts.max(), HOUR)):
            assert isinstance(part, datetime)
            if part + beside in stored and part not in stored and part not in hours:
                log.warning(
                    "%s has only a part of the hour %s UTC, which makes none; ingest the files of both parts in one "
                    "command, or a span of full hours",
                    self.name,
                    f"{part:%Y-%m-%d %H:%M}",
                )

    def _compare(self, bars: pl.DataFrame, stored: pl.DataFrame, store: BarStore, limits: IngestLimits) -> None:
        revision = check_revisions(bars, stored, store, self.name, allow=limits.allow_revisions)
        if revision.told:
            log.warning("%s revises in %s %s%s", self.name, store.folder, revision, self._hint(bars, stored))

    def _hint(self, bars: pl.DataFrame, stored: pl.DataFrame) -> str:
        """Return what to do about ticks of one minute in files of two commands; empty of hours, or if more differ."""
        edges = pl.concat(self._find_edges("1m"))
        inner = compare_bars(bars.filter(~pl.col("ts").is_in(edges.implode())), stored)
        return (
            ""
            if inner.told or "minutes_share" in bars.columns
            else "; if two files of ticks part a minute, ingest both in one command"
        )

    def _check_rejects(self, max_share: float) -> None:
        kept, rejected, named = self.kept, self.rejected, f"{self._rejects_csv} names each"
        if not kept:
            why = f": {self._first_rejects()}; {named}" if rejected else ""
            raise NoRows(f"Expected bars from {self.name}, got no good row and {rejected} bad ones{why}")
        bad = rejected - self._unclosed
        share = bad / (kept + bad)
        if share > max_share:
            raise TooManyRejects(
                f"Expected at most {percent(max_share, 2)} bad rows from {self.name}, got {bad} of "
                f"{kept + bad} ({percent(share, 2)}): {self._first_rejects()}; nothing was stored; "
                f"{named}, max_reject_share allows more"
            )

    def _first_rejects(self) -> str:
        return describe_rejects(pl.read_csv(self._rejects_csv, schema=REJECT_SCHEMA, n_rows=1000, glob=False))


def _without_made_hours(
    hours: pl.DataFrame, raw: BarStore, processed: BarStore, session: Session, min_minutes_share: float
) -> pl.DataFrame:
    """Return the hours that are not stored, or of which fewer minutes are stored than make an hour."""
    minutes = count_by_hour(raw.read_stamps().to_frame())
    if hours.is_empty() or minutes.is_empty():
        return hours
    grid = session.hours(hours["ts"][0], hours["ts"][-1] + HOUR)
    made = minutes.join(grid, on="ts").filter(pl.col("bars") >= min_minutes_share * pl.col("session_minutes"))
    stored = processed.read_stamps().to_frame().join(made, on="ts", how="semi")
    return hours.join(stored, on="ts", how="anti", maintain_order="left")


def within_span(batches: Iterator[BarBatch], start: datetime | None, end: datetime | None) -> Iterator[BarBatch]:
    """Yield the bars and answers of the span alone; an answer counts the bars delivered within the span."""
    if not (start or end):
        yield from batches
        return
    ts, first, last = pl.col("ts"), start or datetime.min.replace(tzinfo=UTC), end or datetime.max.replace(tzinfo=UTC)
    stamps = pl.Series("ts", [], TS)
    for batch in batches:
        bars = batch.bars.filter(ts >= first, ts < last)
        stamps = pl.concat([stamps, bars["ts"]])
        clipped = [(max(answer.start, first), min(answer.end, last), answer) for answer in batch.answers]
        answers = tuple(
            replace(answer, start=begin, end=stop, bars=int(stamps.is_between(begin, stop, closed="left").sum()))
            for begin, stop, answer in clipped
            if begin < stop
        )
        if bars.height or batch.rejects.height or answers or batch.notes:
            yield replace(batch, bars=bars, answers=answers)
