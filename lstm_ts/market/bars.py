"""Bars: their schema, what makes a row bad, and minute → hour.

`minute_bars` and `hourly_bars` are polars frames `ts, open, high, low, close, volume, spread`, ascending and
unique in `ts`; `ts` is the bar's OPEN in UTC, `spread` the mean ask - bid (of Dukascopy's candles that of the closes)
in the currency of the prices, null where the source has no quotes. Hourly bars add `minutes_share`: the minutes seen
over the minutes the session holds in that hour (1.0 where a source delivers whole hours).
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

import polars as pl

from lstm_ts import clock
from lstm_ts.errors import DataError, LstmTsError

TS = pl.Datetime("us", "UTC")
PRICES = ("open", "high", "low", "close")
BAR_SCHEMA = pl.Schema({"ts": TS} | dict.fromkeys((*PRICES, "volume", "spread"), pl.Float64()))
HOURLY_SCHEMA = pl.Schema(BAR_SCHEMA | {"minutes_share": pl.Float64()})
FIRST_YEAR = 1900
SPREAD_DIGITS = 12  # of a mean: summed in another order, it has other last ones
REJECT_SCHEMA = pl.Schema({"file": pl.String(), "line": pl.Int64(), "reason": pl.String(), "text": pl.String()})


@dataclass(frozen=True)
class AnsweredSpan:
    """Minutes with start <= ts < end requested from a source, of which it delivered all that it has."""

    start: datetime
    end: datetime
    at: datetime
    observer: str  # two answers prove a minute empty only if their observers differ
    bars: int  # that it brought


@dataclass(frozen=True)
class BarBatch:
    """One piece of what a source delivers: valid bars, and beside them every row that was refused."""

    bars: pl.DataFrame  # BAR_SCHEMA, ascending and unique in ts
    minutes: int = 1  # that a bar spans: a divisor of 60, or 60
    rejects: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=REJECT_SCHEMA))
    answers: tuple[AnsweredSpan, ...] = ()  # whole with this batch
    notes: tuple[str, ...] = ()  # what the user should know of how the source was read, a sentence each
    replaces: str = ""  # which bars of this source it brings again as another series: got of a sentence; empty if none
    part: str = ""  # the file of several that the bars are of
    volumes: bool = True  # a volume of 0 says that nobody traded
    refused: LstmTsError | None = None  # why the answer for this span is of no use, though others may be

    @property
    def hourly(self) -> bool:
        return self.minutes == 60


class Source(Protocol):
    """A source of bars. `name` describes it in a few words, and begins with "synthetic" where the bars are made up."""

    @property
    def name(self) -> str: ...

    def read_batches(self, start: datetime | None = None, end: datetime | None = None) -> Iterator[BarBatch]:
        """Yield bars in batches that fit in memory, in any order; of bars with the same stamp the last one counts.

        start, end   of the requested span; a source may deliver more
        """
        ...


@dataclass(frozen=True)
class AvailableSpan:
    """Time span of which a broker can deliver bars: from its first bar to its last closed minute."""

    head: datetime
    now: datetime
    by_day: bool = False  # a request is of a whole UTC day, rather than of a session


@runtime_checkable
class Broker(Protocol):
    """A source that delivers the bars of requested spans."""

    @property
    def name(self) -> str: ...

    def connect(self, requested_at: Sequence[datetime] = ()) -> AvailableSpan:
        """requested_at   times of requests by other processes, ascending: a broker may limit the rate of requests

        Raises    BrokerError
        """
        ...

    def fetch_batches(self, spans: Iterable[tuple[datetime, datetime]]) -> Iterator[BarBatch]:
        """Yield one batch for each span, before taking the next; a batch has no answers where none could be obtained.

        Raises    BrokerError: continuing makes no sense; WrongZone
        """
        ...

    def close(self) -> None: ...


def describe_source(source: str, trained_on: str) -> str:
    """Return the origin of bars; that of a model's training is added where only one of them is synthetic."""
    differs = is_synthetic(source) != is_synthetic(trained_on)
    return source + f" (the model was trained on {trained_on})" * differs


def is_synthetic(source_name: str) -> bool:
    return source_name.startswith("synthetic")


def reject_reason() -> pl.Expr:
    """Return why a row is bad, null for a good row. Columns `ts` and PRICES, null where they could not be parsed."""
    prices = [pl.col(p) for p in PRICES]
    not_finite = pl.any_horizontal([~p.is_finite().fill_null(False) for p in prices])
    return (
        pl.when(pl.col("ts").is_null())
        .then(pl.lit("unparseable time stamp"))
        .when(pl.any_horizontal([p.is_null() for p in prices]))
        .then(pl.lit("unparseable price"))
        .when(not_finite)
        .then(pl.lit("price is not finite"))
        .when(pl.any_horizontal([p <= 0 for p in prices]))
        .then(pl.lit("price is not positive"))
        .when(pl.col("high") < pl.col("low"))
        .then(pl.lit("high below low"))
        .when(pl.max_horizontal("open", "close") > pl.col("high"))
        .then(pl.lit("open or close above high"))
        .when(pl.min_horizontal("open", "close") < pl.col("low"))
        .then(pl.lit("open or close below low"))
    )


def check_bars(bars: pl.DataFrame) -> None:
    """Check bars of any source, as the last gate before a store.

    Raises    DataError: a row that `reject_reason` names, or a stamp before FIRST_YEAR or in the future
    """
    ts, now = pl.col("ts"), clock.now()
    early, late = ts.dt.year() < FIRST_YEAR, ts > now + clock.SKEW
    out_of_range = pl.when(early).then(pl.lit(f"before {FIRST_YEAR}")).when(late).then(pl.lit("in the future"))
    bad = bars.select("ts", *PRICES, reason=pl.coalesce(reject_reason(), out_of_range)).drop_nulls("reason")
    if bad.height:
        stamp, *prices, reason = bad.row(0)
        raise DataError(
            f"Expected bars from {FIRST_YEAR} to now whose prices are positive numbers, got a bar at {stamp} with "
            f"{', '.join(f'{price}' for price in prices)} ({reason}) and {bad.height - 1:,} more; nothing of this was "
            "stored; correct the source, or leave that span out"
        )


def make_rejects(bad: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return REJECT_SCHEMA for rows of numbers (BAR_SCHEMA and `reason`); `name` is that of the source."""
    values = [pl.col(column).cast(pl.String).fill_null("") for column in ("ts", *PRICES, "volume")]
    text = pl.concat_str(values, separator=",")
    rows = bad.with_row_index("line", 1)
    return rows.select(file=pl.lit(name), line=pl.col("line").cast(pl.Int64), reason="reason", text=text)


def describe_rejects(rejects: pl.DataFrame) -> str:
    """Describe why the first rows are bad.

    rejects   REJECT_SCHEMA, at least one row
    """
    shown = [
        f"line {line}: {reason} in {text[:80]!r}" for line, reason, text in rejects[:2]["line", "reason", "text"].rows()
    ]
    reasons = rejects["reason"].value_counts(sort=True)["reason"][:3].to_list()
    return f"{', '.join(reasons)} ({'; '.join(shown)})"


def make_answers(
    start: datetime, end: datetime, *, good: pl.Series, bad: pl.Series, at: datetime, observer: str
) -> tuple[AnsweredSpan, ...]:
    """Return the answers of [start, end) without the minutes of which every row was refused: those stay unknown.

    good, bad   stamps (TS) of the rows that were kept, and of those that were refused
    """
    refused = bad.dt.truncate("1m").unique().sort()
    refused = refused.filter((refused >= start) & (refused < end))
    if len(refused):
        refused = refused.filter(~refused.is_in(good.implode()))
    borders = [start, *(border for ts in refused for border in (ts, ts + timedelta(minutes=1))), end]
    spans = [(a, b) for a, b in zip(borders[::2], borders[1::2], strict=True) if a < b]
    edges = pl.DataFrame(spans, schema={"start": TS, "end": TS}, orient="row")
    before = (good if good.is_sorted() else good.sort()).to_physical()
    bars = before.search_sorted(edges["end"].to_physical()) - before.search_sorted(edges["start"].to_physical())
    return tuple(AnsweredSpan(a, b, at, observer, count) for (a, b), count in zip(spans, bars.to_list(), strict=True))


def count_by_hour(bars: pl.DataFrame) -> pl.DataFrame:
    """Return a frame `ts, bars`: bars per UTC clock hour."""
    return bars.group_by(pl.col("ts").dt.truncate("1h")).len("bars")


def make_hourly_bars(
    bars: pl.DataFrame,
    session_hours: pl.DataFrame,
    *,
    min_minutes_share: float,
    minutes: int = 1,
    complete_until: datetime | None = None,
) -> pl.DataFrame:
    """Aggregate minutes, or longer bars that divide an hour, to the session hours that are known from end to end.

    An hour counts only if the bars seen span it: the first one seen opens the known span and the last one
    ends it, unless `complete_until` (a closing time, UTC) vouches for more. So a part-hour at either
    edge never becomes a bar. Bars outside the session belong to no hour.

    session_hours   frame covering the bars' span (see `session.Session.hours`)
    minutes         that one bar spans
    Returns         HOURLY_SCHEMA, `volume` and `spread` null where no bar has one; no hour with too few minutes
    """
    if bars.is_empty():
        return pl.DataFrame(schema=HOURLY_SCHEMA)
    known_from: datetime = bars["ts"][0]
    known_until = bars["ts"][-1] + timedelta(minutes=minutes)
    known_until = max(known_until, complete_until or known_until)
    hours = bars.group_by_dynamic("ts", every="1h").agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.when(pl.col("volume").count() > 0).then(pl.col("volume").sum()),
        pl.col("spread").mean().round_sig_figs(SPREAD_DIGITS),
        minutes=pl.len() * minutes,
    )
    return (
        hours.join(session_hours, on="ts", how="inner", maintain_order="left")
        .filter(pl.col("opens_at") >= known_from, pl.col("closes_at") <= known_until)
        .with_columns(minutes_share=(pl.col("minutes") / pl.col("session_minutes")).clip(upper_bound=1.0))
        .filter(pl.col("minutes_share") >= min_minutes_share)
        .select(HOURLY_SCHEMA.names())
    )


def hash_bars(bars: pl.DataFrame) -> str:
    """Return the SHA-256 of the values, column by column, whatever their file; no model reads the spread."""
    digest = hashlib.sha256()
    for name in bars.drop("spread", strict=False).columns:
        digest.update(bars[name].to_physical().to_numpy().tobytes())
    return digest.hexdigest()
