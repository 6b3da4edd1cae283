"""The ledgers are real; the caller of `add` is the test's own thread, which also holds what stops the database."""

import logging
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import hydra
import pytest
import sqlalchemy as sa
from hydra.core.global_hydra import GlobalHydra
from processes import ROOT, WAIT_S, free_port, join, wait_for
from test_ledger import AT, DAY, FORECAST

from lstm_ts.configuration.parts import CONF, construct
from lstm_ts.errors import ConfigError
from lstm_ts.ledger.database import migrate
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.rows import ForecastRow
from serve.ledger.forecast_log import ForecastLog, LogCounts
from serve.ledger.service_folder import collect_lost

SETTINGS: dict[str, Any] = {
    "folder": Path(gettempdir()),
    "capacity": 1000,
    "batch": 100,
    "interval_s": 0.01,
    "poll_s": 0.05,
    "retry_s": 0.02,
    "close_s": 30.0,
}
FORK = """
import os, sys
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir
from test_ledger import FORECAST
from serve.ledger.forecast_log import ForecastLog
log = ForecastLog(
    folder=Path(gettempdir()),
    url=sys.argv[1],
    capacity=1000,
    batch=100,
    interval_s=60.0,
    poll_s=5.0,
    retry_s=0.1,
    close_s=30.0,
)
log.find_ledger(make=True)
if os.fork():
    _, status = os.wait()
    sys.exit(os.waitstatus_to_exitcode(status))
for i in range(250):
    log.add(replace(FORECAST, request_id=f"{i:04}"))
log.close()
"""
COUNTED = """
import os, signal, sys
from serve.ledger.service_folder import own_folder
with own_folder(int(sys.argv[2])) as folder:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    from serve.metrics import LOGGED
    LOGGED.labels("lost").inc(9)
    if sys.argv[3] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""
KILLED = """
import os, signal, sys
from dataclasses import replace
import sqlalchemy as sa
from test_ledger import FORECAST
from serve.ledger.service_folder import own_folder
def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def kill_when_it_is_removed(event, arguments):
    if event == "os.remove" and "batch_" in str(arguments[0]):
        kill()
def kill_once_inserted(connection, cursor, statement, *_):
    if "INTO forecasts" in statement and moment != "remove":
        at = sa.Engine if moment == "commit" else sa.pool.Pool  # SQLAlchemy says "commit" before it commits
        sa.event.listen(at, moment, kill)
_, url, port, moment = sys.argv
with own_folder(int(port)) as folder:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    from serve.ledger.forecast_log import ForecastLog
    log = ForecastLog(folder=folder, url=url, capacity=9, batch=9, interval_s=60, poll_s=5, retry_s=0.1, close_s=30)
    sa.event.listen(sa.Engine, "after_cursor_execute", kill_once_inserted)
    if moment == "remove":
        sys.addaudithook(kill_when_it_is_removed)
    for i in range(9):
        log.add(replace(FORECAST, request_id=f"{i:04}"))
    log.close()
"""


def row(number: int, **changes: Any) -> ForecastRow:
    return replace(FORECAST, request_id=f"{number:04}", at=AT + timedelta(milliseconds=number), **changes)


def kept(url: str) -> list[str]:
    """The ids that the ledger has, oldest first."""
    with closing(Ledger(url)) as ledger:
        return [row.request_id for row in ledger.forecasts("XAGUSD", **DAY)]


def ids(*numbers: int) -> list[str]:
    return [f"{number:04}" for number in numbers]


@contextmanager
def open_log(url: str, **changes: Any) -> Iterator[ForecastLog]:
    Ledger(url).close()
    log = ForecastLog(url=url, **(SETTINGS | changes))
    try:
        yield log
    finally:
        log.close()


@contextmanager
def locked(url: str) -> Iterator[None]:
    """As another program does that writes to the file or the table: nobody else can."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        sqlite = url.startswith("sqlite")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if sqlite else "LOCK TABLE forecasts IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


@contextmanager
def stopped(url: str) -> Iterator[None]:
    """Without a word to its clients, as a power cut does."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        folder = connection.scalar(sa.text("SHOW data_directory"))
        programs = connection.scalar(sa.text("SELECT setting FROM pg_config WHERE name = 'BINDIR'"))
    user = "postgres" if os.geteuid() == 0 else None

    def control(*arguments: str) -> None:
        command = [f"{programs}/pg_ctl", "-D", folder, "-w", *arguments]
        subprocess.run(command, cwd=folder, user=user, group=user, check=True, capture_output=True, timeout=WAIT_S)

    control("-m", "immediate", "stop")
    try:
        yield
    finally:
        options = Path(folder, "postmaster.opts").read_text().split(maxsplit=1)[1]
        control("-l", f"{folder}/../log", "-o", options.strip(), "start")


@pytest.fixture
def quick_url(ledger_url: str) -> str:
    """Where SQLite waits for a lock no longer than 10 ms."""
    return f"{ledger_url}?timeout=0.01" if ledger_url.startswith("sqlite") else ledger_url


@pytest.fixture
def outage(ledger_url: str) -> Callable[[], AbstractContextManager[None]]:
    """No forecast can be written in it."""
    return lambda: (locked if ledger_url.startswith("sqlite") else stopped)(ledger_url)


Outage = Callable[[], AbstractContextManager[None]]


def test_forecasts_are_written_in_their_order_and_counted(ledger_url: str) -> None:
    with open_log(ledger_url) as log:
        for number in range(250):
            log.add(row(number))
        wait_for(lambda: log.counts() == LogCounts(queued=0, written=250, dropped=0, refused=0))
        assert kept(ledger_url) == ids(*range(250))


def test_closing_writes_what_is_queued_and_is_closed_after_that(ledger_url: str) -> None:
    Ledger(ledger_url).close()
    log = ForecastLog(url=ledger_url, **(SETTINGS | {"interval_s": 3600.0}))
    for number in range(50):
        log.add(row(number))
    log.close()
    log.add(row(50))
    log.close()
    assert log.counts() == LogCounts(queued=0, written=50, dropped=1, refused=0)
    assert kept(ledger_url) == ids(*range(50))


def test_a_full_batch_is_not_made_to_wait(ledger_url: str) -> None:
    with open_log(ledger_url, interval_s=3600.0) as log:
        for first in (0, 100):
            for number in range(first, first + 99):
                log.add(row(number))
            time.sleep(0.1)  # the writer has the ledger open and waits for more
            log.add(row(first + 99))
            wait_for(lambda full=first + 100: log.counts().written == full)


def test_a_log_without_forecasts_opens_no_ledger(tmp_path: Path) -> None:
    ForecastLog(url=f"sqlite:///{tmp_path}/ledger.db", **SETTINGS).close()
    assert not any(tmp_path.iterdir())


def test_nobody_waits_for_a_writer_that_waits_for_the_database(ledger_url: str) -> None:
    def add() -> None:
        for number in range(1, 251):
            log.add(row(number))
        counted.append(log.counts())

    counted: list[LogCounts] = []
    with open_log(ledger_url, capacity=200, interval_s=0.0) as log:
        log.add(row(0))
        wait_for(lambda: log.counts().written == 1)
        with locked(ledger_url):  # SQLite waits for 30 s, PostgreSQL for ever
            caller = threading.Thread(target=add, daemon=True)
            caller.start()
            caller.join(15)
            assert counted == [LogCounts(queued=200, written=1, dropped=50, refused=0)]
    assert kept(ledger_url) == ids(*range(201))


def test_closing_does_not_wait_for_ever_for_a_writer_that_waits_for_the_database(
    ledger_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with open_log(ledger_url, close_s=0.3, interval_s=0.0) as log:
        log.add(row(0))
        wait_for(lambda: log.counts().written == 1)
        with locked(ledger_url):
            log.add(row(1))
            log.close()
            assert "1 forecasts were not written: the ledger did not accept them in 0.3 s" in caplog.text
        wait_for(lambda: log.counts().written == 2)


def test_an_outage_loses_only_what_the_queue_has_no_room_for(
    quick_url: str, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "serve.ledger.forecast_log")
    with open_log(quick_url, capacity=200) as log:
        log.add(row(0))
        wait_for(lambda: log.counts().written == 1)
        with outage():
            for number in range(1, 251):
                log.add(row(number))
            wait_for(lambda: "forecasts are queued" in caplog.text)
            assert log.counts() == LogCounts(queued=200, written=1, dropped=50, refused=0)
        wait_for(lambda: log.counts() == LogCounts(queued=0, written=201, dropped=50, refused=0))
        log.add(row(300))
    assert kept(quick_url) == ids(*range(201), 300)
    assert "The ledger is reachable again" in caplog.text


def test_an_outage_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db?timeout=0.01"
    Ledger(url).close()
    with open_log(url, interval_s=0.0, retry_s=0.001) as log:
        with locked(url):
            log.add(row(0))
            wait_for(lambda: "1 forecasts are queued: Expected the ledger" in caplog.text)
            time.sleep(0.2)
        wait_for(lambda: log.counts().written == 1)
    assert len(caplog.records) == 1, caplog.text


def test_a_database_that_is_down_at_the_start_gets_the_forecasts_later(quick_url: str, outage: Outage) -> None:
    Ledger(quick_url).close()
    with open_log(quick_url) as log:
        with outage():
            for number in range(5):
                log.add(row(number))
        wait_for(lambda: log.counts().written == 5)
    assert kept(quick_url) == ids(*range(5))


def test_closing_in_an_outage_ends_after_its_time_and_says_what_is_lost(
    quick_url: str, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    Ledger(quick_url).close()
    log = ForecastLog(url=quick_url, **(SETTINGS | {"close_s": 0.3}))
    with outage():
        log.add(row(0))
        log.add(row(1))
        log.close()
        assert "2 forecasts were not written: the ledger did not accept them in 0.3 s" in caplog.text
        assert log.counts() == LogCounts(queued=2, written=0, dropped=0, refused=0)
    log.close()


def test_closing_waits_for_an_outage_that_ends(quick_url: str, outage: Outage) -> None:
    Ledger(quick_url).close()
    log = ForecastLog(url=quick_url, **SETTINGS)
    with outage():
        log.add(row(0))
        closer = threading.Thread(target=log.close, daemon=True)
        closer.start()
    join(closer)
    assert kept(quick_url) == ids(0)


def make_older(file: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{file}", poolclass=sa.NullPool)
    with engine.begin() as connection:
        migrate(connection, "0004")


REPLACEMENTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda file: None, "got no file there"),
    "another ledger": (lambda file: Ledger(f"sqlite:///{file}").close(), "got another one"),
    "an empty file": (lambda file: file.touch(), "got an empty one"),
    "no database": (lambda file: file.write_text("ts,open,high,low,close\n" * 99), "file is not a database"),
    "an older ledger": (make_older, "got one at revision 0004"),
    "a folder": (lambda file: file.mkdir(), "unable to open database file"),
}


@pytest.mark.slow
@pytest.mark.parametrize("replacement", REPLACEMENTS)
@pytest.mark.parametrize("back", ["the file itself", "a copy"])
def test_a_ledger_that_is_removed_or_replaced_is_noticed_and_gets_the_forecasts_once_it_is_back(
    tmp_path: Path, replacement: str, back: str, caplog: pytest.LogCaptureFixture
) -> None:
    file, away, other = tmp_path / "ledger.db", tmp_path / "away.db", tmp_path / "other.db"
    replace_it, words = REPLACEMENTS[replacement]
    with open_log(f"sqlite:///{file}") as log:
        log.find_ledger(make=True)
        log.start()
        log.add(row(0))
        wait_for(lambda: log.counts().written == 1)
        assert log.trouble is None
        replace_it(other)  # beside, where nothing of the log opens it before it is whole
        before = other.read_bytes() if other.is_file() else None
        file.rename(away)
        if other.exists():
            other.rename(file)
        wait_for(lambda: words in str(log.trouble))  # nothing is forecast meanwhile
        for number in range(1, 5):
            log.add(row(number))
        time.sleep(0.1)
        assert log.counts() == LogCounts(queued=4, written=1, dropped=0, refused=0)
        assert (file.read_bytes() if file.is_file() else None) == before
        shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
        away.rename(file) if back == "the file itself" else shutil.copy(away, file)
        wait_for(lambda: log.counts() == LogCounts(queued=0, written=5, dropped=0, refused=0))
        wait_for(lambda: log.trouble is None)
    assert kept(f"sqlite:///{file}") == ids(*range(5))
    assert sum(words in message for message in caplog.messages) == 1


def test_a_ledger_whose_folder_is_away_before_the_first_forecast_is_not_made_again(tmp_path: Path) -> None:
    folder, away = tmp_path / "registry", tmp_path / "away"
    url = f"sqlite:///{folder}/ledger.db"
    with open_log(url) as log:
        log.find_ledger(make=True)
        folder.rename(away)
        log.add(row(0))
        wait_for(lambda: "got no file there" in str(log.trouble))
        assert not folder.exists()
        away.rename(folder)
        wait_for(lambda: log.counts().written == 1)
    assert kept(url) == ids(0)


def test_a_ledger_is_made_only_before_the_first_forecast_where_its_folder_is_and_none_is_lost(tmp_path: Path) -> None:
    for folder, make, made in ((tmp_path / "nowhere", True, False), (tmp_path, False, False), (tmp_path, True, True)):
        log = ForecastLog(url=f"sqlite:///{folder}/ledger.db", **SETTINGS)
        log.find_ledger(make=make)
        assert ((folder / "ledger.db").exists(), log.trouble is None) == (made, made)
        log.close()


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
def test_another_ledger_in_the_same_database_gets_nothing(ledger_url: str) -> None:
    engine = sa.create_engine(ledger_url, poolclass=sa.NullPool)

    def execute(*statements: str) -> None:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    with open_log(ledger_url) as log:
        log.find_ledger(make=True)
        log.add(row(0))
        wait_for(lambda: log.counts().written == 1)
        execute("ALTER SCHEMA public RENAME TO away", "CREATE SCHEMA public")
        wait_for(lambda: "got an empty one" in str(log.trouble))
        Ledger(ledger_url).close()
        log.add(row(1))
        wait_for(lambda: "got another one" in str(log.trouble))
        execute("DROP SCHEMA public CASCADE", "ALTER SCHEMA away RENAME TO public")
        wait_for(lambda: log.counts().written == 2)
    assert kept(ledger_url) == ids(0, 1)


def test_a_disk_without_room_is_said_and_the_forecasts_are_written_once_there_is_some(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_log(url) as log:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            log.add(row(0))
            wait_for(lambda: log.trouble is not None)
            assert log.counts() == LogCounts(queued=1, written=0, dropped=0, refused=0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        wait_for(lambda: log.counts().written == 1)
    assert kept(url) == ids(0)


def test_that_forecasts_are_lost_is_said_once_an_outage(quick_url: str, outage: Outage, caplog: Any) -> None:
    with open_log(quick_url, capacity=100) as log:
        with outage():
            for number in range(102):
                log.add(row(number))
            wait_for(lambda: log.trouble is not None)
        wait_for(lambda: log.counts().written == 100)
    assert [text for text in caplog.messages if "queue is full" in text] == [
        "The forecast queue is full (100): dropping forecasts"
    ]


def test_a_forecast_that_the_ledger_refuses_takes_no_other_with_it(
    ledger_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad = replace(FORECAST.path, median_H=(float("nan"), 1.0))
    with open_log(ledger_url, interval_s=3600.0) as log:
        for number in range(10):
            log.add(row(number, path=bad) if number in (0, 4, 9) else row(number))
    assert log.counts() == LogCounts(queued=0, written=7, dropped=0, refused=3)
    assert kept(ledger_url) == ids(1, 2, 3, 5, 6, 7, 8)
    assert "The forecast of request 0004 is lost: Expected forecasts that a database can hold" in caplog.text


def test_threads_that_add_at_once_lose_nothing(ledger_url: str) -> None:
    def add(first: int) -> None:
        for number in range(first, first + 100):
            log.add(row(number))

    with open_log(ledger_url) as log:
        threads = [threading.Thread(target=add, args=(first,), daemon=True) for first in range(0, 800, 100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            join(thread)
    assert log.counts() == LogCounts(queued=0, written=800, dropped=0, refused=0)
    assert kept(ledger_url) == ids(*range(800))


def test_a_log_made_before_a_fork_writes_after_it(ledger_url: str) -> None:
    assert run(FORK, ledger_url) == 0
    assert kept(ledger_url) == ids(*range(250))


@pytest.mark.parametrize(("moment", "lost"), [("commit", 9), ("checkin", 0), ("remove", 0)])
def test_what_a_killed_process_was_writing_is_lost_where_the_ledger_has_it_not(
    ledger_url: str, moment: str, lost: int
) -> None:
    port = free_port()
    assert run(KILLED, ledger_url, str(port), moment) == -signal.SIGKILL
    assert kept(ledger_url) == ids(*range(9 - lost))
    assert collect_lost(port, ledger_url) == (lost, 0)
    assert collect_lost(port, ledger_url) == (0, 0)


@pytest.mark.parametrize(("end", "counted"), [("killed", 9), ("in order", 0)])
def test_a_loss_that_a_service_has_counted_is_counted_on_only_if_that_was_killed(
    tmp_path: Path, end: str, counted: int
) -> None:
    port, url = free_port(), f"sqlite:///{tmp_path}/ledger.db"
    assert run(COUNTED, url, str(port), end) == (-signal.SIGKILL if counted else 0)
    assert [*Path(gettempdir()).glob(f"lstm_ts_{port}_*")] == [] or counted
    assert collect_lost(port, url) == (0, counted)


def run(script: str, ledger_url: str, *arguments: str) -> int:
    Ledger(ledger_url).close()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)])}
    return subprocess.run(
        [sys.executable, "-c", script, ledger_url, *arguments], env=environment, timeout=WAIT_S
    ).returncode


def work(url: str, added: Connection) -> None:
    """As a worker of the service: SIGTERM ends what it does, and the log is closed on the way out.

    The signal writes into a socket, so that one that comes before the wait is not lost.
    """
    told, tell = socket.socketpair()
    tell.setblocking(False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(tell.fileno())
    log = ForecastLog(url=url, **(SETTINGS | {"interval_s": 60.0}))
    Finalize(log, log.close, exitpriority=1)
    for number in range(250):
        log.add(row(number))
    added.send(True)
    told.settimeout(WAIT_S)
    assert told.recv(1)
    sys.exit()


def test_a_process_that_is_told_to_end_flushes(ledger_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    Ledger(ledger_url).close()
    added, says_so = context.Pipe(duplex=False)
    worker = context.Process(target=work, args=(ledger_url, says_so))
    worker.start()
    try:
        assert added.poll(WAIT_S)
        worker.terminate()
        worker.join(WAIT_S)
        assert worker.exitcode == 0
    finally:
        worker.kill()
    assert kept(ledger_url) == ids(*range(250))


def test_the_configured_log_writes(ledger_url: str, tmp_path: Path) -> None:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(CONF, version_base="1.3"):
        cfg = hydra.compose("project", ["+forecast_log=default", "+poll_s=5.0", f"registry.ledger='{ledger_url}'"])
    Ledger(ledger_url).close()
    with closing(construct(cfg.forecast_log, folder=tmp_path)) as log:
        log.add(row(0))
    assert kept(ledger_url) == ids(0)


@pytest.mark.parametrize(
    "changes",
    [{"batch": 0}, {"batch": 1001}, {"interval_s": -1}, {"poll_s": 0}, {"retry_s": 0}, {"close_s": float("nan")}],
)
def test_a_setting_out_of_range_is_named(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"forecast_log.*{next(iter(changes))}"):
        ForecastLog(url="sqlite:///ledger.db", **(SETTINGS | changes))
