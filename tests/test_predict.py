"""What predict says."""

from datetime import UTC, datetime

import numpy as np
import pytest

from lstm_ts.forecaster import Forecast
from lstm_ts.predict import format_forecast, to_json


def make_forecast(symbol="XAGUSD", last_close=20.0, missing_hours=0):
    return Forecast(
        symbol=symbol,
        origin_ts=datetime(2026, 1, 5, 9, tzinfo=UTC),
        last_close=last_close,
        levels=(0.1, 0.5, 0.9),
        target_ts_H=[datetime(2026, 1, 5, hour, tzinfo=UTC) for hour in (10, 11)],
        q_HQ=np.log([[0.99, 1.0, 1.01], [0.98, 1.0, 1.02]]),
        missing_hours=missing_hours,
        volatility=1.0,
    )


@pytest.mark.parametrize(
    ("symbol", "close", "said", "row"),
    [
        ("XAGUSD", 20.0, "20.000 USD, with", "20.000  19.800 to 20.200       20.000"),
        ("USDJPY", 150.0, "150.000 JPY, with", "150.000  148.500 to 151.500      150.000"),
        ("SHIB", 3e-6, "0.0000030000, with", "0.0000030000  0.0000029700 to 0.0000030300  0.0000030000"),
    ],
)
def test_prices_have_the_digits_of_their_size_and_the_currency_of_their_symbol(symbol, close, said, row):
    lines = format_forecast(make_forecast(symbol, close), "files").splitlines()
    assert lines[2] == f"   1  2026-01-05 10:00  {row}"
    assert f"{symbol} stands at {said} 80 % probability" in lines[-1]


@pytest.mark.parametrize(("symbol", "currency"), [("EURGBP", "GBP"), ("SPY", None)])
def test_json_names_the_currency(symbol, currency):
    assert to_json(make_forecast(symbol), "files")["currency"] == currency
