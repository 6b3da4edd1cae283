"""Factors on the profile by hour of day that go on learning."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ts.model.season import NO_STATES, SeasonStates, compute_states

DAYS = 30
TS = np.datetime64("2015-01-05T00", "us") + np.arange(24 * DAYS) * np.timedelta64(1, "h")  # from a Monday on
HOUR_OF_WEEK = np.arange(24 * DAYS) % 168
HOUR = HOUR_OF_WEEK % 24


def states_of(size_G: np.ndarray, *, half_life_hours: float = 1e9, prior_returns: float = 10) -> SeasonStates:
    hours, closed = HOUR_OF_WEEK[: len(size_G)], TS[: len(size_G)] + np.timedelta64(1, "h")
    return compute_states(size_G, hours, closed, half_life_hours=half_life_hours, prior_returns=prior_returns)


def factors_at(states: SeasonStates, ts: np.datetime64) -> np.ndarray:
    """(168,) by hour of the week."""
    return states.at(np.array([ts]), np.arange(168)[None])[0]


def test_a_factor_is_the_mean_size_of_its_hour_shrunk_to_one_times_what_its_weekday_adds() -> None:
    size_G = np.where(HOUR == 7, 2.0, 1.0)
    states = states_of(size_G)
    factor_W = factors_at(states, TS[24 * 5])  # five days are known at their midnight
    of_day = (5 * 2 + 10) / (5 + 10)
    assert factor_W[5 * 24 + 7] == pytest.approx(of_day)  # a Saturday, which has not come yet
    assert factor_W[7] == pytest.approx(of_day * (2 + 60) / (1 + 60))  # Monday's came when 1 was expected
    assert factor_W[24 + 7] == pytest.approx(of_day * (2 / (12 / 11) + 60) / (1 + 60))  # Tuesday's when 12 / 11 was
    np.testing.assert_allclose(np.delete(factor_W, np.arange(7, 168, 24)), 1)
    assert states.day_at(TS[24 * 5]) == datetime(2015, 1, 10, tzinfo=UTC)


def test_the_bar_that_closes_at_midnight_is_known_then_and_the_next_one_a_day_later() -> None:
    size_G = np.full(len(TS), np.nan)
    size_G[23] = 2.0
    states = states_of(size_G)
    assert (factors_at(states, TS[23]) == 1).all()
    after_W = factors_at(states, TS[24])
    assert after_W[47] == pytest.approx(12 / 11)
    assert (states.day_at(TS[23]), states.day_at(TS[-1])) == (None, datetime(2015, 1, 6, tzinfo=UTC))
    size_G[24] = 2.0
    changed = states_of(size_G)
    assert all((factors_at(changed, ts) == after_W).all() for ts in TS[24:48])


def test_later_bars_change_no_state() -> None:
    size_G = np.where(HOUR == 7, 2.0, 1.0)
    size_G[20:100] = np.nan  # days without a known return, within which the bars may end
    whole = states_of(size_G)
    for hours in (75, 98, 101):
        part, ts = states_of(size_G[:hours]), TS[hours]
        assert (factors_at(part, ts) == factors_at(whole, ts)).all() and part.day_at(ts) == whole.day_at(ts)


def test_old_returns_lose_their_weight() -> None:
    size_G = np.where((HOUR == 7) & (np.arange(len(TS)) < 24), 2.0, 1.0)
    factor_W = factors_at(states_of(size_G, half_life_hours=24), TS[48])
    assert factor_W[6 * 24 + 7] == pytest.approx((2 * 0.5 + 1 + 10) / (0.5 + 1 + 10))


def test_missing_returns_and_jumps_do_not_count() -> None:
    size_G = np.ones(len(TS))
    size_G[7::48] = np.nan
    size_G[31] = 1e9
    factor_W = factors_at(states_of(size_G), TS[72])
    assert factor_W[6 * 24 + 7] == pytest.approx((5 + 10) / (1 + 10))  # at most five times what was expected


@given(row=st.integers(0, len(TS) - 1), size=st.floats(0, 10))
def test_a_later_bar_changes_no_earlier_factor(row: int, size: float) -> None:
    changed = np.ones(len(TS))
    changed[row:] = size
    known = TS[: row + 1]  # moments at which the bar has not closed
    hours = np.broadcast_to(np.arange(168), (len(known), 168))
    np.testing.assert_array_equal(states_of(changed).at(known, hours), states_of(np.ones(len(TS))).at(known, hours))


def test_a_prior_beyond_all_returns_learns_nothing() -> None:
    size_G = np.where(HOUR == 7, 2.0, 1.0)
    assert (factors_at(states_of(size_G, prior_returns=1e300), TS[-1]) == 1).all()


def test_without_states_all_factors_are_one() -> None:
    assert (factors_at(NO_STATES, TS[0]) == 1).all()
    assert NO_STATES.day_at(TS[0]) is None
