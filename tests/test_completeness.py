"""Segments against the same rule written out minute by minute."""

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st

from lstm_ts.market.bars import TS, AnsweredSpan, make_answers
from lstm_ts.market.completeness import (
    MISSING,
    SEGMENTS,
    State,
    classify,
    count_within,
    coverage,
    known_hours,
    merge,
    span_of,
    unanswered,
)
from lstm_ts.market.session import Session

MINUTE = timedelta(minutes=1)
# A Tuesday; silver's session goes on until 22:00, and from 23:00.
TEN = datetime(2015, 3, 3, 10, tzinfo=UTC)


def at(minutes: int) -> datetime:
    return TEN + minutes * MINUTE


def stamps(*minutes: int) -> pl.Series:
    return pl.Series([at(minute) for minute in minutes], dtype=TS)


def open_spans(*spans: tuple[int, int]) -> pl.DataFrame:
    return pl.DataFrame([(at(a), at(b)) for a, b in spans], schema={"opens": TS, "closes": TS}, orient="row")


def answer(start: int, end: int, observer: str = "one", *, bars: int = 0) -> AnsweredSpan:
    return AnsweredSpan(at(start), at(end), at(9999), observer, bars)


def rows(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    """With minutes since ten."""
    return frame.with_columns((pl.col("start", "end") - TEN).dt.total_minutes()).rows()


def test_a_minute_is_empty_only_once_two_observers_have_answered_without_it() -> None:
    answers = [answer(2, 8, "one"), answer(4, 6, "one"), answer(5, 9, "other")]
    found = classify(open_spans((0, 10)), stamps(0, 1, 7), answers)
    assert rows(merge(found, [State.PRESENT])) == [(0, 2, 2), (7, 8, 1)]
    assert rows(merge(found, [State.WAITING])) == [(2, 5, 3), (8, 9, 1)]
    assert rows(merge(found, [State.EMPTY])) == [(5, 7, 2)]
    assert rows(merge(found, [State.UNKNOWN])) == [(9, 10, 1)]


def test_an_answer_whose_bars_are_no_longer_stored_proves_nothing() -> None:
    held = classify(open_spans((0, 10)), stamps(0, 1, 2), [answer(0, 10, bars=3)])
    assert rows(merge(held, [State.WAITING])) == [(3, 10, 7)]
    lost = classify(open_spans((0, 10)), stamps(0, 2), [answer(0, 10, bars=3)])
    assert rows(merge(lost, [State.UNKNOWN])) == [(1, 2, 1), (3, 10, 7)]


def test_closed_minutes_have_no_state_and_do_not_end_a_gap() -> None:
    found = classify(open_spans((0, 5), (20, 25)), stamps(0, 22), [])
    assert found.schema == SEGMENTS
    assert found["minutes"].sum() == 10
    assert rows(merge(found, MISSING)) == [(1, 22, 6), (23, 25, 2)]


def test_nothing_stored_and_nothing_asked_is_unknown() -> None:
    found = classify(open_spans((0, 5)), stamps(), [])
    assert found.rows() == [(at(0), at(5), "unknown", 5)]
    assert classify(open_spans(), stamps(), []).is_empty()


def test_coverage_is_counted_by_month() -> None:
    year_end = datetime(2014, 12, 31, 23, 58, tzinfo=UTC)
    sessions = pl.DataFrame([(year_end, year_end + 5 * MINUTE)], schema={"opens": TS, "closes": TS}, orient="row")
    answers = [AnsweredSpan(year_end + 3 * MINUTE, year_end + 5 * MINUTE, year_end, "one", 0)]
    found = coverage(classify(sessions, pl.Series([year_end], dtype=TS), answers))
    assert found.columns == ["month", "present", "empty", "waiting", "unknown"]
    assert found.rows() == [("2014-12", 1, 0, 0, 1), ("2015-01", 0, 0, 2, 1)]


SPAN = st.tuples(st.integers(0, 40), st.integers(1, 15)).map(lambda span: (span[0], span[0] + span[1]))
ANSWERS = st.lists(st.tuples(SPAN, st.sampled_from("abc"), st.integers(0, 3)), max_size=6)


def disjoint(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    kept: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if not kept or start >= kept[-1][1]:
            kept.append((start, end))
    return kept


@given(sessions=st.lists(SPAN, max_size=4).map(disjoint), bars=st.sets(st.integers(0, 60), max_size=30), told=ANSWERS)
@example(sessions=[(0, 10)], bars=set(), told=[((0, 5), "a", 0), ((5, 9), "a", 0), ((0, 9), "b", 0)])
def test_segments_agree_with_the_rule_minute_by_minute(
    sessions: list[tuple[int, int]], bars: set[int], told: list[tuple[tuple[int, int], str, int]]
) -> None:
    answers = [answer(a, b, observer, bars=count) for (a, b), observer, count in told]
    found = classify(open_spans(*sessions), stamps(*sorted(bars)), answers)
    expected = {}
    for minute in (m for a, b in sessions for m in range(a, b)):
        observers = {w for (a, b), w, count in told if a <= minute < b and len(bars & set(range(a, b))) >= count}
        by_observers = ["unknown", "waiting", "empty"][min(len(observers), 2)]
        expected[minute] = "present" if minute in bars else by_observers
    said = {m: state for a, b, state, _ in rows(found) for m in range(a, b)}
    assert said == expected
    assert found["minutes"].sum() == len(expected)


@given(st.lists(SPAN, max_size=5).map(disjoint), st.lists(SPAN, min_size=1, max_size=5))
def test_minutes_within_spans_are_counted_exactly(held: list[tuple[int, int]], asked: list[tuple[int, int]]) -> None:
    segments = pl.DataFrame([(at(a), at(b)) for a, b in held], schema={"start": TS, "end": TS}, orient="row")
    found = count_within(segments, stamps(*(a for a, _ in asked)), stamps(*(b for _, b in asked)))
    minutes = {m for a, b in held for m in range(a, b)}
    assert found.to_list() == [len(minutes & set(range(a, b))) for a, b in asked]


def known(silver: Session, bars: pl.Series, answers: list[AnsweredSpan]) -> list[int]:
    """The hours from ten to twelve that are known, with a tenth of their minutes allowed to be unknown."""
    until = TEN + timedelta(hours=2)
    found = classify(silver.spans(TEN, until), bars, answers)
    return known_hours(silver.hours(TEN, until), found, max_unknown_share=0.1)["ts"].dt.hour().to_list()


def test_an_hour_is_known_once_every_minute_is_stored_or_answered_for(silver: Session) -> None:
    assert known(silver, stamps(*range(60)), []) == [10]
    assert known(silver, stamps(*range(30)), [answer(30, 60)]) == [10]
    assert known(silver, stamps(*range(30)), [answer(31, 120)]) == [10, 11]


def test_a_part_hour_is_not_known_however_little_it_lacks(silver: Session) -> None:
    assert known(silver, stamps(*range(59)), []) == []
    assert known(silver, stamps(*range(1, 60)), []) == []


def test_an_edge_is_known_where_stored_minutes_bridge_a_gap_of_two(silver: Session) -> None:
    for gap, hours in (((59,), [10, 11]), ((59, 60), [10, 11]), ((58, 59), [10, 11]), ((58, 59, 60), [])):
        assert known(silver, stamps(*(m for m in range(120) if m not in gap)), []) == hours
    assert known(silver, stamps(*range(59)), [answer(60, 120)]) == [11]  # answered for, and nothing there


def test_sessions_that_no_answer_touches_are_told_apart() -> None:
    sessions = open_spans((0, 10), (10, 20), (30, 40), (50, 60))
    assert unanswered(sessions, [answer(10, 12), answer(20, 30), answer(39, 41)]).to_list() == [
        True,
        False,
        False,
        True,
    ]
    assert unanswered(sessions, []).to_list() == [True] * 4


def test_a_tenth_of_an_hours_minutes_may_be_unknown_within_it(silver: Session) -> None:
    assert known(silver, stamps(*(m for m in range(60) if not 20 <= m < 26)), []) == [10]
    assert known(silver, stamps(*(m for m in range(60) if not 20 <= m < 27)), []) == []


def test_a_span_goes_from_the_first_minute_stored_or_answered_for_to_the_end_of_the_last() -> None:
    assert span_of(stamps(3, 5), [answer(4, 9)]) == (at(3), at(9))
    assert span_of(stamps(3, 5), []) == (at(3), at(6))
    assert span_of(stamps(), [answer(4, 9)]) == (at(4), at(9))
    assert span_of(stamps(), []) is None


def test_an_answer_is_cut_at_rows_nobody_can_use_unless_another_row_gave_the_minute() -> None:
    bad = stamps(2, 3, 8).append(pl.Series([at(5) + timedelta(seconds=7)], dtype=TS))
    found = make_answers(at(0), at(10), good=stamps(0, 1, 8, 9), bad=bad, at=TEN, observer="one")
    assert [(a.start, a.end, a.bars) for a in found] == [(at(0), at(2), 2), (at(4), at(5), 0), (at(6), at(10), 2)]
