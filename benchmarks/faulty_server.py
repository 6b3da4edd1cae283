"""Server under a fault: whether it answers, how it ends, and which processes it leaves."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

from benchmarks.servers import free_port, processes_of

SERVERS = {"serve": "serve.server", "dashboard": "dashboard.server", "pipeline": "lstm_ts.pipeline"}
ASKED = {"serve": "/forecast?symbol=XAGUSD", "dashboard": "/?page=data", "pipeline": "/server_info"}
ANSWERS_S, ENDS_S = 180, 60


class FaultyServer:
    """Server whose processes form a session of their own."""

    def __init__(self, name: str, disk: Path) -> None:
        self._url = f"http://127.0.0.1:{(port := free_port())}{ASKED[name]}"
        paths = (f"paths.data={disk}/data", f"paths.outputs={disk}/outputs", f"port={port}")
        self._output = Path(tempfile.mkstemp()[1])
        with self._output.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", SERVERS[name], *paths], stdout=file, stderr=file, start_new_session=True
            )

    def answers(self) -> bool:
        until = time.monotonic() + ANSWERS_S
        while self.process.poll() is None and time.monotonic() < until:
            with suppress(OSError), urlopen(self._url, timeout=30) as answer:
                return bool(answer.status == 200)
            time.sleep(0.2)
        return False

    def end(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(ENDS_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def left(self) -> list[str]:
        """Return the command lines of the processes that have not ended within `ENDS_S`, and kill them."""
        until = time.monotonic() + ENDS_S
        while (left := processes_of(self.process.pid)) and time.monotonic() < until:
            time.sleep(0.2)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return list(left.values())
