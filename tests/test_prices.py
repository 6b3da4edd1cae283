"""Prices as text."""

import math

import pytest

from lstm_ts.prices import price_format, quote_currency, significant


@pytest.mark.parametrize(
    ("symbol", "close", "text"),
    [
        ("XAGUSD", 30.123, "30.123 USD"),
        ("XAUUSD", 2650.5, "2650.50 USD"),
        ("EURUSD", 1.08341, "1.08341 USD"),
        ("USDJPY", 150.1234, "150.123 JPY"),
        ("EURGBP", 0.85, "0.85000 GBP"),
        ("BTCUSD", 97_000.0, "97000.00 USD"),
        ("SHIB", 3.025e-6, "0.0000030250"),
        ("FUND", 1e9, "1000000000.00"),
    ],
)
def test_a_price_has_the_digits_of_its_size_and_the_currency_of_its_symbol(symbol, close, text):
    assert price_format(symbol, close).amount(close) == text


def test_all_prices_of_a_forecast_have_the_decimals_of_its_last_close():
    prices = price_format("XAGUSD", 20.0)
    assert [prices.number(price) for price in (20.0, 19.98, 20.0204)] == ["20.000", "19.980", "20.020"]


@pytest.mark.parametrize("price", [math.nan, math.inf, -math.inf])
def test_a_price_that_is_no_number_is_never_printed(price):
    with pytest.raises(AssertionError):
        price_format("XAGUSD", 30.0).number(price)
    with pytest.raises(AssertionError):
        price_format("XAGUSD", price)


@pytest.mark.parametrize("symbol", ["SILVER", "GOOGLE", "SPY", "BTCUSDT", "xagusd", "USD", ""])
def test_a_symbol_that_is_no_pair_has_no_currency(symbol):
    assert quote_currency(symbol) is None
    assert price_format(symbol, 30.0).unit == "price"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "0.0123"), (3.214e-6, "0.00000321"), (12345.6, "12,346"), (0.0, "0.00"), (math.nan, "-")],
)
def test_a_difference_has_three_digits_and_no_exponent(value, text):
    assert significant(value) == text
