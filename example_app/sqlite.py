"""SQLite files that several processes share: opened so that none of them is turned away."""

from __future__ import annotations

import sqlite3
import time
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import URL, create_engine, event

from example_app.failures import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine, ExceptionContext, MetaData

BUSY_S = 10.0
"""Seconds a writer waits for another one."""

_SWITCH_PAUSE_S = 0.01
_OF_THE_STATEMENT = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError)
_OF_A_BROKEN_FILE = ("not a database", "malformed")
_RESTORE = "restore it from a backup"


@contextmanager
def naming(path: Path, remedy: str = _RESTORE) -> Iterator[None]:
    """Raise what SQLite says of the file `path` as `DatabaseUnavailable`, which names the file.

    :param remedy: what to do where the file is broken.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        if not _is_of_the_file(error):
            raise
        raise _unavailable(path, error, remedy) from error


def engine(path: Path, *, new: bool = True) -> Engine:
    """Return an engine for the file `path`; a commit is on the disk.

    Its connections raise `DatabaseUnavailable` where the file is locked, broken or no database, and
    where it was deleted or replaced since: SQLite would write on into the deleted file, whose
    orders nobody finds again, and begin an empty one for the next connection.

    :param new: whether it is made if it is not there.
    :raises DatabaseUnavailable: it cannot be made, or is not there.
    """
    try:
        if new:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o644)
        at_first = _identity(path)
    except OSError as error:
        raise DatabaseUnavailable(f"{path}: {error.strerror}") from error

    def check(*_: object) -> None:
        try:
            is_there = _identity(path) == at_first
        except FileNotFoundError:
            is_there = False
        if not is_there:
            raise DatabaseUnavailable(
                f"{path}: deleted or replaced while in use: {_RESTORE}, and start again"
            )

    def connect() -> sqlite3.Connection:
        check()
        with naming(path):
            # Without `mode=rw` a file that is not there would be made.
            uri = f"{path.absolute().as_uri()}?mode=rw"
            connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, check_same_thread=False)
            return _prepared(connection, durable=True)

    def name_the_file(context: ExceptionContext) -> None:
        error = context.original_exception
        if isinstance(error, sqlite3.DatabaseError) and _is_of_the_file(error):
            raise _unavailable(path, error, _RESTORE) from error

    made = create_engine(URL.create("sqlite", database=str(path)), creator=connect)
    event.listen(made, "checkout", check)
    event.listen(made, "handle_error", name_the_file)
    return made


def _is_of_the_file(error: sqlite3.DatabaseError) -> bool:
    """Whether an error is not the statement's own."""
    return not isinstance(error, _OF_THE_STATEMENT)


def _unavailable(path: Path, error: sqlite3.DatabaseError, remedy: str) -> DatabaseUnavailable:
    is_broken = any(said in str(error) for said in _OF_A_BROKEN_FILE)
    return DatabaseUnavailable(f"{path}: {error}{f': {remedy}' if is_broken else ''}")


def other_layout(file: object, found: int, wanted: int) -> DatabaseUnavailable:
    """What to raise for a file that another version of the example has made."""
    return DatabaseUnavailable(
        f"{file}: made by another version of the example (layout {found}, not {wanted}): move it "
        "away"
    )


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def create(tables: MetaData, engine: Engine, *, new: bool = True) -> None:
    """Make the tables of a new file, in one transaction, and no other process meanwhile.

    Where that fails, the engine's connections are closed.

    :param tables: their ``info["version"]``, 1 if it is not there, is the file's layout.
    :param new: whether the file may be a new one.
    :raises DatabaseUnavailable: the file has another layout, or is empty and may not be new.
    """
    wanted = tables.info.get("version", 1)
    with ExitStack() as failed:
        failed.callback(engine.dispose)
        with engine.begin() as connection:
            # Python's driver begins none for CREATE: each would be a commit of its own.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if found == 0 and not new:
                raise DatabaseUnavailable(f"{engine.url.database}: was emptied: {_RESTORE}")
            if found == 0:
                tables.create_all(connection, checkfirst=False)
                connection.exec_driver_sql(f"PRAGMA user_version = {wanted}")
            elif found != wanted:
                raise other_layout(engine.url.database, found, wanted)
        failed.pop_all()


def connect(path: Path, *, durable: bool, remedy: str = _RESTORE) -> sqlite3.Connection:
    """Open the file `path` outside of any transaction; used from any thread, one at a time.

    :param durable: whether a commit must outlive a power failure, not only ``kill -9``.
    :param remedy: what to do where the file is broken.
    :raises DatabaseUnavailable: the file is locked, broken or no database.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path, remedy):
        connection = sqlite3.connect(
            path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        return _prepared(connection, durable=durable)


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


def _prepared(connection: sqlite3.Connection, *, durable: bool) -> sqlite3.Connection:
    """A new connection, set up; closed where that fails."""
    try:
        # Readers and the one writer of a file in WAL mode do not wait for each other.
        with closing(connection.cursor()) as cursor:
            _switch_to_wal(cursor)
            cursor.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    except BaseException:
        connection.close()
        raise
    return connection
