"""The one trouble that is told without the ledger: that it is away. A file remembers who was told, so each is once."""

import fcntl
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
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
    told: tuple[str, ...]  # names of receivers


@contextmanager
def telling_of_ledger(alerts: Alerts, folder: Path, now: datetime) -> Iterator[None]:
    """Tell that the ledger is away where the block says so, and that it is back once a block ends without.

    folder    for what was told of it
    Raises    what the block raises
    """
    try:
        yield
    except LedgerError as error:
        _tell_away(alerts, folder, str(error), now)
        raise
    if (folder / FILE).exists():
        _tell_back(alerts, folder, now)


def _tell_away(alerts: Alerts, folder: Path, why: str, now: datetime) -> None:
    body = f"The ledger is away, and with it monitor and alerts: {why}\nMore: python -m lstm_ts.alerts"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK, fcntl.LOCK_EX):
        outage = _read(folder) or Outage(now.isoformat(), ())
        _write(folder, outage)
        untold = [name for name in name_receivers(alerts.receivers) if name not in outage.told]
        for name in _deliver(alerts, untold, Message("[critical] the ledger is away", body, "failure")):
            outage = replace(outage, told=(*outage.told, name))
            _write(folder, outage)


def _tell_back(alerts: Alerts, folder: Path, now: datetime) -> None:
    with locked(folder / LOCK, fcntl.LOCK_EX):
        if (outage := _read(folder)) is None:
            return
        since = format_time(datetime.fromisoformat(outage.since))
        body = f"The ledger answers again: it was away from {since} to {format_time(now)}."
        waiting = [name for name in outage.told if name in name_receivers(alerts.receivers)]
        for name in _deliver(alerts, list(waiting), Message("[resolved] the ledger is back", body, "success")):
            waiting.remove(name)
            _write(folder, replace(outage, told=tuple(waiting)))
        if not waiting:
            (folder / FILE).unlink()


def _deliver(alerts: Alerts, names: list[str], message: Message) -> Iterator[str]:
    """Those that took it; of the others the log tells."""
    receivers = name_receivers(alerts.receivers)
    for name, trouble in deliver({name: (receivers[name], message) for name in names}, alerts.timeout_s):
        if trouble is None:
            yield name
        else:
            log.error(describe_undelivered(name, trouble, "the ledger"))


def _read(folder: Path) -> Outage | None:
    """What is no such file counts as none: it is written anew."""
    try:
        content = json.loads((folder / FILE).read_bytes())
        datetime.fromisoformat(content["since"])
        return Outage(content["since"], tuple(map(str, content["told"])))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _write(folder: Path, outage: Outage) -> None:
    write_whole(folder / FILE, json.dumps(asdict(outage)).encode())
