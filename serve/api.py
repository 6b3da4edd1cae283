"""LitServe's side of a worker: one process with one copy of the model."""

import logging.config
import multiprocessing
import os
import signal
import sys
import time
from ctypes import CDLL
from typing import TYPE_CHECKING, Any

from litserve import LitAPI

from serve.metrics import PART_SECONDS
from serve.schema import Input, Worker
from serve.settings import Answer, Ask, Settings, State

if TYPE_CHECKING:
    from serve.answers import Desk
    from serve.deployment import Follower, Serving

# On the board:
CALL = "call"  # the number of the newest call to look at the registry
EXAMPLE = "example"  # of a request and its answer
PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """A server that was killed leaves no process behind, where the kernel is Linux."""
    if sys.platform == "linux":
        CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        parent = multiprocessing.parent_process()
        if parent and parent.pid != os.getppid():  # it was killed before this was asked for
            os._exit(1)


class ForecastApi(LitAPI):  # type: ignore[misc]
    """`board` is shared by all processes: each worker's `State` by its number, CALL and EXAMPLE."""

    board: Any
    desk: "Desk"
    follower: "Follower"

    def __init__(self, settings: Settings) -> None:
        super().__init__(max_batch_size=1)
        self.settings = settings

    def setup(self, device: str) -> None:
        end_with_parent()
        import torch  # slow to import, with what these two import, and only workers need them

        from serve.answers import Desk
        from serve.deployment import Follower

        logging.config.dictConfig(dict(self.settings.logging))
        torch.set_num_threads(1)  # one window is too little to share
        self.desk = Desk(self.settings.symbol, self.settings.bars, self.settings.flags)
        self.follower = Follower(self.settings, try_out=self._try_out, asked=self._newest_call, tell=self._tell)
        self.follower.start()

    def predict(self, ask: Ask) -> Answer:
        queued_s = time.monotonic() - ask.asked_at
        answer = self.desk.answer(ask, self.follower.serving, self.follower.reason)
        for part, seconds in {"queue": queued_s, **answer.seconds}.items():
            PART_SECONDS.labels(part).observe(seconds)
        return answer

    def _newest_call(self) -> int:
        return int(self.board.get(CALL, 0))

    def _try_out(self, serving: "Serving") -> None:
        self.board[EXAMPLE] = self.desk.try_out(serving)

    def _tell(self, worker: Worker, needs: Input | None, looked: int) -> None:
        self.board[int(os.environ["LITSERVE_WORKER_ID"])] = State(os.getpid(), worker, needs, looked)
