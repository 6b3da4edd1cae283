"""Apply a pooled network to a symbol that it was not trained on, with statistics of that symbol's own history."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lstm_ts.errors import ArtifactError, NotEnoughBars
from lstm_ts.market.bars import hash_bars
from lstm_ts.market.levels import close_range
from lstm_ts.model.baselines import fit_reference
from lstm_ts.model.features import Grid, compute_returns_GH, make_grid
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.model.location import weigh_location
from lstm_ts.model.scaler_fit import fit_scaler
from lstm_ts.model.symbol_data import MIN_WINDOWS, SymbolBars
from lstm_ts.model.windows import Windows, WindowSpec, find_origins, in_span, make_windows


def check_adoptable(known: Mapping[str, Forecaster], symbol: str) -> None:
    """Raises    ArtifactError: a network of one other symbol"""
    if symbol not in known and len(known) == 1:
        raise ArtifactError(f"Expected a model of symbol={symbol}, got one of {next(iter(known))}; set symbol to that")


def choose_forecaster(known: Mapping[str, Forecaster], bars: SymbolBars, *, until: datetime | None) -> Forecaster:
    """Return the symbol's forecaster, or adopt a network of several other symbols.

    until    end of the bars for the statistics; None: the end of the network's own data
    Raises   as `check_adoptable`; NotEnoughBars: too little history for statistics
    """
    check_adoptable(known, bars.symbol.name)
    return known.get(bars.symbol.name) or _adopt(known, bars, until)


def _adopt(known: Mapping[str, Forecaster], bars: SymbolBars, until: datetime | None) -> Forecaster:
    donor = next(iter(known.values()))
    spec, provenance = donor.spec, donor.provenance
    until = until or datetime.fromisoformat(provenance.data_end)
    seen = bars.hourly_bars.filter(pl.col("ts") < until)
    session = bars.symbol.session
    grid = make_grid(bars.hourly_bars, session, ahead=spec.horizon)
    rows_N = find_origins(grid, spec, end=until, purge=True).rows_N
    if len(rows_N) < MIN_WINDOWS:
        raise NotEnoughBars(
            f"Expected at least {MIN_WINDOWS} windows of {bars.symbol.name} before {until} for its statistics, as the "
            f"network has not learnt it, got {len(rows_N)}; {_find_advice(grid, spec)}"
        )
    train_G = in_span(grid.origin_ts_G, None, until)
    scaler = fit_scaler(
        grid, train_G, donor.scaler.settings, tsteps=spec.tsteps, horizon=spec.horizon, levels=spec.levels
    )
    scaler = replace(scaler, drift_D=np.zeros_like(scaler.drift_D))  # which no validation has weighed
    windows = make_windows(grid, scaler, rows_N, spec, scaler.season_states(grid, tsteps=spec.tsteps))
    y_NH = compute_returns_GH(grid, horizon=spec.horizon)[rows_N]
    return replace(
        donor,
        scaler=scaler,
        reference=fit_reference(windows, y_NH, spec.levels),
        session=session,
        quote=bars.symbol.quote,
        closes=close_range(grid.close_G[train_G]),
        location_weight=_weigh_location(known.values(), windows, grid.origin_ts_G[rows_N]),
        scores={},
        provenance=replace(
            provenance,
            symbol=bars.symbol.name,
            source=bars.source,
            data_start=seen["ts"][0].isoformat(),
            data_end=until.isoformat(),
            data_sha256=hash_bars(seen),
            trained_until=until.isoformat(),
        ),
        learnt=tuple(each.provenance for each in known.values()),
    )


def _find_advice(grid: Grid, spec: WindowSpec) -> str:
    """Say from when on a span has MIN_WINDOWS before it."""
    first_N = find_origins(grid, spec).rows_N[MIN_WINDOWS - 1 :] + spec.horizon + 1  # the last ones are purged
    if not len(first_N) or first_N[0] >= len(grid.ts_G) - spec.horizon - 1:
        return "ingest more"
    start = np.datetime_as_string(grid.origin_ts_G[first_N[0]], "m")
    return f"move the start of the span to {start} or later, or ingest more"


def _weigh_location(
    known: Collection[Forecaster], windows: Windows[NDArray[Any]], origin_ts_N: NDArray[np.datetime64]
) -> float:
    """Weigh the median on the hours since the network's training; with too few, take its symbols' lowest weight.

    In earlier hours the network was trained on moves of other symbols.
    """
    donor = next(iter(known))
    trained_until = np.datetime64(donor.provenance.trained_until.removesuffix("+00:00"))
    later_N = windows.origin_N[origin_ts_N >= trained_until]
    if len(later_N) < MIN_WINDOWS:
        return min(each.location_weight for each in known)
    return weigh_location(donor.network, windows.at(later_N), donor.spec.levels)


def describe_adoption(forecaster: Forecaster) -> list[str]:
    """Return a sentence if the network was not trained on the symbol."""
    provenance = forecaster.provenance
    if not forecaster.learnt:
        return []
    learnt = ", ".join(each.symbol for each in forecaster.learnt)
    return [
        f"the network was trained on {learnt}, not on {provenance.symbol}, whose own bars before "
        f"{provenance.data_end} give the statistics"
    ]
