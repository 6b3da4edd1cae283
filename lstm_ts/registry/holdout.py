"""Data for judging a retraining: bars held out of training, and a champion that has not seen them either."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import polars as pl

from lstm_ts.errors import ConfigError
from lstm_ts.market.bars import hash_bars, is_synthetic
from lstm_ts.market.session import HOUR
from lstm_ts.model.folds import before
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.model.symbol_data import SymbolBars
from lstm_ts.model.windows import WindowSpec
from lstm_ts.registry.version import Version


@dataclass(frozen=True)
class HoldoutData:
    """Bars as they were known at one moment, the latest of them held out."""

    bars: SymbolBars
    valid_from: datetime
    start: datetime  # of the held-out span: nothing from here on is trained or stopped on
    end: datetime
    shortened: bool  # begins later than `retrain.holdout` requires

    @property
    def data_sha256(self) -> str:
        return hash_bars(self.bars.hourly_bars)


@dataclass(frozen=True)
class Champion:
    version: Version
    forecaster: Forecaster


@dataclass(frozen=True)
class Change:
    """A change of the market: a retraining stops on the first half of the hours since, and judges on the second."""

    since: datetime
    min_hours: int  # in each half; with fewer since, nothing is laid out by it


def hold_out(
    bars: Sequence[SymbolBars],
    *,
    end: datetime | None,
    valid: str,
    holdout: str,
    change: Change | None = None,
    seen_until: datetime | None = None,
) -> list[HoldoutData]:
    """Return the same spans of every symbol, up to the latest bar of any.

    seen_until   the held-out span begins no earlier
    Raises    ConfigError: a symbol has no bars in them
    """
    latest = max(each.hourly_bars["ts"][-1] for each in bars) + HOUR
    end = min(end or latest, latest)
    usual = before(end, holdout)
    start = max(usual, seen_until or datetime.min.replace(tzinfo=UTC))
    valid_from = before(start, valid)
    if change and (middle := _find_middle(bars, change, end)):
        start = max(start, middle)
        valid_from = max(before(start, valid), change.since)
    for each in bars:
        first, last = each.hourly_bars["ts"][0], each.hourly_bars["ts"][-1]
        if not first < valid_from < start < end or last < start:
            raise ConfigError(
                f"Expected bars of {each.symbol.name} before and in retrain.valid and retrain.holdout ({valid} and "
                f"{holdout} before {end}), got some from {first} to {last}; shorten them, or move span.end"
            )
    known = pl.col("ts") <= end - HOUR
    as_known = [replace(each, hourly_bars=each.hourly_bars.filter(known)) for each in bars]
    return [HoldoutData(each, valid_from, start, end, start > usual) for each in as_known]


def _find_middle(bars: Sequence[SymbolBars], change: Change, end: datetime) -> datetime | None:
    """Return the middle of the hours since the change, by the symbol that has the fewest; None: they are too few."""
    spans = [
        each.hourly_bars["ts"].filter(each.hourly_bars["ts"].is_between(change.since, end - HOUR)) for each in bars
    ]
    fewest = min(spans, key=len)
    if len(fewest) < 2 * change.min_hours:
        return None
    middle: datetime = fewest[len(fewest) // 2]
    return middle


def check_champion(champion: Champion, spec: WindowSpec, held: HoldoutData) -> None:
    """Raises    ConfigError: it is no model for these bars, or has seen what is held out"""
    provenance, their_spec, symbol = champion.forecaster.provenance, champion.forecaster.spec, held.bars.symbol
    for what, theirs, ours in (
        ("symbol", provenance.symbol, symbol.name),
        ("bars", _kind(provenance.source), _kind(held.bars.source)),
        ("symbol.session.calendar", champion.forecaster.session.calendar, symbol.session.calendar),
        ("symbol.session.zone", champion.forecaster.session.zone, symbol.session.zone),
        ("tsteps", their_spec.tsteps, spec.tsteps),
        ("horizon", their_spec.horizon, spec.horizon),
        ("max_missing", their_spec.max_missing, spec.max_missing),
        ("levels", their_spec.levels, spec.levels),
    ):
        if theirs != ours:
            raise ConfigError(
                f"Expected a champion of {what} {ours}, got {theirs} in {champion.version}; "
                f"configure that, or start another line of models with name=…"
            )
    if datetime.fromisoformat(provenance.data_end) > held.start:
        raise ConfigError(
            f"Expected a held-out span that {champion.version} has not seen, so from {provenance.data_end} on, "
            f"got one from {held.start.isoformat()}; wait for later bars, or shorten retrain.holdout"
        )


def _kind(source: str) -> str:
    return "synthetic" if is_synthetic(source) else "real"
