"""Verdict on a challenger's evidence after every hour, with a sentence. Pure."""

from dataclasses import dataclass

from lstm_ts.monitoring.verdict import ChallengeVerdict, Evidence, VerdictSettings, VerdictState, measure
from lstm_ts.scoring.tables import percent

HOURS_OF_WEEK = 7 * 24


@dataclass(frozen=True)
class Ruling:
    verdict: ChallengeVerdict
    sentence: str
    evidence: Evidence


def decide(
    state: VerdictState,
    settings: VerdictSettings,
    *,
    age_hours: float,
    hours_without_outcome: int,
    hours_without_request: int | None,
) -> Ruling:
    """Judge after every hour; the first final verdict counts, see `can_change_to`.

    age_hours               since the challenge began, by the clock
    hours_without_outcome   session hours since the last known pair, or since the challenge began
    hours_without_request   session hours since its last answer to a request; None: no request is meant to reach it
    """
    evidence = measure(state, settings)
    verdict = _judge(state, settings, evidence, age_hours / HOURS_OF_WEEK)
    silence = _describe_silence(settings, hours_without_outcome, hours_without_request)
    if verdict is ChallengeVerdict.RUNNING and silence:
        return Ruling(ChallengeVerdict.HALTED, f"Halted: {silence}. {_describe(state, evidence)}", evidence)
    margin = percent(settings.margin)
    lead = {
        ChallengeVerdict.HARM: f"Stop: the challenger is worse than the champion by more than {margin}",
        ChallengeVerdict.BETTER: "The challenger is better than the champion",
        ChallengeVerdict.NO_WORSE: f"The challenger is no worse than the champion by {margin}",
        ChallengeVerdict.INCONCLUSIVE: f"Inconclusive after {settings.bound_weeks:g} weeks",
        ChallengeVerdict.RUNNING: f"Undecided after {age_hours / HOURS_OF_WEEK:.1f} of {settings.bound_weeks:g} weeks",
    }[verdict]
    return Ruling(verdict, f"{lead}. {_describe(state, evidence)}", evidence)


def _judge(state: VerdictState, settings: VerdictSettings, evidence: Evidence, weeks: float) -> ChallengeVerdict:
    if evidence.harm >= evidence.needed:
        return ChallengeVerdict.HARM
    if state.live.n >= settings.min_hours:
        if evidence.better >= evidence.needed and evidence.better_live >= evidence.needed_live:
            return ChallengeVerdict.BETTER
        if evidence.no_worse >= evidence.needed and evidence.no_worse_live >= evidence.needed_live:
            return ChallengeVerdict.NO_WORSE
    return ChallengeVerdict.INCONCLUSIVE if weeks >= settings.bound_weeks else ChallengeVerdict.RUNNING


def _describe_silence(settings: VerdictSettings, outcome: int, request: int | None) -> str | None:
    if outcome > settings.halt_hours:
        return f"no outcome of both models for {outcome:,} session hours"
    if request is not None and request > settings.halt_hours:
        return f"no request has reached the challenger for {request:,} session hours"
    return None


def _describe(state: VerdictState, evidence: Evidence) -> str:
    records = (("live", state.live), ("held-out", state.held_out))
    found = [f"{percent(r.total / r.n, 2, signed=True)} over {r.n:,} {name} hours" for name, r in records if r.n]
    loss = f"Its loss beside the champion's is {' and '.join(found)}. " if found else ""
    sums = (("better", evidence.better, evidence.better_live), ("no worse", evidence.no_worse, evidence.no_worse_live))
    stands = "; ".join(f"{name} 10^{value:.1f}, of it live 10^{live:.1f}" for name, value, live in sums)
    needed = f"10^{evidence.needed:.1f} decides, of it 10^{evidence.needed_live:.1f} live"
    return f"{loss}Evidence: harm 10^{evidence.harm:.1f}; {stands}; {needed}."
