"""Carry out the gate's decision on a registered version: move the alias, then record the decision.

The decision is recorded last: a version without one belongs to a run that was killed before its end.
"""

from datetime import datetime
from typing import Any

from lstm_ts import clock
from lstm_ts.errors import RegistryError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.rows import DecisionRow
from lstm_ts.registry.registry import Registry
from lstm_ts.registry.version import CHAMPION, Version
from lstm_ts.scoring.decision import Verdict


def promote_undecided(registry: Registry, ledger: Ledger, name: str) -> None:
    """Carry out the gate's decisions that are not recorded yet, oldest version first.

    Raises    RegistryError: the ledger's decisions are on versions of another registry
    """
    decided, versions = {decision.version: decision for decision in ledger.decisions(name)}, registry.versions(name)
    newest = versions[-1] if versions else None
    if decided and (newest is None or _differs(newest, decided.get(newest.number))):
        raise RegistryError(
            f"Expected the registry whose versions of {name} the ledger has decisions on, got another or an empty one; "
            f"set registry.uri and registry.ledger to two that belong together, or name to a new one"
        )
    for version in versions:
        if version.number not in decided:
            gate = registry.read_gate(version)
            _promote(registry, version, gate)
            ledger.record_decision(_decision(version, gate))


def _differs(version: Version, decision: DecisionRow | None) -> bool:
    judged_on = version.tags.get("data_sha256")  # which older versions lack
    return decision is not None and judged_on not in (None, decision.data_sha256)


def _promote(registry: Registry, version: Version, gate: Any) -> None:
    """Promote a version, once, if the champion that it was judged against still serves."""
    served = {change.to_version for change in registry.history(version.name, CHAMPION)}
    if gate["verdict"] != Verdict.PROMOTE or version.number in served:
        return
    champion = registry.champion(version.name)
    if (champion.number if champion else None) != _judged_against(version):
        print(f"Not made champion: {version} was not judged against {champion or 'none'}, which serves now")
        return
    reasons = {check["name"]: check["reason"] for check in gate["checks"]}
    why = next((reason for name, reason in reasons.items() if name.startswith(CHAMPION)), "the first model")
    registry.promote(version.name, version.number, alias=CHAMPION, actor="retrain", reason=why)


def _judged_against(version: Version) -> int | None:
    number = version.tags["judged_against"]
    return int(number) if number else None


def _decision(version: Version, gate: Any) -> DecisionRow:
    return DecisionRow(
        name=version.name,
        version=version.number,
        at=clock.now(),
        verdict=gate["verdict"],
        experimental=gate["experimental"],
        champion=_judged_against(version),
        reasons=tuple(check["reason"] for check in gate["checks"]),
        span_start=datetime.fromisoformat(gate["span_start"]),
        span_end=datetime.fromisoformat(gate["span_end"]),
        data_sha256=gate["data_sha256"],
    )
