"""Find whether the day or the month comes first in dates such as 07/01/2025."""

import re
from collections.abc import Collection
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise

import polars as pl

from lstm_ts.sources.files.recognition.stamps import Stamp


def date_pairs(text: pl.Series) -> set[tuple[int, int, int]]:
    """Return the first two numbers of dates such as 07/01/2025, and the year, which may have two digits."""
    pattern = r"^\s*(\d{1,2})[-./](\d{1,2})[-./]([12]\d{3}|\d\d)\b"
    groups = text.str.extract_groups(pattern).struct.unnest().unique().drop_nulls()
    return set(groups.cast(pl.Int64).rows())


def day_first(pairs: Collection[tuple[int, int, int]]) -> bool | None:
    """Return whether the first number is the day; None: the dates are ambiguous.

    A number above 12 is a day. Where there is none, days that follow one another decide, since the same dates read the
    other way lie a month apart.
    """
    pairs = set(pairs)
    if year_first(pairs) is not False:
        return None
    pairs = {(a, b, year + 2000 * (year < 100)) for a, b, year in pairs}
    days = {True: sum(a > 12 >= b for a, b, _ in pairs), False: sum(b > 12 >= a for a, b, _ in pairs)}
    if any(days.values()):
        likely = days[True] > days[False]
        return likely if days[likely] >= 10 * days[not likely] else None
    if all(a == b for a, b, _ in pairs):
        return True
    gaps = {first: _gaps(pairs, first) for first in (True, False)}
    for first in (True, False):
        if gaps[first] and max(gaps[first]) <= timedelta(days=10) and min(gaps[not first]) >= timedelta(days=28):
            return first
    return None


def year_first(pairs: Collection[tuple[int, int, int]]) -> bool | None:
    """Return whether dates such as 14/07/08 begin with the year; None: they may.

    The number in their middle is a month then, and the last one, the day, varies most.
    """
    days_in_middle = sum(second > 12 for _, second, _ in pairs)
    if all(year >= 100 for *_, year in pairs) or 10 * days_in_middle > len(pairs):
        return False
    first, second, last = (len(set(numbers)) for numbers in zip(*pairs, strict=True))
    return None if last == max(first, second) else last > max(first, second)


def _gaps(pairs: set[tuple[int, int, int]], first: bool) -> list[timedelta]:
    days = sorted(
        date(year, *((b, a) if first else (a, b))) for a, b, year in pairs if min(a, b) >= 1 and max(a, b) <= 12
    )
    return [later - earlier for earlier, later in pairwise(days)]


def with_order(stamp: Stamp, first: bool) -> Stamp:
    """Return the form of stamps that begin with the day (`first`), or with the month."""
    if first:
        return stamp
    usual = stamp.usual and re.sub("%[dm]", lambda found: "%m" if found[0] == "%d" else "%d", stamp.usual)
    return replace(stamp, date="mdy", usual=usual)
