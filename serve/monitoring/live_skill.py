"""The monitor's results in the ledger, as workers read them: live skill for replies, and the last run's end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lstm_ts.http_schema import Model, Skill, SkillOver, StepSkill
from lstm_ts.ledger import monitor_tables as tables
from lstm_ts.ledger.alert_rows import MONITOR
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.monitor_rows import MonitorState
from lstm_ts.monitoring.live_skill import LIVE_SKILL
from serve.ledger.reader import LedgerAddress, LedgerReader, VersionKey

NOT_READ = "the ledger has not been read yet"


@dataclass(frozen=True)
class MonitorWork:
    skills: Mapping[VersionKey, Skill]  # of versions with a scored outcome
    runs: Mapping[str, datetime]  # when the monitor last ended one, by model


class LiveSkills:
    """Live skill of the loaded versions, and the end of the monitor's last run."""

    def __init__(
        self, address: LedgerAddress, wanted: Callable[[], frozenset[VersionKey]], typed: Mapping[str, str]
    ) -> None:
        """typed    `SymbolSettings.typed` by symbol"""
        self._typed = typed
        self._reader: LedgerReader[MonitorWork] = LedgerReader(address, read_work, wanted)

    def start(self) -> None:
        self._reader.start()

    def find(self, model: Model, symbol: str) -> tuple[Skill | None, str | None]:
        """Return the skill as last read, and why there is none or it may be outdated."""
        last = self._reader.last
        skill = last.value.skills.get((model.name, model.version)) if last.value else None
        if skill:
            return skill, last.trouble and f"it may not be the newest: {last.trouble}"
        if last.trouble or last.value is None:
            return None, last.trouble or NOT_READ
        return None, (
            f"no outcome of version {model.version} is scored yet; "
            f"python -m lstm_ts.monitor {self._typed[symbol]} does so after each session hour"
        )

    def last_run(self, name: str) -> datetime | None:
        """End of the monitor's last run over a registered model; None: not known."""
        work = self._reader.last.value
        return work.runs.get(name) if work else None


def read_work(ledger: Ledger, versions: frozenset[VersionKey]) -> MonitorWork:
    runs = {beat.subject: beat.at for beat in ledger.heartbeats() if beat.component == MONITOR}
    with ledger.transaction() as connection:
        rows = tables.read_state_rows(connection, LIVE_SKILL, versions)
    return MonitorWork({(row.name, row.version): skill for row in rows if (skill := make_skill(row))}, runs)


def make_skill(row: MonitorState) -> Skill | None:
    """Return the skill; None: no step has one yet."""
    found = row.state["steps"]
    steps = [_make_step(step, found[step]) for step in sorted(found, key=int) if _is_known(found[step])]
    return Skill(measured_at=row.at, confidence=row.state.get("confidence"), steps=steps) if steps else None


def _is_known(found: Mapping[str, Any]) -> bool:
    return all(found[name]["skill"] is not None for name in ("over_best", "over_persistence"))


def _make_step(step: str, found: Mapping[str, Any]) -> StepSkill:
    return StepSkill(
        step=int(step),
        outcomes=found["n"],
        since=found["since"],
        best=found["best"],
        over_best=_make_over(found["over_best"]),
        over_persistence=_make_over(found["over_persistence"]),
    )


def _make_over(found: Mapping[str, float | None]) -> SkillOver:
    return SkillOver.model_validate({"skill": found["skill"], "lower": found["low"], "upper": found["high"]})
