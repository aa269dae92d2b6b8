import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from opentelemetry.trace import NoOpTracer
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from example_app.bootstrap import ORDERS
from example_app.engines import Engines
from example_app.events.event import PAID, PLACED, Event, new_event
from example_app.failures import DatabaseUnavailable
from example_app.orders.audit import BodyRecord
from example_app.orders.order import Item, Order
from example_app.orders.scatter import Scatter
from example_app.orders.shards import DATABASES, Router
from example_app.orders.sql_outbox import SqlOutbox
from example_app.orders.sql_store import SqlOrderStore
from example_app.orders.sqlite_store import CREATED, SqliteOrderStore
from example_app.orders.store import DuplicateOrder, Gathered, Status, StoredOrder, UnknownOrder
from tests.example_app import patient
from tests.example_app.mariadb_servers import Server, servers
from tests.example_app.programs import slow
from tests.example_app.services import start_refused

ORDER = Order(order_id="A1", user_id="U1", items=(Item("BOLT", 2), Item("NUT", 3)))
STORED = StoredOrder(
    order=ORDER, status=Status.PLACED, body=BodyRecord(size=3, sha256="0" * 64), total=80
)


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Server]]:
    with servers(tmp_path_factory.mktemp("mariadb")) as running:
        yield running


@pytest.fixture(params=["sqlite", *slow("mariadb")])
def engines(request: pytest.FixtureRequest) -> Engines:
    if request.param == "sqlite":
        return Engines()
    running: Sequence[Server] = request.getfixturevalue("mariadb")
    with closing(mariadb_store(running)) as store:
        for database in store._databases.values():
            with database.engine.begin() as connection:
                for table in database.metadata.sorted_tables:
                    connection.execute(table.delete())
    return Engines(databases=",".join(server.url for server in running))


@pytest.fixture
def store(engines: Engines, tmp_path: Path) -> Iterator[SqlOrderStore]:
    with closing(patient.order_store(engines, tmp_path / "orders", Router())) as store:
        yield store


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[SqlOrderStore]:
    with closing(patient.order_store(Engines(), tmp_path / "orders", Router())) as store:
        yield store


def stored(order_id: str, user_id: str) -> StoredOrder:
    return replace(STORED, order=Order(order_id=order_id, user_id=user_id, items=ORDER.items))


def event(topic: str = PLACED, order_id: str = "A1") -> Event:
    return new_event(topic, order_id, {"orderId": order_id})


def published(store: SqlOrderStore) -> list[Event]:
    found: list[Event] = []
    for outbox in store.outboxes:
        outbox.drain(found.extend)
    return found


def outbox_of(store: SqlOrderStore, user_id: str) -> SqlOutbox:
    database = Router().shard_of(user_id).database
    (outbox,) = (outbox for outbox in store.outboxes if outbox.name == database)
    return outbox


def test_an_order_comes_back_as_it_was(store: SqlOrderStore) -> None:
    store.add(STORED, event())

    assert store.get("U1", "A1") == STORED


def test_an_id_is_taken_once_by_a_user(store: SqlOrderStore) -> None:
    store.add(STORED, event())

    with pytest.raises(DuplicateOrder):
        store.add(STORED, event())
    assert len(published(store)) == 1


def test_an_order_is_in_its_users_table(sqlite_store: SqlOrderStore, tmp_path: Path) -> None:
    sqlite_store.add(STORED, event())

    shard = Router().shard_of("U1")
    with closing(sqlite3.connect(tmp_path / "orders" / f"{shard.database}.db")) as connection:
        query = f"SELECT order_id FROM {shard.table}"  # noqa: S608 - one of our tables
        assert connection.execute(query).fetchall() == [("A1",)]
        # The event is in the same file, as it is stored in the same transaction.
        assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (1,)


def test_reads_are_gathered_from_all_databases(store: SqlOrderStore) -> None:
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


def test_an_order_is_settled_once(store: SqlOrderStore) -> None:
    store.add(STORED, event())

    assert store.settle("U1", "A1", Status.PAID, event(PAID))
    assert not store.settle("U1", "A1", Status.PAYMENT_FAILED, event(PAID))

    assert store.get("U1", "A1").status is Status.PAID
    assert [it.topic for it in published(store)] == [PLACED, PAID]


def test_an_unknown_order_is_said_to_be_unknown(store: SqlOrderStore) -> None:
    store.add(stored("A1", "U2"), event())

    with pytest.raises(UnknownOrder):
        store.get("U1", "A1")
    with pytest.raises(UnknownOrder):
        store.settle("U1", "A1", Status.PAID, event(PAID))
    assert len(published(store)) == 1


def test_events_stay_until_they_are_published(store: SqlOrderStore) -> None:
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


def test_orders_and_events_outlive_the_store(engines: Engines, tmp_path: Path) -> None:
    with closing(engines.order_store(tmp_path, NoOpTracer(), Router())) as store:
        store.add(STORED, event())
    with closing(engines.order_store(tmp_path, NoOpTracer(), Router())) as store:
        assert store.get("U1", "A1") == STORED
        assert len(published(store)) == 1


def test_what_was_published_and_cannot_be_removed_is_not_published_again(
    sqlite_store: SqlOrderStore, tmp_path: Path
) -> None:
    store = sqlite_store
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


def test_a_database_that_hangs_holds_up_no_question_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on = threading.Event()
    # Each look at the clock finds 15 s gone. So there are 30 and 15 s left for the first two, which
    # need little of it, and for the third the time is over without any waiting.
    monkeypatch.setattr("example_app.orders.scatter.monotonic", count(0, 15).__next__)

    def ask(database: int) -> int:
        if database == 3:
            assert go_on.wait(60)
        return database

    scatter = Scatter({f"db-{number}": number for number in (1, 2, 3)}, timeout_s=45)
    try:
        for _ in range(10):
            assert scatter.ask(ask) == Gathered([1, 2], ("db-3",))
    finally:
        go_on.set()
        scatter.close()


def user_of(database: str) -> str:
    """A user whose orders are in this database."""
    return next(
        user
        for user in (f"U{number}" for number in range(1000))
        if Router().shard_of(user).database == database
    )


def mariadb_store(running: Sequence[Server]) -> SqlOrderStore:
    engines = Engines(databases=",".join(server.url for server in running))
    return engines.order_store(Path(), NoOpTracer(), Router())


def test_ids_that_differ_in_case_are_two(store: SqlOrderStore) -> None:
    store.add(stored("a1", "U1"), event())
    store.add(stored("A1", "U1"), event())
    assert [found.order.order_id for found in store.of_user("U1", 9)] == ["A1", "a1"]
    assert len(store.find("a1").value) == 1


def test_an_event_may_be_large(store: SqlOrderStore) -> None:
    large = new_event(PLACED, "A1", {"note": "x" * (1 << 20)})
    store.add(STORED, large)
    assert published(store) == [large]


def test_several_relays_publish_an_event_once(store: SqlOrderStore) -> None:
    for number in range(20):
        store.add(stored(f"A{number}", "U1"), event(order_id=f"A{number}"))
    first, second = outbox_of(store, "U1"), outbox_of(store, "U1")
    found: list[Event] = []

    def publish_while_another_does(events: Sequence[Event]) -> None:
        found.extend(events)
        if store.outboxes[0]._engine.dialect.name == "mysql":
            # Locked by the first, so there is nothing for the second.
            other = SqlOutbox(second.name, second._engine, second._table)
            assert other.drain(found.extend) == 0

    assert first.drain(publish_while_another_does) == 20
    assert len(found) == 20


def test_orders_are_stored_while_events_are_published(store: SqlOrderStore) -> None:
    store.add(stored("A1", "U1"), event())
    found: list[Event] = []

    def publish_slowly(events: Sequence[Event]) -> None:
        found.extend(events)
        if len(found) == 1:
            adding = threading.Thread(target=store.add, args=(stored("A2", "U1"), event()))
            adding.start()
            adding.join(20)
            assert not adding.is_alive()

    outbox = outbox_of(store, "U1")
    assert outbox.drain(publish_slowly) + outbox.drain(publish_slowly) == len(found) == 2


def test_a_server_that_is_killed_stops_its_own_databases_and_comes_back(
    mariadb: Sequence[Server],
) -> None:
    here, there = (user_of(name) for name in DATABASES[:2])
    with closing(mariadb_store(mariadb)) as store:
        store.add(stored("KEPT", here), event())
        mariadb[0].kill()
        store.add(stored("OTHER", there), event())
        with pytest.raises(DatabaseUnavailable, match=f"127.0.0.1:{mariadb[0].port}"):
            store.add(stored("LOST", here), event())
        assert set(store.find("OTHER").unanswered) == set(DATABASES[::2])
        mariadb[0].start()
        store.add(stored("AGAIN", here), event())
        assert {found.order.order_id for found in store.of_user(here, 9)} >= {"KEPT", "AGAIN"}
        assert not store.find("OTHER").unanswered


def test_a_transaction_that_was_undone_for_a_deadlock_is_done_again(
    mariadb: Sequence[Server],
) -> None:
    name = DATABASES[0]
    users = [user_of(name)]
    with closing(mariadb_store(mariadb)) as store:
        database = store._databases[name]
        store.add(stored("D1", users[0]), event())
        store.add(stored("D2", users[0]), event())
        table = database.tables[Router().shard_of(users[0]).table]
        both_hold_one, tries = threading.Barrier(2), []

        def change(first: str, second: str) -> None:
            def work(connection: Connection) -> None:
                tries.append(first)
                for order_id in (first, second):
                    own = (table.c.order_id == order_id, table.c.user_id == users[0])
                    connection.execute(table.update().where(*own).values(total=1))
                    if order_id == first and len(tries) <= 2:
                        both_hold_one.wait(20)

            database.change(work)

        threads = [
            threading.Thread(target=change, args=pair) for pair in (("D1", "D2"), ("D2", "D1"))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(tries) == 3, "one was undone, and done again"
        totals = {found.order.order_id: found.total for found in store.of_user(users[0], 99)}
        assert (totals["D1"], totals["D2"]) == (1, 1)


@pytest.mark.parametrize(
    "urls", ["sqlite:///x", "mysql+pymysql://u:secret@h/db", "nonsense", "mysql://u:secret@h"]
)
def test_what_is_no_server_is_named_without_its_password(urls: str) -> None:
    with pytest.raises(ValueError, match="EXAMPLE_DATABASES: ") as error:
        Engines(databases=urls).order_store(Path(), NoOpTracer(), Router())
    assert "secret" not in str(error.value)


def refused(folder: Path) -> str:
    """What a store says that does not open."""
    with pytest.raises(DatabaseUnavailable) as error:
        SqliteOrderStore(folder, NoOpTracer())
    return str(error.value)


@pytest.mark.parametrize("put_there", [None, b"", b"another file"])
def test_a_file_that_is_deleted_or_replaced_takes_no_orders_and_others_go_on(
    tmp_path: Path, put_there: bytes | None
) -> None:
    here, there = (user_of(name) for name in DATABASES[:2])
    path, aside = tmp_path / f"{DATABASES[0]}.db", tmp_path / "aside"
    with closing(patient.order_store(Engines(), tmp_path, Router())) as store:
        store.add(stored("KEPT", here), event())
        path.rename(aside)
        if put_there is not None:
            path.write_bytes(put_there)
        # The first one for a connection that was open before, the second one for a new one.
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable, match=f"{path}: deleted or replaced"):
                store.add(stored("LOST", here), event())
        store.add(stored("OTHER", there), event())
        assert store.find("OTHER").unanswered == (DATABASES[0],)
        assert (path.read_bytes() if path.exists() else None) == put_there, "none was begun"

        aside.replace(path)
        store.add(stored("AGAIN", here), event())
        assert [it.order.order_id for it in store.of_user(here, 9)] == ["AGAIN", "KEPT"]


def test_a_file_that_was_deleted_is_not_made_again_at_the_start(tmp_path: Path) -> None:
    user = user_of(DATABASES[1])
    with closing(patient.order_store(Engines(), tmp_path, Router())) as store:
        store.add(stored("KEPT", user), event())
    gone = [tmp_path / f"{name}.db" for name in DATABASES[2:4]]
    for path in gone:
        path.unlink()

    said = refused(tmp_path)
    assert said.startswith(f"{gone[0]}, {gone[1]}: deleted: restore from a backup")
    assert str(tmp_path / CREATED) in said
    assert not any(path.exists() for path in gone)

    (tmp_path / CREATED).unlink()
    with closing(patient.order_store(Engines(), tmp_path, Router())) as store:
        assert store.get(user, "KEPT").order.user_id == user
    assert refused_after_deleting(tmp_path, gone[0]), "and from here on as before"


def refused_after_deleting(folder: Path, path: Path) -> bool:
    path.unlink()
    return str(path) in refused(folder)


def test_a_first_start_that_was_cut_short_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as full:
        full.setattr("example_app.sqlite.create", fail)
        with pytest.raises(OSError, match="no space"):
            SqliteOrderStore(tmp_path, NoOpTracer())
    with closing(patient.order_store(Engines(), tmp_path, Router())) as store:
        assert store.count() == Gathered({})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "was emptied: restore it from a backup"),
        (b"garbage" * 9999, "file is not a database: restore it from a backup"),
    ],
)
def test_a_file_that_is_broken_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    SqliteOrderStore(tmp_path, NoOpTracer()).close()
    path = tmp_path / f"{DATABASES[5]}.db"
    path.write_bytes(content)
    assert refused(tmp_path) == f"{path}: {said}"


def test_a_service_says_at_its_start_which_file_was_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "orders"
    SqliteOrderStore(folder, NoOpTracer()).close()
    path = folder / f"{DATABASES[7]}.db"
    path.unlink()
    assert f"{path}: deleted" in start_refused(tmp_path, ORDERS)
    assert not path.exists()
