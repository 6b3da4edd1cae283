"""LitServe's side of a worker: one process with one copy of the model."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from litserve import LitAPI

from lstm_ts.errors import NotEnoughBars
from lstm_ts.http_schema import Input, Model, Problem, Skill, Worker
from lstm_ts.lifetime import end_with
from lstm_ts.logs import configure
from lstm_ts.model.flags import of_training
from serve.ledger.reader import LedgerAddress, VersionKey, find_versions
from serve.loop import AnswerLoop, Context, warm_up
from serve.process_figures import report_process
from serve.registry_process import SOCKET, RemoteRegistry
from serve.reply import make_reply, make_row
from serve.settings import SymbolSettings, WorkerAnswer, WorkerRequest, WorkerState
from serve.traffic import Arm
from serve.window import InvalidWindow, read_window, symbol_of

if TYPE_CHECKING:
    from lstm_ts.model.features import Bars
    from lstm_ts.model.forecaster import Forecast
    from serve.registry_watcher import LoadedModels, LoadedVersion, RegistryWatcher
    from serve.stored_bars import StoredBars

# On the shared_state:
CALL = "call"  # the number of the newest call to poll the registry
EXAMPLE = "example"  # of a request and its answer
FindSkill = Callable[[Model, str], tuple[Skill | None, str | None]]


def end_with_parent() -> None:
    """A server that was killed leaves no process behind, where the kernel is Linux."""
    parent = multiprocessing.parent_process()
    end_with(parent.pid if parent and parent.pid else os.getppid(), signal.SIGKILL)


class ForecastApi(LitAPI):  # type: ignore[misc]
    """`shared_state` is shared by all processes: each worker's `WorkerState` by its number, CALL and EXAMPLE."""

    shared_state: Any
    stored: Mapping[str, "StoredBars"]
    watchers: Mapping[str, "RegistryWatcher"]
    find_skill: FindSkill  # see `LiveSkills.find`

    def __init__(self, settings: Sequence[SymbolSettings], sockets: Path, ledger: LedgerAddress) -> None:
        """settings    of each symbol"""
        super().__init__(max_batch_size=1)
        self._of_symbols, self.sockets, self.ledger = tuple(settings), sockets, ledger
        self.settings = settings[0]  # for what is the same for all
        self.symbols, self.names = [each.symbol for each in settings], [each.name for each in settings]
        self.loop = AnswerLoop()

    def setup(self, device: str) -> None:
        end_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first one ends this
        # Slow to import, with what these import, and only workers need them.
        from serve.monitoring.live_skill import LiveSkills
        from serve.monitoring.market_figures import MarketFigures
        from serve.registry_watcher import RegistryWatcher
        from serve.stored_bars import StoredBars

        configure(self.settings.logging)
        self._states, self._states_lock = dict[str, tuple[Worker, Input | None, int]](), Lock()
        report_process("worker", self.settings.poll_s)
        skills = LiveSkills(self.ledger, self._loaded_versions, {each.symbol: each.typed for each in self._of_symbols})
        self.find_skill = skills.find
        self.stored = {each.symbol: StoredBars(each.bars) for each in self._of_symbols}
        for each in self._of_symbols:
            figures = MarketFigures(each.symbol, each.session, partial(skills.last_run, each.name))
            self.stored[each.symbol].follow(self.settings.poll_s, figures.update)
        self.watchers = {
            each.symbol: RegistryWatcher(
                each,
                RemoteRegistry(self.sockets / SOCKET, each.registry_uri),
                warm_up=partial(self._warm_up, each.symbol),
                newest_call=self._newest_call,
                on_change=partial(self._publish_state, each.symbol),
            )
            for each in self._of_symbols
        }
        for watcher in self.watchers.values():
            watcher.start()
        skills.start()

    def _loaded_versions(self) -> frozenset[VersionKey]:
        return find_versions(watcher.loaded.worker for watcher in self.watchers.values())

    def socket(self, worker: int) -> Path:
        return self.sockets / f"{worker}.sock"

    def decode_request(self, request: WorkerRequest, context: Context) -> "Bars":
        """Check the window that was sent, or take the store's latest bars; give the last `tsteps`.

        Raises    InvalidWindow; DataError: of the store
        """
        forecaster = context.serving.forecaster
        tsteps = forecaster.spec.tsteps
        if request.body is None:
            return self.stored[context.symbol].latest(tsteps)
        bars = read_window(
            request.body, symbol=context.symbol, session=forecaster.session, now=context.now, served=self.symbols
        )
        if len(bars.ts_N) == 0:
            raise _not_enough(f"Expected at least {tsteps} session hours for one window, got 0; send earlier bars too")
        return bars.tail(tsteps)

    def predict(self, bars: "Bars", context: Context) -> "Forecast":
        """Raises    InvalidWindow: too few session hours, or moves beyond any price"""
        serving = context.serving
        states = self.stored[context.symbol].season_states(serving.model.version, serving.forecaster)
        try:
            return serving.forecaster.forecast(bars, states)
        except NotEnoughBars as error:
            raise _not_enough(str(error)) from None

    def encode_response(self, output: tuple["Bars", "Forecast"], context: Context) -> WorkerAnswer:
        """Return the reply as JSON, and its row for the ledger."""
        (bars, forecast), request, serving = output, context.request, context.serving
        source = self.stored[context.symbol].source if request.body is None else ""
        flags = [
            *of_training(serving.forecaster.provenance, source),
            *self.settings.flags.find(forecast, serving.forecaster.spec.tsteps, context.now),
        ]
        skill = self.find_skill(serving.model, forecast.symbol)
        reply = make_reply(request, serving.model, forecast, context.now, skill=skill, flags=flags)
        body = reply.model_dump_json().encode()
        row = make_row(request, reply, bars, context.now)
        return WorkerAnswer(200, str(serving.model.version), request.arm, "", 0.0, row, body)

    def symbol_of(self, request: WorkerRequest) -> str:
        """Return the request's symbol; the first one if it names none that is served, which `read_window` refuses."""
        if len(self.symbols) == 1:
            return self.symbols[0]
        symbol = request.symbol if request.body is None else symbol_of(request.body)
        return symbol if symbol in self.symbols else self.symbols[0]

    def _newest_call(self) -> int:
        return int(self.shared_state.get(CALL, 0))

    def _warm_up(self, symbol: str, serving: "LoadedVersion") -> None:
        example = warm_up(self, symbol, serving)
        if serving.model.alias == Arm.CHAMPION and symbol == self.symbols[0]:
            self.shared_state[EXAMPLE] = example

    def _publish_state(self, symbol: str, loaded: "LoadedModels", answered_call: int) -> None:
        """Report what is loaded for one symbol, with the last reports of the others; each symbol has a thread."""
        serving, worker = loaded.champion.serving, loaded.worker.model_copy(update={"symbol": symbol})
        with self._states_lock:
            self._states[symbol] = worker, serving.input if serving else None, answered_call
            if len(self._states) == len(self.symbols):
                workers, inputs, calls = zip(*(self._states[each] for each in self.symbols), strict=True)
                self.shared_state[int(os.environ["LITSERVE_WORKER_ID"])] = WorkerState(workers, inputs, min(calls))


def _not_enough(text: str) -> InvalidWindow:
    return InvalidWindow([Problem(path="bars", problem=text)])
