"""Stocks in an SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import JSON, Column, Integer, MetaData, String, Table, func, select
from sqlalchemy.dialects.sqlite import insert

from example_app import sqlite
from example_app.inventory.messages import Line, Reservation, StockLevel
from example_app.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from opentelemetry.trace import Tracer
    from sqlalchemy import Connection

    from example_app.inventory.messages import OrderLines

metadata = MetaData()
stock = Table(
    "stock",
    metadata,
    Column("sku", String(64), primary_key=True),
    Column("available", Integer, nullable=False),
    Column("price", Integer, nullable=False),
)
reservations = Table(
    "reservations",
    metadata,
    Column("order_id", String(64), primary_key=True),
    Column("user_id", String(64), primary_key=True),
    Column("lines", JSON, nullable=False),
)


class _Missing(Exception):
    """Of some article there are not enough."""


class SqliteStock:
    """A `Stock` in the file `path`, made with `catalogue` in it if it is not there."""

    def __init__(
        self, path: Path, catalogue: Mapping[str, tuple[int, int]], tracer: Tracer
    ) -> None:
        self._engine = sqlite.engine(path)
        self._statements = Statements(tracer, "inventory")
        sqlite.create(metadata, self._engine)
        rows = [
            {"sku": sku, "available": available, "price": price}
            for sku, (available, price) in catalogue.items()
        ]
        with self._engine.begin() as connection:
            connection.execute(insert(stock).on_conflict_do_nothing(), rows)

    def levels(self, skus: Sequence[str]) -> Sequence[StockLevel]:
        """Return what is free of each; nothing, of an article that there is not."""
        with self._statements.span("SELECT", stock.name), self._engine.connect() as connection:
            return _levels(connection, skus)

    def reserve(self, order: OrderLines, *, even_if_missing: bool = False) -> Reservation:
        """Reserve all of an order's pieces or none, once."""
        skus = [line.sku for line in order.lines]
        with self._statements.span("INSERT", reservations.name):
            try:
                with self._engine.begin() as connection:
                    _reserve(connection, order, even_if_missing=even_if_missing)
                    return Reservation(reserved=True, levels=_levels(connection, skus))
            except _Missing:
                with self._engine.connect() as connection:
                    return Reservation(reserved=False, levels=_levels(connection, skus))

    def release(self, order: OrderLines) -> None:
        """Give an order's pieces back, if they are reserved."""
        own = (
            reservations.c.order_id == order.order_id,
            reservations.c.user_id == order.user_id,
        )
        with (
            self._statements.span("DELETE", reservations.name),
            self._engine.begin() as connection,
        ):
            # The deletion comes first, as it takes the right to write.
            removed = connection.execute(
                reservations.delete().where(*own).returning(reservations.c.lines)
            ).scalar_one_or_none()
            for line in msgspec.convert(removed or (), tuple[Line, ...]):
                _add(connection, line.sku, line.quantity)

    def reserved(self) -> int:
        """Return the number of orders with a reservation."""
        with self._engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(reservations)).scalar_one()

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()


def _reserve(connection: Connection, order: OrderLines, *, even_if_missing: bool) -> None:
    row = {
        "order_id": order.order_id,
        "user_id": order.user_id,
        "lines": msgspec.to_builtins(order.lines),
    }
    if not connection.execute(insert(reservations).on_conflict_do_nothing(), row).rowcount:
        return
    for line in order.lines:
        least = None if even_if_missing else line.quantity
        if not _add(connection, line.sku, -line.quantity, at_least=least):
            raise _Missing


def _add(connection: Connection, sku: str, pieces: int, at_least: int | None = None) -> bool:
    change = stock.update().where(stock.c.sku == sku).values(available=stock.c.available + pieces)
    if at_least is not None:
        change = change.where(stock.c.available >= at_least)
    return connection.execute(change).rowcount == 1


def _levels(connection: Connection, skus: Sequence[str]) -> tuple[StockLevel, ...]:
    rows = connection.execute(select(*stock.c).where(stock.c.sku.in_(skus)))
    found = {row.sku: StockLevel(row.sku, row.available, row.price) for row in rows}
    return tuple(found.get(sku, StockLevel(sku, 0, 0)) for sku in skus)
