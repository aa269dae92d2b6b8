"""Orders in eight SQLite files of sixteen tables each; the outbox is in the order's own file."""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from sqlalchemy import (
    JSON,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    func,
    literal,
    select,
    union_all,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import IntegrityError

from example_app import sqlite
from example_app.events.event import Event
from example_app.orders.audit import BodyRecord
from example_app.orders.order import from_json
from example_app.orders.shards import DATABASES, Router, tables_of
from example_app.orders.store import DuplicateOrder, Status, StoredOrder, UnknownOrder
from example_app.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from opentelemetry.trace import Tracer
    from sqlalchemy import Connection

    from example_app.orders.shards import Shard

T = TypeVar("T")
_log = logging.getLogger(__name__)
_BATCH = 100


class _Database:
    """One file: its tables, and its outbox."""

    def __init__(self, folder: Path, name: str, tracer: Tracer) -> None:
        self.name = name
        self.engine = sqlite.engine(folder / f"{name}.db")
        self.statements = Statements(tracer, name)
        metadata = MetaData()
        self.tables = {table: _orders(table, metadata) for table in tables_of(name)}
        self.outbox = Table(
            "outbox",
            metadata,
            Column("position", Integer, primary_key=True),
            Column("event", LargeBinary, nullable=False),
            sqlite_autoincrement=True,
        )
        sqlite.create(metadata, self.engine)

    def keep(self, connection: Connection, event: Event) -> None:
        connection.execute(self.outbox.insert().values(event=msgspec.json.encode(event)))


def _orders(name: str, metadata: MetaData) -> Table:
    return Table(
        name,
        metadata,
        Column("order_id", String(64), primary_key=True),
        Column("user_id", String(64), primary_key=True, index=True),
        Column("items", JSON, nullable=False),
        Column("total", Integer, nullable=False),
        Column("status", String(16), nullable=False),
        Column("body_size", Integer, nullable=False),
        Column("body_sha256", String(64), nullable=False),
    )


class SqliteOrderStore:
    """An `OrderStore`, and an `Outbox`, in the files ``db-order-01.db`` to ``-08.db`` of `folder`.

    They are made if they are not there.
    """

    def __init__(self, folder: Path, tracer: Tracer, router: Router | None = None) -> None:
        self._router = router or Router()
        self._databases = {name: _Database(folder, name, tracer) for name in DATABASES}
        self._pool = ThreadPoolExecutor(len(DATABASES), thread_name_prefix="scatter")

    def add(self, stored: StoredOrder, event: Event) -> None:
        """Keep a new order and its event; `DuplicateOrder` if its user has one of its id."""
        order = stored.order
        database, table = self._shard(order.user_id)
        row = table.insert().values(
            order_id=order.order_id,
            user_id=order.user_id,
            items=msgspec.to_builtins(order.items),
            total=stored.total,
            status=stored.status.value,
            body_size=stored.body.size,
            body_sha256=stored.body.sha256,
        )
        with database.statements.span("INSERT", table.name), database.engine.begin() as connection:
            try:
                connection.execute(row)
            except IntegrityError:
                raise DuplicateOrder(order.order_id) from None
            database.keep(connection, event)

    def get(self, user_id: str, order_id: str) -> StoredOrder:
        """Return one order; `UnknownOrder` if there is none of this id."""
        database, table = self._shard(user_id)
        query = _chosen(table).where(table.c.order_id == order_id, table.c.user_id == user_id)
        with (
            database.statements.span("SELECT", table.name),
            database.engine.connect() as connection,
        ):
            row = connection.execute(query).one_or_none()
        if row is None:
            raise UnknownOrder(order_id)
        return _stored(row)

    def find(self, order_id: str) -> Sequence[StoredOrder]:
        """Return every user's order of this id."""

        def ask(database: _Database) -> list[StoredOrder]:
            query = union_all(
                *(
                    _chosen(table).where(table.c.order_id == order_id)
                    for table in database.tables.values()
                )
            )
            with (
                database.statements.span("SELECT", "t_order_*"),
                database.engine.connect() as connection,
            ):
                return [_stored(row) for row in connection.execute(query)]

        return [stored for found in self._scatter(ask) for stored in found]

    def of_user(self, user_id: str, limit: int) -> Sequence[StoredOrder]:
        """Return up to `limit` of a user's orders, by id."""
        database, table = self._shard(user_id)
        query = _chosen(table).where(table.c.user_id == user_id)
        with (
            database.statements.span("SELECT", table.name),
            database.engine.connect() as connection,
        ):
            rows = connection.execute(query.order_by(table.c.order_id).limit(limit))
            return [_stored(row) for row in rows]

    def count(self) -> Mapping[Status, int]:
        """Return the number of orders of each status."""

        def ask(database: _Database) -> Counter[Status]:
            query = union_all(
                *(
                    select(table.c.status, func.count()).group_by(table.c.status)
                    for table in database.tables.values()
                )
            )
            counted: Counter[Status] = Counter()
            with (
                database.statements.span("SELECT", "t_order_*"),
                database.engine.connect() as connection,
            ):
                for status, number in connection.execute(query):
                    counted[Status(status)] += number
            return counted

        return sum(self._scatter(ask), Counter())

    def settle(self, user_id: str, order_id: str, status: Status, event: Event) -> bool:
        """Change a placed order's status and keep `event`; False if that was done before."""
        database, table = self._shard(user_id)
        own = (table.c.order_id == order_id, table.c.user_id == user_id)
        change = (
            table.update()
            .where(*own, table.c.status == Status.PLACED.value)
            .values(status=status.value)
        )
        with database.statements.span("UPDATE", table.name), database.engine.begin() as connection:
            if connection.execute(change).rowcount:
                database.keep(connection, event)
                return True
            if connection.execute(select(literal(1)).where(*own)).one_or_none() is None:
                raise UnknownOrder(order_id)
            return False

    def copy(self, user_id: str, target: Shard) -> int:
        """Copy a user's orders to where they are to be; return their number."""
        source, table = self._shard(user_id)
        with source.engine.connect() as connection:
            rows = connection.execute(_chosen(table).where(table.c.user_id == user_id)).all()
        database = self._databases[target.database]
        if rows:
            statement = insert(database.tables[target.table]).on_conflict_do_nothing()
            with database.engine.begin() as connection:
                connection.execute(statement, [dict(row._mapping) for row in rows])
        return len(rows)

    def remove_elsewhere(self, user_id: str) -> None:
        """Remove a user's orders from every table but the one they are in."""
        _, kept = self._shard(user_id)
        for database in self._databases.values():
            with database.engine.begin() as connection:
                for table in database.tables.values():
                    if table is not kept:
                        connection.execute(table.delete().where(table.c.user_id == user_id))

    def drain(self, publish: Callable[[Sequence[Event]], None]) -> int:
        """Hand all events to `publish`, in their order, and remove what it has taken."""
        published, errors = 0, []
        for database in self._databases.values():
            try:
                published += _drain(database, publish)
            except Exception as error:  # noqa: BLE001 - the other databases go on; raised below
                errors.append(error)
        if errors and not published:
            raise errors[0]
        for each in errors:
            _log.warning("the outbox of one database waits: %s", each)
        return published

    def unpublished(self) -> int:
        """Return the number of events in the outbox."""

        def ask(database: _Database) -> int:
            with database.engine.connect() as connection:
                return connection.execute(
                    select(func.count()).select_from(database.outbox)
                ).scalar_one()

        return sum(self._scatter(ask))

    def close(self) -> None:
        """Close the files."""
        self._pool.shutdown()
        for database in self._databases.values():
            database.engine.dispose()

    def _shard(self, user_id: str) -> tuple[_Database, Table]:
        shard = self._router.shard_of(user_id)
        database = self._databases[shard.database]
        return database, database.tables[shard.table]

    def _scatter(self, ask: Callable[[_Database], T]) -> list[T]:
        """Ask all databases at once, each in a copy of the current context."""
        asked = [
            self._pool.submit(copy_context().run, ask, database)
            for database in self._databases.values()
        ]
        return [answer.result() for answer in asked]


def _drain(database: _Database, publish: Callable[[Sequence[Event]], None]) -> int:
    outbox, published = database.outbox, 0
    oldest = select(outbox.c.position, outbox.c.event).order_by(outbox.c.position).limit(_BATCH)
    while True:
        with database.engine.connect() as connection:
            rows = connection.execute(oldest).all()
        if not rows:
            return published
        publish([msgspec.json.decode(row.event, type=Event) for row in rows])
        # Exactly these: a slower transaction may have stored one before the last of them meanwhile.
        positions = [row.position for row in rows]
        with database.engine.begin() as connection:
            connection.execute(outbox.delete().where(outbox.c.position.in_(positions)))
        published += len(rows)


def _chosen(table: Table) -> Any:
    return select(*table.c)


def _stored(row: Any) -> StoredOrder:
    order = {"orderId": row.order_id, "userId": row.user_id, "items": row.items}
    return StoredOrder(
        order=from_json(order),
        status=Status(row.status),
        body=BodyRecord(size=row.body_size, sha256=row.body_sha256),
        total=row.total,
    )
