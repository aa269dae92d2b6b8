"""Which databases of orders were made: noted on every server.

A database that is noted and not there was dropped. Each server notes those of all, so that of one
whose disk is new the others still know what it had.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from example_app import mariadb
from example_app.failures import NotReached

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from sqlalchemy import URL, Connection

_DATABASE, _TABLE = "db-order-made", "made"
_PLACE = f"`{_DATABASE}`.`{_TABLE}`"


@dataclass(frozen=True)
class Told:
    """What the servers say.

    :ivar noted: the names of the databases that were made.
    :ivar silent: the servers that do not answer; they may know of others.
    """

    noted: frozenset[str]
    silent: Sequence[URL]


class Made:
    """The notes of all servers."""

    def __init__(self, servers: Iterable[URL]) -> None:
        self._servers = [*servers]

    def ask(self) -> Told:
        """Return what was noted.

        :raises DatabaseUnavailable: a server refuses us, or its host is not known.
        """
        noted: set[str] = set()
        silent = []
        for server in self._servers:
            try:
                with mariadb.asking(server) as connection:
                    noted |= _read(connection)
            except NotReached:
                silent.append(server)
        return Told(frozenset(noted), silent)

    def note(self, names: Iterable[str], down: Collection[URL] = ()) -> None:
        """Note databases that were made; a server that is down is told at a later start.

        :param down: servers that are not asked again: one that hangs takes its time.
        """
        names = {*names}
        for server in self._servers:
            if server in down:
                continue
            with suppress(NotReached), mariadb.asking(server) as connection:
                if missing := names - _read(connection):
                    _write(connection, missing)

    def forget(self, name: str) -> None:
        """Take back what was noted, so that the database may be made again.

        :raises NotReached: a server does not answer, and would remember.
        """
        for server in self._servers:
            with mariadb.asking(server) as connection:
                if name in _read(connection):
                    connection.exec_driver_sql(f"DELETE FROM {_PLACE} WHERE name = %s", (name,))  # noqa: S608 - a constant


def _read(connection: Connection) -> set[str]:
    query = "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = %s"
    if connection.exec_driver_sql(query, (_DATABASE, _TABLE)).scalar() is None:
        return set()
    return {*connection.exec_driver_sql(f"SELECT name FROM {_PLACE}").scalars()}  # noqa: S608 - a constant


def _write(connection: Connection, names: Iterable[str]) -> None:
    connection.exec_driver_sql(f"CREATE DATABASE IF NOT EXISTS `{_DATABASE}`")
    columns = "name VARCHAR(64) CHARACTER SET ascii PRIMARY KEY"
    connection.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {_PLACE} ({columns})")
    for name in names:
        connection.exec_driver_sql(f"INSERT IGNORE INTO {_PLACE} VALUES (%s)", (name,))  # noqa: S608 - a constant
