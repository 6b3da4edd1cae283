"""Messages between an HTTP process and a worker as bytes: two sizes, a head in JSON, a body. An empty one is a ping."""

import struct
from collections.abc import Iterator

from pydantic import TypeAdapter

from lstm_ts.ledger.rows import ForecastRow
from serve.settings import WorkerAnswer, WorkerRequest
from serve.traffic import Arm

SIZES = struct.Struct("!II")
PING = SIZES.pack(0, 0)
REQUEST_HEAD = TypeAdapter(tuple[str, Arm, float, bool, str])
ANSWER_HEAD = TypeAdapter(tuple[int, str, Arm, str, float, ForecastRow | None])


def write_request(request: WorkerRequest) -> bytes:
    head = (request.request_id, request.arm, request.received_at, request.body is None, request.symbol)
    return _frame(REQUEST_HEAD.dump_json(head), request.body or b"")


def read_request(head: bytes, body: bytes) -> WorkerRequest:
    request_id, arm, received_at, empty, symbol = REQUEST_HEAD.validate_json(head)
    return WorkerRequest(request_id, arm, received_at, None if empty else body, symbol)


def write_answer(answer: WorkerAnswer) -> bytes:
    return _frame(ANSWER_HEAD.dump_json(answer[:-1]), answer.body)


def read_answer(head: bytes, body: bytes) -> WorkerAnswer:
    return WorkerAnswer(*ANSWER_HEAD.validate_json(head), body)


def _frame(head: bytes, body: bytes) -> bytes:
    return SIZES.pack(len(head), len(body)) + head + body


class Frames:
    """Assembler of whole messages, head and body, from the pieces that a socket receives."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, piece: bytes) -> Iterator[tuple[bytes, bytes]]:
        self._bytes += piece
        while len(self._bytes) >= SIZES.size:
            head, body = SIZES.unpack_from(self._bytes)
            if len(self._bytes) < (end := SIZES.size + head + body):
                return
            message = bytes(self._bytes[SIZES.size : end])
            del self._bytes[:end]
            yield message[:head], message[head:]
