"""Rows as people type and paste them."""

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import pytest

from dashboard.forecast.pasted import split
from dashboard.forecast.rows import COLUMNS, HOUR_UTC, Cell, Checked, _check_hours, _prices, cells_of, check, to_rows
from lstm_ts.errors import UnknownFormat
from lstm_ts.http_schema import Input, Problem
from lstm_ts.market.session import HOUR, Session

NOW = datetime(2026, 1, 6, 12, 30, tzinfo=UTC)  # a Tuesday
NEEDS = Input(symbol="XAGUSD", tsteps=3, max_missing=1, horizon=2, levels=[0.5], calendar="CMEGlobex_Silver")
PRICES = ["30", "31", "29", "30.5"]


def checked(session: Session, *rows: list[str]) -> Checked:
    return check(rows, session, NEEDS, NOW)


def reasons(session: Session, *rows: list[str]) -> dict[tuple[int, str], str]:
    return {(cell.row, cell.column): cell.reason for cell in checked(session, *rows).bad}


def test_whole_rows_become_bars_whatever_their_form_of_time(silver: Session) -> None:
    found = checked(
        silver,
        ["2026-01-06 08:00", *PRICES],
        ["06.01.2026 09:00", "30,5", "31", "29", "30"],
        ["", "", "", "", ""],
        ["2026-01-06T11:00+01:00", *PRICES],
    )
    assert found.bad == ()
    assert found.bars["ts"].dt.hour().to_list() == [8, 9, 10]
    assert found.bars["open"].to_list() == [30, 30.5, 30]
    assert found.rows == (0, 1, 3)
    assert (found.hours, found.missing) == (3, 0)
    assert found.lacks(NEEDS) == ""


def test_every_bad_cell_is_named_with_its_reason(silver: Session) -> None:
    found = reasons(
        silver,
        ["soon", "x", "31", "29", "-1"],
        ["2026-01-06 08:00", "30", "28", "29", "30"],
        ["2026-01-06 09:00", "40", "31", "29", "30"],
        ["2026-01-06 10:00", "67123.5", "67123.4", "67123.42", "67123.5"],
    )
    assert found == {
        (0, HOUR_UTC): "soon is no time; write 2026-01-05 14:00",
        (0, "Open"): "x is no number",
        (0, "Close"): "-1 is no price: it must be above 0",
        (1, "High"): "28 is below the low, 29",
        (2, "Open"): "40 lies outside low to high, 29 to 31",
        (3, "High"): "67123.4 is below the low, 67123.42",
    }


@pytest.mark.parametrize(
    "hour",
    ["2026.01.06 08:00:00", "06.01.2026 08:00:00", "2026-01-06 8:00", "2026/01/06 08:00", "06 Jan 2026 8:00 AM",
     "2026-01-06 09:00 CET", "13/01/2026 08:00", "01/13/2026 08:00", "2026-01-06T08", "06 Jan 2026 8",
     "2026-01-06T08Z", "2026-01-06 08Z", "20260106T08Z", "2026-01-06T09+01:00", "20260106T0900+0100"],
)  # fmt: skip
def test_times_are_read_as_other_programs_write_them(silver: Session, hour: str) -> None:
    day = 13 if "13" in hour else 6
    found = check([[hour, *PRICES]], silver, NEEDS, NOW.replace(day=14))
    assert found.bars["ts"].to_list() == [datetime(2026, 1, day, 8, tzinfo=UTC)], found.bad


AMBIGUOUS = ["1,234", "1,240", "1,230", "1,235"]


@pytest.mark.parametrize(
    ("other", "opens"),
    [
        (["1,234.5", "1,240", "1,230", "1,235.25"], [1234, 1234.5]),
        (["1234.5", "1240", "1230", "1235"], [1234, 1234.5]),
        (["1,2345", "1,240", "1,230", "1,235"], [1.234, 1.2345]),
    ],
)
def test_other_prices_tell_whether_a_comma_separates_thousands(
    silver: Session, other: list[str], opens: list[float]
) -> None:
    rows = ["2026-01-06 08:00", *AMBIGUOUS], ["2026-01-06 09:00", *other]
    assert checked(silver, *rows).bars["open"].to_list() == opens
    told = reasons(silver, rows[0], ["2026-01-06 09:00", "1230", "1240", "1230", "1235"])
    assert len(told) == 4
    assert told[0, "Open"] == "1,234 may hold thousands or decimals; write 1234 or 1.234"


@pytest.mark.parametrize(
    ("hour", "reason"),
    [
        ("05/01/2026 14:00", "may begin with the day or the month"),
        ("2026-01-05 14:00 CST", "is no time"),  # of several zones
        ("2026-01-06 12:00", "has not closed yet"),
        ("2026-01-06 08:30", "on the full hour"),
        ("2026-01-03 12:00", "the market is closed"),  # a Saturday
        ("2024-01-03 12:00", "more than 366 days"),
        ("2026-01-06 07:00", "stands in row 1 already"),
        ("2026-01-06 05:00", "hours must ascend"),
        ("1975-01-05 14:00", "hours before 1980 are not taken"),
        ("05.01.1975 14:00", "hours before 1980 are not taken"),
        ("0001-01-01T00:00+01:00", "is no time"),
        ("2026-01-06 8 AM", "is no time"),
        ("2026-01-06 24:30", "is no time"),
        ("2026-01-06T08:00[Europe/Berlin]", "is no time"),  # its offset is not known
        ("2026-01-06T08:00+530", "is no time"),
        ("2026-W02-2T08:00Z", "is no time"),
    ],
)
def test_an_hour_that_cannot_be_is_explained(silver: Session, hour: str, reason: str) -> None:
    found = reasons(silver, ["2026-01-06 07:00", *PRICES], [hour, *PRICES])
    assert list(found) == [(1, HOUR_UTC)]
    assert reason in found[1, HOUR_UTC]


def spent_s(function: Callable[[], Iterable[object]]) -> float:
    """Least CPU time of a few runs."""

    def run() -> float:
        began = time.process_time()
        list(function())
        return time.process_time() - began

    return min(run() for _ in range(4))


def test_the_time_of_a_check_grows_with_its_hours_alone(silver: Session) -> None:
    stamps = list(enumerate(silver.hours(NOW - 360 * 24 * HOUR, NOW - HOUR)["ts"]))[-4_800:]
    assert list(_check_hours(stamps, silver, NOW)) == []
    few, all_of_them = (
        spent_s(lambda count=count: _check_hours(stamps[-count:], silver, NOW)) for count in (600, 4_800)
    )
    assert all_of_them < 14 * few


def test_prices_are_read_together() -> None:
    few, many = (spent_s(lambda count=count: _prices(["30", "30,5"] * count, None)) for count in (20, 2_000))
    assert many < 50 * few


def test_too_few_and_too_thin_hours_are_told_apart(silver: Session) -> None:
    short = checked(silver, ["2026-01-06 08:00", *PRICES], ["2026-01-06 09:00", *PRICES])
    assert short.lacks(NEEDS) == "3 session hours are needed, these rows span 2: add earlier ones."
    needs = NEEDS.model_copy(update={"max_missing": 0})
    thin = check([["2026-01-06 08:00", *PRICES], ["2026-01-06 10:00", *PRICES]], silver, needs, NOW)
    assert thin.lacks(needs) == "1 of the last 3 hours have no row, 0 may: add some."


@pytest.mark.parametrize(
    "text",
    [
        "Time\tOpen\tHigh\tLow\tClose\n2026-01-06 08:00\t30\t31\t29\t30.5\n",
        "2026-01-06;08:00;30;31;29;30.5;1234",
        '"2026-01-06 08:00",30,31,29,30.5\n\n',
        "Hour (UTC)\tClose\tHigh\tLow\tOpen\n2026-01-06 08:00\t30.5\t31\t29\t30",
        "Vol;Close;<DATE>;<TIME>;High;Low;Open\n9;30.5;2026-01-06;08:00;31;29;30",
        "Time (gmt)\tOpen\tHigh\tLow\tClose\n2026-01-06 08:00\t30\t31\t29\t30.5",
        "Time,Time (UTC),Open,High,Low,Close\n2026-01-06 09:00,2026-01-06 08:00,30,31,29,30.5",
        "Symbol,Time,Open,High,Low,Close\nXAUUSD,2026-01-06 08:00,3,3,3,3\nXAG/USD,2026-01-06 08:00,30,31,29,30.5",
        "Time,Open,High,Low,Close,complete\n2026-01-06 08:00,30,31,29,30.5,true\n2026-01-06 09:00,30,31,29,30,False",
        "Date,hour,minute,Open,High,Low,Close\n2026-01-06,08,0,30,31,29,30.5",
    ],
)
def test_a_clipboard_is_split_into_rows(text: str) -> None:
    assert split(text, "XAGUSD")[0] == [["2026-01-06 08:00", *PRICES]]


def test_a_header_alone_is_no_row_and_an_hour_of_its_own_column_is_read(silver: Session) -> None:
    assert split("\t".join(COLUMNS), "XAGUSD") == ([], [])
    rows, _ = split("Date,Open,High,Low,Close,Hour\n2026-01-06,30,31,29,30.5,8", "XAGUSD")
    assert checked(silver, *rows).bars["ts"].to_list() == [datetime(2026, 1, 6, 8, tzinfo=UTC)]


@pytest.mark.parametrize(
    "header",
    [
        "Stunde\tSchluss\tHoch\tTief\tErster",
        *(
            f"{time}\tOpen\tHigh\tLow\tClose"
            for time in (
                "Local time",
                "Exchange Time",
                "Time (EET)",
                "Time (EST)",
                "Time EST",
                "Time (New York)",
                "Time (UTC-5:30)",
                "Close time",
            )
        ),
    ],
)
def test_a_header_that_does_not_name_the_columns_is_refused(header: str) -> None:
    with pytest.raises(UnknownFormat, match="Expected a header that names open, high, low and close"):
        split(f"{header}\n2026-01-06 08:00\t30\t31\t29\t30.5", "XAGUSD")


def test_a_column_of_zones_is_refused_unless_the_stamps_have_offsets() -> None:
    text = "Time,Timezone,Open,High,Low,Close\n2026-01-06 08:00{},EST,30,31,29,30.5"
    assert split(text.format("Z"), "XAGUSD") == ([["2026-01-06 08:00Z", *PRICES]], [])
    with pytest.raises(UnknownFormat, match="the UTC time when an hour opens"):
        split(text.format(""), "XAGUSD")


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ("Silver,true", "Expected rows of XAGUSD, got 1 of Silver in column Symbol; paste those of XAGUSD"),
        ("XAGUSD,false", "Expected finished bars of XAGUSD, got 1 unfinished ones; paste them once their hours have"),
    ],
)
def test_rows_of_other_symbols_and_of_unfinished_bars_are_told_and_refused_if_alone(cells: str, reason: str) -> None:
    head, bar = "Symbol,Complete,Time,Open,High,Low,Close\n", ",2026-01-06 08:00,30,31,29,30.5\n"
    with pytest.raises(UnknownFormat, match=reason):
        split(f"{head}{cells}{bar}", "XAGUSD")
    rows, notes = split(f"{head}Silver,true{bar}XAGUSD,false{bar}XAGUSD,true{bar}", "XAGUSD")
    assert (len(rows), notes) == (
        1,
        ["Rows of other symbols are left out: 1 of Silver", "1 rows are of unfinished bars and are left out"],
    )


@pytest.mark.parametrize(
    ("price", "value"),
    [
        ("3\N{NARROW NO-BREAK SPACE}012,5", 3012.5),
        ("3'012.5", 3012.5),
        ("$30.1", 30.1),
        ("1.234,5", 1234.5),
        ("3_0", None),
    ],
)
def test_prices_are_read_as_those_of_files(silver: Session, price: str, value: float | None) -> None:
    found = check([["2026-01-06 08:00", *[price] * 4]], silver, NEEDS, NOW)
    assert found.bars["close"].to_list() == ([value] if value else [])


def test_quoted_thousands_stay_one_cell() -> None:
    assert split('2026-01-06 08:00,"1,234.5","1,240.0","1,230.0","1,235.0"', "XAGUSD")[0][0][1] == "1,234.5"


def test_bars_come_back_as_they_were_shown(silver: Session) -> None:
    bars = checked(silver, ["2026-01-06 08:00", "30", "31", "29", "30.12345"]).bars
    assert to_rows(bars, 3) == [["2026-01-06 08:00", "30.000", "31.000", "29.000", "30.12345"]]
    assert checked(silver, *to_rows(bars, 3)).bars.equals(bars)


def test_the_services_problems_find_their_cells(silver: Session) -> None:
    found = checked(silver, ["2026-01-06 08:00", *PRICES], [""] * 5, ["2026-01-06 09:00", *PRICES])
    problems = [
        Problem(path=path, problem=problem)
        for path, problem in (("bars[0].high", "too high"), ("bars[0].ts", "odd"), ("bars", "too few"))
    ]
    cells, whole = cells_of(problems, found, 1)
    assert cells == [Cell(2, "High", "too high"), Cell(2, HOUR_UTC, "odd")]
    assert whole == ["too few"]
    assert len(COLUMNS) == 5


@pytest.mark.parametrize(
    ("price", "known", "read"),
    [
        ("18,460", 18.7, 18.46),
        ("18,460", 19_000.0, 18_460.0),
        ("18,460", None, None),
        ("18,460", 400.0, None),
        ("18.460", 18.7, 18.46),
    ],
)
def test_a_known_price_tells_decimals_from_thousands(
    silver: Session, price: str, known: float | None, read: float | None
) -> None:
    found = check([["2026-01-06 08:00", *[price] * 4]], silver, NEEDS, NOW, known=known)
    assert found.bars["close"].to_list() == ([read] if read else [])
    assert len(found.bad) == (0 if read else 4)
