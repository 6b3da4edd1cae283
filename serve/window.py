"""Reading of a request's body: hourly bars, or all its problems."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from operator import attrgetter
from typing import Annotated, Any

import jiter
import numpy as np
from numpy.typing import NDArray
from pydantic import FailFast, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from lstm_ts.http_schema import LONGEST_SPAN, MAX_PRICE, MIN_PRICE, Bar, Problem, Window, shown, wrong_prices
from lstm_ts.market.bars import PRICES
from lstm_ts.market.session import HOUR, Session
from lstm_ts.model.features import Bars

MAX_PROBLEMS = 100  # in one reply: with more, the reply would be larger than the request
BARS = TypeAdapter(Annotated[list[Bar], FailFast()])
PRICES_OF = attrgetter(*PRICES)
Numbered = tuple[int, Bar]


class InvalidWindow(Exception):
    """Invalid request, with its problems."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        super().__init__()
        self.problems = list(islice(problems, MAX_PROBLEMS))
        if len(self.problems) == MAX_PROBLEMS:
            text = f"Expected fewer than {MAX_PROBLEMS} problems, got them before all was read; correct these first"
            self.problems.append(Problem(path="body", problem=text))


def symbol_of(body: bytes) -> str:
    """Return the symbol that a body names, or empty text: `read_window` reports what is wrong with the body."""
    with suppress(ValueError):
        content = jiter.from_json(body)
        if isinstance(content, dict) and isinstance(content.get("symbol"), str):
            return str(content["symbol"])
    return ""


def read_window(body: bytes, *, symbol: str, session: Session, now: datetime, served: Sequence[str] = ()) -> Bars:
    """served    symbols to name where another one is requested; none: `symbol` alone
    Raises    InvalidWindow: with every problem that the body has
    """
    content = _parse(body)
    problems = [Problem(path="symbol", problem=text) for text in _check_symbol(content, symbol, served or (symbol,))]
    problems += [
        Problem(path=key, problem=f"Expected only {' and '.join(Window.model_fields)}, got {shown(key)}; leave it out")
        for key in islice(content.keys() - Window.model_fields.keys(), MAX_PROBLEMS)
    ]
    rows = content.get("bars")
    if not isinstance(rows, list):
        text = f"Expected a list of hourly bars, got {_got(content, 'bars')}; send at least one window"
        raise InvalidWindow([*problems, Problem(path="bars", problem=text)])
    numbered, bad = _read_bars(rows)
    bars = _arrays([bar for _, bar in numbered])
    if bad or not _are_right(bars, session, now):
        wrong = islice(_check_bars(numbered, session, now), MAX_PROBLEMS)
        problems += sorted([*bad, *wrong], key=_position)
    if problems:
        raise InvalidWindow(problems)
    return bars


def _parse(body: bytes) -> Mapping[str, Any]:
    try:
        content = jiter.from_json(body, catch_duplicate_keys=True)
    except ValueError as error:
        raise InvalidWindow([Problem(path="body", problem=f"Expected JSON, got {error}; send an object")]) from None
    if not isinstance(content, dict):
        text = f"Expected an object with symbol and bars, got {shown(content)}; see /docs for an example"
        raise InvalidWindow([Problem(path="body", problem=text)])
    return content


def _check_symbol(content: Mapping[str, Any], symbol: str, served: Sequence[str]) -> Iterator[str]:
    if content.get("symbol") != symbol:
        yield unknown_symbol(_got(content, "symbol"), served)


def unknown_symbol(got: str, served: Sequence[str]) -> str:
    ask = "that one" if len(served) == 1 else "one of those"
    return f"Expected a symbol that is served here, {', '.join(served)}, got {got}; ask for {ask}"


def _got(content: Mapping[str, Any], key: str) -> str:
    return shown(content[key]) if key in content else "none"


def _position(problem: Problem) -> int:
    return int(problem.path.partition("[")[2].partition("]")[0])


def _read_bars(rows: Sequence[Any]) -> tuple[list[Numbered], list[Problem]]:
    """Return the valid bars, each with its place in the request, and the problems of the others."""
    with suppress(ValidationError):  # all in one call, which is quicker, as far as they are right
        return list(enumerate(BARS.validate_python(rows))), []
    bars: list[Numbered] = []
    problems: list[Problem] = []
    for number, row in enumerate(rows):
        if len(problems) >= MAX_PROBLEMS:
            break
        try:
            bars.append((number, Bar.model_validate(row)))
        except ValidationError as error:
            found = error.errors(include_url=False)
            problems += [_describe(f"bars[{number}]", details) for details in found]
            if isinstance(row, dict) and not any(details["loc"][0] in PRICES for details in found):
                prices = _check_prices(Bar.model_construct(**{price: row[price] for price in PRICES}))
                problems += [Problem(path=f"bars[{number}].{field}", problem=text) for field, text in prices]
    return bars, problems


def _is_number(value: Any) -> bool:
    """Return whether a value is text with a finite number."""
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


def _describe(path: str, error: ErrorDetails) -> Problem:
    field, got = ".".join([path, *map(str, error["loc"])]), shown(error["input"])
    match error["type"]:
        case "missing":
            text = f"Expected a value for {error['loc'][-1]}, got none; add it"
        case "extra_forbidden":
            text = f"Expected only {', '.join(Bar.model_fields)} in a bar, got {shown(error['loc'][-1])}; leave it out"
        case "greater_than_equal" | "less_than_equal" | "finite_number" if error["loc"][-1] in PRICES:
            text = f"Expected a positive price between {MIN_PRICE:f} and {MAX_PRICE:,.0f}, got {got}; correct it"
        case "greater_than_equal" | "finite_number":
            text = f"Expected a {error['loc'][-1]} of 0 or more, got {got}; correct it or leave it out"
        case "float_type":
            how = "send it without quotes" if _is_number(error["input"]) else "correct it"
            text = f"Expected a number, got {got}; {how}"
        case "stamp" | "naive" | "early":
            text = error["msg"]
        case _:
            text = f"Expected a bar with {', '.join(Bar.model_fields)}, got {got}; see /docs for an example"
    return Problem(path=field, problem=text)


def _arrays(bars: Sequence[Bar]) -> Bars:
    stamps_us = 1e6 * np.array([bar.ts.timestamp() for bar in bars])
    price_PN = np.array([PRICES_OF(bar) for bar in bars]).reshape(-1, len(PRICES)).T
    return Bars(stamps_us.round().astype("datetime64[us]"), price_PN)


def _are_right(bars: Bars, session: Session, now: datetime) -> bool:
    """Return whether `_check_bars` would find no problem, as is usual."""
    ts_N, (open_N, high_N, low_N, close_N) = bars
    if len(ts_N) == 0:
        return True
    first, last = (ts.item().replace(tzinfo=UTC) for ts in (ts_N[0], ts_N[-1]))
    if last > now - HOUR or last - first > LONGEST_SPAN or (ts_N[1:] <= ts_N[:-1]).any():
        return False
    within = (low_N <= np.minimum(open_N, close_N)) & (np.maximum(open_N, close_N) <= high_N)
    open_hours = _open_hours(session, first.year, last.year)
    return bool(within.all() and (open_hours[np.searchsorted(open_hours, ts_N)] == ts_N).all())


def _check_bars(bars: Sequence[Numbered], session: Session, now: datetime) -> Iterator[Problem]:
    """Yield the problems of bars whose fields are valid, each alone and beside the others."""
    seen: dict[datetime, int] = {}
    latest: datetime | None = None
    newest = max((bar.ts for _, bar in bars if bar.ts <= now - HOUR), default=now)
    for number, bar in bars:
        ts = bar.ts
        problems = [*_check_prices(bar), *(("ts", text) for text in _check_hour(ts, newest, session, now))]
        if bar.ts in seen:
            problems.append(("ts", f"Expected each hour once, got {_iso(bar.ts)} as in bars[{seen[bar.ts]}]; send one"))
        elif latest is not None and bar.ts < latest:
            problems.append(("ts", f"Expected ascending hours, got {_iso(bar.ts)} after {_iso(latest)}; sort the bars"))
        yield from (Problem(path=f"bars[{number}].{field}", problem=text) for field, text in problems)
        seen.setdefault(bar.ts, number)
        latest = bar.ts if latest is None else max(bar.ts, latest)


def _check_prices(bar: Bar) -> Iterator[tuple[str, str]]:
    for field in wrong_prices(*PRICES_OF(bar)):
        if field == "high":
            yield field, f"Expected high at or above low, got {bar.high} below {bar.low}; correct one of them"
        else:
            got = f"{getattr(bar, field)} outside {bar.low} to {bar.high}"
            yield field, f"Expected {field} within low and high, got {got}; correct it"


def _check_hour(ts: datetime, newest: datetime, session: Session, now: datetime) -> Iterator[str]:
    if ts > now - HOUR:
        until = _iso(now.replace(microsecond=0))
        yield f"Expected closed hours, got {_iso(ts)}, which closes after {until}; leave it out until then"
    elif ts.minute or ts.second or ts.microsecond:
        yield f"Expected the open of an hour bar on the full hour, got {_iso(ts)}; send hourly bars"
    elif newest - ts > LONGEST_SPAN:
        yield f"Expected bars of at most {LONGEST_SPAN.days} days, got {_iso(ts)} before {_iso(newest)}; leave it out"
    elif np.datetime64(ts.replace(tzinfo=None)) not in _open_hours(session, ts.year, ts.year):
        yield f"Expected an open hour of {session.calendar}, got {_iso(ts)}, when it is closed; leave it out"


@lru_cache(maxsize=64)
def _open_hours(session: Session, first_year: int, last_year: int) -> NDArray[np.datetime64]:
    """Return the open hours, ascending, and an hour after those years, so that each hour has one at or after it."""
    end = datetime(last_year + 1, 1, 1, tzinfo=UTC)
    hours = [*session.hours(datetime(first_year, 1, 1, tzinfo=UTC), end)["ts"], end + HOUR]
    return np.array([ts.replace(tzinfo=None) for ts in hours], dtype="datetime64[us]")


def _iso(ts: datetime) -> str:
    return ts.isoformat().replace("+00:00", "Z")
