"""Reservations of stock: once, all or nothing, and not for ever."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from opentelemetry.trace import NoOpTracer

from example_app.failures import DatabaseUnavailable
from example_app.inventory.messages import Line, OrderLines
from example_app.inventory.sqlite_stock import RESERVED_S, SqliteStock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stock(tmp_path: Path, clock: Clock) -> Iterator[SqliteStock]:
    with closing(SqliteStock(tmp_path / "s.db", {"BOLT": (10, 5)}, NoOpTracer(), clock)) as made:
        yield made


def order(number: int, quantity: int = 4) -> OrderLines:
    return OrderLines(f"O{number}", "U1", (Line("BOLT", quantity),))


def free(stock: SqliteStock) -> int:
    (level,) = stock.levels(["BOLT"])
    return level.available


def test_a_reservation_expires_if_its_order_is_not_placed(stock: SqliteStock, clock: Clock) -> None:
    assert stock.reserve(order(1)).reserved
    clock.now += RESERVED_S
    assert stock.reserve(order(2)).reserved
    assert free(stock) == 2
    clock.now += 1
    # The first one is given back, so there is enough.
    assert stock.reserve(order(3)).reserved
    assert (free(stock), stock.reserved()) == (2, 2)


def test_what_was_given_back_counts_even_if_this_order_gets_nothing(
    stock: SqliteStock, clock: Clock
) -> None:
    stock.reserve(order(1))
    clock.now += RESERVED_S + 1
    assert not stock.reserve(order(2, quantity=11)).reserved
    assert (free(stock), stock.reserved()) == (10, 0)


def test_a_placed_orders_reservation_stays(stock: SqliteStock, clock: Clock) -> None:
    stock.reserve(order(1))
    stock.reserve(order(1), even_if_missing=True)
    clock.now += 10 * RESERVED_S
    stock.reserve(order(2))
    assert (free(stock), stock.reserved()) == (2, 2)


def test_an_order_placed_after_its_reservation_expired_gets_its_pieces(
    stock: SqliteStock, clock: Clock
) -> None:
    stock.reserve(order(1))
    clock.now += RESERVED_S + 1
    stock.reserve(order(2, quantity=10))
    stock.reserve(order(1), even_if_missing=True)
    assert (free(stock), stock.reserved()) == (-4, 2)
    stock.release(order(1))
    stock.release(order(1))
    assert (free(stock), stock.reserved()) == (0, 1)


def test_a_file_of_another_layout_is_named(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "s.db"
    with closing(SqliteStock(path, {"BOLT": (10, 5)}, NoOpTracer(), clock)):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1")
    with pytest.raises(DatabaseUnavailable, match=rf"{path}: .*layout 1, not 3.*: move it away"):
        SqliteStock(path, {"BOLT": (10, 5)}, NoOpTracer(), clock)
