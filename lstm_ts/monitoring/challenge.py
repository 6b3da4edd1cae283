"""The challenger beside the champion at every session hour, whatever the traffic. Pure."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

from lstm_ts.market.session import HOUR, Session
from lstm_ts.monitoring.findings import STATUS, Finding, Health
from lstm_ts.monitoring.verdict import (
    ChallengeVerdict,
    Evidence,
    Pairs,
    VerdictSettings,
    VerdictState,
    compute_pairs,
    decide,
    measure,
    start,
    update,
)
from lstm_ts.monitoring.versions import DRIFT_STEP, Update, WatchedVersion

CHALLENGE = "challenge"  # a kind of state, of the challenger
HEALTH = {ChallengeVerdict.HARM: Health.BAD, ChallengeVerdict.HALTED: Health.UNKNOWN}


@dataclass(frozen=True)
class Challenge:
    champion: int  # version; another champion begins another challenge
    since: datetime  # when it went live
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

    def to_json(self) -> dict[str, Any]:
        moments = {"since": self.since.isoformat(), "last_pair": self.last_pair.isoformat()}
        return {**asdict(self), **moments}


def begin(champion: WatchedVersion, since: datetime, held_out: Pairs, settings: VerdictSettings) -> Challenge:
    """held_out   both on hours that neither was trained on

    Raises    NoRows: not one known target among them
    """
    state = start(held_out, settings)
    evidence = measure(state, settings)
    return Challenge(champion.number, since, since, state, ChallengeVerdict.RUNNING, "", evidence)


def go_on(
    challenge: Challenge,
    challenger: Update,
    champion: Update,
    session: Session,
    settings: VerdictSettings,
    *,
    last_request: datetime | None,
    now: datetime,
) -> Challenge:
    """Take the pairs that got their outcome in this run, and judge. A final verdict stays.

    last_request   when the challenger last answered a client; None: it never has, so none is expected
    """
    if challenge.verdict.final:
        return challenge
    state, last_pair = challenge.state, challenge.last_pair
    for origin_ts, difference, bound in find_pairs(challenger, champion):
        state, last_pair = update(state, difference, bound, settings), max(last_pair, origin_ts)
    ruling = decide(
        state,
        settings,
        age_hours=(now - challenge.since) / HOUR,
        hours_without_outcome=count_hours(session, last_pair, now),
        hours_without_request=None if last_request is None else count_hours(session, last_request, now),
    )
    return replace(
        challenge,
        state=state,
        last_pair=last_pair,
        verdict=ruling.verdict,
        sentence=ruling.sentence,
        evidence=ruling.evidence,
    )


def find_pairs(challenger: Update, champion: Update) -> list[tuple[datetime, float, float]]:
    """Origin, difference and bound of the pairs of which one was scored in this run, and both are now."""
    if challenger.record is None or champion.record is None:
        return []
    fresh = {score.origin_ts for each in (challenger, champion) for score in each.scores if score.step == DRIFT_STEP}
    pairs = compute_pairs(challenger.record, champion.record, DRIFT_STEP)
    origins = [ts.replace(tzinfo=UTC) for ts in pairs.origin_ts_N.tolist()]
    found = zip(origins, pairs.difference_N.tolist(), pairs.bound_N.tolist(), strict=True)
    return [pair for pair in found if pair[0] in fresh and not math.isnan(pair[1])]


def count_hours(session: Session, since: datetime, until: datetime) -> int:
    return session.hours(since, max(until - HOUR, since)).height


def describe(challenger: WatchedVersion | None, name: str, challenge: Challenge | None) -> Finding:
    subject, command = f"{name} challenger", STATUS.format(name=name)
    if challenger is None:
        return Finding("challenger_stopped", subject, Health.GOOD, f"{name} has no challenger.", command)
    if challenge is None:
        sentence = f"The {challenger}: no hours are stored that neither model was trained on."
        return Finding("challenger_stopped", subject, Health.UNKNOWN, sentence, command)
    health = HEALTH.get(challenge.verdict, Health.GOOD)
    sentence = f"The {challenger}, against version {challenge.champion}: {challenge.sentence}"
    return Finding("challenger_stopped", subject, health, sentence, command)
