"""The one contract of IB's that the configured fields name."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from lstm_ts.errors import BrokerError, ConfigError
from lstm_ts.sources.ib.connection import TwsConnection, TwsError
from lstm_ts.sources.retries import RetryableError

NO_CONTRACT = 200
RunRequest = Callable[[Callable[[TwsConnection], Awaitable[Any]]], Any]


def find_contract(api: Any, fields: Mapping[str, str | int], retry: RunRequest, request_once: RunRequest) -> Any:
    """retry     requests until there is an answer

    Raises    ConfigError: fields that no contract has; BrokerError: none, or several; RetryableError
    """
    try:
        wanted = api.Contract(**fields)
    except TypeError as error:
        raise ConfigError(f"Expected fields of IB's Contract in symbol.contract, got: {error}") from None
    shown = " ".join(map(str, fields.values()))
    try:
        found = retry(lambda line: line.ib.reqContractDetailsAsync(wanted))
    except BrokerError as error:
        if not isinstance(error.__cause__, TwsError) or error.__cause__.code != NO_CONTRACT:
            raise
        raise BrokerError(f"{error}; IB knows {_list_similar(fields, request_once)}") from None
    if len(found) != 1:
        candidates = ", ".join(_shown(details.contract) for details in found) or _list_similar(fields, request_once)
        raise BrokerError(f"Expected one contract for {shown}, got {len(found)}: {candidates}; set symbol.contract")
    contract = found[0].contract
    contract.exchange = fields.get("exchange", contract.exchange)
    return contract


def _list_similar(fields: Mapping[str, str | int], request_once: RunRequest) -> str:
    try:
        similar = request_once(lambda line: line.ib.reqMatchingSymbolsAsync(fields["symbol"])) or []
    except (RetryableError, TwsError):
        similar = []
    return ", ".join(_shown(found.contract) for found in similar) or "nothing similar"


def _shown(contract: Any) -> str:
    exchange = contract.exchange or contract.primaryExchange
    return f"{contract.symbol} {contract.secType} {exchange} {contract.currency} (conId {contract.conId})"
