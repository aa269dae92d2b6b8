"""Orders in eight SQLite files."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from example_app import sqlite
from example_app.failures import DatabaseUnavailable
from example_app.orders.shards import DATABASES
from example_app.orders.sql_store import ANSWER_S, Database, SqlOrderStore

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.trace import Tracer

    from example_app.orders.shards import Router

CREATED = "created"
"""Beside the databases once all were made: one that is not there any more was deleted."""


class SqliteOrderStore(SqlOrderStore):
    """An `OrderStore` in the files ``db-order-01.db`` to ``-08.db`` of `folder`.

    They are made at the first start. One that was deleted after it is not made again: its orders
    would be lost, and nobody would know.

    :raises DatabaseUnavailable: one was deleted, or cannot be opened.
    """

    def __init__(
        self,
        folder: Path,
        tracer: Tracer,
        router: Router | None = None,
        answer_s: float = ANSWER_S,
    ) -> None:
        created = folder / CREATED
        new = not created.exists()
        paths = {name: folder / f"{name}.db" for name in DATABASES}
        deleted = [str(path) for path in paths.values() if not new and not path.exists()]
        if deleted:
            raise DatabaseUnavailable(
                f"{', '.join(deleted)}: deleted: restore from a backup, or remove {created} to go "
                "on without these orders"
            )
        databases = {}
        with ExitStack() as opened:
            for name, path in paths.items():
                engine = sqlite.engine(path, new=new)
                opened.callback(engine.dispose)
                databases[name] = Database(name, engine, tracer, "sqlite")
                sqlite.create(databases[name].metadata, engine, new=new)
            opened.pop_all()
        created.touch()
        super().__init__(databases, router, answer_s)
