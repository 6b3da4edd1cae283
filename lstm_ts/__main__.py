"""`lstm-ts COMMAND …`, or `python -m lstm_ts COMMAND …`: the same as `python -m lstm_ts.COMMAND …`."""

import os
import runpy
import sys
from difflib import get_close_matches

from lstm_ts import __version__, logs
from lstm_ts.commands import COMMANDS
from lstm_ts.completion import FLAGS, complete
from lstm_ts.errors import MISTAKE, ConfigError
from lstm_ts.faults import describe_fault
from lstm_ts.lifetime import exit_without_reader


def usage() -> str:
    lines = [f"  {name:<10} {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "Usage: lstm-ts COMMAND [key=value …]",
            "",
            *lines,
            "",
            "lstm-ts COMMAND --help lists a command's settings,",
            'eval "$(lstm-ts -sc install=bash)" has the shell complete them.',
        ]
    )


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in COMMANDS:
        del sys.argv[1]
        runpy.run_module(COMMANDS[name].module, run_name="__main__", alter_sys=True)
        return
    try:
        with exit_without_reader():
            _answer(name)
    except (ConfigError, OSError) as error:
        logs.begin(os.environ.get("LSTM_TS_LOG", logs.TEXT), "lstm-ts")
        logs.print_error(describe_fault(error) or str(error))
        sys.exit(MISTAKE)


def _answer(name: str) -> None:
    """Raises    ConfigError: an unknown command"""
    if name in ("-h", "--help"):
        print(usage())
    elif name == "--version":
        print(__version__)
    elif name in FLAGS:
        complete(" ".join(sys.argv[2:3]))
    else:
        nearest = get_close_matches(name, COMMANDS, 1)
        advice = f"did you mean {nearest[0]}?" if nearest else "lstm-ts --help lists them"
        raise ConfigError(f"Expected a command, got {name}; {advice}")


if __name__ == "__main__":
    main()
