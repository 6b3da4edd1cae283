"""Send messages to receivers by apprise, in a subprocess.

A receiver's URL holds secrets, which apprise and the libraries below it write into their logs. The subprocess discards
its logs and reports only a status. It is killed after a timeout, and ends with its parent.

`python -m lstm_ts.monitoring.delivery` is the subprocess: letters as JSON on stdin, a line on stdout per receiver.
"""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from lstm_ts.lifetime import end_with

if TYPE_CHECKING:
    from lstm_ts.monitoring.messages import Message

STATUS = re.compile(r"\berror=(\d{3})\b")  # how apprise logs the status of a refusal

STDOUT_LOCK = threading.Lock()


def name_receivers(urls: Sequence[str]) -> dict[str, str]:
    """Return name → URL. A name is the URL's scheme with 16 bits of its hash: it does not change with other receivers,
    may appear in the ledger and in logs, and is too short to confirm a guessed secret.
    """
    named: dict[str, str] = {}
    for url in urls:
        name = f"{url.partition('://')[0].lower()}-{hashlib.sha256(url.encode()).hexdigest()[:4]}"
        while name in named:
            name += "'"
        named[name] = url
    return named


def deliver(messages: "Mapping[str, tuple[str, Message]]", timeout_s: float) -> Iterator[tuple[str, str | None]]:
    """Send every receiver its message in parallel; `messages` maps a receiver's name to its URL and message.

    Yields    each receiver's name as soon as its result is known, and why the message did not arrive; None: it did
    """
    if not messages:
        return
    waiting = dict.fromkeys(messages)
    with subprocess.Popen(
        [sys.executable, "-m", "lstm_ts.monitoring.delivery"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        timer = threading.Timer(timeout_s, process.kill)
        timer.start()
        try:
            for name, error in _talk(process, messages):
                waiting.pop(name)
                yield name, error
            code = process.wait()
        finally:
            timer.cancel()
            process.kill()
    late = f"no answer within alerts.timeout_s={timeout_s:g} s"
    for name in waiting:
        yield name, late if code == -signal.SIGKILL else f"an end of the process that sends, with {code}"


def _talk(
    process: subprocess.Popen[str], messages: "Mapping[str, tuple[str, Message]]"
) -> Iterator[tuple[str, str | None]]:
    assert process.stdin and process.stdout
    letters = [{"receiver": name, "url": url, **vars(message)} for name, (url, message) in messages.items()]
    with suppress(BrokenPipeError):  # it has ended, and will print nothing either
        process.stdin.write(json.dumps({"parent": os.getpid(), "letters": letters}))
        process.stdin.close()
    for line in process.stdout:
        result = json.loads(line)
        yield result["receiver"], result["trouble"]


def _send_all(letters: list[dict[str, str]]) -> None:
    threads = [threading.Thread(target=_send_one, args=(letter,)) for letter in letters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _send_one(letter: dict[str, str]) -> None:
    try:
        error = _notify(letter)
    except Exception as raised:  # of any of a hundred services; its text may hold the URL
        error = f"an error in apprise, {type(raised).__name__}"
    _print_result(letter, error)


def _notify(letter: dict[str, str]) -> str | None:
    import apprise

    receivers, logged = apprise.Apprise(), list[str]()
    if not receivers.add(letter["url"]):
        return "no address that apprise knows"
    if receivers.notify(
        letter["body"],
        letter["title"],
        apprise.NotifyType(letter["kind"]),
        body_format=apprise.NotifyFormat.TEXT,
        log_callback=lambda entry, _: logged.append(entry.message),
    ):
        return None
    statuses = STATUS.findall(" ".join(logged))
    return f"status {statuses[-1]}" if statuses else "no answer, or none that means yes"


def _print_result(letter: dict[str, str], error: str | None) -> None:
    with STDOUT_LOCK:  # threads would write into each other's lines
        print(json.dumps({"receiver": letter["receiver"], "trouble": error}), file=sys.__stdout__, flush=True)


def _main() -> None:
    order = json.load(sys.stdin)
    end_with(order["parent"], signal.SIGKILL)
    sys.stdout = sys.stderr  # what else would print
    try:
        import apprise  # noqa: F401
    except ImportError:
        for letter in order["letters"]:
            _print_result(letter, "apprise is not installed: pip install 'lstm_ts[monitor]'")
    else:
        _send_all(order["letters"])


if __name__ == "__main__":
    _main()
