"""LitServe's side of a worker: one process with one copy of the model."""

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from litserve import LitAPI
from litserve.loops import LitLoop

from lstm_ts.http_schema import Input, Worker
from lstm_ts.lifetime import end_with
from lstm_ts.logs import configure, log_context
from serve.ledger_reader import LedgerAddress, VersionKey, find_versions
from serve.metrics import PART_SECONDS
from serve.process_figures import report_process
from serve.registry_process import SOCKET, RemoteRegistry
from serve.settings import Ask, SymbolSettings, WorkerAnswer, WorkerState
from serve.traffic import Arm
from serve.window import symbol_of
from serve.worker_pool import answer_until_told

if TYPE_CHECKING:
    from serve.registry_watcher import LoadedModels, LoadedVersion, RegistryWatcher
    from serve.request_handler import RequestHandler

# On the shared_state:
CALL = "call"  # the number of the newest call to look at the registry
EXAMPLE = "example"  # of a request and its answer

log = logging.getLogger(__name__)


def end_with_parent() -> None:
    """A server that was killed leaves no process behind, where the kernel is Linux."""
    parent = multiprocessing.parent_process()
    end_with(parent.pid if parent and parent.pid else os.getppid(), signal.SIGKILL)


class AnswerLoop(LitLoop):  # type: ignore[misc]
    """What a worker does once it is set up."""

    def run(self, lit_api: "ForecastApi", device: str, worker_id: int, *_: object) -> None:
        answer_until_told(lit_api.socket(worker_id), lit_api.predict)
        raise SystemExit(0)


class ForecastApi(LitAPI):  # type: ignore[misc]
    """`shared_state` is shared by all processes: each worker's `WorkerState` by its number, CALL and EXAMPLE."""

    shared_state: Any
    handlers: Mapping[str, "RequestHandler"]
    watchers: Mapping[str, "RegistryWatcher"]

    def __init__(self, settings: Sequence[SymbolSettings], sockets: Path, ledger: LedgerAddress) -> None:
        """settings    of each symbol"""
        super().__init__(max_batch_size=1)
        self._of_symbols, self._sockets, self.ledger = tuple(settings), sockets, ledger
        self.settings = settings[0]  # for what is the same for all
        self.symbols, self.names = [each.symbol for each in settings], [each.name for each in settings]
        self.loop = AnswerLoop()

    def setup(self, device: str) -> None:
        end_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first one ends this
        # Slow to import, with what these import, and only workers need them.
        from serve.live_skill import LiveSkills
        from serve.market_figures import MarketFigures
        from serve.registry_watcher import RegistryWatcher
        from serve.request_handler import RequestHandler

        configure(self.settings.logging)
        self._told, self._telling = dict[str, tuple[Worker, Input | None, int]](), Lock()
        report_process("worker", self.settings.poll_s)
        skills = LiveSkills(self.ledger, self._loaded_versions)
        self.handlers = {
            each.symbol: RequestHandler(each.symbol, each.bars, each.flags, skills.find, self.symbols)
            for each in self._of_symbols
        }
        for each in self._of_symbols:
            figures = MarketFigures(each.symbol, each.session, skills.last_run)
            self.handlers[each.symbol].follow_store(self.settings.poll_s, figures.update)
        self.watchers = {
            each.symbol: RegistryWatcher(
                each,
                RemoteRegistry(self.registry_socket, each.registry_uri),
                try_out=partial(self._try_out, each.symbol),
                asked=self._newest_call,
                tell=partial(self._tell, each.symbol),
            )
            for each in self._of_symbols
        }
        for watcher in self.watchers.values():
            watcher.start()
        skills.start()

    def _loaded_versions(self) -> frozenset[VersionKey]:
        return find_versions(watcher.loaded.worker for watcher in self.watchers.values())

    @property
    def registry_socket(self) -> Path:
        return self._sockets / SOCKET

    def socket(self, worker: int) -> Path:
        return self._sockets / f"{worker}.sock"

    def predict(self, ask: Ask) -> WorkerAnswer:
        seconds: dict[str, float] = {}
        waited_s, start = time.monotonic() - ask.asked_at, time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, self.settings.answer_s)  # ends a worker that hangs, whatever it hangs in
        try:
            symbol = self._symbol_of(ask)
            with log_context(request_id=ask.request_id, symbol=symbol):
                answer = self.handlers[symbol].answer(ask, self.watchers[symbol].loaded, seconds)
        except Exception:
            log.exception("The champion has failed", extra={"event": "failed", "request_id": ask.request_id})
            return WorkerAnswer(500, "", Arm.CHAMPION, "", time.perf_counter() - start, None, b"")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if answer.arm is not Arm.SHADOW:
            for part, took_s in {"queue": waited_s, **seconds}.items():
                PART_SECONDS.labels(part).observe(took_s)
        return answer._replace(seconds=time.perf_counter() - start)

    def _symbol_of(self, ask: Ask) -> str:
        """The first one where the request names none that is served: its handler says so."""
        if len(self.symbols) == 1:
            return self.symbols[0]
        symbol = ask.symbol if ask.body is None else symbol_of(ask.body)
        return symbol if symbol in self.handlers else self.symbols[0]

    def _newest_call(self) -> int:
        return int(self.shared_state.get(CALL, 0))

    def _try_out(self, symbol: str, serving: "LoadedVersion") -> None:
        example = self.handlers[symbol].try_out(serving)
        if serving.model.alias == Arm.CHAMPION and symbol == self.symbols[0]:
            self.shared_state[EXAMPLE] = example

    def _tell(self, symbol: str, loaded: "LoadedModels", looked: int) -> None:
        """What is loaded for one symbol, with what was told of the others; each has a thread of its own."""
        serving, worker = loaded.champion.serving, loaded.worker.model_copy(update={"symbol": symbol})
        with self._telling:
            self._told[symbol] = worker, serving.input if serving else None, looked
            if len(self._told) == len(self.symbols):
                workers, inputs, calls = zip(*(self._told[each] for each in self.symbols), strict=True)
                self.shared_state[int(os.environ["LITSERVE_WORKER_ID"])] = WorkerState(workers, inputs, min(calls))
