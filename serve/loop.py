"""The worker's loop: it answers by the hooks of `ForecastApi`, with the version of the request's arm.

It replaces LitServe's loop, which reads requests from a queue and cannot fall back from one version to another.
"""

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import polars as pl
from litserve.loops import LitLoop

from lstm_ts import clock, http_schema
from lstm_ts.errors import ArtifactError, DataError
from lstm_ts.logs import log_context
from lstm_ts.market.session import HOUR
from lstm_ts.request_body import write_request
from serve.metrics import PART_SECONDS
from serve.reply import refuse
from serve.settings import Example, WorkerAnswer, WorkerRequest
from serve.traffic import Arm
from serve.window import InvalidWindow
from serve.workers.server import answer_until_sigterm

if TYPE_CHECKING:
    from lstm_ts.model.forecaster import Forecaster
    from serve.api import ForecastApi
    from serve.registry_watcher import LoadedModels, LoadedVersion

WARM_UPS = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Context:
    """A request's data for the hooks, beside the values that they pass to each other."""

    request: WorkerRequest
    symbol: str
    serving: "LoadedVersion"
    now: datetime


class AnswerLoop(LitLoop):  # type: ignore[misc]
    def run(self, lit_api: "ForecastApi", device: str, worker_id: int, *_: object) -> None:
        answer_until_sigterm(lit_api.socket(worker_id), partial(self.answer, lit_api))
        raise SystemExit(0)

    def answer(self, api: "ForecastApi", request: WorkerRequest) -> WorkerAnswer:
        """Return an answer whatever fails; a worker that hangs is ended by SIGALRM."""
        seconds: dict[str, float] = {}
        waited_s, start = time.monotonic() - request.received_at, time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, api.settings.answer_s)
        try:
            symbol = api.symbol_of(request)
            with log_context(request_id=request.request_id, symbol=symbol):
                answer = answer_by_arm(api, request, symbol, api.watchers[symbol].loaded, seconds)
        except Exception:
            log.exception("Champion failed", extra={"event": "failed", "request_id": request.request_id})
            return WorkerAnswer(500, "", Arm.CHAMPION, "", time.perf_counter() - start, None, b"")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if answer.arm is not Arm.SHADOW:
            for part, took_s in {"queue": waited_s, **seconds}.items():
                PART_SECONDS.labels(part).observe(took_s)
        return answer._replace(seconds=time.perf_counter() - start)


def answer_by_arm(
    api: "ForecastApi", request: WorkerRequest, symbol: str, loaded: "LoadedModels", seconds: dict[str, float]
) -> WorkerAnswer:
    """Answer with the request's arm; the champion steps in for a missing or failed challenger, but not for a shadow.

    seconds   receives the seconds that each part took
    """
    champion, challenger = loaded.champion.serving, loaded.challenger.serving
    if request.arm is not Arm.CHAMPION and challenger:
        answer = _try(api, request, symbol, challenger, seconds)
        if answer.status == 200 or request.arm is Arm.SHADOW:
            return answer
    first, request = request.arm, request._replace(arm=Arm.CHAMPION)
    if champion is None:
        return refuse(503, loaded.champion.reason or "no model is loaded yet", request)
    answer = answer_with(api, request, symbol, champion, seconds)
    tried = first is not Arm.CHAMPION and challenger and answer.status == 200
    return answer._replace(fell_back=str(challenger.model.version)) if challenger and tried else answer


def _try(
    api: "ForecastApi", request: WorkerRequest, symbol: str, challenger: "LoadedVersion", seconds: dict[str, float]
) -> WorkerAnswer:
    """Answer with the challenger; return a refusal if it raises."""
    try:
        return answer_with(api, request, symbol, challenger, seconds)
    except Exception as error:
        facts = {"event": "failed", "version": str(challenger.model.version), "arm": str(request.arm)}
        log.error("Challenger failed: version %d as %s: %r", challenger.model.version, request.arm, error, extra=facts)
        log.debug("Traceback of the challenger", exc_info=True)
        return refuse(500, "the challenger failed", request, str(challenger.model.version))


def answer_with(
    api: "ForecastApi", request: WorkerRequest, symbol: str, serving: "LoadedVersion", seconds: dict[str, float]
) -> WorkerAnswer:
    """Return one version's answer; another thread may try out a version at the same time."""
    version, context = str(serving.model.version), Context(request, symbol, serving, clock.now())
    seconds.clear()
    try:
        with _timed("check", seconds):
            bars = api.decode_request(request, context)
        with _timed("features", seconds):
            forecast = api.predict(bars, context)
        with _timed("encode", seconds):
            answer = api.encode_response((bars, forecast), context)
    except InvalidWindow as refused:
        if request.body is None:
            return refuse(503, refused.problems[0].problem, request, version)
        problems = http_schema.Problems(problems=refused.problems, request_id=request.request_id)
        return WorkerAnswer(422, version, request.arm, "", 0.0, None, problems.model_dump_json().encode())
    except DataError as error:  # of the store: the request is not to blame
        return refuse(503, str(error), request, version)
    seconds["network"] = serving.forecaster.network.seconds
    seconds["features"] -= seconds["network"]
    return answer


@contextmanager
def _timed(part: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - start


def warm_up(api: "ForecastApi", symbol: str, serving: "LoadedVersion") -> Example:
    """Answer warm-up requests as a client's.    Raises    ArtifactError: the version gives no forecast"""
    body = _warm_up_body(serving.forecaster)
    request = WorkerRequest("00000000-0000-0000-0000-000000000000", Arm.CHAMPION, time.monotonic(), body)
    answers = [answer_with(api, request, symbol, serving, {}) for _ in range(WARM_UPS)]
    if answers[-1].status != 200:
        raise ArtifactError(f"Expected a forecast from the warm-up, got {answers[-1].body.decode()}; train again")
    return Example(body, answers[-1].body)


def _warm_up_body(forecaster: "Forecaster") -> bytes:
    """Return a window of the latest session hours, which also warms the calendar; closes alternate by a thousandth."""
    now, tsteps = clock.now(), forecaster.spec.tsteps
    hours = forecaster.session.hours(now - timedelta(days=tsteps + 14), now - HOUR)["ts"].tail(tsteps)
    close = 20.02 - 0.02 * (pl.int_range(pl.len()) % 2)
    bars = hours.to_frame().with_columns(open=20.0, high=20.03, low=19.99, close=close)
    return write_request(forecaster.provenance.symbol, bars).encode()
