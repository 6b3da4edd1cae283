"""Meaning of TWS's message codes for a client that requests history.

Codes and texts: https://interactivebrokers.github.io/tws-api/message_codes.html; 162 has several meanings, which its
text distinguishes. 10089 and 10197 are not on that page: TWS's own text explains them.
"""

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    EMPTY = "empty"  # a complete answer without bars
    WAIT = "wait"  # requests came too fast
    RETRY = "retry"  # retry
    LOST = "lost"  # the connection to TWS is lost: connect again
    DOWN = "down"  # TWS answers, its server does not: wait until TWS reports it back
    UP = "up"  # the server is back: retry, after a check of its clock
    PROBE = "probe"  # the server is dormant and may never answer: retry, which wakes it
    NEXT_ID = "next id"  # connect as another client
    FATAL = "fatal"  # our request or configuration is wrong
    ALERT = "alert"  # somebody must do something at IB or at another TWS
    INFORM = "inform"


@dataclass(frozen=True)
class Meaning:
    action: Action
    advice: str = ""


WAY_IN = "see the API settings of TWS, and what it shows on its screen"
MEANINGS = {
    100: Meaning(Action.WAIT),  # more than 50 messages a second
    162: Meaning(Action.RETRY),  # with a text that is not in HISTORY
    165: Meaning(Action.INFORM),
    200: Meaning(Action.FATAL, "correct symbol.contract"),
    203: Meaning(Action.ALERT, "ask IB for the permission that symbol.contract needs"),
    320: Meaning(Action.FATAL, WAY_IN),
    321: Meaning(Action.FATAL, "correct symbol.contract, or update TWS"),
    326: Meaning(Action.NEXT_ID),
    354: Meaning(Action.ALERT, "subscribe to the market data of symbol.contract at IB"),
    366: Meaning(Action.INFORM),
    420: Meaning(Action.ALERT, "subscribe to the market data of symbol.contract at IB"),
    502: Meaning(Action.LOST),
    503: Meaning(Action.FATAL, "update TWS"),
    504: Meaning(Action.LOST),
    507: Meaning(Action.LOST),
    1100: Meaning(Action.DOWN),
    1101: Meaning(Action.UP),
    1102: Meaning(Action.UP),
    1300: Meaning(Action.LOST),
    2103: Meaning(Action.INFORM),  # a farm of quotes; history does not come from it
    2104: Meaning(Action.INFORM),
    2105: Meaning(Action.DOWN),
    2106: Meaning(Action.UP),
    2107: Meaning(Action.PROBE),
    2108: Meaning(Action.INFORM),
    2110: Meaning(Action.DOWN),
    2157: Meaning(Action.INFORM),
    2158: Meaning(Action.INFORM),
    10089: Meaning(Action.ALERT, "subscribe to the market data of symbol.contract at IB"),
    10197: Meaning(Action.ALERT, "log out of the other session that uses this account's market data"),
    10314: Meaning(Action.FATAL, "update TWS"),
}
HISTORY = {
    "pacing violation": Meaning(Action.WAIT),
    "returned no data": Meaning(Action.EMPTY),
    "no market data permissions": Meaning(Action.ALERT, "subscribe to the market data of symbol.contract at IB"),
    "No historical market data for": Meaning(Action.FATAL, "correct symbol.contract"),
}
FARMS = {2105, 2106, 2107}  # about the farm that the text ends with; the other codes are about IB as a whole


def explain(code: int, text: str) -> Meaning:
    if code == 162:
        return next((meaning for part, meaning in HISTORY.items() if part.lower() in text.lower()), MEANINGS[162])
    return MEANINGS.get(code, Meaning(Action.INFORM if 2100 <= code < 2200 else Action.RETRY))


def place(code: int, text: str) -> str:
    """Return the server that is down or up again: a farm's name, or "IB"."""
    return text.rpartition(":")[2].rpartition(".")[2].strip() if code in FARMS else "IB"
