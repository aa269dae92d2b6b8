import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from opentelemetry.trace import NoOpTracer
from sqlalchemy.exc import IntegrityError

from example_app.events.event import PAID, PLACED, Event, new_event
from example_app.orders.audit import BodyRecord
from example_app.orders.order import Item, Order
from example_app.orders.scatter import Scatter
from example_app.orders.shards import DATABASES, Router
from example_app.orders.sqlite_outbox import SqliteOutbox
from example_app.orders.sqlite_store import SqliteOrderStore
from example_app.orders.store import DuplicateOrder, Gathered, Status, StoredOrder, UnknownOrder

ORDER = Order(order_id="A1", user_id="U1", items=(Item("BOLT", 2), Item("NUT", 3)))
STORED = StoredOrder(
    order=ORDER, status=Status.PLACED, body=BodyRecord(size=3, sha256="0" * 64), total=80
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteOrderStore]:
    with closing(SqliteOrderStore(tmp_path / "orders", NoOpTracer())) as store:
        yield store


def stored(order_id: str, user_id: str) -> StoredOrder:
    return replace(STORED, order=Order(order_id=order_id, user_id=user_id, items=ORDER.items))


def event(topic: str = PLACED, order_id: str = "A1") -> Event:
    return new_event(topic, order_id, {"orderId": order_id})


def published(store: SqliteOrderStore) -> list[Event]:
    found: list[Event] = []
    for outbox in store.outboxes:
        outbox.drain(found.extend)
    return found


def outbox_of(store: SqliteOrderStore, user_id: str) -> SqliteOutbox:
    database = Router().shard_of(user_id).database
    (outbox,) = (outbox for outbox in store.outboxes if outbox.name == database)
    return outbox


def test_an_order_comes_back_as_it_was(store: SqliteOrderStore) -> None:
    store.add(STORED, event())

    assert store.get("U1", "A1") == STORED


def test_an_id_is_taken_once_by_a_user(store: SqliteOrderStore) -> None:
    store.add(STORED, event())

    with pytest.raises(DuplicateOrder):
        store.add(STORED, event())
    assert len(published(store)) == 1


def test_an_order_is_in_its_users_table(store: SqliteOrderStore, tmp_path: Path) -> None:
    store.add(STORED, event())

    shard = Router().shard_of("U1")
    with closing(sqlite3.connect(tmp_path / "orders" / f"{shard.database}.db")) as connection:
        query = f"SELECT order_id FROM {shard.table}"  # noqa: S608 - one of our tables
        assert connection.execute(query).fetchall() == [("A1",)]
        # The event is in the same file, as it is stored in the same transaction.
        assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (1,)


def test_reads_are_gathered_from_all_databases(store: SqliteOrderStore) -> None:
    users = [f"U{number}" for number in range(64)]
    assert {Router().shard_of(user).database for user in users} == set(DATABASES)
    for user in users:
        store.add(stored("SAME", user), event())
    store.add(stored("OTHER", "U3"), event())

    assert sorted(found.order.user_id for found in store.find("SAME").value) == sorted(users)
    assert [found.order.user_id for found in store.find("OTHER").value] == ["U3"]
    assert store.find("NONE") == Gathered([])
    assert store.count() == Gathered({Status.PLACED: 65})
    assert [found.order.order_id for found in store.of_user("U3", 10)] == ["OTHER", "SAME"]
    assert len(store.of_user("U3", 1)) == 1
    assert store.unpublished() == Gathered(65)


def test_an_order_is_settled_once(store: SqliteOrderStore) -> None:
    store.add(STORED, event())

    assert store.settle("U1", "A1", Status.PAID, event(PAID))
    assert not store.settle("U1", "A1", Status.PAYMENT_FAILED, event(PAID))

    assert store.get("U1", "A1").status is Status.PAID
    assert [it.topic for it in published(store)] == [PLACED, PAID]


def test_an_unknown_order_is_said_to_be_unknown(store: SqliteOrderStore) -> None:
    store.add(stored("A1", "U2"), event())

    with pytest.raises(UnknownOrder):
        store.get("U1", "A1")
    with pytest.raises(UnknownOrder):
        store.settle("U1", "A1", Status.PAID, event(PAID))
    assert len(published(store)) == 1


def test_events_stay_until_they_are_published(store: SqliteOrderStore) -> None:
    for number in range(250):
        store.add(stored(f"A{number}", "U1"), event(order_id=f"A{number}"))

    def fail(_events: Sequence[Event]) -> None:
        raise OSError("full")

    outbox = outbox_of(store, "U1")
    with pytest.raises(OSError, match="full"):
        outbox.drain(fail)
    assert store.unpublished().value == 250

    assert [it.key for it in published(store)] == [f"A{number}" for number in range(250)]
    assert store.unpublished().value == 0
    assert published(store) == []


def test_orders_and_events_outlive_the_store(tmp_path: Path) -> None:
    with closing(SqliteOrderStore(tmp_path, NoOpTracer())) as store:
        store.add(STORED, event())
    with closing(SqliteOrderStore(tmp_path, NoOpTracer())) as store:
        assert store.get("U1", "A1") == STORED
        assert len(published(store)) == 1


def test_what_was_published_and_cannot_be_removed_is_not_published_again(
    store: SqliteOrderStore, tmp_path: Path
) -> None:
    store.add(STORED, event())
    outbox = outbox_of(store, "U1")
    found: list[Event] = []
    with closing(sqlite3.connect(tmp_path / "orders" / f"{outbox.name}.db")) as database:
        # As for a database that is locked, or full: it can be read, and not be changed.
        database.execute(
            "CREATE TRIGGER locked BEFORE DELETE ON outbox BEGIN SELECT RAISE(ABORT, 'locked'); END"
        )
        database.commit()
        for _ in range(3):
            with pytest.raises(IntegrityError, match="locked"):
                outbox.drain(found.extend)
        database.execute("DROP TRIGGER locked")
        database.commit()
    assert len(found) == 1
    assert outbox.drain(found.extend) == 0
    assert len(found) == 1
    assert store.unpublished().value == 0


def test_a_database_that_hangs_holds_up_no_question_to_others() -> None:
    go_on, answered = threading.Event(), threading.Semaphore(0)

    def ask(database: int) -> int:
        if database == 0:
            assert go_on.wait(20)
        else:
            answered.release()
        return database

    scatter = Scatter({f"db-{number}": number for number in range(3)}, timeout_s=0.05)
    try:
        for _ in range(10):
            assert scatter.ask(ask) == Gathered([1, 2], ("db-0",))
            assert answered.acquire(timeout=20)
            assert answered.acquire(timeout=20)
    finally:
        go_on.set()
        scatter.close()
