"""Prices as text."""

import math

import pytest

from lstm_ts.errors import ConfigError
from lstm_ts.market.prices import Quote, guess_quote, positional, price_format, significant

DOLLARS = Quote("USD", 2)


@pytest.mark.parametrize(
    ("quote", "close", "text"),
    [
        (DOLLARS, 30.123, "30.123 USD"),
        (DOLLARS, 2650.5, "2650.50 USD"),
        (Quote("USD", 3), 18.4586, "18.459 USD"),
        (DOLLARS, 1.08341, "1.08341 USD"),
        (Quote("JPY", 1), 150.1234, "150.123 JPY"),
        (Quote("USD", 4), 97_000.0, "97000.0000 USD"),
        (Quote("JPY", 0), 40_000.0, "40000 JPY"),
        (None, 3.025e-6, "0.0000030250"),
        (None, 1e9, "1000000000.00"),
    ],
)
def test_a_price_has_the_digits_of_its_size_and_of_its_symbol_and_the_currency(quote, close, text):
    assert price_format(quote, close).amount(close) == text


def test_all_prices_of_a_forecast_have_the_decimals_of_its_last_close():
    prices = price_format(DOLLARS, 20.0)
    assert [prices.number(price) for price in (20.0, 19.98, 20.0204)] == ["20.000", "19.980", "20.020"]


@pytest.mark.parametrize(("price", "text"), [(30.25, "30.25"), (3e-6, "0.000003"), (4055690.0, "4055690")])
def test_a_price_in_a_sentence_has_no_exponent(price, text):
    assert positional(price) == text


@pytest.mark.parametrize("price", [math.nan, math.inf, -math.inf])
def test_a_price_that_is_no_number_is_never_printed(price):
    with pytest.raises(AssertionError):
        price_format(DOLLARS, 30.0).number(price)
    with pytest.raises(AssertionError):
        price_format(DOLLARS, price)


@pytest.mark.parametrize(("symbol", "currency"), [("XAGUSD", "USD"), ("EURGBP", "GBP"), ("USDJPY", "JPY")])
def test_the_name_of_a_pair_ends_with_its_currency(symbol, currency):
    assert guess_quote(symbol) == Quote(currency, 2)


@pytest.mark.parametrize("symbol", ["SILVER", "GOOGLE", "SPY", "BTCUSDT", "xagusd", "USD", ""])
def test_a_name_that_is_no_pair_tells_no_currency(symbol):
    assert guess_quote(symbol) is None
    assert price_format(None, 30.0).unit == "price"


@pytest.mark.parametrize(
    ("currency", "decimals"),
    [("usd", 2), ("", 2), ("US", 2), (7, 2), ("USD", -1), ("USD", 13), ("USD", True), ("USD", 2.0)],
)
def test_what_is_no_quote_is_refused(currency, decimals):
    with pytest.raises(ConfigError, match=r"^Expected (a currency|decimals)"):
        Quote(currency, decimals)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "0.0123"), (3.214e-6, "0.00000321"), (12345.6, "12,346"), (0.0, "0.00"), (math.nan, "-")],
)
def test_a_difference_has_three_digits_and_no_exponent(value, text):
    assert significant(value) == text
