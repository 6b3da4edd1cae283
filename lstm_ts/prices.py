"""Prices as text: with the digits of their size and the symbol's quote currency. Pure."""

import math
from dataclasses import dataclass

MAX_STEP = 0.5e-4  # of the last close: the last decimal is worth at most half a basis point
MIN_DECIMALS = 2
CURRENCIES = (
    "AED ARS AUD BRL CAD CHF CLP CNH CNY COP CZK DKK EUR GBP HKD HUF IDR ILS INR JPY KRW KWD MXN MYR NOK NZD "
    "PEN PHP PKR PLN QAR RON RUB SAR SEK SGD THB TRY TWD UAH USD VND ZAR"
)


@dataclass(frozen=True)
class PriceFormat:
    """How the prices of one table or forecast are written, all with the same decimals."""

    currency: str | None
    decimals: int

    @property
    def unit(self) -> str:
        """The label of a price axis or column."""
        return self.currency or "price"

    @property
    def suffix(self) -> str:
        return f" {self.currency}" if self.currency else ""

    def number(self, price: float) -> str:
        assert math.isfinite(price), price
        return f"{price:.{self.decimals}f}"

    def amount(self, price: float) -> str:
        """The price and its currency."""
        return self.number(price) + self.suffix


def price_format(symbol: str, last_close: float) -> PriceFormat:
    """The format of all prices near `last_close`, which is positive: 30.123, 2650.50, 1.08341, 0.0000030250."""
    assert 0 < last_close < math.inf, last_close
    decimals = MIN_DECIMALS
    while 10.0**-decimals > MAX_STEP * last_close * (1 + 1e-9):
        decimals += 1
    return PriceFormat(quote_currency(symbol), decimals)


def quote_currency(symbol: str) -> str | None:
    """The second half of a six-letter pair (EURGBP -> GBP), or None where the symbol does not tell."""
    base, quote = symbol[:-3], symbol[-3:]
    return quote if len(base) == 3 and base.isascii() and base.isupper() and quote in CURRENCIES.split() else None


def significant(value: float, digits: int = 3) -> str:
    """A number with at least `digits` significant digits, never in exponent notation; '-' for NaN."""
    if math.isnan(value):
        return "-"
    assert math.isfinite(value), value
    decimals = digits - 1 - math.floor(math.log10(abs(value))) if value else digits - 1
    return f"{value:,.{max(decimals, 0)}f}"
