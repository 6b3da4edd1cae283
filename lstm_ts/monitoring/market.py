"""Hours as `regime` compares them, from a grid and the windows of a model. Pure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_ts.model.features import Grid
from lstm_ts.model.windows import BODY, GAP, MAX_RETURN, POSITION, RANGE, Windows
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.monitoring.regime import INPUTS, Hours, RegimeCheck


def read_hours(grid: Grid, windows: Windows[NDArray[Any]], inside_G: NDArray[np.bool_]) -> Hours:
    """Hours of the grid, each input in units of the window that ends with it; missing ones are left out."""
    rows = np.flatnonzero(inside_G & ~grid.missing_G & ~np.isnan(windows.volatility_G))
    columns = windows.features_GF[rows].astype(np.float64)
    volatility_N = windows.volatility_G[rows].astype(np.float64)
    inputs = {
        "body": (columns[:, BODY] / volatility_N).clip(-MAX_RETURN, MAX_RETURN),
        "gap": (columns[:, GAP] / volatility_N).clip(-MAX_RETURN, MAX_RETURN),
        "range": columns[:, RANGE] - windows.log_volatility_G[rows],
        "position": columns[:, POSITION],
    }
    assert len(inputs) == INPUTS
    return Hours(grid.close_G[rows], grid.range_G[rows], inputs)


def describe_regime(name: str, checks: Sequence[RegimeCheck]) -> Finding:
    outside = [check.sentence for check in checks if check.outside]
    if outside:
        sentence = f"Another regime than in the training of {name}, which is no drift by itself. {' '.join(outside)}"
        return Finding("regime", name, Health.BAD, sentence)
    volatility, price = checks[:2]
    return Finding("regime", name, Health.GOOD, f"{volatility.sentence} {price.sentence}")
