"""The documentation's blocks, read from Markdown and run as a reader would run them: one shell a document."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from processes import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = ("bash", "python")
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.M | re.S)
NOTE = re.compile(r"<!-- (not run|server): (.+?) -->\s*$")
PREAMBLE = """
set -eo pipefail -m
stop() { for pid in $(jobs -p); do kill -- -"$pid" 2> /dev/null; done; wait; }
trap stop EXIT
answers() { python - "$1" <<'PYTHON'
import sys, time, httpx
until = time.monotonic() + 300
while time.monotonic() < until:
    try:
        if httpx.get(sys.argv[1], trust_env=False).status_code == 200:
            sys.exit()
    except httpx.TransportError:
        time.sleep(0.2)
sys.exit(f"{sys.argv[1]} did not answer within 300 s")
PYTHON
}
"""


@dataclass(frozen=True)
class Block:
    document: str  # its name, from the repository's root
    line: int
    language: str  # of its fence
    text: str
    not_run: str = ""  # the reason, where it cannot run
    server: str = ""  # the address at which it answers, where it runs until it is stopped

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"


def read_blocks(path: Path) -> list[Block]:
    """Fenced blocks of a document; `<!-- not run: reason -->` or `<!-- server: address -->` may stand before one."""
    text = path.read_text()
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    return [_block(text, found, name) for found in FENCE.finditer(text)]


def _block(text: str, found: re.Match[str], name: str) -> Block:
    note = NOTE.search(text[: found.start()])
    notes = {note[1].replace(" ", "_"): note[2]} if note else {}
    return Block(name, text[: found.start()].count("\n") + 1, found[1], found[2], **notes)


def to_script(blocks: Sequence[Block]) -> str:
    """One bash script of the blocks: it ends with the first command that fails, and stops its servers."""
    return PREAMBLE + "\n".join(_step(block) for block in blocks if block.language in RUN and not block.not_run)


def _step(block: Block) -> str:
    lines = [f"echo {shlex.quote('== ' + block.place)} >&2"]
    if block.language == "python":
        return "\n".join([*lines, f"python - <<'PYTHON'\n{block.text}PYTHON"])
    if block.server:
        return "\n".join([*lines, f"{{ {block.text} }} &", f"answers {shlex.quote(block.server)}"])
    return "\n".join([*lines, block.text])


def run_blocks(blocks: Sequence[Block], tree: Path, *, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run them in `tree`, with its .venv first on the path; all processes end with it, and stderr goes to stdout."""
    for block in blocks:
        if block.server:
            _check_free(block)
    path = os.pathsep.join([f"{tree}/.venv/bin", str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    environment.pop("PYTHONPATH", None)
    with subprocess.Popen(
        ["bash", "-c", to_script(blocks)],
        cwd=tree, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    ) as shell:  # fmt: skip
        try:
            out, _ = shell.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            _kill_session(shell.pid)
            out, _ = shell.communicate(timeout=seconds)
            out += f"\nstopped after {seconds:g} s"
    return subprocess.CompletedProcess(tree, shell.returncode, out)


def _check_free(block: Block) -> None:
    """Nobody else may answer the block's clients."""
    port = httpx.URL(block.server).port
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            pytest.fail(f"Expected port {port} to be free for {block.place}, got one in use; end what listens there")


def _kill_session(session: int) -> None:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            its = int(path.read_text().rpartition(")")[2].split()[3])
            if its == session:
                os.kill(int(path.parent.name), signal.SIGKILL)
        except (OSError, ProcessLookupError):
            continue


def make_tree(folder: Path) -> Path:
    """What a reader has after the installation: the repository's files, and .venv; data and outputs are empty."""
    folder.mkdir(parents=True)
    for path in _files():
        (folder / path.name).symlink_to(path)
    (folder / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.is_dir() or path.name == "pyvenv.cfg":
            (folder / ".venv" / path.name).symlink_to(path)
    for name in ("torch", "installed", *(path.stem for path in (ROOT / "requirements").glob("*.lock"))):
        (folder / ".venv" / name).touch()  # newer than what make would install from
    return folder


def _files() -> Iterator[Path]:
    """What git has at the top, and no cache or product of an earlier run."""
    own = {".ci", ".github", ".gitignore", ".dockerignore"}
    made = {"data", "outputs", "site", "minutes", "models", "lightning_logs"}
    return (path for path in ROOT.iterdir() if path.name in own or (path.name[0] != "." and path.name not in made))


def masked(text: str) -> str:
    """It on one line, whatever its numbers and colours are."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return re.sub(r"[\d,.:+-]*\d", "0", " ".join(plain.split()))
