"""Replicas on this machine behind nginx: `local:FOLDER`.

FOLDER contains versions/<version>, each a virtual environment, and place.json: the port of nginx and the arguments of
`lstm-ts serve`.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from place import END_S, NEW, OLD, READY_S, SHARE, fetch

HERE = Path(__file__).resolve().parent
ENDING = "ending"  # in the state: a replica that gets no more requests, until it has ended
SERVER = "server 127.0.0.1:8000 max_fails=0;"
NGINX = """pid "FOLDER/nginx.pid";
error_log "FOLDER/nginx.log";
worker_shutdown_timeout 30s;
events {}
http {
    access_log off;
    client_body_temp_path "FOLDER/client_body";
    proxy_temp_path "FOLDER/proxy";
    fastcgi_temp_path "FOLDER/fastcgi";
    uwsgi_temp_path "FOLDER/uwsgi";
    scgi_temp_path "FOLDER/scgi";
LSTM_TS
}
"""


class LocalPlace:
    """Replicas on this machine behind nginx."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._place = _read(folder / "place.json")
        if not (isinstance(self._place.get("port"), int) and isinstance(self._place.get("arguments"), list)):
            raise SystemExit(f"Expected port, a number, and arguments, a list, in {folder}/place.json, got others")
        self._lock = (folder / "lock").open("w")
        self._file = folder / "state.json"
        self._state = _read(self._file) if self._file.exists() else {}

    def start(self, version: str) -> None:
        self._begin_change()
        if NEW in self._state:
            raise SystemExit(f"Expected no version on trial, got {self._state[NEW]['version']}; promote it, or go back")
        which = NEW if OLD in self._state else OLD
        self._keep({key: self._state[key] for key in self._state if key != "before"})  # nobody goes back over a start
        self._run(which, version)
        try:
            self._await_ready(which)
            self._route(self._state)
        except BaseException:
            ended = self._state.pop(which)
            self._keep({**self._state, ENDING: ended})
            if OLD in self._state:  # nginx may lead to the new replica already
                with suppress(SystemExit):
                    self._route(self._state)
            self._end_rest()
            raise

    def ask(self, which: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        if which not in self._state:
            raise SystemExit(f"Expected the {which} version to run, got none; start one")
        return fetch(self._state[which]["port"], path, body)

    def scrape(self, which: str) -> dict[str, str]:
        status, figures = self.ask(which, "/metrics")
        return {str(self._state[which]["pid"]): figures.decode()} if status == 200 else {}

    def promote(self) -> None:
        self._begin_change()
        if NEW not in self._state:
            raise SystemExit("Expected a version on trial, got none; start one")
        self._check_ready(NEW, "see its log, or go back")
        self._turn({OLD: self._state[NEW], "before": self._state[OLD]["version"]}, self._state[OLD])

    def back(self) -> None:
        """Raises    SystemExit: the old version is not ready, or does not become so; the new one stays if it is"""
        self._begin_change()
        if NEW in self._state:
            if self._is_ready(NEW):
                self._check_ready(OLD, f"promote {self._state[NEW]['version']}, which is ready")
            self._turn({OLD: self._state[OLD]}, self._state[NEW])
        elif before := self._state.get("before"):
            try:
                self.start(before)
            except BaseException:
                self._keep({**self._state, "before": before})
                raise
            self.promote()
            del self._state["before"]
            self._keep(self._state)

    def _begin_change(self) -> None:
        """Keep other changes of the place out until this process ends.    Raises    SystemExit: one is under way"""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"Expected one change at a time of {self._folder}, got another; wait for it") from None
        self._state = _read(self._file) if self._file.exists() else {}
        self._end_rest()

    def _turn(self, state: dict[str, Any], ended: dict[str, Any]) -> None:
        """Route requests to the replicas of a state, keep it, and end the replica that is no longer in it."""
        self._route(state)
        self._keep({**state, ENDING: ended})
        self._end_rest()

    def _end_rest(self) -> None:
        """End the replica that gets no more requests, if any; the next change does so where this one is cut short."""
        if ENDING in self._state:
            self._end(self._state[ENDING])
            self._keep({key: self._state[key] for key in self._state if key != ENDING})

    def _is_ready(self, which: str) -> bool:
        return self.ask(which, "/health")[0] == 200

    def _check_ready(self, which: str, advice: str) -> None:
        """Raises    SystemExit: the replica is not ready"""
        if not self._is_ready(which):
            raise SystemExit(f"Expected {self._state[which]['version']} to be ready, got none that is; {advice}")

    def _keep(self, state: dict[str, Any]) -> None:
        self._state = state
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(state, indent=1))
        part.replace(self._file)

    def _run(self, which: str, version: str) -> None:
        """Start a replica, which waits until it is kept: if this process is killed before, it ends."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        program = self._folder / "versions" / version / "bin/lstm-ts"
        if not program.exists() or Path(version).name != version:
            raise SystemExit(f"Expected the version {version} in {program.parents[1]}, got none; install it there")
        command = [
            "sh",
            "-c",
            'read -r _ && exec "$@" < /dev/null',
            "sh",
            program,
            "serve",
            f"port={port}",
            *self._place["arguments"],
        ]
        with (self._folder / f"{version}-{port}.log").open("wb") as log:
            process = subprocess.Popen(
                command, start_new_session=True, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True
            )
        started = {"version": version, "port": port, "pid": process.pid, "started": _start_of(process.pid)}
        self._keep({**self._state, which: started})
        assert process.stdin
        with process.stdin as go:
            go.write("\n")

    def _await_ready(self, which: str) -> None:
        """Raises    SystemExit: the replica has ended, or is not ready in time"""
        started, until = self._state[which], time.monotonic() + READY_S
        while not self._is_ready(which):
            if time.monotonic() > until or not _is_alive(started):
                raise SystemExit(f"Expected {started['version']} to be ready within {READY_S} s, got none; see its log")
            time.sleep(0.2)

    def _route(self, state: dict[str, Any]) -> None:
        """Start nginx or reload it with the weights of the replicas; requests in progress stay where they are."""
        weights = {OLD: 100 - round(100 * SHARE), NEW: round(100 * SHARE)}
        ports = {which: state[which]["port"] for which in weights if which in state}
        servers = [f"server 127.0.0.1:{port} weight={weights[which]} max_fails=0;" for which, port in ports.items()]
        main = self._folder / "nginx.conf"
        main.write_text(write_nginx(self._folder, self._place["port"], servers))
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        if not program:
            raise SystemExit("Expected nginx to be installed, got none; apt-get install nginx")
        command = [program, "-c", str(main), *(["-s", "reload"] if self._has_nginx(main) else [])]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"Expected nginx to take {main}, got: {done.stderr}")

    def _has_nginx(self, main: Path) -> bool:
        """Return whether nginx.pid is of a running nginx with this configuration; after a reboot it is of anyone."""
        try:
            pid = int((self._folder / "nginx.pid").read_text())
            return f"-c {main}" in Path(f"/proc/{pid}/cmdline").read_text()
        except (OSError, ValueError):
            return False

    def _end(self, replica: dict[str, Any]) -> None:
        """Give nginx time to drop the replica; then let it answer the accepted requests and end, or kill it."""
        time.sleep(1)
        for number in (signal.SIGTERM, signal.SIGKILL):
            if _is_alive(replica):
                os.kill(replica["pid"], number)
            until = time.monotonic() + END_S
            while _is_alive(replica) and time.monotonic() < until:
                time.sleep(0.1)


def write_nginx(folder: Path, port: int, servers: Sequence[str]) -> str:
    """Return nginx's configuration.

    folder    of its files
    servers   those of the upstream, as nginx writes them
    """
    text = (HERE / "nginx/lstm_ts.conf").read_text().replace(SERVER, "\n    ".join(servers))
    text = text.replace("listen 80;", f"listen 127.0.0.1:{port};")
    return NGINX.replace("LSTM_TS", text).replace("FOLDER", json.dumps(str(folder), ensure_ascii=False)[1:-1])


def _read(file: Path) -> dict[str, Any]:
    """Raises    SystemExit: no file, or one without an object of JSON"""
    try:
        content: dict[str, Any] = dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise SystemExit(f"Expected {file} as deploy/local_place.py says, got: {error}") from None
    return content


def _is_alive(replica: dict[str, Any]) -> bool:
    """Return whether the process runs that was started, and not one that has its pid since a reboot."""
    start = _start_of(replica["pid"])
    return bool(start) and replica.get("started", start) == start


def _start_of(pid: int) -> str:
    """Return when a process was started; empty: none runs, or a zombie, which has ended but was not waited for."""
    try:
        state, *others = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else others[18]  # in ticks since the machine was started
