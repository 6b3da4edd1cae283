"""Log into TWS or IB Gateway: with a free client id, to an account that may be used."""

import os
import socket

from lstm_ts.errors import BrokerError, BrokerUnavailable
from lstm_ts.sources.ib.connection import EventLoopRunner, TwsConnection, TwsError
from lstm_ts.sources.ib.errors import Action, explain

CLIENT_IDS = 16  # to try, from the first on
REASONS = (
    "start it and log in, enable its API (Settings > API: ActiveX and Socket Clients), "
    "or correct source.host and source.port (paper: 7497 for TWS, 4002 for Gateway)"
)


def log_in(wire: EventLoopRunner, address: str, client_id: int, *, live: bool) -> TwsConnection:
    """Raises    BrokerUnavailable: no TWS there; BrokerError: a live account; TwsError: anything else"""
    line = _connect(wire, address, client_id)
    try:
        check_account(line.ib.client.getAccounts(), address, live=live)
    except (BrokerError, ConnectionError) as error:
        line.ib.disconnect()
        if isinstance(error, ConnectionError):
            raise BrokerUnavailable(f"Expected TWS at {address}, got a closed connection: {error}; {REASONS}") from None
        raise
    return line


def _connect(wire: EventLoopRunner, address: str, first: int) -> TwsConnection:
    last = first + CLIENT_IDS - 1
    for client_id in range(first, last + 1):
        try:
            return wire.connect(client_id)
        except TwsError as error:
            if explain(error.code, error.text).action is not Action.NEXT_ID:
                raise
        except TimeoutError:
            raise BrokerUnavailable(f"Expected TWS at {address}, got no greeting from there; {REASONS}") from None
        except OSError as error:
            raise BrokerUnavailable(f"Expected TWS at {address}, got {_why(error)}; {REASONS}") from None
    raise BrokerUnavailable(
        f"Expected a free client id in {first}..{last} at {address}, got all in use; "
        f"close other programs or set another source.client_id"
    )


def _why(error: OSError) -> str:
    """The system's words, in place of which asyncio puts its own and the address once more."""
    if isinstance(error, socket.gaierror) or not error.errno:
        return str(error.strerror or error) or "a closed connection"
    return os.strerror(error.errno)


def check_account(accounts: list[str], address: str, *, live: bool) -> None:
    """Raises    BrokerError: one that is not for paper trading, which only `live` allows"""
    lives = [f"the live account {account}" for account in accounts if not account.startswith("D")]
    if not live and (lives or not accounts):
        raise BrokerError(
            f"Expected a paper account at {address}, got {lives[0] if lives else 'no account name'}; log in to "
            f"paper trading, whose ports are 7497 and 4002, or set source.live=true"
        )
