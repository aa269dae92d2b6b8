"""Orders in one SQLite file, each statement a CLIENT span."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from opentelemetry.trace import SpanKind
from sqlalchemy import JSON, Column, Integer, MetaData, String, Table, create_engine
from sqlalchemy.exc import IntegrityError

from example_app.orders.audit import BodyRecord
from example_app.orders.order import from_json
from example_app.orders.store import DuplicateOrder, Status, StoredOrder, UnknownOrder

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from opentelemetry.trace import Span, Tracer

metadata = MetaData()
orders = Table(
    "orders",
    metadata,
    Column("order_id", String(64), primary_key=True),
    Column("user_id", String(64), nullable=False, index=True),
    Column("items", JSON, nullable=False),
    Column("status", String(16), nullable=False),
    Column("body_size", Integer, nullable=False),
    Column("body_sha256", String(64), nullable=False),
)


class SqliteOrderStore:
    """An `OrderStore` in the SQLite file `path`, which is made if it is not there."""

    def __init__(self, path: Path, tracer: Tracer) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._engine = create_engine(f"sqlite:///{path}")
        self._tracer = tracer
        metadata.create_all(self._engine)

    def add(self, stored: StoredOrder) -> None:
        """Keep a new order; `DuplicateOrder` if its id is taken."""
        order = stored.order
        row = orders.insert().values(
            order_id=order.order_id,
            user_id=order.user_id,
            items=msgspec.to_builtins(order.items),
            status=stored.status.value,
            body_size=stored.body.size,
            body_sha256=stored.body.sha256,
        )
        with self._statement("INSERT"), self._engine.begin() as connection:
            try:
                connection.execute(row)
            except IntegrityError:
                raise DuplicateOrder(order.order_id) from None

    def get(self, order_id: str) -> StoredOrder:
        """Return one order; `UnknownOrder` if there is none of this id."""
        query = orders.select().where(orders.c.order_id == order_id)
        with self._statement("SELECT"), self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise UnknownOrder(order_id)
        order = {"orderId": row.order_id, "userId": row.user_id, "items": row.items}
        return StoredOrder(
            order=from_json(order),
            status=Status(row.status),
            body=BodyRecord(size=row.body_size, sha256=row.body_sha256),
        )

    def set_status(self, order_id: str, status: Status) -> None:
        """Change how far an order is; `UnknownOrder` if there is none of this id."""
        change = orders.update().where(orders.c.order_id == order_id).values(status=status.value)
        with self._statement("UPDATE"), self._engine.begin() as connection:
            if connection.execute(change).rowcount == 0:
                raise UnknownOrder(order_id)

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    def _statement(self, operation: str) -> AbstractContextManager[Span]:
        return self._tracer.start_as_current_span(
            f"{operation} {orders.name}",
            kind=SpanKind.CLIENT,
            attributes={
                "db.system.name": "sqlite",
                "db.operation.name": operation,
                "db.collection.name": orders.name,
            },
        )
