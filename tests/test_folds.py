from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ts.errors import ConfigError
from lstm_ts.model.folds import WalkForward, before

FIRST, LAST = datetime(2011, 3, 1, tzinfo=UTC), datetime(2014, 1, 31, 21, tzinfo=UTC)
SETTINGS = {"start": "2013-02-10", "end": None, "every": "1q", "train": None, "valid": "3mo", "embargo_hours": 24}


def walk(**changes: object) -> WalkForward:
    return WalkForward(**(SETTINGS | changes))


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_folds_end_with_the_calendars_quarters() -> None:
    folds = walk().folds(FIRST, LAST)
    borders = ["2013-02-10", "2013-04-01", "2013-07-01", "2013-10-01", "2014-01-01"]
    assert [fold.label for fold in folds] == borders
    assert [fold.test_until for fold in folds] == [*map(day, borders[1:]), LAST + timedelta(hours=1)]
    assert [fold.number for fold in folds] == [0, 1, 2, 3, 4]


def test_a_fold_has_an_embargo_a_validation_and_all_that_came_before_to_train_on() -> None:
    fold = walk().folds(FIRST, LAST)[1]
    assert fold.seen_until == day("2013-03-31")
    assert fold.valid_from == day("2012-12-31")
    assert fold.train_from == FIRST


def test_a_sliding_training_span_moves_with_its_fold() -> None:
    folds = walk(train="1y", valid="1mo", embargo_hours=0).folds(FIRST, LAST)
    assert [fold.train_from for fold in folds[1:3]] == [day("2012-03-01"), day("2012-06-01")]
    assert walk(train="9y").folds(FIRST, LAST)[0].train_from == FIRST


def test_the_start_can_be_a_fraction_of_the_span() -> None:
    folds = walk(start=0.5, end="2013-01-01").folds(day("2012-01-01"), day("2013-01-01"))
    assert folds[0].test_from == day("2012-07-02")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"every": "a quarter"}, "walk.every"),
        ({"every": "0q"}, "walk.every"),
        ({"valid": "long"}, "a length such as"),
        ({"train": "long"}, "a length such as"),
        ({"valid": "3y"}, "change walk.valid"),
        ({"start": "2010-01-01"}, "walk.start"),
        ({"end": "2013-01-01"}, "walk.end"),
        ({"embargo_hours": -1}, "embargo_hours >= 0"),
        ({"embargo_hours": 1e9}, "embargo_hours of at most 100000"),
    ],
)
def test_a_walk_that_cannot_be_is_named(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        walk(**changes).folds(FIRST, LAST)


def test_a_length_is_counted_by_the_calendar() -> None:
    assert before(day("2013-05-31"), "3mo") == day("2013-02-28")
    assert before(day("2013-05-31"), "2w") == day("2013-05-17")


@given(
    start=st.integers(400, 900),
    every=st.sampled_from(["1w", "1mo", "1q", "1y"]),
    train=st.sampled_from([None, "6mo", "1y"]),
    embargo_hours=st.integers(0, 200),
)
def test_folds_cover_the_walk_once_and_see_nothing_of_themselves(
    start: int, every: str, train: str | None, embargo_hours: int
) -> None:
    first_origin = FIRST + timedelta(days=start)
    folds = walk(start=first_origin, every=every, train=train, embargo_hours=embargo_hours).folds(FIRST, LAST)
    assert folds[0].test_from == first_origin
    assert folds[-1].test_until == LAST + timedelta(hours=1)
    assert all(a.test_until == b.test_from for a, b in pairwise(folds))
    for fold in folds:
        assert FIRST <= fold.train_from < fold.valid_from < fold.seen_until <= fold.test_from < fold.test_until
        assert fold.test_from - fold.seen_until == timedelta(hours=embargo_hours)
