"""Settings, requests and answers of a worker, as values that can be sent to another process."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lstm_ts.http_schema import Input, Worker
from lstm_ts.ledger.rows import ForecastRow
from lstm_ts.market.session import Session
from lstm_ts.model.flags import Flags
from serve.traffic import Arm


@dataclass(frozen=True)
class SymbolSettings:
    """Settings of one symbol; what follows `bars` is the same for all."""

    symbol: str
    name: str
    registry_uri: str
    session: Session
    typed: str  # overrides of symbol and model for commands in messages, which clients read: without folders
    bars: Path  # the store of hourly bars
    poll_s: float
    answer_s: float
    health_s: float
    challenger: bool  # whether it is loaded too
    flags: Flags
    logging: Mapping[str, Any]


class WorkerRequest(NamedTuple):
    """A request on its way to a worker."""

    request_id: str
    arm: Arm
    received_at: float  # time.monotonic
    body: bytes | None  # None: forecast from the store's latest bars
    symbol: str = ""  # of those bars; a body contains its own


class WorkerAnswer(NamedTuple):
    status: int
    version: str
    arm: Arm  # that has answered
    fell_back: str  # from this version, which had no answer
    seconds: float  # of the worker's time
    row: ForecastRow | None  # for the ledger
    body: bytes  # JSON


class Example(NamedTuple):
    body: bytes
    answer: bytes


class WorkerState(NamedTuple):
    """A worker's last report."""

    workers: tuple[Worker, ...]  # one a symbol, in the order of `symbols`
    inputs: tuple[Input | None, ...]
    answered_call: int  # the newest call to poll the registry that it has answered
