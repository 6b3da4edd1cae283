"""The schedule without the scheduler: days to ingest, hours that closed, and each step's command line."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf

from lstm_ts import clock
from lstm_ts.cli import SEARCHPATH, compose
from lstm_ts.configuration.overrides import SYMBOL, key_of
from lstm_ts.configuration.parts import construct
from lstm_ts.errors import ConfigError
from lstm_ts.market.session import HOUR, Session, utc
from lstm_ts.market.symbol import Symbol, check_symbol

STEPS = ("ingest", "process", "monitor", "retrain")
MOST_RETRIES = 1000


@dataclass(frozen=True)
class Plan:
    symbols: tuple[Symbol, ...]
    shared: tuple[str, ...]  # overrides that every step takes
    own: dict[str, tuple[str, ...]]  # further overrides, by step
    first_day: datetime

    def command(self, step: str, symbol: str, *more: str) -> list[str]:
        """Return the overrides of one step's command line."""
        return [*self.shared, *self.own[step], f"symbol={symbol}", *more]

    def check(self) -> None:
        """Raises    ConfigError: a step rejects its command line"""
        for symbol in self.symbols:
            for step in STEPS:
                compose(step, self.command(step, symbol.name), single=True)


def make_plan(cfg: DictConfig, overrides: Sequence[str]) -> Plan:
    """Check the settings and make the plan; `overrides` are those that `cfg` was composed with."""
    names, shared = read_symbols(cfg.symbols), _shared(overrides)
    for days in ("days_per_run", "look_back_days"):
        if cfg[days] < 1:
            raise ConfigError(f"Expected at least one day, got {days}={cfg[days]}")
    if cfg.retries.most < 0 or cfg.retries.first_delay_s < 0:
        raise ConfigError(f"Expected retries.most and retries.first_delay_s of at least 0, got {cfg.retries}")
    if cfg.retries.most > MOST_RETRIES:
        raise ConfigError(f"Expected at most {MOST_RETRIES} retries, got retries.most={cfg.retries.most}")
    first_day = utc(cfg.first_day)
    if first_day is None:
        raise ConfigError("Expected the first day that can be ingested, got none; set first_day=2019-01-01")
    if first_day >= clock.now():
        raise ConfigError(f"Expected first_day before today, got {first_day:%Y-%m-%d}; set first_day=2019-01-01")
    unresolved = cast(dict[str, Any], OmegaConf.to_container(cfg))  # ${symbol.name} is each symbol's own
    own = {step: _split(step, unresolved[step]) for step in STEPS}
    symbols = tuple(construct(compose("project", [*shared, f"{SYMBOL}={name}"]).symbol) for name in names)
    return Plan(symbols, shared, own, first_day)


def read_symbols(symbols: object) -> tuple[str, ...]:
    """Raises    ConfigError: no list, an invalid symbol, or two symbols whose assets would have one name"""
    if not isinstance(symbols, ListConfig) or not len(symbols):
        raise ConfigError(f"Expected symbols as a list such as [XAGUSD,XAUUSD], got {symbols}; set symbols=[…]")
    names = tuple(map(check_symbol, symbols))
    if len(set(map(asset_prefix, names))) < len(names):
        raise ConfigError(
            f"Expected symbols that differ in their letters and digits, each once, got symbols={list(names)}; "
            f"leave one out, or schedule it by a pipeline of its own"
        )
    return names


def asset_prefix(symbol: str) -> str:
    """Return the symbol as a name that Dagster accepts: letters, digits and `_`."""
    return symbol.replace(".", "_").replace("-", "_")


def _split(step: str, command_line: str | None) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(command_line or ""))
    except ValueError as error:
        raise ConfigError(f"Expected {step} as one would type it, got {command_line}: {error}") from None


def _shared(overrides: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides of keys in project.yaml, except the symbol's name, and of `hydra.searchpath`."""
    common = set(compose("project", []))
    keys = [key_of(text).partition("@")[0] for text in overrides]
    return tuple(
        text
        for text, key in zip(overrides, keys, strict=True)
        if key == SEARCHPATH or (key != SYMBOL and key.split(".")[0] in common)
    )


def last_closed_hour(at: datetime) -> datetime:
    """Return the open of the last clock hour that had closed at `at`."""
    return at.replace(minute=0, second=0, microsecond=0) - HOUR


def why_closed(session: Session, start: datetime, end: datetime) -> str | None:
    """Return a sentence; None: the span holds a session hour."""
    if session.hours(start, end).height:
        return None
    opens = session.next_hours(end - HOUR, 1)[0]
    span = f"{start:%a %Y-%m-%d %H:%M} to {end:%a %Y-%m-%d %H:%M} UTC"
    return f"{session.calendar} has no session from {span}; the next one opens in the hour of {opens:%a %H:%M} UTC"
