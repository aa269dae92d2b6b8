"""The layout of a database of orders on MariaDB: looking at it, and bringing it to this version."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from example_app import mariadb
from example_app.failures import DatabaseUnavailable, NotReached
from example_app.orders.shards import tables_of

if TYPE_CHECKING:
    from sqlalchemy import URL

MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATING_S = 60
_VERSION = "alembic_version"
_alembic = threading.Lock()
"""Its context is one for all threads."""


@dataclass(frozen=True)
class Found:
    """What is there of a database.

    :ivar version: of its layout; None where it is not there, or has none yet.
    :ivar is_whole: whether it has the tables of this version's layout. The version is written once
        a migration is over, so one of this version that is not whole has lost some.
    """

    version: str | None
    is_whole: bool


def look(database: URL) -> Found:
    """Return what is there of a database.

    :raises NotReached: its server does not answer.
    :raises DatabaseUnavailable: its server refuses us, or has no address.
    """
    name = database.database or ""
    with mariadb.asking(mariadb.server_of(database)) as connection:
        query = "SELECT table_name FROM information_schema.tables WHERE table_schema = %s"
        tables = set(connection.exec_driver_sql(query, (name,)).scalars())
        if _VERSION not in tables:
            return Found(None, is_whole=False)
        query = f"SELECT version_num FROM `{name}`.{_VERSION}"  # noqa: S608 - one of our databases
        found = connection.exec_driver_sql(query).scalar()
    return Found(found, is_whole={*tables_of(name), "outbox"} <= tables)


def is_this_one(version: str | None) -> bool:
    """Whether a version is the one that this code works with."""
    return version == _head(MIGRATIONS)


def create(database: URL) -> None:
    """Make an empty database, unless it is there."""
    with mariadb.asking(mariadb.server_of(database)) as connection:
        connection.exec_driver_sql(
            f"CREATE DATABASE IF NOT EXISTS `{database.database}` "
            "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        )


def migrate(database: URL) -> None:
    """Bring a database to the layout of this version; one process at a time does.

    :raises DatabaseUnavailable: another process does it for too long, or a newer version has.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    lock = f"migrate {database.database}"
    with mariadb.asking(database, answer_s=2 * _MIGRATING_S) as connection:
        asked = connection.exec_driver_sql("SELECT GET_LOCK(%s, %s)", (lock, _MIGRATING_S))
        if asked.scalar() != 1:
            raise NotReached(f"{mariadb.shown(database)}: another process is migrating it")
        try:
            with _alembic:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError as error:
            raise DatabaseUnavailable(f"{mariadb.shown(database)}: {error}") from error
        finally:
            connection.exec_driver_sql("SELECT RELEASE_LOCK(%s)", (lock,))


@cache
def _head(migrations: Path) -> str | None:
    return ScriptDirectory(str(migrations)).get_current_head()
