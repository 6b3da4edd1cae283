"""The operations database, SQLite or PostgreSQL: opened, brought to the schema of `migrations/`, locked."""

import fcntl
import hashlib
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import URL, Connection, Engine
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from lstm_ts.errors import LedgerError

MIGRATIONS = Path(__file__).parent / "migrations"
REVISIONS = sorted(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
VERSION_TABLE = "ledger_version"  # not Alembic's default, so that MLflow may live in the same database
IDENTITY = sa.text("SELECT id FROM ledger_identity")
FORMS = "the ledger as sqlite:///<file> or postgresql+psycopg://<user>:<password>@<host>/<database>"
# Seconds: how long a writer waits for another, a connection for its server, and until a silent one is probed.
OPTIONS = {"sqlite": {"timeout": "30"}, "postgresql": {"connect_timeout": "10", "keepalives_idle": "60"}}

log = logging.getLogger(__name__)


class Database:
    """Database that threads may share. A pooler before PostgreSQL must not mix sessions: locks belong to a session."""

    def __init__(self, url: str, *, make: bool = True, identity: str | None = None) -> None:
        """Open the database; first create it or upgrade its schema, if that is needed.

        make       where there is none: a SQLite file and its folder, too
        identity   of the only ledger to open; None: any, which is the only one from then on
        Raises     LedgerError: no such kind of database, none that answers, another ledger, or one with a newer schema
        """
        self._url = _read_url(url)
        self._shown = without_secrets(self._url)
        self._engine = _engine(self._url)
        with self._answering(), ExitStack() as failed:
            failed.callback(self.close)
            if make and self._is_sqlite:
                self._make_file()
            self._check_file()
            revision = self._revision()
            if identity:
                self._check_revision(revision)
            elif revision != REVISIONS[-1]:
                self._upgrade(make=make)
            self.identity: Final = identity or self._read_identity()  # the same for a copy
            with self.transaction():
                pass
            if self._is_sqlite:
                self._keep_log()
            failed.pop_all()

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Raises    LedgerError: an error of the database, or another ledger in its place"""
        with self._answering(), self._engine.begin() as connection:
            if connection.scalar(IDENTITY) != self.identity:
                raise self._replaced("another one")
            yield connection

    def _make_file(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        if not self._file.exists():
            self._file.touch()

    def _check_file(self) -> None:
        """Raises    LedgerError: a SQLite file is not there"""
        if self._is_sqlite and not self._file.exists():
            raise LedgerError(
                f"Expected the ledger {self._shown}, got no file there; put it back, or start a new one with "
                f"python -m lstm_ts.retrain and a restart"
            )

    def _check_revision(self, revision: str | None) -> None:
        """Check that the schema is the newest; another database in this one's place may have any, and keeps it."""
        if revision != REVISIONS[-1]:
            raise self._replaced(f"one at revision {revision}" if revision else "an empty one")

    def _read_identity(self) -> str:
        with self._engine.connect() as connection:
            return str(connection.scalar(IDENTITY))

    def _replaced(self, got: str) -> LedgerError:
        return LedgerError(
            f"Expected the ledger {self._shown} as it was opened, got {got}; put it back, or restart to use that one"
        )

    @contextmanager
    def locked(self, what: str) -> Iterator[None]:
        """Lock `what` over all processes and threads; not reentrant. The lock of a killed holder is released."""
        with ExitStack() as held:
            with self._answering():
                held.enter_context(self._lock(what))
            yield

    @property
    def _is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    @property
    def _file(self) -> Path:
        return Path(self._url.database or "")

    def _answering(self) -> AbstractContextManager[None]:
        checks = "registry.ledger, and that its database is up, yours to write, and its disk not full"
        return answering(f"the ledger {self._shown}", checks)

    def _revision(self) -> str | None:
        with self._engine.connect() as connection:
            found = sa.inspect(connection).has_table(VERSION_TABLE)
            revision = connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")) if found else None
        if revision is not None and revision not in REVISIONS:
            raise LedgerError(
                f"Expected the ledger {self._shown} at revision {REVISIONS[-1]} or before, got {revision}; "
                f"use the lstm_ts that wrote it, or a newer one"
            )
        return revision

    def _upgrade(self, *, make: bool) -> None:
        with self._lock("the schema"):
            before = self._revision()  # another process may have upgraded it meanwhile
            if before == REVISIONS[-1]:
                return
            if not before and not make:
                raise LedgerError(
                    f"Expected a ledger in {self._shown}, got a database without one; put it back, or correct "
                    f"registry.ledger"
                )
            with self._engine.begin() as connection:
                migrate(connection, "head")
        was = f"was at revision {before}" if before else "is new"
        log.info("The ledger %s %s, now at %s", self._shown, was, REVISIONS[-1])

    def _keep_log(self) -> None:
        """Set a write-ahead log, which the file remembers; a restored file has none. A file only to read stays so."""
        with suppress(OperationalError), self._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")

    def _lock(self, what: str) -> AbstractContextManager[None]:
        digest = hashlib.sha256(what.encode()).digest()[:8]
        return self._lock_of_file(what, digest) if self._is_sqlite else self._lock_of_session(what, digest)

    @contextmanager
    def _lock_of_file(self, what: str, digest: bytes) -> Iterator[None]:
        with self._file.with_name(f"{self._file.name}.{digest.hex()}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._log_waiting(what)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _lock_of_session(self, what: str, digest: bytes) -> Iterator[None]:
        """Lock outside any transaction, since a server may end one that idles."""
        key = int.from_bytes(digest, signed=True)
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(key))):
                self._log_waiting(what)
                connection.execute(sa.select(sa.func.pg_advisory_lock(key)))
            try:
                yield
            finally:
                with self._answering():
                    connection.execute(sa.select(sa.func.pg_advisory_unlock(key)))

    def _log_waiting(self, what: str) -> None:
        log.info("Waiting for %s in the ledger %s: another process holds it", what, self._shown)


@contextmanager
def answering(what: str, checks: str) -> Iterator[None]:
    """Raises    LedgerError: what the database said, and what to check"""
    try:
        yield
    except (DBAPIError, sqlite3.Error, OSError) as error:
        message = " ".join(str(getattr(error, "orig", error)).split())
        raise LedgerError(f"Expected {what} to answer, got: {message}; check {checks}") from error


def migrate(connection: Connection, revision: str) -> None:
    """Bring the schema to a revision, or to `head`, within the connection's transaction."""
    from alembic import command  # slow to import, and most databases are up to date
    from alembic.config import Config

    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # sqlite3 begins no transaction before DDL
    config = Config(attributes={"connection": connection, "version_table": VERSION_TABLE})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, revision)


def _read_url(text: str) -> URL:
    """Parse a database URL; an error does not repeat a text that is no URL: it may hold a password."""
    try:
        url = sa.make_url(text)
    except ArgumentError:
        raise LedgerError(f"Expected {FORMS}, got something else; correct registry.ledger") from None
    backend = url.get_backend_name()
    if backend not in OPTIONS or url.database in (None, "", ":memory:"):
        raise LedgerError(f"Expected {FORMS}, got {without_secrets(url)}; correct registry.ledger")
    return url.update_query_dict(OPTIONS[backend] | dict(url.query))


def without_secrets(url: URL) -> str:
    return url.set(query={}).render_as_string(hide_password=True)


def has_place(url: str) -> bool:
    """Return whether the folder of a SQLite ledger exists; True for a server, which is only tried when it is opened."""
    read = _read_url(url)
    return read.get_backend_name() != "sqlite" or Path(read.database or "").parent.is_dir()


def _engine(url: URL) -> Engine:
    """Create the engine; a SQLite file is opened for each transaction.

    While no process writes, all data lies in that one file, so it can be copied, moved and replaced; the next
    transaction opens the file that has replaced it.
    """
    try:
        if url.get_backend_name() == "sqlite":
            engine = sa.create_engine(url, poolclass=sa.NullPool)
            sa.event.listen(engine, "do_connect", _open_existing)
            return engine
        return sa.create_engine(url, pool_pre_ping=True)
    except (ImportError, NoSuchModuleError) as error:
        raise LedgerError(
            f"Expected a driver for {url.drivername}, got: {error}; pip install 'lstm_ts[postgres]' "
            f"and write postgresql+psycopg://…"
        ) from error


def _open_existing(dialect: Any, record: Any, arguments: list[Any], options: dict[str, Any]) -> Any:
    """Connect to an existing SQLite file; SQLite creates a missing one unless the URI has `mode=rw`."""
    return dialect.connect(f"{Path(arguments[0]).absolute().as_uri()}?mode=rw", uri=True, **options)
