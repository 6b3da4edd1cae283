"""Which column of a file is what, by the names that vendors give them and by the look of the cells."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lstm_ts.errors import UnknownFormat
from lstm_ts.market.bars import PRICES
from lstm_ts.sources.stamps import Stamp, recognise_stamp
from lstm_ts.sources.symbol_column import find_symbol

STAMP_NAMES = (
    "gmt time", "utc time", "time utc", "datetime utc", "timestamp utc", "open time", "opentime", "open timestamp",
    "candle time", "bar time", "start time", "datetime", "date time", "dateandtime", "timestamp", "time stamp", "ts",
    "unix timestamp", "unix time", "unixtime", "unix", "epoch", "local time", "time", "date", "dt", "index level 0",
    "index", "", "t",
)  # fmt: skip
NO_STAMP = ("close time", "closetime", "end time", "expiry")
DAY_NAMES = ("date", "dtyyyymmdd", "yyyymmdd", "day", "trade date", "trading date", "datum")
CLOCK_NAMES = ("time", "hhmm", "hhmmss", "timestamp", "time of day", "clock", "zeit")
VOLUME_NAMES = ("volume", "tick volume", "tickvol", "tickvolume", "ticks", "tick count", "vol", "v", "real volume")
PERIOD_NAMES = ("timeframe", "per", "period", "interval", "tf")

LETTERS = ("o", "h", "l", "c")
WORDINGS = ("{}", "{} price", "{}price", "mid {}", "{} mid", "bid {}", "{} bid", "bid{}", "{}bid")
PRICE_NAMES = tuple(
    tuple(wording.format(word) for word in words)
    for wording in WORDINGS
    for words in (PRICES, (*PRICES[:3], "last"), (*PRICES[:3], "close/last"), (*PRICES[:3], "price"), LETTERS)
)
TICK_NAMES = (("bid", "ask"), ("bid price", "ask price"), ("bidprice", "askprice"))

CLOCK_CELL = re.compile(r"\d{1,2}:\d\d(:\d\d([.,]\d+)?)? ?([AaPp][Mm])?")
DIGITS_CELL = re.compile(r"\d{1,6}|\d{9}")


@dataclass(frozen=True)
class Columns:
    """Positions of the columns that are read."""

    stamp: tuple[int, ...]  # or of a day and of its time
    stamps: Stamp
    prices: tuple[int, ...]  # open, high, low, close; or bid, ask
    volume: int | None = None
    symbol: int | None = None
    period: int | None = None
    spread: int | None = None  # in the unit of the prices

    @property
    def ticks(self) -> bool:
        return len(self.prices) == 2


def normalise(name: str) -> str:
    """A column's name in lower case, without the vendor's quotes, numbers, dashes, units."""
    name = re.sub(r"^\d+[ab]?\.\s+", "", name.strip(" \"'<>#\ufeff"))
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    return re.sub(r"[\s_\-.]+", " ", re.sub(r"\s*[\[(].*[\])]$", "", name)).strip()


def printable(names: Sequence[str]) -> str:
    """Names from a file, as a sentence can show them."""
    text = ", ".join(names)[:200]
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def named_zone(name: str) -> str | None:
    """What a stamp column's name says of its zone: EET of `Time (EET)`."""
    found = re.search(r"[\[(]([^\])]+)[\])]", name)
    if found:
        return found[1].strip()
    return "UTC" if {"gmt", "utc"} & set(normalise(name).split()) else None


def find_prices(names: Sequence[str]) -> tuple[int, ...] | None:
    """Positions of open, high, low, close; of bid and ask only where there are no four prices."""
    for wanted in (*PRICE_NAMES, *TICK_NAMES):
        if set(wanted) <= set(names):
            if twice := next((name for name in wanted if names.count(name) > 1), None):
                raise UnknownFormat(f"Expected one column {twice}, got {names.count(twice)}")
            return tuple(names.index(name) for name in wanted)
    return None


def find_columns(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Columns | None:
    """Null without prices, or without a column that holds stamps.

    names   as written; rows   the first ones, each with a cell for every name
    Raises  UnknownFormat: a price twice
    """
    plain = [normalise(name) for name in names]
    prices = find_prices(plain)
    if prices is None:
        return None
    cells = {i: [row[i].strip() for row in rows] for i in range(len(names)) if i not in prices}
    found = _find_stamp(plain, cells)
    if found is None:
        return None
    stamp, stamps = found
    rest = {name: i for i, name in reversed(list(enumerate(plain))) if i in cells and i not in stamp}
    volume, period = _find_volume(rest), _first(rest, PERIOD_NAMES)
    others = {i: plain[i] for i in cells if i not in (*stamp, volume, period)}
    return Columns(
        stamp,
        stamps,
        prices,
        volume,
        find_symbol(others, cells),
        period=period,
        spread=next((i for i, name in enumerate(names) if name.strip(" \"'<>").lower() == "spread"), None),
    )


def _first(positions: dict[str, int], names: Sequence[str]) -> int | None:
    return next((positions[name] for name in names if name in positions), None)


def _find_volume(positions: dict[str, int]) -> int | None:
    """Find the volume by name, or by one such as `volume btc`; quote volume is another thing."""
    exact = _first(positions, VOLUME_NAMES)
    if exact is not None:
        return exact
    return next((i for name, i in positions.items() if name.startswith(("volume ", "vol "))), None)


def _find_stamp(plain: Sequence[str], cells: dict[int, list[str]]) -> tuple[tuple[int, ...], Stamp] | None:
    """Columns that hold whole stamps before a day beside its time; of several, one that is in UTC; then by name."""
    known = sorted((i for i in cells if plain[i] in STAMP_NAMES), key=lambda i: STAMP_NAMES.index(plain[i]))
    others = [i for i in cells if i not in known and plain[i] not in NO_STAMP]
    shapes = {i: shape for i in known + others if (shape := _shape(cells[i]))}
    whole = [i for i in known if i in shapes and shapes[i].clock]
    whole = whole or [i for i in others if i in shapes and shapes[i].clock and shapes[i].date != "epoch"]
    if whole:
        best = next((i for i in whole if shapes[i].utc), whole[0])
        return (best,), shapes[best]
    days = [i for i in known + others if i in shapes]
    clocks = [i for i in cells if _is_clock(plain[i], cells[i])]
    if days and clocks:
        return _beside(cells, days[0], clocks[0])
    named = [i for i in days if i in known]
    return ((named[0],), shapes[named[0]]) if named else None


def _shape(cells: Sequence[str]) -> Stamp | None:
    """The shape of stamps in a column of which most filled cells are stamps."""
    filled = [cell for cell in cells if cell]
    stamps = [cell for cell in filled if recognise_stamp([cell])]
    return recognise_stamp(stamps) if 2 * len(stamps) > len(filled) else None


def _is_clock(name: str, cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell]
    shape = DIGITS_CELL if name in CLOCK_NAMES else CLOCK_CELL
    return 2 * sum(bool(shape.fullmatch(cell) or CLOCK_CELL.fullmatch(cell)) for cell in filled) > len(filled)


def _beside(cells: dict[int, list[str]], day: int, clock: int) -> tuple[tuple[int, ...], Stamp] | None:
    joined = [f"{a} {b}" for a, b in zip(cells[day], cells[clock], strict=True)]
    stamps = recognise_stamp(joined)
    return ((day, clock), stamps) if stamps else None
