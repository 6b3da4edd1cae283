"""A model's forecasts on a span of bars, beside the baselines' and the outcomes."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import numpy as np
import polars as pl

from lstm_ts.errors import ConfigError, NoRows
from lstm_ts.market.announcements import describe_unknown
from lstm_ts.model.features import compute_returns_GH
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.model.symbol_data import MIN_WINDOWS
from lstm_ts.model.windows import find_origins
from lstm_ts.scoring.records import ForecastRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Span:
    """Origins with start <= origin_ts < end, UTC; None is open."""

    start: datetime | None
    end: datetime | None

    @classmethod
    def given(cls, start: datetime | None, end: datetime | None, forecaster: Forecaster) -> Self:
        """Check a span that a user gives; by default it starts at the end of the model's bars.

        Raises    ConfigError: it ends before it starts
        """
        first = start or forecaster.seen_until
        if first and end and end <= first:
            which = "" if start else ", the end of the model's bars"
            raise ConfigError(
                f"Expected a span that ends after its start ({first}{which}), got {end}; move its start or end"
            )
        return cls(first, end)


def evaluate(forecaster: Forecaster, hourly_bars: pl.DataFrame, span: Span) -> ForecastRecord:
    """The model's forecasts and the baselines' for every window of the span, beside the outcomes.

    Raises    NoRows: not one window in it
    """
    grid, spec = forecaster.grid(hourly_bars), forecaster.spec
    origins = find_origins(grid, spec, start=span.start, end=span.end)
    if not len(origins.rows_N):
        raise NoRows(
            f"Expected windows of {spec.tsteps} session hours that end from {span.start or 'the first bar'} to "
            f"{span.end or 'the last'}, got none among bars from {hourly_bars['ts'][0]} to {hourly_bars['ts'][-1]}; "
            f"move the span's start or end"
        )
    log.info("%d windows; left out: %d whose origin is missing, %d with more than %d missing hours",
             len(origins.rows_N), origins.missing_origin, origins.too_many_missing, spec.max_missing)  # fmt: skip
    rows_N = origins.rows_N
    windows = forecaster.windows(grid, rows_N, forecaster.season_states(grid))
    ahead_NH = rows_N[:, None] + np.arange(1, spec.horizon + 1)
    return ForecastRecord(
        symbol=forecaster.provenance.symbol,
        levels=spec.levels,
        origin_ts_N=grid.origin_ts_G[rows_N],
        target_ts_NH=grid.origin_ts_G[ahead_NH],
        last_close_N=grid.close_G[rows_N],
        y_NH=compute_returns_GH(grid, horizon=spec.horizon)[rows_N],
        quantiles={forecaster.network.name: forecaster.quantiles(windows)} | forecaster.reference.quantiles(windows),
        baselines=tuple(forecaster.reference.baselines),
        window_volatility_N=windows.volatility_G[rows_N].astype(np.float64),
        last_bar_position_N=grid.position_G[rows_N],
        hour_of_day_N=(grid.hour_of_week_G[rows_N] + 1) % 24,
        mase_scale_H=forecaster.reference.mase_scale_H,
        quote=forecaster.quote,
    )


def describe_record(forecaster: Forecaster, record: ForecastRecord) -> list[str]:
    """Return sentences about scores that say less, or more, than they seem to."""
    return [
        *_describe_in_sample(forecaster, record),
        *_describe_short_training(forecaster),
        *describe_announcements(record),
    ]


def _describe_in_sample(forecaster: Forecaster, record: ForecastRecord) -> list[str]:
    """Return a sentence if the record begins with an hour that the model has seen, as a bar of any of its symbols."""
    seen_until = forecaster.seen_until
    if not seen_until or record.origin_ts_N[0] >= np.datetime64(seen_until.replace(tzinfo=None)):
        return []
    return [
        f"In sample: the span begins before {seen_until.isoformat()}, up to where this model was trained and chosen."
    ]


def _describe_short_training(forecaster: Forecaster) -> list[str]:
    provenance, spec = forecaster.provenance, forecaster.spec
    if not (provenance.data_start and provenance.trained_until):
        return []
    span = (datetime.fromisoformat(each) for each in (provenance.data_start, provenance.trained_until))
    windows = forecaster.session.hours(*span).height - spec.tsteps - spec.horizon
    if windows >= MIN_WINDOWS:
        return []
    return [
        f"Short training: bars of {provenance.symbol} from {provenance.data_start} to {provenance.trained_until} give "
        f"fewer windows than the {MIN_WINDOWS} that statistics by hour of the week take."
    ]


def describe_announcements(record: ForecastRecord) -> list[str]:
    """Return a sentence if hours of the record lie beyond an end of the table of announcements."""
    first, last = (ts.item().replace(tzinfo=UTC) for ts in (record.origin_ts_N[0], record.target_ts_NH[-1, -1]))
    return [f"Note: {each}." for each in describe_unknown(first, last)]
