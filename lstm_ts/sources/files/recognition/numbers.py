"""Parsing of numbers: decimal commas, separators of thousands, vendors' words for a missing value."""

import re
from collections.abc import Iterable, Sequence

import polars as pl

from lstm_ts.errors import ConfigError, UnknownFormat

DASHES = "- -- --- \N{EN DASH} \N{EM DASH} . ?"
WORDS = "undefined missing none (none) nil nan nat null (null) na <na> n/a n.a. n/d n.d. *"
CODES = r"\n #n/a #na #null! #num! #value! #ref! #div/0!"
UNDEFINED = str(2**63 - 1)  # Databento's price for none
NO_VALUE = ("", "#n/a n/a", "no data", UNDEFINED, *f"{DASHES} {WORDS} {CODES}".split())  # in lower case
NO_PRICES = "no prices"  # of a row that is no bar; a row that lacks some of its prices is damaged
NO_NUMBER = "unparseable price"
NANOS = re.compile(r"-?\d{7,}")
MULTIPLES = {"k": 1e3, "m": 1e6, "b": 1e9}
MAX_SPREAD = 0.05  # of the close; more are points
DECIMALS = ("comma", "point")
LIKE_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")
APOSTROPHE = re.compile(r"\d['\u2019]\d{3}")
APART = r"['\u{2019} \u{a0}\u{202f}]"  # thousands, beside the sign that is not the decimal one


def decimal_comma(cells: Iterable[str], *, points_tell: bool = True) -> bool | None:
    """Return whether commas are the decimal sign of the prices; None if each sign may separate thousands, as in 2,030.

    Of two different signs in a price the last is the decimal one; a sign that occurs twice separates thousands.

    points_tell   take a point as in 2.030 for a decimal one
    """
    found = [_comma_is_decimal(cell.strip()) for cell in cells if "," in cell or "." in cell]
    votes = [vote for vote, sure in found if sure or (points_tell and not vote)]
    return sum(votes) * 2 > len(votes) if votes or not found else None


def _comma_is_decimal(cell: str) -> tuple[bool, bool]:
    """Return whether the comma is the decimal sign of a price, and whether that is certain."""
    if "," in cell and "." in cell:
        return cell.rindex(",") > cell.rindex("."), True
    comma = "," in cell
    if cell.count("," if comma else ".") > 1:
        return not comma, True
    return comma, not LIKE_THOUSANDS.fullmatch(cell)


def check_decimal(decimal: str | None) -> None:
    """Raises    ConfigError"""
    if decimal not in (None, *DECIMALS):
        raise ConfigError(f"Expected source.decimal as {' or '.join(DECIMALS)} or null, got {decimal}")


def choose_decimal(comma: bool | None, decimal: str | None, prices: Sequence[str], *, file: str) -> bool:
    """Return whether commas are the decimal sign: by the prices, or by the option `decimal` if these leave it open.

    Raises    UnknownFormat: neither decides it
    """
    if comma is None and decimal is None:
        price = next(cell for cell in prices if "," in cell or "." in cell)
        raise UnknownFormat(
            f"Expected prices that show the decimal sign, got {price!r} in {file}, which may be a decimal or one of "
            f"thousands; set source.decimal=comma or source.decimal=point"
        )
    apart = next(filter(APOSTROPHE.search, prices), None)
    if apart and decimal is None and not any("," in cell or "." in cell for cell in prices):
        raise UnknownFormat(
            f"Expected prices that tell thousands from 32nds, got {apart!r} in {file}; write decimals, or set "
            "source.decimal=point if the apostrophe sets thousands apart"
        )
    return decimal == "comma" if comma is None else comma


def parse_numbers(cells: pl.Series, *, comma: bool) -> pl.Series:
    """Parse cells to Float64, null where a cell is no number."""
    plain = cells
    if comma:
        no_point = ~cells.str.contains(".", literal=True)
        plain = cells.str.replace(",", ".", literal=True).set(~no_point.fill_null(True), None)
    found = plain.cast(pl.Float64, strict=False)
    odd = found.is_null() & cells.is_not_null()
    if odd.any():
        rows = odd.arg_true()
        found = found.scatter(rows, _parse_odd(cells.gather(rows), comma=comma))
    return found


def parse_nanos(cells: pl.Series) -> pl.Series:
    """Parse whole numbers of 1e-9 to Float64, null where a cell is no number or UNDEFINED."""
    with_point = (
        cells.str.strip_chars().replace(UNDEFINED, None).str.zfill(10).str.replace(r"^(-?\d+)(\d{9})$", "$1.$2")
    )
    return parse_numbers(with_point, comma=False)


def _parse_odd(cells: pl.Series, *, comma: bool) -> pl.Series:
    decimal, thousand = (",", r"\.") if comma else (r"\.", ",")
    grouped = rf"^[+-]?\d{{1,3}}((?:{thousand}\d{{3}})+|(?:{APART}\d{{3}})+)({decimal}\d*)?$"
    text = cells.str.strip_chars().str.replace(r"^([+-]?)\$", "$1")
    apart = text.str.contains(grouped)
    text = pl.select(pl.when(apart).then(text.str.replace_all(rf"{thousand}|{APART}", "")).otherwise(text)).to_series()
    if comma:
        text = text.str.replace(",", ".", literal=True).set(~apart & text.str.contains(".", literal=True), None)
    return text.cast(pl.Float64, strict=False)


def parse_volumes(cells: pl.Series, *, comma: bool) -> tuple[pl.Series, pl.Series]:
    """Return the volumes, null where there is none, and which cells are neither a number nor a word for none.

    A negative volume stands for none, as brokers use it.
    """
    found = parse_numbers(cells, comma=comma)
    odd = (~found.is_finite()).fill_null(True)
    if odd.any():
        rows = odd.arg_true()
        parts = cells.gather(rows).str.strip_chars().str.to_lowercase().str.extract_groups(r"^(.*\d)([kmb])$")
        number, unit = parts.struct.field("1"), parts.struct.field("2")
        scaled = parse_numbers(number, comma=comma) * unit.replace_strict(MULTIPLES, return_dtype=pl.Float64)
        found = found.scatter(rows, scaled)
    bad = found.is_null()
    if bad.any():
        bad &= ~is_no_value(cells).fill_null(True)
    return found.set((found < 0).fill_null(False), None), bad


def only_spreads(found: pl.Series, closes: pl.Series) -> pl.Series:
    """Set spreads to null that are negative, not finite, or in points: whole numbers but 0, or beyond any market.

    closes   of the same rows
    """
    points = ((found % 1 == 0) & (found != 0)) | (found > MAX_SPREAD * closes)
    return found.set((~found.is_finite() | (found < 0) | points).fill_null(False), None)


def is_no_value(cells: pl.Series) -> pl.Series:
    return cells.str.strip_chars().str.to_lowercase().is_in(NO_VALUE)


def find_no_prices(prices: Sequence[pl.Series], cells: Iterable[pl.Series]) -> pl.Series:
    """Return which rows have none of their prices.

    prices, cells   columns of numbers, and the same as text, which are read only where no price is a number
    """
    missing = [~price.is_finite().fill_null(False) for price in prices]
    found = missing[0] & missing[1] & missing[2] & missing[3]
    for column in cells if found.any() else ():
        found &= is_no_value(column).fill_null(False)
    return found


def split_missing(prices: Sequence[pl.Series], cells: Iterable[pl.Series]) -> tuple[list[pl.Series], pl.Series]:
    """Return the prices, null where a cell has none, and which rows have a cell that is no number and no word for none.

    prices, cells   as for `find_no_prices`
    """
    missing = [~price.is_finite().fill_null(False) for price in prices]
    bad = pl.Series([False]).new_from_index(0, len(prices[0]))
    if not any(column.any() for column in missing):
        return list(prices), bad
    kept = []
    for price, lacks, column in zip(prices, missing, cells, strict=True):
        none = lacks & is_no_value(column.fill_null(""))
        kept.append(price.set(none, None))
        bad |= price.is_null() & ~none
    return kept, bad
