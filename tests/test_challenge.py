"""What becomes of a challenger's requests, and when that releases it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from lstm_ts.cli import compose
from lstm_ts.configuration.parts import construct
from lstm_ts.ledger.traffic import TrafficRow
from lstm_ts.market.session import HOUR, Session
from lstm_ts.monitoring.challenge import Challenge, ChallengerTraffic, find_end, find_traffic
from lstm_ts.monitoring.verdict import ChallengeVerdict, Record, VerdictState

LIVE = datetime(2015, 3, 2, tzinfo=UTC)  # a Monday
SAID = TrafficRow("XAGUSD", "0.0.0.0:8000", LIVE - 5 * HOUR, True, None, "")
NOTHING = Record(0, 0.0, (0.0,), (0.0,))
CHALLENGE = Challenge(
    1, LIVE, LIVE + 9 * HOUR, VerdictState(1.0, NOTHING, NOTHING, (0.0,)), ChallengeVerdict.RUNNING, "Undecided.", None
)


def traffic(*rows: TrafficRow, answered: datetime | None = None) -> ChallengerTraffic:
    return find_traffic(rows, 2, live_since=LIVE, answered_at=answered)


def test_requests_are_expected_since_traffic_was_meant_to_come_to_this_challenger() -> None:
    assert traffic().expected_since is None
    assert traffic(replace(SAID, to_challenger=False), answered=LIVE + HOUR).expected_since is None
    assert traffic(SAID).expected_since == LIVE
    later, other = replace(SAID, since=LIVE + 3 * HOUR), replace(SAID, service="b", to_challenger=False)
    assert traffic(later, other).expected_since == LIVE + 3 * HOUR
    assert traffic(later, answered=LIVE + 4 * HOUR).expected_since == LIVE + 4 * HOUR
    assert traffic(SAID, answered=LIVE - HOUR).expected_since == LIVE  # it was champion then


def test_a_stop_counts_for_its_version_and_only_since_that_is_challenger() -> None:
    stop = replace(SAID, since=LIVE + HOUR, stopped=2, reason="4 of 10 failed")
    assert traffic(SAID, stop).stopped == "4 of 10 failed"
    assert traffic(replace(stop, stopped=3)).stopped is None
    assert traffic(replace(stop, since=LIVE - HOUR)).stopped is None


def test_a_challenger_without_an_hour_to_judge_it_by_is_halted_too(silver: Session) -> None:
    settings = construct(compose("train", ["+verdict=default"]).verdict)
    ends = [find_end(None, traffic(), silver, settings, LIVE + timedelta(days=days)) for days in (2, 3)]
    assert ends == [None, "Halted: no hours are stored that neither model was trained on, for 68 session hours."]


@pytest.mark.parametrize(
    ("verdict", "later"),
    [
        ("no_worse", {"stop_for_harm", "better"}),
        ("better", {"stop_for_harm"}),
        ("inconclusive", {"stop_for_harm"}),
        ("stop_for_harm", set()),
        ("halted", {*ChallengeVerdict}),
        ("running", {*ChallengeVerdict}),
    ],
)
def test_a_verdict_gives_way_to_a_graver_one_alone(verdict: str, later: set[str]) -> None:
    assert {each for each in ChallengeVerdict if ChallengeVerdict(verdict).can_change_to(each)} == later


def test_one_that_becomes_challenger_again_keeps_its_evidence_and_waits_anew() -> None:
    halted = replace(CHALLENGE, verdict=ChallengeVerdict.HALTED)
    assert halted.resume(LIVE) == halted
    again = halted.resume(LIVE + 80 * HOUR)
    assert again == replace(CHALLENGE, since=LIVE + 80 * HOUR, last_pair=LIVE + 80 * HOUR)
    harmful = replace(CHALLENGE, verdict=ChallengeVerdict.HARM)
    assert harmful.resume(LIVE + HOUR).verdict is ChallengeVerdict.HARM
