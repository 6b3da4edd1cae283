"""Inputs of the gate for each symbol: the champion, held-out bars and the start of an active drift alarm."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from omegaconf import DictConfig

from lstm_ts import clock
from lstm_ts.configuration.parts import choose_symbols, to_json
from lstm_ts.errors import ConfigError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.session import HOUR, utc
from lstm_ts.model.provenance import hash_training, select_decisive
from lstm_ts.model.symbol_data import SymbolBars
from lstm_ts.monitoring.standing_drift import find_drift
from lstm_ts.registry.holdout import Champion, Change, HoldoutData, hold_out
from lstm_ts.registry.registry import Registry
from lstm_ts.registry.version import Version
from lstm_ts.scoring.decision import Verdict
from lstm_ts.scoring.gate import Criteria


@dataclass(frozen=True)
class GateInputs:
    """The champion and the bars that a candidate of one symbol is judged with."""

    name: str  # of the registered model
    held: HoldoutData
    champion: Champion | None
    drift_since: datetime | None  # about when the champion became worse, if its drift alarm is active

    @property
    def against(self) -> str:
        """Number of the version that a candidate is judged against; empty: there is none."""
        return str(self.champion.version.number) if self.champion else ""

    @property
    def drift_since_iso(self) -> str:
        return self.drift_since.isoformat() if self.drift_since else ""


def choose_names(cfg: DictConfig) -> list[str]:
    """Return the names of the registered models: those of the symbols, or `name` for the model of one symbol."""
    names = [symbol.name for symbol in choose_symbols(cfg)]
    if cfg.name == cfg.symbol.name:  # the default
        return names
    if len(names) > 1:
        raise ConfigError(f"Expected no name with several symbols, whose models are named as they are, got {cfg.name}")
    return [cfg.name]


def read_gate_inputs(
    cfg: DictConfig, registry: Registry, ledger: Ledger, bars: Sequence[SymbolBars], criteria: Criteria
) -> list[GateInputs]:
    names, end = choose_names(cfg), utc(cfg.span.end)
    last_ts = max(each.hourly_bars["ts"][-1] for each in bars)
    clock.check_after(min(last_ts, end - HOUR) if end else last_ts)
    champions = [registry.champion(name) for name in names]
    drifts = [find_drift(ledger, each.name, each.number) if each else None for each in champions]
    change = max((since for since in drifts if since), default=None)
    held = hold_out(
        bars,
        end=end,
        valid=cfg.retrain.valid,
        holdout=cfg.retrain.holdout,
        change=Change(change, criteria.min_origins) if change else None,
        seen_until=_find_seen(champions),
    )
    loaded = [Champion(champion, registry.load(champion)) if champion else None for champion in champions]
    return [GateInputs(*each) for each in zip(names, held, loaded, drifts, strict=True)]


def _find_seen(champions: Iterable[Version | None]) -> datetime | None:
    """Return the end of the bars that champions with a shortened hold-out have seen; None: there is no such one."""
    seen = [each.tags["data_end"] for each in champions if each and each.tags.get("shortened") == "true"]
    return max(map(datetime.fromisoformat, seen), default=None)


def describe_waiting(ledger: Ledger, inputs: GateInputs, criteria: Criteria) -> str | None:
    """Return why nothing is trained: too few hours since a drift, and a candidate is registered; None: train."""
    if not inputs.champion or not inputs.drift_since or inputs.drift_since <= inputs.held.start:
        return None
    since = [each for each in ledger.decisions(inputs.name) if each.at > inputs.drift_since]
    mine = [each.version for each in since if each.champion == inputs.champion.version.number]
    if not mine:
        return None
    hours = int((inputs.held.bars.hourly_bars["ts"] >= inputs.drift_since).sum())
    return (
        f"Gate: {Verdict.INSUFFICIENT.value}: {inputs.champion.version} has drifted since about "
        f"{inputs.drift_since:%Y-%m-%d %H:%M} UTC, and {hours:,} of the {2 * criteria.min_origins:,} hours are there "
        f"that it takes to judge who follows it; nothing was trained. Version {mine[-1]} may be tried as challenger"
    )


def hash_request(cfg: DictConfig, per_symbol: Sequence[GateInputs]) -> str:
    """Return the SHA-256 of bars and settings that determine a retraining's result."""
    decisive = select_decisive(to_json(cfg), "retrain", "gate")
    drifts = {"drift_since": since} if any(since := [inputs.drift_since_iso for inputs in per_symbol]) else {}
    return hash_training([inputs.held.bars.decisive for inputs in per_symbol], decisive | drifts)


def find_request(registry: Registry, name: str, request: str) -> Version | None:
    """Return the latest version that the same request led to."""
    same = [version for version in registry.versions(name) if version.tags.get("request_sha256") == request]
    return same[-1] if same else None
