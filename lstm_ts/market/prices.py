"""Prices as text: with the digits of their size and the symbol's quote currency. Pure."""

import math
import re
from dataclasses import dataclass

import numpy as np

from lstm_ts.errors import ConfigError

OWN_STEP = 1e-4  # of the last close: a symbol's own decimals will do where the last is worth at most a basis point
MAX_STEP = 0.5e-4  # else they are as many as make it half a basis point
MIN_DECIMALS = 2
MOST_DECIMALS = 12
CURRENCY = re.compile(r"[A-Z][A-Z0-9]{2,7}")
CURRENCIES = (  # that a pair may end with; see `guess_quote`
    "AED ARS AUD BRL CAD CHF CLP CNH CNY COP CZK DKK EUR GBP HKD HUF IDR ILS INR JPY KRW KWD MXN MYR NOK NZD "
    "PEN PHP PKR PLN QAR RON RUB SAR SEK SGD THB TRY TWD UAH USD VND ZAR"
)


@dataclass(frozen=True)
class Quote:
    """Quote currency and minimum decimals of a symbol's prices.    Raises    ConfigError"""

    currency: str
    decimals: int  # of a price, at least

    def __post_init__(self) -> None:
        if not isinstance(self.currency, str) or not CURRENCY.fullmatch(self.currency):
            raise ConfigError(f"Expected a currency in capital letters such as USD or USDT, got {self.currency}")
        if type(self.decimals) is not int or not 0 <= self.decimals <= MOST_DECIMALS:
            raise ConfigError(f"Expected decimals within 0..{MOST_DECIMALS}, got {self.decimals}")


@dataclass(frozen=True)
class PriceFormat:
    """Format of the prices of one table or forecast, all with the same decimals."""

    currency: str | None
    decimals: int

    @property
    def unit(self) -> str:
        """Label of a price axis or column."""
        return self.currency or "price"

    @property
    def suffix(self) -> str:
        return f" {self.currency}" if self.currency else ""

    def number(self, price: float) -> str:
        assert math.isfinite(price), price
        return f"{price:.{self.decimals}f}"

    def amount(self, price: float) -> str:
        """Format the price with its currency."""
        return self.number(price) + self.suffix


def price_format(quote: Quote | None, last_close: float) -> PriceFormat:
    """Return the format of all prices near `last_close`, which is positive: 18.459, 2650.50, 1.08341, 0.0000030250.

    quote   None if unknown
    """
    assert 0 < last_close < math.inf, last_close
    decimals = quote.decimals if quote else MIN_DECIMALS
    will_do = quote is not None and 10.0**-decimals <= OWN_STEP * last_close
    while not will_do and 10.0**-decimals > MAX_STEP * last_close * (1 + 1e-9):
        decimals += 1
    return PriceFormat(quote.currency if quote else None, decimals)


def guess_quote(symbol: str) -> Quote | None:
    """Guess the quote by the second half of a six-letter pair (EURGBP -> GBP), for models without one."""
    base, currency = symbol[:-3], symbol[-3:]
    is_pair = len(base) == 3 and base.isascii() and base.isalnum() and base.isupper() and currency in CURRENCIES.split()
    return Quote(currency, MIN_DECIMALS) if is_pair else None


def positional(value: float, digits: int = 6) -> str:
    """Format a number with at most `digits` significant digits, never in exponent notation: 4055690, 0.000003."""
    return np.format_float_positional(float(f"{value:.{digits}g}"), trim="-")


def significant(value: float, digits: int = 3) -> str:
    """Format a number with at least `digits` significant digits, never in exponent notation; '-' for NaN."""
    if math.isnan(value):
        return "-"
    assert math.isfinite(value), value
    decimals = digits - 1 - math.floor(math.log10(abs(value))) if value else digits - 1
    return f"{value:,.{max(decimals, 0)}f}"
