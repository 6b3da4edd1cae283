"""What the server says: each function makes the bytes of one or more frames."""

import polars as pl

from .market import LONG_NAMES, Market, Span, bars_text, stamp_text, trading_hours
from .wire import RequestType, ResponseType, error, frame, frame_text

Message = tuple[int, str]

FARMS_OK = ((2104, "Market data farm connection is OK:usfarm"), (2106, "HMDS data farm connection is OK:ushmds"))
FARMS_BROKEN = (
    (2103, "Market data farm connection is broken:usfarm"),
    (2105, "HMDS data farm connection is broken:ushmds"),
)
SECDEF_OK = (2158, "Sec-def data farm connection is OK:secdefil")
HMDS_RETRIES = (
    165,
    "Historical Market Data Service query message:HMDS server disconnect occurred.  Attempting reconnection...",
)
BROKEN = (2110, "Connectivity between Trader Workstation and server is broken. It will be restored automatically.")
INACTIVE = (2107, "HMDS data farm connection is inactive but should be available upon demand.ushmds")
OTHER_FARM = (2105, "HMDS data farm connection is broken:euhmds")
LOST = (1100, "Connectivity between IB and Trader Workstation has been lost.")
DATA_LOST = (1101, "Connectivity between IB and Trader Workstation has been restored - data lost.")
MAINTAINED = (
    1102,
    "Connectivity between IB and Trader Workstation has been restored - data maintained. All data farms are connected: "
    "usfarm; ushmds; secdefil.",
)
ID_IN_USE = (326, "Unable to connect as the client id is already in use. Retry with a unique client id.")
UNKNOWN = (200, "No security definition has been found for the request")
READ_ONLY = (321, "Error validating request.-'bN' : cause - The API interface is currently in Read-Only mode.")
TOO_FAST = (100, "Max rate of messages per second has been exceeded:max=50 rec=51 (1)")
SERVICE = "Historical Market Data Service error message:"
# Answers of a request that is refused, by the name of the fault.
REFUSALS = {
    "pacing": (162, f"{SERVICE}Historical data request pacing violation"),
    "cancelled": (162, f"{SERVICE}API historical data query cancelled: {{request}}"),
    "other_ip": (162, f"{SERVICE}Trading TWS session is connected from a different IP address"),
    "no_data": (162, f"{SERVICE}HMDS query returned no data: {{symbol}}@SMART Midpoint"),
    "invalid": (321, "Error validating request.-'bM' : cause - Please enter a valid request"),
    "permission": (354, "Requested market data is not subscribed."),
    "competing": (10197, "No market data during competing live session"),
}

# What an empty account answers: only the end of the list; with the request's number, or without.
ENDS = {
    RequestType.OPEN_ORDERS: ResponseType.OPEN_ORDERS_END,
    RequestType.ALL_OPEN_ORDERS: ResponseType.OPEN_ORDERS_END,
    RequestType.POSITIONS: ResponseType.POSITIONS_END,
}
ENDS_OF_REQUEST = {
    RequestType.EXECUTIONS: ResponseType.EXECUTIONS_END,
    RequestType.ACCOUNT_SUMMARY: ResponseType.ACCOUNT_SUMMARY_END,
    RequestType.ACCOUNT_UPDATES_MULTI: ResponseType.ACCOUNT_UPDATES_MULTI_END,
}
UNANSWERED = {
    RequestType.AUTO_OPEN_ORDERS,
    RequestType.CANCEL_POSITIONS,
    RequestType.CANCEL_ACCOUNT_SUMMARY,
    RequestType.CANCEL_ACCOUNT_UPDATES_MULTI,
    RequestType.CANCEL_HEAD_TIMESTAMP,
}


def notice(message: Message) -> bytes:
    return error(-1, *message)


def refusal(name: str, request: int, symbol: str) -> bytes:
    code, text = REFUSALS[name]
    return error(request, code, text.format(request=request, symbol=symbol))


def history(request: int, rows: pl.DataFrame, span: Span, *, format_date: str) -> bytes:
    """One frame with all bars; up to version 195 it is its own end."""
    head = "\0".join(
        [str(int(ResponseType.HISTORICAL_DATA)), str(request), stamp_text(span.start), stamp_text(span.end)]
    )
    return frame_text(f"{head}\0{rows.height}\0{bars_text(rows, format_date=format_date)}")


def contract_details(request: int, market: Market, symbol: str, *, now: int, zone: str, second: bool = False) -> bytes:
    """Field by field as `Decoder.contractDetails` reads them from version 164 on."""
    hours, exchange = trading_hours(now, zone), "LME" if second else "SMART"
    return frame(
        ResponseType.CONTRACT_DATA, request, symbol, "CMDTY", "", "0", "", exchange, "USD", symbol,
        symbol, symbol, market.con_ids[symbol] + second, "0.001",
        "1", "ACTIVETIM,LMT,MKT", exchange, "1", "0", LONG_NAMES.get(symbol, symbol), "", "", "", "", "",
        zone, hours, hours, "", "0", 0,
        "1", "", "", "4563", "", "", "1", "1", "1",
    )  # fmt: skip


def head_timestamp(request: int, epoch: int, *, format_date: str) -> bytes:
    text = stamp_text(epoch).removesuffix(" UTC").replace(" ", "-")
    return frame(ResponseType.HEAD_TIMESTAMP, request, epoch if format_date == "2" else text)


def of_account(request_type: RequestType | None, fields: list[str], *, account: str, now: int) -> bytes | None:
    """The clock, and an account that holds nothing and has never traded; None for what is not known."""
    match request_type:
        case RequestType.CURRENT_TIME:
            return frame(ResponseType.CURRENT_TIME, 1, now)
        case RequestType.MANAGED_ACCOUNTS:
            return frame(ResponseType.MANAGED_ACCOUNTS, 1, account)
        case RequestType.ACCOUNT_UPDATES:
            return frame(ResponseType.ACCOUNT_DOWNLOAD_END, 1, account)
        case RequestType.COMPLETED_ORDERS:
            return frame(ResponseType.COMPLETED_ORDERS_END)
    if request_type in ENDS:
        return frame(ENDS[request_type], 1)
    if request_type in ENDS_OF_REQUEST:
        return frame(ENDS_OF_REQUEST[request_type], 1, fields[2])
    return b"" if request_type in UNANSWERED else None
