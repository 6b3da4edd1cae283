"""What is known of the minutes, day by day and in words."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
from test_completeness import MINUTE, TEN, answer, stamps

from dashboard.data.coverage import by_day, calendar, day_cell, month_columns, month_label, revisions, spans
from dashboard.ui.views import LIGHT
from lstm_ts.market.completeness import SEGMENTS, State, classify
from lstm_ts.market.session import Session
from lstm_ts.store.coverage import known_share

DAY = timedelta(days=1)


def test_a_days_minutes_are_counted_by_state_and_the_rest_is_closed(silver: Session) -> None:
    start, end = TEN - 4 * DAY, TEN + 2 * MINUTE  # from Friday 10:00 to Tuesday 10:02
    answers = [answer(0, 1, "one"), answer(0, 1, "other")]
    days = by_day(classify(silver.spans(start, end), stamps(1), answers), start, end)
    assert days["day"].to_list() == [date(2015, 2, 27) + number * DAY for number in range(5)]
    friday, saturday, sunday, monday, tuesday = days.drop("day").rows()
    assert friday == (0, 0, 0, 12 * 60, 2 * 60)  # present, empty, waiting, unknown, closed; from ten to 22:00
    assert saturday == (0, 0, 0, 0, 1440)
    assert sunday == (0, 0, 0, 60, 1380)
    assert monday == (0, 0, 0, 1380, 60)
    assert tuesday == (1, 1, 0, 600, 0)


def test_a_day_is_told_by_signs_and_words_as_well_as_colours() -> None:
    known = {date(2015, 3, 3): {"present": 1300, "empty": 10, "waiting": 0, "unknown": 7, "closed": 123}}
    cell = day_cell(date(2015, 3, 3), known, LIGHT)
    assert "2015-03-03: 1,300 present, 10 proven empty, 7 unknown; 123 closed" in cell
    assert "✓</i>1,300" in cell
    assert "∅</i>10" in cell
    assert "?</i>7" in cell
    assert "…" not in cell
    assert "nothing is stored around it" in day_cell(date(2015, 3, 4), known, LIGHT)


def test_a_calendar_has_every_day_of_the_month_below_its_weekday() -> None:
    days = pl.DataFrame(schema={"day": pl.Date()})
    text = calendar(days, "2015-03", LIGHT)  # from a Sunday to a Tuesday
    first, *_, last = text.split("<tbody>")[1].split("<tr>")[1:]
    assert first.count("<td></td>") == 6
    assert first.endswith("<b>1</b></td></tr>")
    assert last.startswith('<td title="2015-03-30')
    assert last.count("<td></td>") == 5


def test_shares_are_stacked_and_a_month_with_unknown_minutes_is_marked() -> None:
    counts = {"present": [50, 10], "empty": [25, 0], "waiting": [0, 0], "unknown": [25, 0]}
    columns = month_columns(pl.DataFrame({"month": ["2015-02", "2015-03"]} | counts))
    assert [columns[f"to_{state}"][0] for state in State] == [50, 75, 75, 100]
    assert [columns[f"from_{state}"][0] for state in State] == [0, 50, 75, 75]
    assert columns["mark"] == [8, 0]
    opens = datetime(2015, 2, 1, tzinfo=UTC)
    assert (columns["left"][0], columns["right"][0]) == (1e3 * opens.timestamp(), 1e3 * (opens + 28 * DAY).timestamp())


def test_only_all_is_a_hundred_percent() -> None:
    minutes = {"month": "2015-03", "present": 99_000, "empty": 999, "waiting": 0, "unknown": 1}
    assert known_share(minutes) == "99.99 %"
    assert month_label(minutes) == "2015-03, 99.99 % known"
    assert known_share(minutes | {"unknown": 0}) == "100.00 %"


def test_nothing_to_list_is_said_and_names_from_outside_are_no_html() -> None:
    empty = pl.DataFrame(schema=SEGMENTS).drop("state")
    assert spans("Gaps", empty, "None.") == '<p class="quiet">None.</p>'
    row = {"ts": TEN, "revised_at": TEN, "source": "<files>"}
    row |= {name: 1.0 for price in ("open", "high", "low", "close") for name in (price, f"{price}_revised")}
    assert "&lt;files&gt;" in revisions(pl.DataFrame([row]), None)
