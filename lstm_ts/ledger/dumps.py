"""Databases as files: SQLite's online backup, or PostgreSQL's own pg_dump and pg_restore."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import URL, Connection

from lstm_ts.errors import LedgerError
from lstm_ts.ledger.database import answering, without_secrets

SQLITE, POSTGRES = "sqlite", "postgresql"
TRIGGERS = {
    SQLITE: "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    POSTGRES: "SELECT tgrelid::regclass || '.' || tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'O'",
}
CHECK = "its address"
LACKING = "Expected PostgreSQL's {program}, got none; apt-get install postgresql-client"
SNAPSHOT = sa.text("SELECT pg_export_snapshot()")


@dataclass(frozen=True)
class Content:
    """Tables and triggers of a database, for comparison after a restore."""

    kind: str
    rows: dict[str, int]  # by table
    triggers: list[str]


def dump(url: str, file: Path) -> Content:
    """Write a snapshot of the database while others keep writing; return its content.    Raises    LedgerError"""
    read = sa.make_url(url)
    if read.get_backend_name() == SQLITE:
        address = f"{Path(read.database or '').absolute().as_uri()}?mode=rw"  # no file is made where there is none
        both = f"the database {without_secrets(read)} and its copy {file}"
        with (
            answering(both, f"{CHECK}, and that the disk of the copy is not full"),
            closing(sqlite3.connect(address, uri=True)) as source,
            closing(sqlite3.connect(file)) as target,
        ):
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")  # one file, whatever the source was
        return content(f"sqlite:///{file}")
    with _transaction(read) as connection:  # counts and dump see the same moment
        found = _content(connection)
        snapshot = f"--snapshot={connection.scalar(SNAPSHOT)}"
        _run("pg_dump", read, "--format=custom", "--no-owner", "--no-acl", snapshot, f"--file={file}")
    return found


def check_target(url: str, kind: str) -> None:
    """Raises    LedgerError: it does not answer, is of another kind than a dump, or lacks the program that restores"""
    read = sa.make_url(url)
    if read.get_backend_name() != kind:
        raise LedgerError(
            f"Expected a {kind} database, of which this is a backup, got {without_secrets(read)}; set another one"
        )
    if kind == POSTGRES and not shutil.which("pg_restore"):
        raise LedgerError(LACKING.format(program="pg_restore"))
    is_empty(url)


def show(url: str) -> str:
    """Return where a database lies, for a message."""
    return str(sqlite_file(url) or without_secrets(sa.make_url(url)))


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite database, which a dump replaces; None: a server."""
    read = sa.make_url(url)
    return Path(read.database or "") if read.get_backend_name() == SQLITE else None


def logs(file: Path) -> list[Path]:
    """Return the logs beside a SQLite file; those of a killed process would be replayed over another file."""
    beside = (file.with_name(f"{file.name}-{log}") for log in ("wal", "shm", "journal"))
    return [path for path in beside if path.exists()]


def restore(file: Path, url: str) -> None:
    """Fill an empty PostgreSQL database, completely or not at all.    Raises    LedgerError"""
    _run("pg_restore", sa.make_url(url), "--no-owner", "--no-acl", "--exit-on-error", "--single-transaction", str(file))


def content(url: str) -> Content:
    with _transaction(sa.make_url(url)) as connection:
        return _content(connection)


def is_empty(url: str) -> bool:
    """Return whether a database has no table, or is a SQLite file that does not exist."""
    read = sa.make_url(url)
    if read.get_backend_name() == SQLITE and not Path(read.database or "").exists():
        return True
    with _transaction(read) as connection:
        return not sa.inspect(connection).get_table_names()


def _content(connection: Connection) -> Content:
    kind, quote = connection.dialect.name, connection.dialect.identifier_preparer.quote
    tables = sorted(sa.inspect(connection).get_table_names())
    rows = {name: connection.scalar(sa.text(f"SELECT count(*) FROM {quote(name)}")) or 0 for name in tables}
    return Content(kind, rows, sorted(connection.scalars(sa.text(TRIGGERS[kind]))))


@contextmanager
def _transaction(url: URL) -> Iterator[Connection]:
    """Begin a transaction with one consistent snapshot."""
    level = "REPEATABLE READ" if url.get_backend_name() == POSTGRES else "SERIALIZABLE"
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level=level)
    with answering(f"the database {without_secrets(url)}", CHECK), engine.begin() as connection:
        yield connection


def _run(program: str, url: URL, *arguments: str) -> None:
    """Run a program of PostgreSQL; the password is in its environment, not on its command line."""
    from psycopg.conninfo import make_conninfo  # an extra

    address = url.translate_connect_args(username="user", database="dbname") | dict(url.query)
    password = address.pop("password", None)
    environment = os.environ | ({"PGPASSWORD": str(password)} if password else {})
    command = [program, f"--dbname={make_conninfo(**address)}", *arguments]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    except FileNotFoundError:
        raise LedgerError(LACKING.format(program=program)) from None
    if done.returncode:
        message = " ".join(done.stderr.split())[:300]
        raise LedgerError(f"Expected {program} to succeed on {without_secrets(url)}, got: {message}")
