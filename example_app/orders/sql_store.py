"""Orders in eight databases of sixteen tables each; the outbox is in the order's own database.

What SQL databases have in common, by SQLAlchemy Core; each engine is a module of its own beside.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from sqlalchemy import MetaData, func, literal, select, union_all
from sqlalchemy.exc import IntegrityError

from example_app.failures import DatabaseUnavailable, RolledBack
from example_app.orders.audit import BodyRecord
from example_app.orders.order import from_json
from example_app.orders.scatter import Scatter
from example_app.orders.shards import Router, tables_of
from example_app.orders.sql_outbox import SqlOutbox
from example_app.orders.store import (
    DuplicateOrder,
    Gathered,
    Status,
    StoredOrder,
    UnknownOrder,
)
from example_app.orders.tables import order_table, outbox_table
from example_app.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.trace import Tracer
    from sqlalchemy import Connection, Engine, Table

    from example_app.events.event import Event
    from example_app.orders.shards import Shard

T = TypeVar("T")
_TRIES = 5
ANSWER_S = 5.0
"""How long all databases may take to answer what all are asked."""


class Database:
    """One database: its tables, and its outbox.

    :param engine: its own connections. They raise `DatabaseUnavailable` where it cannot be reached,
        and `RolledBack` after a deadlock.
    :param system: as in the semantic conventions' ``db.system.name``.
    """

    def __init__(self, name: str, engine: Engine, tracer: Tracer, system: str) -> None:
        self.name = name
        self.engine = engine
        self.statements = Statements(tracer, name, system)
        self.metadata = MetaData()
        self.tables = {table: order_table(table, self.metadata) for table in tables_of(name)}
        self.outbox = SqlOutbox(name, engine, outbox_table(self.metadata))

    def change(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` does in one transaction, which is retried where it is rolled back."""
        tries = 1
        while True:
            try:
                with self.engine.begin() as connection:
                    return work(connection)
            except RolledBack as error:
                if tries == _TRIES:
                    raise DatabaseUnavailable(f"{error}, {_TRIES} times") from error
                tries += 1


class SqlOrderStore:
    """An `OrderStore` in the databases that :mod:`shards` names.

    :param databases: by name.
    :param answer_s: how long all databases may take to answer what all are asked, in seconds.
    """

    def __init__(
        self,
        databases: Mapping[str, Database],
        router: Router | None = None,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._router = router or Router()
        self._databases = databases
        self._scatter = Scatter(databases, answer_s)

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

        def keep(connection: Connection) -> None:
            try:
                connection.execute(row)
            except IntegrityError:
                raise DuplicateOrder(order.order_id) from None
            database.outbox.keep(connection, event)

        with database.statements.span("INSERT", table.name):
            database.change(keep)
        database.outbox.wake()

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

    def find(self, order_id: str) -> Gathered[Sequence[StoredOrder]]:
        """Return every user's order of this id."""

        def ask(database: Database) -> list[StoredOrder]:
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

        asked = self._scatter.ask(ask)
        return Gathered([stored for found in asked.value for stored in found], asked.unanswered)

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

    def count(self) -> Gathered[Mapping[Status, int]]:
        """Return the number of orders of each status."""

        def ask(database: Database) -> Counter[Status]:
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

        asked = self._scatter.ask(ask)
        return Gathered(sum(asked.value, Counter()), asked.unanswered)

    def settle(self, user_id: str, order_id: str, status: Status, event: Event) -> bool:
        """Change a placed order's status and keep `event`; False if that was done before."""
        database, table = self._shard(user_id)
        own = (table.c.order_id == order_id, table.c.user_id == user_id)
        change = (
            table.update()
            .where(*own, table.c.status == Status.PLACED.value)
            .values(status=status.value)
        )

        def settle(connection: Connection) -> bool:
            changed = bool(connection.execute(change).rowcount)
            if changed:
                database.outbox.keep(connection, event)
            elif connection.execute(select(literal(1)).where(*own)).one_or_none() is None:
                raise UnknownOrder(order_id)
            return changed

        with database.statements.span("UPDATE", table.name):
            changed = database.change(settle)
        if changed:
            database.outbox.wake()
        return changed

    def copy(self, user_id: str, target: Shard) -> int:
        """Copy a user's orders to where they are to be; return their number."""
        source, table = self._shard(user_id)
        with source.engine.connect() as connection:
            rows = connection.execute(_chosen(table).where(table.c.user_id == user_id)).all()
        database = self._databases[target.database]
        if rows:
            statement = database.tables[target.table].insert()
            statement = statement.prefix_with("OR IGNORE", dialect="sqlite")
            statement = statement.prefix_with("IGNORE", dialect="mysql")
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

    @property
    def outboxes(self) -> Sequence[SqlOutbox]:
        """The outbox of each database."""
        return [database.outbox for database in self._databases.values()]

    def unpublished(self) -> Gathered[int]:
        """Return the number of events in the outboxes."""
        asked = self._scatter.ask(lambda database: database.outbox.unpublished())
        return Gathered(sum(asked.value), asked.unanswered)

    def close(self) -> None:
        """Close the connections."""
        self._scatter.close()
        for database in self._databases.values():
            database.engine.dispose()

    def _shard(self, user_id: str) -> tuple[Database, Table]:
        shard = self._router.shard_of(user_id)
        database = self._databases[shard.database]
        return database, database.tables[shard.table]


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
