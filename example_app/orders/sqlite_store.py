"""Orders in eight SQLite files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from example_app import sqlite
from example_app.orders.shards import DATABASES
from example_app.orders.sql_store import ANSWER_S, Database, SqlOrderStore

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.trace import Tracer

    from example_app.orders.shards import Router


class SqliteOrderStore(SqlOrderStore):
    """An `OrderStore` in the files ``db-order-01.db`` to ``-08.db`` of `folder`.

    They are made if they are not there.

    :raises DatabaseUnavailable: one cannot be opened.
    """

    def __init__(
        self,
        folder: Path,
        tracer: Tracer,
        router: Router | None = None,
        answer_s: float = ANSWER_S,
    ) -> None:
        databases = {}
        for name in DATABASES:
            engine = sqlite.engine(folder / f"{name}.db")
            databases[name] = Database(name, engine, tracer, "sqlite")
            sqlite.create(databases[name].metadata, engine)
        super().__init__(databases, router, answer_s)
