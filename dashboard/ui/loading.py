"""Loading indicator and error messages for a visitor's actions."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Timer
from typing import Any

import panel as pn

from lstm_ts.errors import LstmTsError

WAIT_S = 0.3  # shorter waits show no indicator

log = logging.getLogger(__name__)


class Coalesced:
    """Call a function in a visitor's threads, one call at a time; calls made while one runs become one more."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function, self._running, self._asked = function, Lock(), Event()

    def __call__(self) -> None:
        self._asked.set()
        pn.state.execute(self._run, schedule="thread")

    def _run(self) -> None:
        with self._running:
            if self._asked.is_set():
                self._asked.clear()
                self._function()


@contextmanager
def asking(view: Any, fail: Callable[[str], None]) -> Iterator[None]:
    with loading(view), error_boundary(fail):
        yield


@contextmanager
def loading(view: Any) -> Iterator[None]:
    """Show the view's loading indicator once the block takes longer than WAIT_S; in a visitor's thread."""
    doc, shown = pn.state.curdoc, Event()
    assert doc

    def show() -> None:
        if doc.session_context:  # else the visitor has left
            shown.set()
            doc.add_next_tick_callback(lambda: setattr(view, "loading", True))

    slow = Timer(WAIT_S, show)
    slow.start()
    try:
        yield
    finally:
        slow.cancel()
        slow.join()  # else an indicator that is being shown just now would stay
        if shown.is_set():
            pn.state.execute(lambda: setattr(view, "loading", False))


@contextmanager
def error_boundary(fail: Callable[[str], None]) -> Iterator[None]:
    """Report an error of the block as a sentence."""
    try:
        yield
    except LstmTsError as error:
        fail(str(error))
    except Exception:
        log.exception("What was asked for cannot be shown")
        fail("This has gone wrong in the dashboard itself; its log says why.")
