"""Alerts about an unreachable ledger, sent without it; a file records who was notified, so that each is once.

Where that file cannot be written, each run sends them again.
"""

import fcntl
import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from lstm_ts.errors import LedgerError
from lstm_ts.monitoring.alerts import Alerts
from lstm_ts.monitoring.delivery import deliver, name_receivers
from lstm_ts.monitoring.messages import Message, describe_undelivered, format_time
from lstm_ts.store.disk import locked, write_whole

FILE, LOCK = "ledger_away.json", "ledger_away.lock"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outage:
    since: str
    told: tuple[str, ...]  # names of the receivers that were notified


@contextmanager
def alert_on_outage(alerts: Alerts, folder: Path, now: datetime) -> Iterator[None]:
    """Send an alert if the block raises LedgerError, and the all-clear after the first block without an error.

    folder    of the file that records who was notified
    Raises    whatever the block raises
    """
    try:
        yield
    except LedgerError as error:
        _alert_outage(alerts, folder, str(error), now)
        raise
    if (folder / FILE).exists():
        _alert_recovery(alerts, folder, now)


def _alert_outage(alerts: Alerts, folder: Path, why: str, now: datetime) -> None:
    body = f"The ledger is unreachable; monitor and alerts are suspended: {why}\nMore: {alerts.command}"
    with _locked(folder):
        outage = _read(folder) or Outage(now.isoformat(), ())
        _write(folder, outage)
        unsent = [name for name in name_receivers(alerts.receivers) if name not in outage.told]
        for name in _deliver(alerts, unsent, Message("[critical] the ledger is unreachable", body, "failure")):
            outage = replace(outage, told=(*outage.told, name))
            _write(folder, outage)


def _alert_recovery(alerts: Alerts, folder: Path, now: datetime) -> None:
    with _locked(folder):
        if (outage := _read(folder)) is None:
            return
        since = format_time(datetime.fromisoformat(outage.since))
        body = f"The ledger is reachable again: it was unreachable from {since} to {format_time(now)}."
        waiting = [name for name in outage.told if name in name_receivers(alerts.receivers)]
        for name in _deliver(alerts, list(waiting), Message("[resolved] the ledger is back", body, "success")):
            waiting.remove(name)
            _write(folder, replace(outage, told=tuple(waiting)))
        if not waiting:
            (folder / FILE).unlink()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the file against other runs, where that is possible."""
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(folder / LOCK, fcntl.LOCK_EX))
        except OSError as error:
            log.warning("Alerts of other runs may be sent at once with this one's: %s", error)
        yield


def _deliver(alerts: Alerts, names: list[str], message: Message) -> Iterator[str]:
    """Send the message; yield the names of the receivers that took it, and log the others."""
    receivers = name_receivers(alerts.receivers)
    for name, error in deliver({name: (receivers[name], message) for name in names}, alerts.timeout_s):
        if error is None:
            yield name
        else:
            log.error(describe_undelivered(name, error, "the ledger"))


def _read(folder: Path) -> Outage | None:
    """Return the recorded outage; None if the file is missing, damaged, or cannot be read."""
    try:
        content = json.loads((folder / FILE).read_bytes())
        datetime.fromisoformat(content["since"])
        return Outage(content["since"], tuple(map(str, content["told"])))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(folder: Path, outage: Outage) -> None:
    try:
        write_whole(folder / FILE, json.dumps(asdict(outage)).encode())
    except OSError as error:
        log.error("Cannot record who was notified, so the next run notifies them again: %s", error)
