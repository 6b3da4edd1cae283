"""LitServe's side of a worker: one process with one copy of the model."""

import logging
import logging.config
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litserve import LitAPI
from litserve.loops import LitLoop

from lstm_ts.lifetime import end_with
from serve.line import answer_until_told
from serve.metrics import PART_SECONDS
from serve.settings import Answer, Ask, Settings, State
from serve.traffic import Arm

if TYPE_CHECKING:
    from serve.answers import Desk
    from serve.deployment import Follower, Loaded, Serving

# On the board:
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
    """`board` is shared by all processes: each worker's `State` by its number, CALL and EXAMPLE."""

    board: Any
    desk: "Desk"
    follower: "Follower"

    def __init__(self, settings: Settings, sockets: Path) -> None:
        super().__init__(max_batch_size=1)
        self.settings, self._sockets = settings, sockets
        self.loop = AnswerLoop()

    def setup(self, device: str) -> None:
        end_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first one ends this
        from serve.answers import Desk  # slow to import, with what these two import, and only workers need them
        from serve.deployment import Follower

        logging.config.dictConfig(dict(self.settings.logging))
        self.desk = Desk(self.settings.symbol, self.settings.bars, self.settings.flags)
        self.follower = Follower(self.settings, try_out=self._try_out, asked=self._newest_call, tell=self._tell)
        self.follower.start()

    def socket(self, worker: int) -> Path:
        return self._sockets / f"{worker}.sock"

    def predict(self, ask: Ask) -> Answer:
        seconds: dict[str, float] = {}
        waited_s, start = time.monotonic() - ask.asked_at, time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, self.settings.answer_s)  # ends a worker that hangs, whatever it hangs in
        try:
            answer = self.desk.answer(ask, self.follower.loaded, seconds)
        except Exception:
            log.exception("The champion has failed", extra={"request_id": ask.request_id})
            return Answer(500, "", Arm.CHAMPION, "", time.perf_counter() - start, None, b"")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if answer.arm is not Arm.SHADOW:
            for part, took_s in {"queue": waited_s, **seconds}.items():
                PART_SECONDS.labels(part).observe(took_s)
        return answer._replace(seconds=time.perf_counter() - start)

    def _newest_call(self) -> int:
        return int(self.board.get(CALL, 0))

    def _try_out(self, serving: "Serving") -> None:
        example = self.desk.try_out(serving)
        if serving.model.alias == Arm.CHAMPION:
            self.board[EXAMPLE] = example

    def _tell(self, loaded: "Loaded", looked: int) -> None:
        needs = loaded.champion.serving.input if loaded.champion.serving else None
        self.board[int(os.environ["LITSERVE_WORKER_ID"])] = State(loaded.worker, needs, looked)
