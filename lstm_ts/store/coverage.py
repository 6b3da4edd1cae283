"""Coverage of the session minutes by a store, as text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from lstm_ts.errors import ConfigError, NoRows
from lstm_ts.market.bars import PRICES, AnsweredSpan
from lstm_ts.market.completeness import MISSING, State, classify, coverage, merge, span_of
from lstm_ts.market.session import HOUR, Session
from lstm_ts.scoring.tables import align
from lstm_ts.store.staging import REVISED

SHOWN = 5  # gaps, unknown spans, revisions


@dataclass(frozen=True)
class Status:
    symbol: str
    start: datetime
    end: datetime
    coverage: pl.DataFrame  # by month: `month`, and the minutes of each state
    gaps: pl.DataFrame  # without a bar, the longest first: `start, end, minutes`
    unknown: pl.DataFrame  # the same, the earliest first
    revisions: pl.DataFrame  # see `BarStore.read_revisions`; the latest first
    stored: int  # minutes, those in closed hours too

    @property
    def closed(self) -> int:
        """Stored minutes in closed hours, which `coverage` leaves out."""
        return self.stored - int(self.coverage[State.PRESENT].sum())


def compute_status(
    symbol: str,
    bars_ts: pl.Series,
    answers: Sequence[AnsweredSpan],
    revisions: pl.DataFrame,
    session: Session,
    *,
    start: datetime | None,
    end: datetime | None,
) -> Status:
    """start, end   of the span to report on; None: of what was stored or answered for

    Raises    NoRows: the store is empty; ConfigError: no such span
    """
    span = span_of(bars_ts, answers)
    if span is None:
        raise NoRows(f"Expected minutes of {symbol}, got an empty store; run python -m lstm_ts.ingest first")
    start, end = start or span[0], end or span[1]
    if start >= end:
        raise ConfigError(
            f"Expected span.start before span.end, or before the last minute known, got {start} and {end}; "
            f"{symbol} is known of from {_minute(span[0])} to {_minute(span[1])} UTC"
        )
    segments = classify(session.spans(start, end), bars_ts, answers)
    return Status(
        symbol,
        start,
        end,
        coverage(segments),
        merge(segments, MISSING).sort("minutes", "start", descending=[True, False]),
        merge(segments, [State.UNKNOWN]),
        revisions.filter(pl.col("ts") >= start, pl.col("ts") < end).sort("revised_at", "ts", descending=True),
        int(bars_ts.is_between(start, end, closed="left").sum()),
    )


def list_minutes(hours_ts: pl.Series, session: Session) -> pl.Series:
    """Return the minutes of hours that are stored without minutes: of a session hour those that its session has."""
    if hours_ts.is_empty():
        return hours_ts
    ts = pl.col("ts")
    hours = hours_ts.to_frame().join(
        session.hours(hours_ts[0], hours_ts[-1] + HOUR), on="ts", how="left", maintain_order="left"
    )
    start, end = pl.col("opens_at").fill_null(ts), pl.col("closes_at").fill_null(ts + HOUR)
    return hours.select(ts=pl.datetime_ranges(start, end, "1m", closed="left").explode())["ts"]


def format_status(status: Status) -> str:
    total = status.coverage.select(pl.lit("total").alias("month"), pl.exclude("month").sum())
    rows = [_cells(row) for row in [*status.coverage.to_dicts(), *total.head(status.coverage.height).to_dicts()]]
    waiting = int(total["waiting"].sum())
    return "\n".join(
        [
            f"{status.symbol}, {_minute(status.start)} to {_minute(status.end)} UTC; "
            "minutes of the sessions, closed ones are not counted",
            *align([("month", *State, "known"), *rows]),
            f"Stored: {status.stored:,} minutes, {status.closed:,} of them in closed hours, which the table leaves out",
            *_list_spans("Largest gaps, of minutes without a bar", status.gaps),
            *_list_spans("Unknown, as no source has answered for them", status.unknown),
            f"Empty by one answer, and requested again: {waiting:,} minutes",
            *_list_revisions(status.revisions),
        ]
    )


def known_share(minutes: Mapping[str, int]) -> str:
    """Return the percentage of minutes that are present or proven empty, rounded down: 100 means all of them."""
    known, total = minutes[State.PRESENT] + minutes[State.EMPTY], sum(minutes[state] for state in State)
    return f"{(10_000 * known // total) / 100:.2f} %"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return row["month"], *(f"{row[state]:,}" for state in State), known_share(row)


def _list_spans(title: str, spans: pl.DataFrame) -> list[str]:
    head = f"{title}: {spans['minutes'].sum():,} minutes in {spans.height:,} spans"
    rows = [
        (f"  {_minute(start)} to {_minute(end)}", f"{count:,}") for start, end, count in spans.head(SHOWN).iter_rows()
    ]
    more = [f"  and {spans.height - SHOWN:,} more"] if spans.height > SHOWN else []
    return [head, *(align(rows) if rows else []), *more]


def _list_revisions(revisions: pl.DataFrame) -> list[str]:
    head = f"Bars that came again with other values: {revisions.height:,}"
    return [head, *(_revision(row) for row in revisions.head(SHOWN).iter_rows(named=True))]


def _revision(row: dict[str, object]) -> str:
    before, after = ("/".join(f"{row[form.format(price)]}" for price in PRICES) for form in ("{}", REVISED))
    return f"  {_minute(row['ts'])}  {before} → {after}, on {_minute(row['revised_at'])} from {row['source']}"


def _minute(ts: object) -> str:
    return f"{ts:%Y-%m-%d %H:%M}"
