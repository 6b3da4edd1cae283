"""Compare served forecasts with those of the stored bars for the same origin and version. Pure."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from lstm_ts.ledger.monitor_rows import HourlyForecast
from lstm_ts.ledger.rows import ForecastRow
from lstm_ts.monitoring.findings import Finding, Health

TOLERANCE = 1e-6  # of a price
PATH_LEVELS = (0.5, 0.1, 0.9)  # of ServedPath's columns
Key = tuple[int, datetime]  # version, origin


def check_served(
    name: str,
    served: Sequence[ForecastRow],
    stored: Mapping[Key, Sequence[HourlyForecast]],
    *,
    since: datetime,
    unseen: Collection[Key] = (),
) -> Finding:
    """served   since the last check
    stored   by version and origin: what the store gave when the monitor saw the hour, what it gives now, and what
             it gave at the time of the request, from the bars of that time
    unseen   hours that the monitor has not forecast: bars may have been added there since a request of other bars
    """
    pairs = [(row, choose(row, stored[key])) for row in served if (key := (row.version, row.origin_ts)) in stored]
    pairs = [(row, ours) for row, ours in pairs if _is_same(row, ours) or (row.version, row.origin_ts) not in unseen]
    unconfirmed, so_far = len(served) - len(pairs), f"since {since:%Y-%m-%d %H:%M} UTC"
    why = "their hours are too old, or store and registry give no forecast of them from the same bars"
    if not pairs:
        unchecked = f"{unconfirmed:,} served forecasts of {name} {so_far} could not be checked: {why}."
        sentence = unchecked if unconfirmed else f"No forecast of {name} was served {so_far}."
        return Finding("skew", name, Health.UNKNOWN, sentence)
    left = f" {unconfirmed:,} more could not be checked: {why}." * (unconfirmed > 0)
    others = [row for row, ours in pairs if not _is_same(row, ours)]
    apart = [(row, gap) for row, ours in pairs if (gap := measure_gap(row, ours)) > TOLERANCE]
    if not others and not apart:
        sentence = f"{len(pairs):,} served forecasts of {name} are what the stored bars give.{left}"
        return Finding("skew", name, Health.GOOD, sentence)
    parts = []
    if apart:
        row, gap = max(apart, key=lambda pair: pair[1])
        parts.append(
            f"{len(apart):,} differ from what the stored bars give, the most by {gap:.2g} of the price (version "
            f"{row.version}, origin {row.origin_ts:%Y-%m-%d %H:%M} UTC, request {row.request_id})"
        )
    if others:
        row = others[-1]
        parts.append(
            f"{len(others):,} had other bars than the store, the last at {row.at:%Y-%m-%d %H:%M} UTC (request "
            f"{row.request_id})"
        )
    sentence = f"Of {len(pairs):,} served forecasts of {name}, {' and '.join(parts)}.{left}"
    return Finding("skew", name, Health.BAD, sentence)


def choose(served: ForecastRow, stored: Sequence[HourlyForecast]) -> HourlyForecast:
    """The one of the same bars, or else the first."""
    return next((ours for ours in stored if _is_same(served, ours)), stored[0])


def _is_same(served: ForecastRow, stored: HourlyForecast) -> bool:
    return served.input_sha256 == stored.input_sha256


def measure_gap(served: ForecastRow, stored: HourlyForecast) -> float:
    """Return the largest relative difference of the path's prices; infinite if the target hours differ."""
    path = served.path
    if list(path.target_ts_H) != [ts.replace(tzinfo=UTC) for ts in stored.target_ts_H.tolist()]:
        return np.inf
    columns = [stored.levels.index(level) for level in PATH_LEVELS]
    ours_3H = stored.last_close * np.exp(stored.q_HQ.astype(np.float64)[:, columns].T)
    theirs_3H = np.array([path.median_H, path.lower_80_H, path.upper_80_H])
    return float(np.abs(theirs_3H / ours_3H - 1).max())
