"""Comparison of the challenger with the champion at every session hour, whatever the traffic. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

from lstm_ts.ledger.traffic import TrafficRow
from lstm_ts.market.session import HOUR, Session
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.monitoring.ruling import decide
from lstm_ts.monitoring.verdict import (
    ChallengeVerdict,
    Evidence,
    VerdictSettings,
    VerdictState,
    measure,
    start,
    update,
)
from lstm_ts.monitoring.versions import DRIFT_STEP, Update, WatchedVersion
from lstm_ts.scoring.comparison import Pairs, compute_pairs

UNJUDGED = "no hours are stored that neither model was trained on"
CHALLENGE = "challenge"  # a kind of state, of the challenger
ENDING = (ChallengeVerdict.HARM, ChallengeVerdict.HALTED)


@dataclass(frozen=True)
class Challenge:
    champion: int  # version; a new champion begins a new challenge
    since: datetime  # when the later of both last got its role; earlier hours do not count
    last_pair: datetime  # the last origin with both outcomes known; `since` before the first
    state: VerdictState
    verdict: ChallengeVerdict
    sentence: str
    evidence: Evidence | None  # None: written by a monitor that kept the state alone

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        evidence = values.get("evidence")
        return cls(
            values["champion"],
            datetime.fromisoformat(values["since"]),
            datetime.fromisoformat(values["last_pair"]),
            VerdictState.from_json(values["state"]),
            ChallengeVerdict(values["verdict"]),
            values["sentence"],
            Evidence(**evidence) if evidence else None,
        )

    def resume(self, at: datetime) -> Self:
        """Return the challenge after either version got its role again: evidence stays, waiting times restart."""
        if at <= self.since:
            return self
        verdict = self.verdict if self.verdict.final else ChallengeVerdict.RUNNING
        return replace(self, since=at, last_pair=max(self.last_pair, at), verdict=verdict)

    def to_json(self) -> dict[str, Any]:
        moments = {"since": self.since.isoformat(), "last_pair": self.last_pair.isoformat()}
        return {**asdict(self), **moments}


@dataclass(frozen=True)
class ChallengerTraffic:
    """Requests to a challenger, from the services' reports and from the forecasts in the ledger."""

    live_since: datetime
    expected_since: datetime | None  # the last answer, or since when one is expected; None: none is expected
    stopped: str | None  # why a service stopped them; None: none did


def find_traffic(
    rows: Sequence[TrafficRow], version: int, *, live_since: datetime, answered_at: datetime | None
) -> ChallengerTraffic:
    """Summarise the services' reports about a version; `answered_at` is its last forecast in the ledger."""
    meant = [row.since for row in rows if row.to_challenger]
    expected = max(min(meant), live_since, answered_at or live_since) if meant else None
    stops = [row for row in rows if row.stopped == version and row.since >= live_since]
    return ChallengerTraffic(live_since, expected, stops[0].reason if stops else None)


def begin(champion: WatchedVersion, since: datetime, held_out: Pairs, settings: VerdictSettings) -> Challenge:
    """Begin a challenge from the losses of both on held-out hours, which neither was trained on.

    Raises    NoRows: no known target among them
    """
    state = start(held_out, settings)
    evidence = measure(state, settings)
    return Challenge(champion.number, since, since, state, ChallengeVerdict.RUNNING, "", evidence)


def continue_challenge(
    challenge: Challenge,
    challenger: Update,
    champion: Update,
    session: Session,
    settings: VerdictSettings,
    *,
    traffic: ChallengerTraffic,
    now: datetime,
) -> Challenge:
    """Add the pairs whose outcome became known in this run, and judge; for final verdicts see `can_change_to`."""
    state, last_pair = challenge.state, challenge.last_pair
    for origin_ts, difference, bound in find_pairs(challenger, champion, challenge.since):
        state, last_pair = update(state, difference, bound, settings), max(last_pair, origin_ts)
    ruling = decide(
        state,
        settings,
        age_hours=(now - challenge.since) / HOUR,
        hours_without_outcome=count_hours(session, last_pair, now),
        hours_without_request=count_hours(session, expected, now) if (expected := traffic.expected_since) else None,
    )
    challenge = replace(challenge, state=state, last_pair=last_pair, evidence=ruling.evidence)
    if not challenge.verdict.can_change_to(ruling.verdict):
        return challenge
    return replace(challenge, verdict=ruling.verdict, sentence=ruling.sentence)


def find_pairs(challenger: Update, champion: Update, since: datetime) -> list[tuple[datetime, float, float]]:
    """Return origin, difference and bound of the pairs from `since` on that this run completed: both are scored now."""
    if challenger.record is None or champion.record is None:
        return []
    fresh = {score.origin_ts for each in (challenger, champion) for score in each.scores if score.step == DRIFT_STEP}
    pairs = compute_pairs(challenger.record, champion.record, DRIFT_STEP)
    origins = [ts.replace(tzinfo=UTC) for ts in pairs.origin_ts_N.tolist()]
    found = zip(origins, pairs.difference_N.tolist(), pairs.bound_N.tolist(), strict=True)
    return [pair for pair in found if pair[0] >= since and pair[0] in fresh and not math.isnan(pair[1])]


def count_hours(session: Session, since: datetime, until: datetime) -> int:
    return session.hours(since, max(until - HOUR, since)).height


def find_end(
    challenge: Challenge | None, traffic: ChallengerTraffic, session: Session, settings: VerdictSettings, now: datetime
) -> str | None:
    """Return why the challenger is released; None: it stays.

    challenge   None: no hours are stored to begin one with
    """
    if traffic.stopped:
        return f"Halted: its service has stopped its requests: {traffic.stopped}."
    if challenge:
        return challenge.sentence if challenge.verdict in ENDING else None
    waited = count_hours(session, traffic.live_since, now)
    return f"Halted: {UNJUDGED}, for {waited:,} session hours." if waited > settings.halt_hours else None


def describe(
    challenger: WatchedVersion | None, name: str, challenge: Challenge | None, end: str | None = None
) -> Finding:
    """Return the finding about the challenger; `end` is the result of `find_end`."""
    subject = f"{name} challenger"
    if challenger is None:
        return Finding("challenger_stopped", subject, Health.GOOD, f"{name} has no challenger.")
    health = Health.BAD if end else Health.GOOD if challenge else Health.UNKNOWN
    against = f", against version {challenge.champion}" if challenge else ""
    sentence = f"The {challenger}{against}: {end or (challenge.sentence if challenge else f'{UNJUDGED}.')}"
    return Finding("challenger_stopped", subject, health, sentence)
