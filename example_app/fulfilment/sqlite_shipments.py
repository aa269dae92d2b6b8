"""Shipments in an SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Column, Integer, MetaData, String, Table, func, select
from sqlalchemy.dialects.sqlite import insert

from example_app import sqlite
from example_app.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from opentelemetry.trace import Tracer

    from example_app.events.event import Event

metadata = MetaData()
shipments = Table(
    "shipments",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("order_id", String(64), nullable=False, index=True),
    Column("user_id", String(64), nullable=False),
)
handled = Table("handled", metadata, Column("event_id", String(32), primary_key=True))


class SqliteShipments:
    """A `Shipments` in the file `path`, made if it is not there."""

    def __init__(self, path: Path, tracer: Tracer) -> None:
        self._engine = sqlite.engine(path)
        self._statements = Statements(tracer, "fulfilment")
        sqlite.create(metadata, self._engine)

    def ship(self, event: Event) -> bool:
        """Ship the order that was paid; False if this event was handled before."""
        seen = insert(handled).values(event_id=event.event_id).on_conflict_do_nothing()
        shipment = shipments.insert().values(
            order_id=event.payload["orderId"], user_id=event.payload["userId"]
        )
        # In one transaction, so that the event is handled and the order shipped, or neither.
        with self._statements.span("INSERT", shipments.name), self._engine.begin() as connection:
            if not connection.execute(seen).rowcount:
                return False
            connection.execute(shipment)
            return True

    def of_order(self, order_id: str) -> Sequence[str]:
        """Return the ids of the users to whom an order of this id was shipped."""
        query = select(shipments.c.user_id).where(shipments.c.order_id == order_id)
        with self._statements.span("SELECT", shipments.name), self._engine.connect() as connection:
            return connection.execute(query).scalars().all()

    def count(self) -> int:
        """Return their number."""
        with self._engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(shipments)).scalar_one()

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()
