"""Requests that get no forecast: their refusals, and the replies to clients."""

from collections.abc import Callable, Mapping

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from lstm_ts.http_schema import Problem, Problems, Refusal, shown
from serve.window import InvalidWindow
from serve.workers.pool import NoAnswer

RETRY_S = 2
LONGEST_CONTENT_TYPE = 200  # characters
ACCEPTED = {"Accept-Encoding": "identity", "Accept": "application/json"}


class RequestRefused(Exception):
    """A request that gets no forecast, with the status and the reason of its reply."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


async def read_body(request: Request) -> bytes:
    """Raises    RequestRefused"""
    _check_content(request)
    try:
        return await request.body()
    except ClientDisconnect:
        raise RequestRefused(400, "Expected the whole body, got a closed connection; retry") from None


def _check_content(request: Request) -> None:
    """Raises    RequestRefused: the headers name anything but plain JSON; without a Content-Type JSON is assumed"""
    encodings = [each for name in ("content-encoding", "transfer-encoding") for each in request.headers.getlist(name)]
    if any(encoding.lower() not in ("", "identity", "chunked") for encoding in encodings):
        got = shown(", ".join(filter(None, encodings)))
        raise RequestRefused(415, f"Expected a body that is not encoded, got {got}; send it as it is")
    if not (given := request.headers.get("content-type")):
        return
    kind, *parameters = (part.strip() for part in given[:LONGEST_CONTENT_TYPE].lower().split(";"))
    charsets = [
        value.strip('"') for name, _, value in (part.partition("=") for part in parameters) if name == "charset"
    ]
    is_json = kind == "application/json" or (kind.count("/") == 1 and kind.endswith("+json"))
    if not is_json or len(given) > LONGEST_CONTENT_TYPE or charsets not in ([], ["utf-8"]):
        raise RequestRefused(
            415, f"Expected Content-Type: application/json in UTF-8, got {shown(given)}; send JSON with that header"
        )


def refuse_problems(request: Request, problems: list[Problem]) -> Response:
    request.state.reason = f"{problems[0].path}: {problems[0].problem}"
    content = Problems(problems=problems, request_id=request.state.request_id)
    return Response(content.model_dump_json(), 422, media_type="application/json")


def _refusal(request: Request, status: int, reason: str) -> Response:
    request.state.reason = reason
    headers = {503: {"Retry-After": str(RETRY_S)}, 415: ACCEPTED}.get(status)
    content = Refusal(reason=reason, request_id=request.state.request_id).model_dump_json()
    return Response(content, status, headers, "application/json")


def _on_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestRefused)
    return _refusal(request, error.status, error.reason)


def _on_no_answer(request: Request, error: Exception) -> Response:
    return _refusal(request, 503, str(error))


def _on_invalid_window(request: Request, error: Exception) -> Response:
    assert isinstance(error, InvalidWindow)
    return refuse_problems(request, error.problems)


def on_error(request: Request, error: Exception | None) -> Response:
    return _refusal(request, 500, "Expected a forecast, got an internal error; see the server's log")


def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = _refusal(request, error.status_code, f"{error.detail}; /docs lists what there is")
    refusal.headers.update(error.headers or {})
    if "GET" in (allowed := refusal.headers.get("Allow", "").split(", ")):
        refusal.headers["Allow"] = ", ".join(sorted({*allowed, "HEAD"}))
    return refusal


def _on_invalid(request: Request, error: Exception) -> Response:
    """A query without its symbol."""
    assert isinstance(error, RequestValidationError)
    text = "Expected a value in the query, got none or another kind; see /docs"
    return refuse_problems(request, [Problem(path=str(found["loc"][-1]), problem=text) for found in error.errors()])


HANDLERS: Mapping[type[Exception], Callable[[Request, Exception], Response]] = {
    RequestRefused: _on_refused,
    NoAnswer: _on_no_answer,
    InvalidWindow: _on_invalid_window,
    HTTPException: _on_http,
    RequestValidationError: _on_invalid,
    Exception: on_error,
}
