"""`lstm-ts -sc install=bash`: complete command names here, and their groups and keys by Hydra."""

import os
import sys

from lstm_ts.commands import COMMANDS

FLAGS = ("-sc", "--shell-completion")
LINE, POINT = "COMP_LINE", "COMP_POINT"  # set by the shell: the line so far, and the cursor's position in it


def complete(request: str) -> None:
    """Print the shell's script, or the words that can follow `COMP_LINE`.

    request   install=bash, uninstall=fish, query=zsh, …
    """
    words = os.environ.get(LINE, "").split()
    if request.startswith("query=") and (len(words) < 2 or words[1] not in COMMANDS):
        print(" ".join(COMMANDS))
        return
    command = words[1] if request.startswith("query=") else "process"
    _leave_out(command)
    from lstm_ts.cli import entry_point

    sys.argv = ["lstm-ts", FLAGS[0], request]
    entry_point(command)(lambda cfg: None)()


def _leave_out(command: str) -> None:
    """Remove the command's name from the line that Hydra completes."""
    line = os.environ.get(LINE, "")
    if f" {command} " in line:
        os.environ[LINE] = line.replace(f" {command} ", " ", 1)
        os.environ[POINT] = str(int(os.environ.get(POINT, len(line))) - len(command) - 1)
