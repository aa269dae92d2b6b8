from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from opentelemetry.trace import NoOpTracer

from example_app.orders.audit import BodyRecord
from example_app.orders.order import Item, Order
from example_app.orders.sqlite_store import SqliteOrderStore
from example_app.orders.store import DuplicateOrder, OrderStore, Status, StoredOrder, UnknownOrder

STORED = StoredOrder(
    order=Order(order_id="A1", user_id="U1", items=(Item("BOLT", 2), Item("NUT", 3))),
    status=Status.PLACED,
    body=BodyRecord(size=3, sha256="0" * 64),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[OrderStore]:
    with closing(SqliteOrderStore(tmp_path / "new" / "orders.db", NoOpTracer())) as store:
        yield store


def test_an_order_comes_back_as_it_was(store: OrderStore) -> None:
    store.add(STORED)

    assert store.get("A1") == STORED


def test_an_id_is_taken_once(store: OrderStore) -> None:
    store.add(STORED)

    with pytest.raises(DuplicateOrder):
        store.add(STORED)


def test_a_status_changes(store: OrderStore) -> None:
    store.add(STORED)

    store.set_status("A1", Status.PAID)

    assert store.get("A1").status is Status.PAID


def test_an_unknown_order_is_said_to_be_unknown(store: OrderStore) -> None:
    with pytest.raises(UnknownOrder):
        store.get("A1")
    with pytest.raises(UnknownOrder):
        store.set_status("A1", Status.PAID)


def test_orders_outlive_the_store(tmp_path: Path) -> None:
    path = tmp_path / "orders.db"
    with closing(SqliteOrderStore(path, NoOpTracer())) as store:
        store.add(STORED)
    with closing(SqliteOrderStore(path, NoOpTracer())) as store:
        assert store.get("A1") == STORED
