"""Filter of a file's rows: those of other symbols and of unfinished bars are left out, and reported."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from lstm_ts.errors import UnknownFormat
from lstm_ts.market.prices import guess_quote
from lstm_ts.market.spacing import parse_period
from lstm_ts.sources.files.recognition.columns import FLAGS, SIDES, printable

UNFINISHED = [word for word, finished in FLAGS.items() if not finished]
DERIVATIVE = "perp|swap|fut|futur|index|mark"  # behind a symbol: another one, whoever the broker
PERPETUAL = "P"  # likewise; brokers write .p
MAJOR = {"USD", "EUR", "GBP", "JPY", "CHF", "AUD", "CAD", "NZD"}  # one of them is in a pair in small letters


def same_symbol(written: str, symbol: str) -> bool:
    """Return whether a file's `XAG/USD`, `xagusd`, `OANDA:XAGUSD`, `XAGUSD.m`, `XAGUSDm` is the requested symbol."""
    name = re.sub(r"^[A-Za-z]+:", "", written.strip())
    other = rf"(?!(?i:{DERIVATIVE})$|{PERPETUAL}$)"
    broker = re.fullmatch(rf"([A-Z0-9/]{{4,}}){other}[a-z]{{1,3}}|(.{{4,}}?)[.#+_]{other}[A-Za-z]{{0,5}}", name)
    names = {name, *(group for group in (broker.groups() if broker else ()) if group)}
    return _plain(symbol) in {_plain(name) for name in names} or written.strip() == symbol


def _plain(name: str) -> str:
    return re.sub(r"[\s/_.\-]", "", name).upper()


class OtherSymbol(UnknownFormat):
    """Failure of a file, or of a part of one, that has other symbols only."""


def check_name(name: str, symbol: str, label: str) -> None:
    """name    of a sheet or of a file within an archive; its folders count where it says nothing itself

    Raises    OtherSymbol: it is named like another symbol, and not like this one
    """
    for part in reversed(Path(name).parts):
        if other := other_symbol(part, symbol):
            raise OtherSymbol(
                f"Expected rows of {symbol}, got those of {other} by the name of {label}; correct symbol, "
                "or set source.symbol to that name"
            )
        if any(same_symbol(word, symbol) for word in _words(part)):
            return


def check_titles(lines: Iterable[str], symbol: str, label: str) -> None:
    """lines   a vendor's own, beside the header

    Raises    OtherSymbol: they name a pair in capitals, and not this symbol
    """
    words = [word for line in lines for word in re.split(r"[\s,;:=|\"']+", line) if word.isupper()]
    if other := other_symbol(" ".join(words), symbol):
        raise OtherSymbol(
            f"Expected rows of {symbol}, got those of {other} by the lines above the rows of {label}; correct symbol, "
            "or set source.symbol to that name"
        )


def other_symbol(name: str, symbol: str) -> str | None:
    """Return the symbol that a name contains; None if it is this one, or none."""
    words = _words(name)
    others = [word for word in words if _is_pair(word.replace("/", ""))]
    return others[0] if others and not any(same_symbol(word, symbol) for word in words) else None


def _is_pair(word: str) -> bool:
    """Test whether a word is a pair; noopen and pulsar are none, though PEN and SAR are currencies."""
    halves = {word[:3].upper(), word[3:].upper()}
    return guess_quote(word.upper()) is not None and (word.isupper() or bool(halves & MAJOR))


def _words(name: str) -> list[str]:
    return [name, *re.split(r"[\s_\-.]+", name)]


class SymbolFilter:
    def __init__(self, symbol: str, file: str) -> None:
        self._symbol, self.file = symbol, file
        self.column = "symbol"  # as the file names it
        self._others: Counter[str] = Counter()
        self._unfinished = self._finished = 0
        self._ours: dict[str, int] = {}
        self.periods: set[str] = set()  # whole once the rows have been read
        self.sides: set[str] = set()  # likewise

    def keep(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of the symbol that are finished, without the columns `symbol`, `period`, `complete`, `side`.

        Raises    UnknownFormat: bars of two spellings of it, of two periods, or of two sides, are mixed
        """
        if "symbol" in rows.columns:
            rows = self._of_symbol(rows)
        if "period" in rows.columns:
            good = rows.filter(pl.col("stamp").is_not_null())
            found = good["period"].drop_nulls().unique().to_list()
            self.periods |= {text for text in found if parse_period(text)}  # else it is of slots, or of flags
            self._one(self.periods, "one timeframe")
        if "side" in rows.columns:
            self.sides |= {*rows["side"].str.to_lowercase().unique()} & {*SIDES}
            self._one(self.sides, "bars of one side of the quotes")
        if "complete" in rows.columns:
            finished = ~rows["complete"].str.to_lowercase().is_in(UNFINISHED).fill_null(False)
            self._unfinished += int((~finished).sum())
            self._finished += int(finished.sum())
            rows = rows.filter(finished)
        return rows.drop("symbol", "period", "complete", "side", strict=False)

    def _of_symbol(self, rows: pl.DataFrame) -> pl.DataFrame:
        counts = rows.filter(pl.col("stamp").is_not_null()).group_by("symbol").len()
        ours = []
        for written, count in counts.rows():
            if same_symbol(written or "", self._symbol):
                ours.append(written)
                self._ours[written] = self._ours.get(written, 0) + count
            else:
                self._others[written or "no symbol"] += count
        self._one(set(self._ours), f"one spelling of {self._symbol}")
        return rows.filter(pl.col("symbol").is_in(ours) | pl.col("stamp").is_null())

    def _one(self, found: set[str], wanted: str) -> None:
        if len(found) > 1:
            raise UnknownFormat(
                f"Expected {wanted}, got {printable(sorted(found)[:5])} in {self.file}; leave one of them in the file"
            )

    def notes(self) -> list[str]:
        """Return notes on the rows that were left out.

        Raises    UnknownFormat: all are of other symbols, or unfinished
        """
        if self._unfinished and not self._finished:
            raise UnknownFormat(
                f"Expected finished bars in {self.file}, got {self._unfinished:,} that a column flags as unfinished; "
                "leave that column out if it says something else"
            )
        unfinished = f"{self._unfinished:,} rows of {self.file} are of unfinished bars and are left out"
        return [*self._notes_of_others(), *self._note_of_name(), *([unfinished] if self._unfinished else [])]

    def _note_of_name(self) -> list[str]:
        """A column of symbols goes before the file's name."""
        other = None if self._ours else other_symbol(Path(self.file).stem, self._symbol)
        return [f"{self.file} is named like {other}; its rows are taken as {self._symbol}"] if other else []

    def _notes_of_others(self) -> list[str]:
        if not self._others:
            return []
        names = printable([f"{count:,} of {name}" for name, count in self._others.most_common(5)])
        if not self._ours:
            raise OtherSymbol(
                f"Expected rows of {self._symbol}, got {names} in column {printable([self.column])} of {self.file}; "
                "correct symbol, set source.symbol to what the file calls it, or leave out that column if it names "
                "no symbol"
            )
        return [f"Rows of other symbols in {self.file} are left out: {names}"]
