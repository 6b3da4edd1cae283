"""Symbols and their properties; checks of symbol and model names, which become parts of a path, a URL and a label."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lstm_ts.errors import ConfigError
from lstm_ts.market.prices import Quote
from lstm_ts.market.session import Session

SYMBOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
CHARACTERS = "letters of A-Z and a-z, digits, '.', '_' and '-', a letter or a digit first"
SHOWN = 60  # characters of a refused value


@dataclass(frozen=True, kw_only=True)
class Symbol:
    """Properties of a market, independent of its bars and models; see conf/symbol.

    contract     fields of Interactive Brokers' `Contract`, by their names there
    feed_code    code of the instrument at Dukascopy
    Raises       ConfigError
    """

    name: str
    session: Session
    currency: str
    decimals: int
    contract: Mapping[str, str | int] = field(default_factory=dict, hash=False)
    feed_code: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", check_symbol(self.name))  # YAML reads 7203 as a number
        Quote(self.currency, self.decimals)  # raises ConfigError
        if not isinstance(self.session, Session):
            raise ConfigError(f"Expected session=Session(calendar=…, zone=…), got {_shown(self.session)}")

    @property
    def quote(self) -> Quote:
        return Quote(self.currency, self.decimals)


def describe_symbol(symbol: Symbol) -> dict[str, Any]:
    """Return the content of the symbol's configuration file."""
    session = {"_target_": _path(Session), "calendar": symbol.session.calendar, "zone": symbol.session.zone}
    return {"_target_": _path(Symbol), **vars(symbol), "session": session, "contract": dict(symbol.contract)}


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def check_symbol(value: object) -> str:
    """Return the symbol as text; `symbol=7203` on a command line is a number.

    Raises    ConfigError
    """
    text = _to_text(value)
    if text is None or not SYMBOL.fullmatch(text):
        raise ConfigError(
            f"Expected a symbol of 1 to 32 characters ({CHARACTERS}), got {_shown(value)}; "
            f"set symbol to one such as XAGUSD or BRK.B"
        )
    return text


def check_name(value: object) -> str:
    """Return the name of a registered model as text.    Raises    ConfigError"""
    text = _to_text(value)
    if text is None or not NAME.fullmatch(text):
        raise ConfigError(
            f"Expected a name of 1 to 64 characters ({CHARACTERS}), got {_shown(value)}; set name to another one"
        )
    return text


def name_model(symbol: str, name: str) -> str:
    """Return the overrides, as one types them, that choose a symbol and its registered model."""
    return f"symbol={symbol}" if name == symbol else f"symbol={symbol} name={name}"


def _to_text(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def _shown(value: object) -> str:
    if value is None:
        return "none"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
