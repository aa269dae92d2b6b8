"""Orders in eight databases of one or more MariaDB servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from example_app import mariadb
from example_app.orders.shards import DATABASES
from example_app.orders.sql_store import ANSWER_S, Database, SqlOrderStore

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from example_app.orders.shards import Router


class MariadbOrderStore(SqlOrderStore):
    """An `OrderStore` in the databases ``db-order-01`` to ``-08``, in turn on each server.

    They are made and brought to this version's layout at the start, so all servers are needed then.

    :param urls: ``mysql+pymysql://user:password@host:port`` of each server, separated by commas.
        Their order is part of where orders are: it stays.
    :raises ValueError: one of them is no URL of a server.
    :raises DatabaseUnavailable: a server is not reached.
    """

    def __init__(
        self, urls: str, tracer: Tracer, router: Router | None = None, answer_s: float = ANSWER_S
    ) -> None:
        servers = mariadb.servers(urls)
        databases = {}
        for number, name in enumerate(DATABASES):
            engine = mariadb.engine(servers[number % len(servers)], name)
            mariadb.migrate(engine)
            databases[name] = Database(name, engine, tracer, "mariadb")
        super().__init__(databases, router, answer_s)
