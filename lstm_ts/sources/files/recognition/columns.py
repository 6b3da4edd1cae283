"""Recognition of a file's columns, by the names that vendors give them and by the form of the cells."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from lstm_ts.errors import UnknownFormat
from lstm_ts.market.bars import PRICES
from lstm_ts.market.prices import CURRENCIES
from lstm_ts.sources.files.recognition.numbers import NANOS, decimal_comma, parse_numbers
from lstm_ts.sources.files.recognition.stamp_columns import are_on_minutes, find_stamps, find_unread_clock
from lstm_ts.sources.files.recognition.stamps import ABBREVIATIONS, UTC_NAMES, Stamp
from lstm_ts.sources.files.recognition.symbol_column import find_symbol

VOLUME_NAMES = (
    "volume", "tick volume", "tickvol", "tick vol", "tickvolume", "ticks", "tick count", "vol", "v", "real volume",
    "tick qty", "tickqty",
)  # fmt: skip
VOLUME = re.compile(
    r"((total|base|base asset|traded?|deal|share|contract|n|num(ber of)?) ?)?"
    r"(volumen?|vol|vlm|qty|quantity|size|shares|contracts|ticks|umsatz)( ?from)?"
    r"|((tick|trading|bar) ?)?volumes?|tick ?counts?|lots"
)
VOLUME_OF = re.compile(
    r"vol(ume)? (?!(\w*ma|avg|average|mean|median|change|delta|ratio|osc\w*|std|rank|profile)( |$))\S+"
)
COMPLETE_NAMES = ("complete", "is complete", "completed", "is final", "final", "closed", "is closed", "confirm")
FLAGS = {"true": True, "1": True, "false": False, "0": False}
PERIOD_NAMES = ("timeframe", "per", "period", "interval", "tf", "granularity", "resolution", "bar size", "barsize")
SIDE_NAMES = ("side", "quote side", "quote type", "price type", "offer side")
SIDES = ("bid", "ask", "mid")
ZONE_COLUMN = re.compile(r"(time ?)?(zone|tz)|(utc|gmt|tz|zone) offset")
# That a volume of money is in.
QUOTES = {*CURRENCIES.lower().split(), *("usdt", "usdc", "busd", "$", "us$", "€", "£", "¥")}

NO_UNIT = re.compile(
    r"(?!USX|GBX|EUX|ZAC|ILA|CENT)([A-Z\d][A-Z\d/:=.]+|[$€£¥]|US[$])([ /].*)?|(?i:bid|ask|mid|last|price)"
)
LETTERS = ("o", "h", "l", "c")
WORDINGS = ("{}", "{} price", "{}price", "mid {}", "{} mid", "bid {}", "{} bid", "bid{}", "{}bid")
CLOSES = ("close", "last", "latest", "close/last", "last price", "price")
PRICE_NAMES = tuple(
    tuple(wording.format(word) for word in words)
    for wording in WORDINGS
    for words in (*((*PRICES[:3], close) for close in CLOSES), LETTERS)
)
PRICE_LIKE, MOST_ROWS = 0.05, 0.9  # relative distance from the bid, in so many of the rows
PRICES_OF_TICKS = 2  # beside bid and ask: mid and last
TICK_NAMES = (("bid", "ask"), ("bid price", "ask price"), ("bidprice", "askprice"), ("bid px 00", "ask px 00"))
DATABENTO_NAMES = {"rtype", "publisher id"}


@dataclass(frozen=True)
class Columns:
    """Positions of the columns that are read."""

    stamp: tuple[int, ...]  # see StampColumns.at
    stamps: Stamp
    prices: tuple[int, ...]  # open, high, low, close; or bid, ask
    volume: int | None = None
    symbol: int | None = None
    period: int | None = None
    complete: int | None = None  # false of a bar that is not finished
    side: int | None = None  # of the quotes that a bar is of
    spread: int | None = None  # in the unit of the prices
    unit: str = ""  # the name of a price column whose unit is not a currency
    nanos: bool = False  # prices are whole numbers of 1e-9
    closing: str = ""  # the name of the stamps' column if it marks closing times
    zone: str = ""  # the name of a column of zones or offsets, which is not read
    noon: bool = False  # see StampColumns
    utc: bool = False  # likewise
    unread: str = ""  # names a clock beside stamps without a time of day, for a message
    more: str = ""  # names of the prices beside bid and ask of each minute, which are those of bars

    @property
    def ticks(self) -> bool:
        return len(self.prices) == 2

    @property
    def extras(self) -> dict[str, int]:
        """Columns that decide which rows count, by the names of the rows' frames."""
        found = {"symbol": self.symbol, "period": self.period, "complete": self.complete}
        found |= {} if self.ticks else {"side": self.side}
        return {name: i for name, i in found.items() if i is not None}


def normalise(name: str) -> str:
    """Return a column's name in lower case, without the vendor's quotes, numbers, dashes, units.

    pandas' number of one that comes twice, as in Open.1, is left out too.
    """
    name = re.sub(r"^\d+[ab]?\.\s+|(?<=[A-Za-z])\.1$", "", name.strip(" \"'<>#\ufeff"))
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    return re.sub(r"[\s_\-.]+", " ", re.sub(r"\s*[\[(].*[\])]$", "", name)).strip()


def _has_unit(name: str) -> bool:
    """Test whether a name such as `Open (cents)` has a unit that is no currency; USX and GBX are hundredths of one."""
    unit = _unit(name)
    return bool(unit) and NO_UNIT.fullmatch(unit) is None


def _unit(name: str) -> str:
    found = re.search(r"[\[(](.*)[\])]", name)
    return found[1].strip() if found else ""


def printable(names: Sequence[str]) -> str:
    """Join names from a file for a message: 200 characters at most, unprintable ones replaced."""
    text = ", ".join(names)[:200]
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def named_zone(name: str) -> str | None:
    """Return the zone in a stamp column's name: EET for `Time (EET)` and `Time EET`; None if there is none."""
    found = re.search(r"[\[(]([^\])]+)[\])]", name)
    if found:
        return found[1].strip()
    return next((word for word in normalise(name).upper().split() if word in ABBREVIATIONS), None)


def _says_utc(name: str) -> bool:
    zone = named_zone(name)
    return zone.upper() in UTC_NAMES if zone else normalise(name).startswith(("utc", "gmt"))


def find_prices(names: Sequence[str]) -> tuple[int, ...] | None:
    """Return the positions of open, high, low, close; of bid and ask only where there are no four prices."""
    for wanted in (*PRICE_NAMES, *TICK_NAMES):
        if set(wanted) <= set(names):
            if twice := next((name for name in wanted if names.count(name) > 1), None):
                raise UnknownFormat(
                    f"Expected one column {twice}, got {names.count(twice)}; rename those that are not meant"
                )
            return tuple(names.index(name) for name in wanted)
    return None


def find_columns(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Columns | None:
    """Return the columns; None without prices, or without a column that holds stamps.

    names   as written; rows   the first ones, each with a cell for every name
    Raises  UnknownFormat: a price twice
    """
    plain = [normalise(name) for name in names]
    prices = find_prices(plain)
    if prices is None:
        return None
    cells = {i: [row[i].strip() for row in rows] for i in range(len(names)) if i not in prices}
    found = find_stamps(plain, cells, {i for i in cells if _says_utc(names[i])})
    if found is None:
        return None
    stamp = found.at
    by_quote = sorted((i for i in cells if i not in stamp), key=lambda i: (_unit(names[i]).lower() in QUOTES, i))
    rest = {plain[i]: i for i in reversed(by_quote)}
    volume, period = _find_volume(rest), _first(rest, PERIOD_NAMES)
    others = {i: plain[i] for i in cells if i not in (*stamp, volume, period)}
    quotes = len(prices) == 2 and are_on_minutes(cells, found)
    more = _find_more_prices(rows, prices[0], list(others)) if quotes else []
    return Columns(
        stamp,
        found.stamps,
        prices,
        volume,
        find_symbol(others, cells),
        period=period,
        complete=next((rest[name] for name in COMPLETE_NAMES if name in rest and _are_flags(cells[rest[name]])), None),
        side=next((rest[name] for name in SIDE_NAMES if name in rest and _are_sides(cells[rest[name]])), None),
        spread=next((i for i, name in enumerate(names) if name.strip(" \"'<>").lower() == "spread"), None),
        unit=next((names[i] for i in prices if _has_unit(names[i])), ""),
        nanos=bool(DATABENTO_NAMES & set(plain)) and _are_nanos([row[i] for row in rows for i in prices]),
        closing=names[stamp[0]] if found.closing else "",
        zone=next((names[i] for i, name in others.items() if ZONE_COLUMN.fullmatch(name) and any(cells[i])), ""),
        noon=found.noon,
        utc=found.utc,
        unread=_describe_unread(names, find_unread_clock(plain, cells, found)),
        more=printable([names[i] for i in more]),
    )


def _describe_unread(names: Sequence[str], found: tuple[int, str] | None) -> str:
    return f", and {found[1]!r} in column {printable([names[found[0]]])}, which is not read" if found else ""


def _find_more_prices(rows: Sequence[Sequence[str]], bid: int, others: Sequence[int]) -> list[int]:
    """Return the columns beside bid and ask that hold prices, where they are more than ticks have."""
    comma = decimal_comma(row[bid] for row in rows) is True
    bids, *columns = (parse_numbers(pl.Series([row[i] for row in rows]), comma=comma) for i in (bid, *others))
    near = (int(((column / bids - 1).abs() < PRICE_LIKE).sum()) for column in columns)
    found = [i for i, count in zip(others, near, strict=True) if count > MOST_ROWS * len(rows)]
    return found if len(found) > PRICES_OF_TICKS else []


def _first(positions: dict[str, int], names: Sequence[str]) -> int | None:
    return next((positions[name] for name in names if name in positions), None)


def _are_flags(cells: Sequence[str]) -> bool:
    return all(cell.lower() in FLAGS for cell in cells if cell)


def _are_nanos(cells: Sequence[str]) -> bool:
    return any(cells) and all(NANOS.fullmatch(cell.strip()) for cell in cells if cell)


def _are_sides(cells: Sequence[str]) -> bool:
    return any(cells) and all(cell.lower() in SIDES for cell in cells if cell)


def _find_volume(positions: dict[str, int]) -> int | None:
    """Find the volume by name, or by one such as `volume btc`; quote volume and a mean are other things."""
    names = sorted(positions, key=lambda name: (name.split(" ")[-1] in QUOTES, positions[name]))
    known = (*VOLUME_NAMES, *filter(VOLUME.fullmatch, names), *filter(VOLUME_OF.fullmatch, names))
    return _first(positions, known)
