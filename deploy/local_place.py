"""Replicas on this machine behind nginx: `local:FOLDER`.

FOLDER contains versions/<version>, each a virtual environment, and place.json: the port of nginx and the arguments of
`lstm-ts serve`.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from place import END_S, NEW, OLD, READY_S, SHARE, fetch

HERE = Path(__file__).resolve().parent
NGINX = """pid FOLDER/nginx.pid;
error_log FOLDER/nginx.log;
worker_shutdown_timeout 30s;
events {}
http {
    access_log off;
    client_body_temp_path FOLDER/client_body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
    include FOLDER/lstm_ts.conf;
}
"""


class LocalPlace:
    """Replicas on this machine behind nginx."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._place = _read(folder / "place.json")
        if not (isinstance(self._place.get("port"), int) and isinstance(self._place.get("arguments"), list)):
            raise SystemExit(f"Expected port, a number, and arguments, a list, in {folder}/place.json, got others")
        self._file = folder / "state.json"
        self._state = _read(self._file) if self._file.exists() else {}

    def start(self, version: str) -> None:
        if NEW in self._state:
            raise SystemExit(f"Expected no version on trial, got {self._state[NEW]['version']}; promote it, or go back")
        which = NEW if OLD in self._state else OLD
        self._state.pop("before", None)  # nobody goes back over a later start, whatever becomes of it
        self._keep({**self._state, which: self._run(version)})
        self._await_ready(which)
        self._route()

    def ask(self, which: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        if which not in self._state:
            raise SystemExit(f"Expected the {which} version to run, got none; start one")
        return fetch(self._state[which]["port"], path, body)

    def scrape(self, which: str) -> dict[str, str]:
        status, figures = self.ask(which, "/metrics")
        return {str(self._state[which]["pid"]): figures.decode()} if status == 200 else {}

    def promote(self) -> None:
        if NEW not in self._state:
            raise SystemExit("Expected a version on trial, got none; start one")
        ended = self._state[OLD]
        self._keep({OLD: self._state[NEW], "before": ended["version"]})
        self._route()
        self._end(ended)

    def back(self) -> None:
        """Raises    SystemExit: the version before does not become ready; the promoted one stays"""
        if ended := self._state.pop(NEW, None):
            self._keep(self._state)
            self._route()
            self._end(ended)
        elif before := self._state.get("before"):
            try:
                self.start(before)
            except SystemExit:
                self._keep({**self._state, "before": before})
                raise
            self.promote()
            del self._state["before"]
            self._keep(self._state)

    def _keep(self, state: dict[str, Any]) -> None:
        self._state = state
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(state, indent=1))
        part.replace(self._file)

    def _run(self, version: str) -> dict[str, Any]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        program = self._folder / "versions" / version / "bin/lstm-ts"
        if not program.exists():
            raise SystemExit(f"Expected the version {version} in {program.parents[1]}, got none; install it there")
        command = [program, "serve", f"port={port}", *self._place["arguments"]]
        with (self._folder / f"{version}-{port}.log").open("wb") as log:
            quiet: dict[str, Any] = {"stdout": log, "stderr": log, "stdin": subprocess.DEVNULL}
            process = subprocess.Popen(command, start_new_session=True, **quiet)
        return {"version": version, "port": port, "pid": process.pid}

    def _await_ready(self, which: str) -> None:
        """Raises    SystemExit: the replica has ended, or is not ready in time; it is removed then"""
        started, until = self._state[which], time.monotonic() + READY_S
        while self.ask(which, "/health")[0] != 200:
            if time.monotonic() > until or not _is_alive(started["pid"]):
                del self._state[which]
                self._keep(self._state)
                self._end(started)
                raise SystemExit(f"Expected {started['version']} to be ready within {READY_S} s, got none; see its log")
            time.sleep(0.2)

    def _route(self) -> None:
        """Start nginx or reload it with the weights of the replicas; requests in progress stay where they are."""
        weights = {OLD: 100 - round(100 * SHARE), NEW: round(100 * SHARE)}
        ports = {which: self._state[which]["port"] for which in weights if which in self._state}
        servers = "\n    ".join(f"server 127.0.0.1:{port} weight={weights[which]};" for which, port in ports.items())
        text = (HERE / "nginx/lstm_ts.conf").read_text().replace("server 127.0.0.1:8000;", servers)
        text = text.replace("listen 80;", f"listen 127.0.0.1:{self._place['port']};")
        (self._folder / "lstm_ts.conf").write_text(text)
        main, pid = self._folder / "nginx.conf", self._folder / "nginx.pid"
        main.write_text(NGINX.replace("FOLDER", str(self._folder)))
        running = pid.exists() and _is_alive(int(pid.read_text() or 0))
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or "nginx"
        command = [program, "-c", str(main), *(["-s", "reload"] if running else [])]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"Expected nginx to take {main}, got: {done.stderr}")

    def _end(self, replica: dict[str, Any]) -> None:
        """Give nginx time to drop the replica; then let it answer the accepted requests and end, or kill it."""
        time.sleep(1)
        for number in (signal.SIGTERM, signal.SIGKILL):
            if _is_alive(replica["pid"]):
                os.kill(replica["pid"], number)
            until = time.monotonic() + END_S
            while _is_alive(replica["pid"]) and time.monotonic() < until:
                time.sleep(0.1)


def _read(file: Path) -> dict[str, Any]:
    """Raises    SystemExit: no file, or one without an object of JSON"""
    try:
        content: dict[str, Any] = dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise SystemExit(f"Expected {file} as deploy/local_place.py says, got: {error}") from None
    return content


def _is_alive(pid: int) -> bool:
    """Return whether the process runs; a zombie, which has ended but was not waited for, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
