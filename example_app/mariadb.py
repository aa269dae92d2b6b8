"""MariaDB servers: connections that name what is wrong, and databases in a known layout."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymysql
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from example_app.failures import DatabaseUnavailable, RolledBack

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine, ExceptionContext

_MIGRATIONS = Path(__file__).parent / "orders" / "migrations"
_CONNECT_S, _ANSWER_S = 3, 10
_CONNECTIONS = 5
_MIGRATING_S = 60
_OF_THE_STATEMENT = (pymysql.IntegrityError, pymysql.ProgrammingError, pymysql.DataError)
# ER_LOCK_DEADLOCK and ER_LOCK_WAIT_TIMEOUT.
_ROLLED_BACK = {1213, 1205}
_alembic = threading.Lock()
"""Its context is one for all threads."""


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
            shown = "a text" if url is None else url.render_as_string(hide_password=True)[:80]
            raise ValueError(
                f"EXAMPLE_DATABASES: {shown} is no server: use mysql+pymysql://user:password@host:port"
            )
        found.append(url)
    return found


def engine(server: URL, database: str) -> Engine:
    """Return an engine for a database, which is made if it is not there.

    Its connections raise `DatabaseUnavailable` where the server is not reached, and `RolledBack`
    after a deadlock.

    :raises DatabaseUnavailable: the server is not reached now.
    """
    create = f"CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    without_database = _engine(server)
    try:
        with without_database.connect() as connection:
            connection.exec_driver_sql(create)
    finally:
        # Its pool would keep the connection open for good.
        without_database.dispose()
    return _engine(server.set(database=database))


def migrate(engine: Engine) -> None:
    """Bring a database of orders to the layout of this version; one process at a time does."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with _alembic, engine.connect() as connection:
        lock = f"migrate {engine.url.database}"
        connection.exec_driver_sql("SELECT GET_LOCK(%s, %s)", (lock, _MIGRATING_S))
        try:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
        finally:
            connection.exec_driver_sql("SELECT RELEASE_LOCK(%s)", (lock,))


def _engine(url: URL) -> Engine:
    made = create_engine(
        url,
        # Whoever locks the rows of an outbox would else lock the gap behind them, too, so that no
        # order could be stored while its events are published.
        isolation_level="READ COMMITTED",
        pool_size=_CONNECTIONS,
        pool_pre_ping=True,  # One that was open while the server died is not used again.
        pool_recycle=300,
        connect_args={
            "connect_timeout": _CONNECT_S,
            "read_timeout": _ANSWER_S,
            "write_timeout": _ANSWER_S,
            "charset": "utf8mb4",
        },
    )
    named = url.render_as_string(hide_password=True)

    def name_the_server(context: ExceptionContext) -> None:
        error: Any = context.original_exception
        if not isinstance(error, pymysql.MySQLError) or isinstance(error, _OF_THE_STATEMENT):
            return
        kind = RolledBack if error.args and error.args[0] in _ROLLED_BACK else DatabaseUnavailable
        raise kind(f"{named}: {error}") from error

    event.listen(made, "handle_error", name_the_server)
    return made
