"""MariaDB servers: connections that name what is wrong, told apart by whether waiting helps."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pymysql
from sqlalchemy import URL, NullPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from example_app.failures import DatabaseUnavailable, NotReached, RolledBack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine, ExceptionContext

_CONNECT_S, _ANSWER_S = 3, 10
_CONNECTIONS = 5
_OF_THE_STATEMENT = (pymysql.IntegrityError, pymysql.ProgrammingError, pymysql.DataError)
# ER_LOCK_DEADLOCK and ER_LOCK_WAIT_TIMEOUT.
_ROLLED_BACK = {1213, 1205}
# ER_NO_DB_ERROR, ER_BAD_DB_ERROR and ER_NO_SUCH_TABLE.
_GONE = {1046, 1049, 1146}
# Of the client: CR_CONNECTION_ERROR, CR_CONN_HOST_ERROR, CR_SERVER_GONE_ERROR, CR_SERVER_LOST.
# Of the server: ER_CON_COUNT_ERROR, ER_SERVER_SHUTDOWN, ER_CONNECTION_KILLED.
_NOT_REACHED = {2002, 2003, 2006, 2013, 1040, 1053, 1927}


def servers(urls: str) -> list[URL]:
    """Read the servers' URLs, separated by commas.

    :raises ValueError: one is none.
    """
    found = []
    for text in filter(None, (part.strip() for part in urls.split(","))):
        try:
            url = make_url(text)
        except ArgumentError:
            url = None
        if url is None or url.drivername != "mysql+pymysql" or url.database:
            what = "a text" if url is None else shown(url)[:80]
            raise ValueError(
                f"EXAMPLE_DATABASES: {what} is no server: use mysql+pymysql://user:password@host:port"
            )
        found.append(url)
    return found


def shown(url: URL) -> str:
    """Return a server's URL for the log, without its password."""
    return url.render_as_string(hide_password=True)


def server_of(database: URL) -> URL:
    """Return the URL of the server that a database is on."""
    return URL.create(
        database.drivername,
        database.username,
        database.password,
        database.host,
        database.port,
        query=database.query,
    )


def gone(database: URL) -> DatabaseUnavailable:
    """What to raise for a database that is not there any more, or has lost its tables."""
    return DatabaseUnavailable(
        f"{shown(server_of(database))}: {database.database} was dropped or emptied: restore it from"
        " a backup, or go on without its orders: "
        f"python -m example_app --new-database {database.database}"
    )


def engine(database: URL, ready: Callable[[], None]) -> Engine:
    """Return an engine for a database.

    What its connections raise names the server: `NotReached` where that does not answer,
    `RolledBack` after a deadlock, and `DatabaseUnavailable` for what waiting does not help, as a
    database that was dropped.

    :param ready: called before each new connection; raises where the database cannot be used yet.
    """
    made = _engine(
        database,
        _ANSWER_S,
        pool_size=_CONNECTIONS,
        pool_pre_ping=True,  # One that was open while the server died is not used again.
        pool_recycle=300,
    )

    def before_connecting(*_: object) -> None:
        ready()

    def name_what_is_gone(context: ExceptionContext) -> None:
        error: Any = context.original_exception
        if isinstance(error, pymysql.MySQLError) and _code(error) in _GONE:
            raise gone(database) from error

    event.listen(made, "do_connect", before_connecting)
    # Before the one that names the server.
    event.listen(made, "handle_error", name_what_is_gone, insert=True)
    return made


@contextmanager
def asking(url: URL, answer_s: float = _ANSWER_S) -> Iterator[Connection]:
    """Connect to a server, or to one of its databases, once; each statement is a commit.

    :param answer_s: how long it may take for an answer, in seconds.
    :raises NotReached: it does not answer.
    :raises DatabaseUnavailable: it refuses us, or its host is not known.
    """
    made = _engine(url, answer_s, poolclass=NullPool)
    with made.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


def _engine(url: URL, answer_s: float, **settings: Any) -> Engine:
    made = create_engine(
        url,
        # Whoever locks the rows of an outbox would else lock the gap behind them, too, so that no
        # order could be stored while its events are published.
        isolation_level="READ COMMITTED",
        connect_args={
            "connect_timeout": _CONNECT_S,
            "read_timeout": answer_s,
            "write_timeout": answer_s,
            "charset": "utf8mb4",
        },
        **settings,
    )

    def name_the_server(context: ExceptionContext) -> None:
        error: Any = context.original_exception
        if isinstance(error, pymysql.MySQLError):
            _raise_named(error, url)

    event.listen(made, "handle_error", name_the_server)
    return made


def _raise_named(error: pymysql.MySQLError, url: URL) -> None:
    """Raise an error as what it means, unless it is the statement's own."""
    if isinstance(error, _OF_THE_STATEMENT):
        return
    code = _code(error)
    kind: type[Exception] = DatabaseUnavailable
    if code in _ROLLED_BACK:
        kind = RolledBack
    elif code in _NOT_REACHED and not _has_no_address(error):
        kind = NotReached
    raise kind(f"{shown(url)}: {error}") from error


def _code(error: pymysql.MySQLError) -> object:
    return error.args[0] if error.args else None


def _has_no_address(error: pymysql.MySQLError) -> bool:
    """Whether the host is not known, which has the code of a server that is down."""
    return isinstance(getattr(error, "original_exception", None), socket.gaierror)
