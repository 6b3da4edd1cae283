"""What a retraining judges on: bars held out of training, and a champion that has not seen them either."""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from lstm_ts.errors import ConfigError
from lstm_ts.market.bars import is_synthetic
from lstm_ts.market.session import HOUR
from lstm_ts.model.datamodule import BarsDataModule
from lstm_ts.model.folds import before
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.model.provenance import hash_bars
from lstm_ts.registry.version import Version
from lstm_ts.store.bar_store import BarStore


@dataclass(frozen=True)
class HoldoutData:
    """The bars as they were known at one moment, the latest of them held out."""

    hourly_bars: pl.DataFrame
    data_sha256: str
    source: str
    valid_from: datetime
    start: datetime  # of the held-out span: nothing from here on is trained or stopped on
    end: datetime


@dataclass(frozen=True)
class Champion:
    version: Version
    forecaster: Forecaster


def hold_out(store: BarStore, *, end: datetime | None, valid: str, holdout: str) -> HoldoutData:
    """Raises    ConfigError: no bars are left to train on"""
    stored = store.read()
    latest = stored["ts"][-1] + HOUR
    end = min(end or latest, latest)
    start = before(end, holdout)
    valid_from = before(start, valid)
    if not stored["ts"][0] < valid_from < start < end:
        raise ConfigError(
            f"Expected bars to train on before retrain.valid and retrain.holdout ({valid} and "
            f"{holdout} before {end}), got the first at {stored['ts'][0]}; shorten them, or move span.end"
        )
    known = stored.filter(pl.col("ts") <= end - HOUR)
    return HoldoutData(known, hash_bars(known), store.source, valid_from, start, end)


def check_champion(champion: Champion, data: BarsDataModule, held: HoldoutData, symbol: str) -> None:
    """Raises    ConfigError: it is no model for these bars, or has seen what is held out"""
    provenance, spec = champion.forecaster.provenance, champion.forecaster.spec
    for what, theirs, ours in (
        ("symbol", provenance.symbol, symbol),
        ("bars", _kind(provenance.source), _kind(held.source)),
        ("symbol.session.calendar", champion.forecaster.session.calendar, data.session.calendar),
        ("symbol.session.zone", champion.forecaster.session.zone, data.session.zone),
        ("tsteps", spec.tsteps, data.spec.tsteps),
        ("horizon", spec.horizon, data.spec.horizon),
        ("max_missing", spec.max_missing, data.spec.max_missing),
        ("levels", spec.levels, data.spec.levels),
    ):
        if theirs != ours:
            raise ConfigError(
                f"Expected a champion of {what} {ours}, got {theirs} in {champion.version}; "
                f"configure that, or begin another line of models with name=…"
            )
    if datetime.fromisoformat(provenance.data_end) > held.start:
        raise ConfigError(
            f"Expected a held-out span that {champion.version} has not seen, so from {provenance.data_end} on, "
            f"got one from {held.start.isoformat()}; wait for later bars, or shorten retrain.holdout"
        )


def _kind(source: str) -> str:
    return "synthetic" if is_synthetic(source) else "real"
