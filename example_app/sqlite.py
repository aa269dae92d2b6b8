"""SQLite files that several processes share: opened so that none of them is turned away."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event

from example_app.failures import DatabaseUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine, ExceptionContext, MetaData

BUSY_S = 10.0
"""Seconds a writer waits for another one."""

_SWITCH_PAUSE_S = 0.01
_OF_THE_STATEMENT = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError)


def engine(path: Path) -> Engine:
    """Return an engine for the file `path`, made if it is not there; a commit is on the disk.

    Its connections raise `DatabaseUnavailable` where the file is locked, broken or no database.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    made = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_S})

    def prepare(connection: Any, _record: object) -> None:
        try:
            _prepare(connection, durable=True)
        except sqlite3.DatabaseError as error:
            raise DatabaseUnavailable(f"{path}: {error}") from error

    def name_the_file(context: ExceptionContext) -> None:
        error = context.original_exception
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, _OF_THE_STATEMENT):
            raise DatabaseUnavailable(f"{path}: {error}") from error

    event.listen(made, "connect", prepare)
    event.listen(made, "handle_error", name_the_file)
    return made


def create(tables: MetaData, engine: Engine) -> None:
    """Make the tables of a new file, in one transaction, and no other process meanwhile.

    :param tables: their ``info["version"]``, 1 if it is not there, is the file's layout.
    :raises DatabaseUnavailable: the file is there and has another layout.
    """
    wanted = tables.info.get("version", 1)
    with engine.begin() as connection:
        # Python's driver begins none for CREATE: each would be a commit of its own.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        if found == 0:
            tables.create_all(connection, checkfirst=False)
            connection.exec_driver_sql(f"PRAGMA user_version = {wanted}")
        elif found != wanted:
            raise DatabaseUnavailable(
                f"{engine.url.database}: made by another version of the example (layout {found}, "
                f"not {wanted}): move it away"
            )


def connect(path: Path, *, durable: bool) -> sqlite3.Connection:
    """Open the file `path` outside of any transaction; used from any thread, one at a time.

    :param durable: whether a commit must outlive a power failure, not only ``kill -9``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
    )
    _prepare(connection, durable=durable)
    return connection


def _switch_to_wal(cursor: sqlite3.Cursor) -> None:
    # Of several processes that open a new file at once, SQLite turns away all but one here, without
    # the wait that its timeout promises elsewhere.
    last = time.monotonic() + BUSY_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > last:
                raise
            time.sleep(_SWITCH_PAUSE_S)
        else:
            return


def _prepare(connection: Any, *, durable: bool) -> None:
    # Readers and the one writer of a file in WAL mode do not wait for each other.
    with closing(connection.cursor()) as cursor:
        _switch_to_wal(cursor)
        cursor.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
