"""Stocks in an SQLite file."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import JSON, Column, Float, Integer, MetaData, String, Table, func, select
from sqlalchemy.dialects.sqlite import insert

from example_app import sqlite
from example_app.inventory.messages import Line, Reservation, StockLevel
from example_app.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from opentelemetry.trace import Tracer
    from sqlalchemy import ColumnElement, Connection

    from example_app.inventory.messages import OrderLines

metadata = MetaData(info={"version": 3})
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
    # Seconds since 1970; without it the order is placed, and its pieces are its own.
    Column("expires_at", Float, index=True),
)
given_up = Table(
    "given_up",
    metadata,
    Column("order_id", String(64), primary_key=True),
    Column("user_id", String(64), primary_key=True),
)
RESERVED_S = 15 * 60.0
"""Seconds that pieces stay reserved for an order that is not placed."""


class _NotReserved(Exception):
    """Of some article there are not enough, or the order was given up."""


class SqliteStock:
    """A `Stock` in the file `path`, made with `catalogue` in it if it is not there.

    :param clock: seconds since 1970.
    """

    def __init__(
        self,
        path: Path,
        catalogue: Mapping[str, tuple[int, int]],
        tracer: Tracer,
        clock: Callable[[], float] = time,
    ) -> None:
        self._clock = clock
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
        """Reserve all of an order's pieces or none, once; what has expired is given back first."""
        now = self._clock()
        expires_at = None if even_if_missing else now + RESERVED_S
        skus = [line.sku for line in order.lines]
        with self._statements.span("INSERT", reservations.name):
            try:
                self._give_expired_back(reservations.c.expires_at < now)
                with self._engine.begin() as connection:
                    _reserve(connection, order, expires_at)
                    return Reservation(reserved=True, levels=_levels(connection, skus))
            except _NotReserved:
                with self._engine.connect() as connection:
                    return Reservation(reserved=False, levels=_levels(connection, skus))

    def _give_expired_back(self, expired: ColumnElement[bool]) -> None:
        # Looked for first: most often there is none, and who only reads waits for no writer.
        with self._engine.connect() as connection:
            found = connection.execute(select(reservations.c.order_id).where(expired).limit(1))
            if found.one_or_none() is None:
                return
        with self._engine.begin() as connection:
            _give_back(connection, expired)

    def release(self, order: OrderLines) -> None:
        """Give an order's pieces back, if they are reserved."""
        with (
            self._statements.span("DELETE", reservations.name),
            self._engine.begin() as connection,
        ):
            _give_back(connection, *_own(reservations, order))

    def give_up(self, order: OrderLines) -> None:
        """Give an order's pieces back, and reserve none for it when it is read of again."""
        row = {"order_id": order.order_id, "user_id": order.user_id}
        with (
            self._statements.span("DELETE", reservations.name),
            self._engine.begin() as connection,
        ):
            _give_back(connection, *_own(reservations, order))
            connection.execute(insert(given_up).on_conflict_do_nothing(), row)

    def reserved(self) -> int:
        """Return the number of orders with a reservation."""
        with self._engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(reservations)).scalar_one()

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()


def _own(table: Table, order: OrderLines) -> tuple[ColumnElement[bool], ...]:
    return table.c.order_id == order.order_id, table.c.user_id == order.user_id


def _give_back(connection: Connection, *which: ColumnElement[bool]) -> None:
    # The deletion comes first, as it takes the right to write.
    removed = connection.execute(
        reservations.delete().where(*which).returning(reservations.c.lines)
    ).scalars()
    for lines in removed.all():
        for line in msgspec.convert(lines, tuple[Line, ...]):
            _add(connection, line.sku, line.quantity)


def _reserve(connection: Connection, order: OrderLines, expires_at: float | None) -> None:
    row = {
        "order_id": order.order_id,
        "user_id": order.user_id,
        "lines": msgspec.to_builtins(order.lines),
        "expires_at": expires_at,
    }
    is_new = connection.execute(insert(reservations).on_conflict_do_nothing(), row).rowcount
    # Only now: that has taken the right to write, so nobody gives the order up meanwhile.
    if expires_at is None and _was_given_up(connection, order):
        raise _NotReserved
    if not is_new:
        if expires_at is None:
            own = _own(reservations, order)
            connection.execute(reservations.update().where(*own).values(expires_at=None))
        return
    for line in order.lines:
        least = None if expires_at is None else line.quantity
        if not _add(connection, line.sku, -line.quantity, at_least=least):
            raise _NotReserved


def _was_given_up(connection: Connection, order: OrderLines) -> bool:
    query = select(given_up.c.order_id).where(*_own(given_up, order))
    return connection.execute(query).one_or_none() is not None


def _add(connection: Connection, sku: str, pieces: int, at_least: int | None = None) -> bool:
    change = stock.update().where(stock.c.sku == sku).values(available=stock.c.available + pieces)
    if at_least is not None:
        change = change.where(stock.c.available >= at_least)
    return connection.execute(change).rowcount == 1


def _levels(connection: Connection, skus: Sequence[str]) -> tuple[StockLevel, ...]:
    rows = connection.execute(select(*stock.c).where(stock.c.sku.in_(skus)))
    found = {row.sku: StockLevel(row.sku, row.available, row.price) for row in rows}
    return tuple(found.get(sku, StockLevel(sku, 0, 0)) for sku in skus)
