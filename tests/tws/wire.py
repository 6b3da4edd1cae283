"""Frames of the TWS API: four bytes of length, then fields that each end with a zero byte.

Layouts are those that ib_insync 0.9.86 and ib_async 2.1 read from a server of version 164 to 178; outgoing numbers
are those of ibapi's `IN`, incoming ones those of its `OUT`.
"""

import asyncio
import struct
from collections.abc import Iterable
from enum import IntEnum

SERVER_VERSIONS = range(164, 179)  # 164 begins the contract details' present layout; no layout here changed up to 178
MAX_FRAME = 1 << 20


class RequestType(IntEnum):
    """What a client sends."""

    PLACE_ORDER = 3
    CANCEL_ORDER = 4
    OPEN_ORDERS = 5
    ACCOUNT_UPDATES = 6
    EXECUTIONS = 7
    CONTRACT_DETAILS = 9
    AUTO_OPEN_ORDERS = 15
    ALL_OPEN_ORDERS = 16
    MANAGED_ACCOUNTS = 17
    REPLACE_FA = 19
    HISTORICAL_DATA = 20
    EXERCISE_OPTIONS = 21
    CANCEL_HISTORICAL_DATA = 25
    CURRENT_TIME = 49
    GLOBAL_CANCEL = 58
    POSITIONS = 61
    ACCOUNT_SUMMARY = 62
    CANCEL_ACCOUNT_SUMMARY = 63
    CANCEL_POSITIONS = 64
    START_API = 71
    ACCOUNT_UPDATES_MULTI = 76
    CANCEL_ACCOUNT_UPDATES_MULTI = 77
    HEAD_TIMESTAMP = 87
    CANCEL_HEAD_TIMESTAMP = 90
    COMPLETED_ORDERS = 99


ORDERS = {
    RequestType.PLACE_ORDER,
    RequestType.CANCEL_ORDER,
    RequestType.REPLACE_FA,
    RequestType.EXERCISE_OPTIONS,
    RequestType.GLOBAL_CANCEL,
}


class ResponseType(IntEnum):
    """What the server sends."""

    ERROR = 4
    NEXT_VALID_ID = 9
    CONTRACT_DATA = 10
    MANAGED_ACCOUNTS = 15
    HISTORICAL_DATA = 17
    CURRENT_TIME = 49
    CONTRACT_DATA_END = 52
    OPEN_ORDERS_END = 53
    ACCOUNT_DOWNLOAD_END = 54
    EXECUTIONS_END = 55
    POSITIONS_END = 62
    ACCOUNT_SUMMARY_END = 64
    ACCOUNT_UPDATES_MULTI_END = 74
    HEAD_TIMESTAMP = 88
    COMPLETED_ORDERS_END = 102


def frame(*fields: object) -> bytes:
    return frame_text("".join(f"{int(field) if isinstance(field, IntEnum) else field}\0" for field in fields))


def frame_text(text: str) -> bytes:
    """`text` already holds a zero after each field."""
    payload = text.encode()
    return struct.pack(">I", len(payload)) + payload


def error(request: int, code: int, text: str) -> bytes:
    """`request` is -1 for a notice about the connection; the last field is for orders only (from version 166)."""
    return frame(ResponseType.ERROR, 2, request, code, text, "")


def contract_fields(fields: Iterable[str]) -> dict[str, str]:
    """The twelve fields by which a request names a contract."""
    names = (
        "con_id", "symbol", "sec_type", "expiry", "strike", "right", "multiplier",
        "exchange", "primary_exchange", "currency", "local_symbol", "trading_class",
    )  # fmt: skip
    return dict(zip(names, fields, strict=True))


async def read_frame(reader: asyncio.StreamReader) -> list[str]:
    """Raises   asyncio.IncompleteReadError at the end of the stream; ValueError for what is no frame"""
    (length,) = struct.unpack(">I", await reader.readexactly(4))
    if length > MAX_FRAME:
        raise ValueError(f"Expected a frame of at most {MAX_FRAME} bytes, got {length}")
    fields = (await reader.readexactly(length)).decode(errors="backslashreplace").split("\0")
    return fields[:-1]


async def read_handshake(reader: asyncio.StreamReader) -> int | None:
    """The server version to speak: the newest that both know; None if there is none.

    The client sends `API\\0`, then a frame without a closing zero: v157..176, and options after a blank.
    """
    if await reader.readexactly(4) != b"API\0":
        raise ValueError("Expected the API's greeting")
    (length,) = struct.unpack(">I", await reader.readexactly(4))
    if length > MAX_FRAME:
        raise ValueError(f"Expected a frame of at most {MAX_FRAME} bytes, got {length}")
    versions = (await reader.readexactly(length)).decode().split(" ")[0].removeprefix("v")
    first, _, last = versions.partition("..")
    newest = min(int(last or first), SERVER_VERSIONS[-1])
    return newest if newest >= max(int(first), SERVER_VERSIONS[0]) else None
