"""What there is to sell: contracts, their bars, and the spans that a request for history means.

Legend: epochs are whole seconds since 1970, the OPEN of a minute.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

PRICES = ("open", "high", "low", "close")
NEW_YORK = ZoneInfo("US/Eastern")
MINUTE_S = 60
DAY_S = 86_400
CON_IDS = {"XAGUSD": 77124483, "XAUUSD": 69067924}  # as IB numbers them
LONG_NAMES = {"XAGUSD": "London Silver", "XAUUSD": "London Gold"}
UNIT_S = {"S": 1, "D": DAY_S, "W": 7 * DAY_S}


class BadRequest(Exception):
    """A request that TWS refuses, with the code and the text it gives."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(frozen=True)
class Span:
    """[start, end) in epochs."""

    start: int
    end: int


class Market:
    """Bars of each symbol: frames `epoch, open, high, low, close`, ascending and unique."""

    def __init__(self, bars: Mapping[str, pl.DataFrame]) -> None:
        self.bars = {symbol: _by_epoch(frame, symbol) for symbol, frame in bars.items()}
        self.con_ids = {symbol: CON_IDS.get(symbol, 900_000_000 + at) for at, symbol in enumerate(self.bars)}

    def find(self, wanted: Mapping[str, str]) -> str | None:
        """The symbol that a request names: by contract number, or as a CMDTY on SMART in USD."""
        for symbol, con_id in self.con_ids.items():
            if wanted["con_id"] == str(con_id) and wanted["exchange"] == "SMART":
                return symbol
            named = wanted["symbol"] == symbol and wanted["sec_type"] == "CMDTY" and wanted["con_id"] in ("", "0")
            if named and wanted["exchange"] in ("SMART", "") and wanted["currency"] in ("USD", ""):
                return symbol
        return None

    def head(self, symbol: str) -> int:
        return int(self.bars[symbol]["epoch"][0])

    def select(self, symbol: str, span: Span, *, now: int) -> pl.DataFrame:
        """The bars of the span that have begun by `now`; the one still forming has only its first price."""
        frame = self.bars[symbol]
        first, last = (frame["epoch"].search_sorted(edge) for edge in (span.start, min(span.end, now + 1)))
        rows = frame.slice(first, max(0, last - first))
        if rows.is_empty() or rows["epoch"][-1] + MINUTE_S <= now:
            return rows
        forming = pl.col("epoch") + MINUTE_S > now
        return rows.with_columns(pl.when(forming).then("open").otherwise(price).alias(price) for price in PRICES)


def _by_epoch(frame: pl.DataFrame, symbol: str) -> pl.DataFrame:
    rows = frame.select(pl.col("ts").dt.epoch("s").alias("epoch"), pl.col(PRICES).cast(pl.Float64))
    if rows.is_empty() or not rows["epoch"].is_sorted() or rows["epoch"].n_unique() < rows.height:
        raise ValueError(f"Expected bars of {symbol} that are ascending and unique in ts, got {rows}")
    return rows


def parse_span(end_text: str, duration: str, *, now: int) -> Span:
    """`[end - duration, end)` by the clock. At IB `1 D` is one trading day: the fault `earlier` is that difference.

    Raises   BadRequest: 10314 for an end without its zone (TWS would take its own), 321 for a bad duration
    """
    matched = re.fullmatch(r"(\d+) ([SDW])", duration)
    if not matched or int(matched[1]) == 0:
        raise BadRequest(
            321, "Error validating request.-'bM' : cause - Historical data request for duration is invalid"
        )
    end = _parse_end(end_text) if end_text else now
    return Span(end - int(matched[1]) * UNIT_S[matched[2]], end)


def _parse_end(text: str) -> int:
    """`yyyymmdd-hh:mm:ss` is UTC; with a blank in it, the zone must follow."""
    stamp, _, zone = text.rpartition(" ") if " " in text else (text.replace("-", " "), "", "UTC")
    try:
        return int(datetime.strptime(stamp, "%Y%m%d %H:%M:%S").replace(tzinfo=ZoneInfo(zone)).timestamp())
    except (ValueError, ZoneInfoNotFoundError):
        raise BadRequest(
            10314,
            "End Date/Time: The date, time, or time-zone entered is invalid. The correct format is yyyymmdd hh:mm:ss "
            "xx/xxxx where yyyymmdd and xx/xxxx are optional. E.g.: 20031126 15:59:00 US/Eastern",
        ) from None


def bars_text(rows: pl.DataFrame, *, format_date: str) -> str:
    """Eight fields a bar. MIDPOINT has no volume, average or count: -1 each. Format 2 stamps are epochs."""
    local = pl.from_epoch("epoch").dt.replace_time_zone("UTC").dt.convert_time_zone(NEW_YORK.key)
    epoch = pl.col("epoch").cast(pl.String)
    stamp = epoch if format_date == "2" else local.dt.strftime("%Y%m%d %H:%M:%S US/Eastern")
    bar = pl.concat_str(
        [stamp, *(pl.col(price).cast(pl.String) for price in PRICES), pl.lit("-1\0-1\0-1\0")], separator="\0"
    )
    return "".join(rows.select(bar).to_series().to_list())


def stamp_text(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y%m%d %H:%M:%S UTC")


def trading_hours(now: int, zone: str, *, days: int = 6) -> str:
    """As contract details give them, in their zone: from 18:00 to 17:00 of the next day in New York, no weekends."""
    today = datetime.fromtimestamp(now, NEW_YORK).date()
    texts = []
    for day in (today + timedelta(days=ahead) for ahead in range(days)):
        closes = datetime.combine(day, time(17), NEW_YORK)
        opens = closes - timedelta(hours=23)  # on the wall
        first, last = (edge.astimezone(ZoneInfo(zone)) for edge in (opens, closes))
        texts.append(f"{last:%Y%m%d}:CLOSED" if day.weekday() >= 5 else f"{first:%Y%m%d:%H%M}-{last:%Y%m%d:%H%M}")
    return ";".join(texts)
