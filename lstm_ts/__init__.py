"""Forecasts of a market's next hours with LSTMs, from minute bars to a scored, hashed model.

bars = lstm_ts.read_bars(minutes, symbol="XAGUSD")   # a frame of pandas or polars, or the path of files
model = lstm_ts.fit(bars)
model.score(bars)                                    # beside the baselines, on hours that it has not seen
model.forecast(bars)                                 # quantiles of the next hours' closes
model.plot(bars)
model.save("models/silver")                          # lstm_ts.load("models/silver")
"""

import os
import signal
import sys
from importlib import import_module
from io import TextIOWrapper
from itertools import pairwise
from typing import TYPE_CHECKING, Any


def _end_by_signal(number: int, _: object) -> None:
    """End the process as the signal does by default. Polars ignores Ctrl-C where SIG_DFL is set when it is imported."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


# Ctrl-C ends a command without a traceback while it imports, until `cli.entry_point` begins. Python has "-m" in argv
# for a module that it still looks up.
_SCRIPT = sys.argv[0] if sys.argv else ""
_MODULE = next((name for flag, name in pairwise(sys.orig_argv) if flag == "-m"), "") if _SCRIPT == "-m" else ""
_IS_COMMAND = _MODULE.partition(".")[0] in (__name__, "serve", "dashboard") or _SCRIPT.endswith("/lstm-ts")
if _IS_COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end_by_signal)
if _IS_COMMAND and isinstance(sys.stdout, TextIOWrapper):
    sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: an encoding may lack a character such as →

if TYPE_CHECKING:
    from lstm_ts.api.fitting import fit
    from lstm_ts.api.hourly_bars import HourlyBars, read_bars, synthetic_bars
    from lstm_ts.api.trained_model import TrainedModel, load
    from lstm_ts.market.session import Session
    from lstm_ts.market.symbol import Symbol

IMPORTED_BY = os.getpid()  # this process, or one that it is a fork of
__version__ = "0.1.0"
__all__ = ["HourlyBars", "Session", "Symbol", "TrainedModel", "fit", "load", "read_bars", "synthetic_bars"]

_MODULES = {"Session": "market.session", "Symbol": "market.symbol", "fit": "api.fitting"}
_MODULES |= dict.fromkeys(("HourlyBars", "read_bars", "synthetic_bars"), "api.hourly_bars")
_MODULES |= dict.fromkeys(("TrainedModel", "load"), "api.trained_model")


def __getattr__(name: str) -> Any:
    """Import the Python API on first use: commands need nothing of it."""
    if name in _MODULES:
        return getattr(import_module(f"lstm_ts.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
