"""Orders in eight databases of one or more MariaDB servers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from example_app import mariadb
from example_app.failures import DatabaseUnavailable, NotReached
from example_app.orders import mariadb_layout
from example_app.orders.mariadb_made import Made
from example_app.orders.mariadb_opening import Opening
from example_app.orders.shards import DATABASES
from example_app.orders.sql_store import ANSWER_S, Database, SqlOrderStore

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from opentelemetry.trace import Tracer
    from sqlalchemy import URL

    from example_app.orders.shards import Router

_log = logging.getLogger(__name__)


class MariadbOrderStore(SqlOrderStore):
    """An `OrderStore` in the databases ``db-order-01`` to ``-08``, in turn on each server.

    They are made and brought to this version's layout at the start; those of a server that is down
    then, when it is back. One that was dropped is not made again: its orders would be lost, and
    nobody would know.

    :param urls: ``mysql+pymysql://user:password@host:port`` of each server, separated by commas.
        Their order is part of where orders are: it stays.
    :raises ValueError: one of them is no URL of a server.
    :raises DatabaseUnavailable: a database was dropped or emptied, or a server refuses us or has no
        address.
    """

    def __init__(
        self, urls: str, tracer: Tracer, router: Router | None = None, answer_s: float = ANSWER_S
    ) -> None:
        servers = mariadb.servers(urls)
        made = Made(servers)
        placed = _placed(servers)
        openings = {name: Opening(database, made) for name, database in placed.items()}
        made.note(*_opened([*openings.values()]))
        databases = {
            name: Database(name, mariadb.engine(database, openings[name].ready), tracer, "mariadb")
            for name, database in placed.items()
        }
        super().__init__(databases, router, answer_s)


def let_be_new(urls: str, name: str) -> None:
    """Say that a database that was dropped may be made again, empty.

    :param urls: as for the store.
    :raises ValueError: the database is there.
    :raises DatabaseUnavailable: a server does not answer: it would remember the database.
    """
    servers = mariadb.servers(urls)
    found = mariadb_layout.look(_placed(servers)[name])
    if found.version is not None:
        lost = "" if found.is_whole else ", and lost tables: restore it, or drop what is left of it"
        raise ValueError(f"{name} is there{lost}")
    Made(servers).forget(name)


def _placed(servers: Sequence[URL]) -> Mapping[str, URL]:
    """Where each database is, by name."""
    return {
        name: servers[number % len(servers)].set(database=name)
        for number, name in enumerate(DATABASES)
    }


def _opened(openings: Sequence[Opening]) -> tuple[Sequence[str], Collection[URL]]:
    """Open the databases whose servers answer.

    :returns: their names, and the servers that are to be waited for.
    :raises DatabaseUnavailable: some cannot be opened, and to wait would not help.
    """
    names: list[str] = []
    problems: list[str] = []
    down: set[URL] = set()
    for opening in openings:
        if opening.server in down:
            continue
        try:
            opening.open()
            names.append(opening.name)
        except NotReached as error:
            down.add(opening.server)
            _log.warning("databases of orders are missing, and used once they are there: %s", error)
        except DatabaseUnavailable as error:
            problems.append(str(error))
    if problems:
        raise DatabaseUnavailable("; ".join(dict.fromkeys(problems)))
    return names, down
