"""What a visitor sees while something is asked."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Timer
from typing import Any

import panel as pn

from lstm_ts.errors import LstmTsError

WAIT_S = 0.3  # nobody is told to wait for less

log = logging.getLogger(__name__)


@contextmanager
def asking(view: Any, fail: Callable[[str], None]) -> Iterator[None]:
    """The view says that it takes a while, if it does; `fail` is told in a sentence what went wrong meanwhile."""
    doc, told = pn.state.curdoc, Event()
    assert doc

    def load(loading: bool) -> None:
        view.loading = loading

    def tell() -> None:
        told.set()
        doc.add_next_tick_callback(lambda: load(True))

    slow = Timer(WAIT_S, tell)
    slow.start()
    try:
        yield
    except LstmTsError as error:
        fail(str(error))
    except Exception:
        log.exception("What was asked for cannot be shown")
        fail("This has gone wrong in the dashboard itself; its log says why.")
    finally:
        slow.cancel()
        if told.is_set():
            pn.state.execute(lambda: load(False))
