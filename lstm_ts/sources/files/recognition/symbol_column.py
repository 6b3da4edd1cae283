"""Find the column that names the symbol of each row, by its name or else by its cells."""

import re
from collections.abc import Mapping, Sequence

NAMES = ("symbol", "ticker", "instrument", "pair", "currency pair", "sym")
NAME = re.compile(
    r"(?!quote\b)(.+ )?(symbol|ticker|instrument|\w*pair|asset|security|contract|product|underlying|epic|sym|secid|ric"
    r"|isin|cusip|figi|base( currency)?)( ?(symbol|name|code|id))?|name|code|market( name)?"
)
# Names of other columns of short words.
OTHER_NAME = re.compile(
    r"(.+ )?(exchange|venue|source|provider|vendor|broker|feed|server|currency|ccy|unit|type|side|session|status|state"
    r"|zone|timezone|tz|offset|colou?r|direction|position|regime|pattern|hash|market|day|weekday|month|flags?|conditions?|signal|trend|comment|note|quality)"
    r"( ?(name|code|id))?"
)
CODE = re.compile(r"[#.^$@{]?[A-Z\d/_.:=#+&}-]*[A-Z]{2}[A-Z\d/_.:=#+&}-]*[a-z]{0,3}([ .]\w+)?")
MARKET = re.compile(r"gold|silver|xa[ugt]|usd|eur|jpy|gbp|btc|brent|wti", re.IGNORECASE)
NO_SYMBOL = re.compile(
    r"USD|EUR|JPY|GBP|CHF|AUD|NZD|CAD|UTC|GMT|[A-Z]{1,3}[SD]T|.{1,2}|[MHDW]\d+|\d+ ?[A-Z]{1,4}|MN\d*"
    r"|TRUE|FALSE|YES|NONE|NULL|BID|ASK|MID(POINT)?|LAST|TRADES?|BUY|SELL|OPEN|CLOSED?|RTH|ETH|GOOD|BAD"
    r"|(MON|TUE|WED|THU|FRI|SAT|SUN)[A-Z]*",
    re.IGNORECASE,
)


def find_symbol(names: Mapping[int, str], cells: Mapping[int, Sequence[str]]) -> int | None:
    """Return the number of the column; None: there is none.

    names   of the columns without another role, normalised
    cells   of these columns, in a few rows
    """
    by_name = {name: i for i, name in reversed(list(names.items()))}
    known = next((by_name[name] for name in NAMES if name in by_name), None)
    if known is not None:
        return known if any(cells[known]) else None
    filled = {i: [cell for cell in cells[i] if cell] for i in names}
    few = [i for i in names if filled[i] and len(set(filled[i])) <= max(3, len(filled[i]) // 2)]
    named = (
        i for i in few if NAME.fullmatch(names[i]) and not any("." in cell for cell in filled[i] if _is_number(cell))
    )
    open_page = (i for i in few if not OTHER_NAME.fullmatch(names[i]) and any(map(_is_symbol, filled[i])))
    return next(named, next(open_page, None))


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[+-]?[\d.,]+", cell) is not None


def _is_symbol(cell: str) -> bool:
    looks = len(cell) <= 24 and not _is_number(cell) and (CODE.fullmatch(cell) or MARKET.search(cell))
    return bool(looks) and NO_SYMBOL.fullmatch(cell) is None
