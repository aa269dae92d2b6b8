"""What becomes of a start where a MariaDB server is down, or has lost a database."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from opentelemetry.trace import NoOpTracer

from example_app.__main__ import main
from example_app.bootstrap import ORDERS, SERVICES, Surroundings
from example_app.engines import Engines
from example_app.events.event import PLACED, new_event
from example_app.failures import DatabaseUnavailable
from example_app.orders import mariadb_layout
from example_app.orders.audit import BodyRecord
from example_app.orders.mariadb_store import MariadbOrderStore
from example_app.orders.order import Item, Order
from example_app.orders.shards import DATABASES, Router
from example_app.orders.store import Gathered, Status, StoredOrder
from tests.example_app.mariadb_servers import Server, servers
from tests.example_app.programs import until
from tests.example_app.services import start_refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from example_app.orders.sql_store import SqlOrderStore

pytestmark = pytest.mark.slow

ON_THE_FIRST, ON_THE_SECOND = DATABASES[::2], DATABASES[1::2]
TABLES = 16 + 2
"""Of orders, the outbox, and Alembic's own."""
ORDER = StoredOrder(
    order=Order(order_id="A1", user_id="U1", items=(Item("BOLT", 2),)),
    status=Status.PLACED,
    body=BodyRecord(size=3, sha256="0" * 64),
    total=80,
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Server]]:
    with servers(tmp_path_factory.mktemp("mariadb")) as running:
        yield running


@pytest.fixture
def both(running: Sequence[Server]) -> Iterator[Sequence[Server]]:
    """Two servers; both run again afterwards."""
    yield running
    for server in running:
        if not server.ask("SELECT 1"):
            server.start()


@pytest.fixture
def new(both: Sequence[Server]) -> Sequence[Server]:
    """Two servers on which no service has run."""
    for server in both:
        empty(server)
    return both


def empty(server: Server) -> None:
    """Make a server as one whose disk is new."""
    for (name,) in server.ask("SHOW DATABASES LIKE 'db-order-%'"):
        server.ask(f"DROP DATABASE `{name}`")


@pytest.fixture
def used(both: Sequence[Server]) -> Sequence[Server]:
    """Two servers on which a service has run, with an order in each database."""
    for server in both:
        server.ask("DROP DATABASE IF EXISTS `db-order-made`")
    # To make all of them for each test would take seconds.
    for number, name in enumerate(DATABASES):
        if not is_as_made(both[number % 2], name):
            both[number % 2].ask(f"DROP DATABASE IF EXISTS `{name}`")
    with closing(opened(both)) as store:
        for name, database in store._databases.items():
            with database.engine.begin() as connection:
                for table in database.metadata.sorted_tables:
                    connection.execute(table.delete())
            add(store, name)
    return both


def is_as_made(server: Server, name: str) -> bool:
    """Whether a database has its layout, and nothing else."""
    if name not in databases_of(server) or len(server.ask("SHOW TABLES", name)) != TABLES:
        return False
    return server.ask("SELECT version_num FROM alembic_version", name) == (("0001",),)


def engines(running: Sequence[Server]) -> Engines:
    return Engines(databases=",".join(server.url for server in running))


def opened(running: Sequence[Server]) -> SqlOrderStore:
    # What is asked of all databases may have to wait for some of them to be made.
    return MariadbOrderStore(engines(running).databases, NoOpTracer(), Router(), answer_s=120)


def refused(running: Sequence[Server]) -> str:
    """What a store says that does not open."""
    with pytest.raises(DatabaseUnavailable) as error:
        opened(running)
    return str(error.value)


def user_of(database: str) -> str:
    """A user whose orders are in this database."""
    users = (f"U{number}" for number in range(1000))
    return next(user for user in users if Router().shard_of(user).database == database)


def add(store: SqlOrderStore, database: str, order_id: str = "KEPT") -> None:
    order = Order(order_id=order_id, user_id=user_of(database), items=ORDER.order.items)
    store.add(replace(ORDER, order=order), new_event(PLACED, order_id, {"orderId": order_id}))


def orders_in(store: SqlOrderStore, database: str) -> list[str]:
    return [found.order.order_id for found in store.of_user(user_of(database), 9)]


def databases_of(server: Server) -> set[object]:
    return {name for (name,) in server.ask("SHOW DATABASES LIKE 'db-order-0%'")}


def drop(server: Server, database: str) -> None:
    server.ask(f"DROP DATABASE `{database}`")


def drop_and_make(server: Server, database: str) -> None:
    drop(server, database)
    server.ask(f"CREATE DATABASE `{database}`")


def drop_a_table(server: Server, database: str) -> None:
    server.ask("DROP TABLE t_order_2A", database)


@pytest.mark.parametrize("lose", [drop, drop_and_make, drop_a_table])
def test_a_database_that_was_dropped_or_emptied_is_an_error_that_says_what_to_do(
    used: Sequence[Server], lose: Any
) -> None:
    lost = DATABASES[2]
    lose(used[0], lost)

    said = refused(used)

    where = f"mysql+pymysql://root@127.0.0.1:{used[0].port}: {lost} was dropped or emptied"
    assert said.startswith(f"{where}: restore it from a backup, or ")
    assert said.endswith(f"python -m example_app --new-database {lost}")
    tables = {drop: 0, drop_and_make: 0, drop_a_table: TABLES - 1}[lose]
    query = f"SELECT count(*) FROM information_schema.tables WHERE table_schema = '{lost}'"  # noqa: S608 - a constant
    assert used[0].ask(query) == ((tables,),), "and none was made"


def test_a_service_does_not_start_without_a_database_that_was_dropped(
    used: Sequence[Server], tmp_path: Path
) -> None:
    for name in ON_THE_FIRST[:2]:
        drop(used[0], name)

    said = start_refused(tmp_path, ORDERS, engines=engines(used))

    for name in ON_THE_FIRST[:2]:
        assert f"127.0.0.1:{used[0].port}: {name} was dropped" in said


def test_of_a_server_whose_disk_is_new_the_other_one_knows_what_it_had(
    used: Sequence[Server],
) -> None:
    empty(used[1])
    said = refused(used)
    assert all(f"{used[1].port}: {name} was dropped" in said for name in ON_THE_SECOND)
    assert not any(f"{name} was dropped" in said for name in ON_THE_FIRST)
    assert databases_of(used[1]) == set()


def test_a_database_that_is_dropped_while_in_use_takes_no_orders_until_it_is_restored(
    used: Sequence[Server],
) -> None:
    lost, other = DATABASES[:2]
    with closing(opened(used)) as store:
        assert orders_in(store, lost) == ["KEPT"]
        tables = [str(name) for (name,) in used[0].ask("SHOW TABLES", lost)]
        used[0].ask("CREATE DATABASE aside")
        move(used[0], tables, lost, "aside")
        drop(used[0], lost)
        # The first one for a connection that was open before; later ones may be new.
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable, match=f"{lost} was dropped or emptied: rest"):
                add(store, lost, "LOST")
        add(store, other, "OTHER")
        assert store.find("OTHER").unanswered == (lost,)

        used[0].ask(f"CREATE DATABASE `{lost}`")
        move(used[0], tables, "aside", lost)
        drop(used[0], "aside")
        add(store, lost, "AGAIN")
        assert orders_in(store, lost) == ["AGAIN", "KEPT"]


def move(server: Server, tables: Sequence[str], source: str, target: str) -> None:
    for table in tables:
        server.ask(f"RENAME TABLE `{source}`.`{table}` TO `{target}`.`{table}`")


def test_a_database_may_be_new_once_somebody_says_so(
    used: Sequence[Server], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = DATABASES[2]
    monkeypatch.setenv("EXAMPLE_DATABASES", engines(used).databases)
    assert main(["--new-database", lost]) == 1
    assert "is there" in capsys.readouterr().err
    drop_a_table(used[0], lost)
    assert main(["--new-database", lost]) == 1
    assert "drop what is left" in capsys.readouterr().err
    drop(used[0], lost)
    used[1].kill()
    assert main(["--new-database", lost]) == 1
    assert f"127.0.0.1:{used[1].port}" in capsys.readouterr().err
    used[1].start()

    assert main(["--new-database", lost]) == 0

    with closing(opened(used)) as store:
        assert orders_in(store, lost) == []
        assert orders_in(store, DATABASES[0]) == ["KEPT"]
    drop(used[0], lost)
    assert lost in refused(used), "and from here on as before"


def test_only_databases_on_servers_are_let_be_new(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EXAMPLE_DATABASES", raising=False)
    assert main(["--new-database", DATABASES[2]]) == 1
    assert "EXAMPLE_DATABASES, which is not set" in capsys.readouterr().err


def test_databases_from_before_there_were_notes_are_noted(used: Sequence[Server]) -> None:
    for server in used:
        drop(server, "db-order-made")
    opened(used).close()
    drop(used[1], DATABASES[1])
    assert DATABASES[1] in refused(used)


def test_a_store_opens_while_a_server_is_down_and_uses_it_once_it_is_back(
    used: Sequence[Server], caplog: pytest.LogCaptureFixture
) -> None:
    here, there = DATABASES[:2]
    used[0].kill()
    with closing(opened(used)) as store:
        assert f"127.0.0.1:{used[0].port}" in caplog.text
        add(store, there, "OTHER")
        for ask in (orders_in, add):
            with pytest.raises(DatabaseUnavailable, match=f"127.0.0.1:{used[0].port}"):
                ask(store, here)
        assert set(store.find("OTHER").unanswered) == set(ON_THE_FIRST)
        assert set(store.unpublished().unanswered) == set(ON_THE_FIRST)

        used[0].start()

        add(store, here, "AGAIN")
        assert orders_in(store, here) == ["AGAIN", "KEPT"]
        assert store.count() == Gathered({Status.PLACED: 10})


def test_migrations_that_a_server_has_missed_are_run_once_it_is_back(
    used: Sequence[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = tmp_path / "migrations"
    shutil.copytree(mariadb_layout.MIGRATIONS, newer)
    (newer / "versions" / "0002_notes.py").write_text(
        "from alembic import op\n"
        'revision, down_revision = "0002", "0001"\n'
        "def upgrade(): op.execute('CREATE TABLE notes (note TEXT)')\n"
    )
    monkeypatch.setattr(mariadb_layout, "MIGRATIONS", newer)

    def layouts(server: Server, names: Sequence[str]) -> set[object]:
        return {server.ask("SELECT version_num FROM alembic_version", name) for name in names}

    used[0].kill()
    with closing(opened(used)) as store:
        assert layouts(used[1], ON_THE_SECOND) == {(("0002",),)}
        used[0].start()
        assert layouts(used[0], ON_THE_FIRST) == {(("0001",),)}
        assert not store.count().unanswered
        assert layouts(used[0], ON_THE_FIRST) == {(("0002",),)}
        assert used[0].ask("SHOW TABLES LIKE 'notes'", DATABASES[0])


def test_a_first_start_waits_for_all_servers_as_one_may_know_of_lost_databases(
    new: Sequence[Server], caplog: pytest.LogCaptureFixture
) -> None:
    new[0].kill()
    with closing(opened(new)) as store:
        assert set(store.count().unanswered) == set(DATABASES)
        assert databases_of(new[1]) == set()
        assert "whether it ever was may be known to who does not answer" in caplog.text
        new[0].start()
        assert not store.count().unanswered
        for name in DATABASES:
            add(store, name)
    opened(new).close()
    drop(new[0], DATABASES[0])
    assert DATABASES[0] in refused(new)


def test_a_database_that_is_missing_when_its_server_is_back_is_not_made(
    used: Sequence[Server], caplog: pytest.LogCaptureFixture
) -> None:
    used[0].kill()
    with closing(opened(used)) as store:
        used[0].start()
        drop(used[0], DATABASES[0])
        assert store.find("KEPT").unanswered == (DATABASES[0],)
        assert f"{DATABASES[0]} was dropped or emptied" in caplog.text
        assert DATABASES[0] not in databases_of(used[0])


def test_a_service_starts_while_a_server_is_down_and_is_ready_for_the_others_users(
    used: Sequence[Server], tmp_path: Path
) -> None:
    services = dict.fromkeys((*SERVICES, "inventory-grpc"), "127.0.0.1:0")
    around = Surroundings(tmp_path, services, b"key", engines=engines(used))
    here, there = (f"/users/{user_of(name)}/orders" for name in DATABASES[:2])
    used[0].kill()
    with SERVICES[ORDERS](around) as app:
        assert isinstance(app, Flask)
        client = app.test_client()

        def loops() -> dict[str, Any]:
            answer: dict[str, Any] = client.get("/health").get_json()
            return {name: it["state"] for name, it in answer["loops"].items()}

        def is_missing(path: str, key: str, *names: str) -> None:
            """Return once these are; a database may take longer for an answer on a busy machine."""
            until(
                lambda: set(client.get(path).get_json()[key]) == {*names},
                lambda: client.get(path).text,
            )

        is_missing("/ready", "missing")
        assert client.get(here).status_code == 503
        assert client.get(there).status_code == 200
        is_missing("/stats", "unanswered", *ON_THE_FIRST)
        expected = {
            **dict.fromkeys(ON_THE_FIRST, "backing off"),
            **dict.fromkeys(ON_THE_SECOND, "running"),
        }
        until(lambda: loops() == expected, lambda: str(loops()))
        assert client.get("/health").status_code == 200

        used[1].kill()
        is_missing("/ready", "missing", "databases")
        for server in used:
            server.start()
        is_missing("/ready", "missing")
        assert client.get(here).status_code == 200
        until(
            lambda: loops() == dict.fromkeys(DATABASES, "running"),
            lambda: str(client.get("/health").get_json()),
        )


def test_a_service_starts_where_no_server_answers_and_is_not_ready(
    used: Sequence[Server], tmp_path: Path
) -> None:
    services = dict.fromkeys((*SERVICES, "inventory-grpc"), "127.0.0.1:0")
    for server in used:
        server.kill()
    around = Surroundings(tmp_path, services, b"key", engines=engines(used))
    with SERVICES[ORDERS](around) as app:
        assert isinstance(app, Flask)
        client = app.test_client()
        assert client.get("/ready").get_json()["missing"] == ["databases"]
        for server in used:
            server.start()
        until(
            lambda: client.get("/ready").status_code == 200,
            lambda: client.get("/ready").text,
        )


def test_a_wrong_password_and_an_unknown_host_are_errors_at_the_start(
    used: Sequence[Server], tmp_path: Path
) -> None:
    used[0].ask("CREATE OR REPLACE USER shop@localhost IDENTIFIED BY 'right'")
    used[0].ask("CREATE OR REPLACE USER shop@'127.0.0.1' IDENTIFIED BY 'right'")
    address = f"127.0.0.1:{used[0].port}"
    for server, said in (
        (f"mysql+pymysql://shop:wrong-one@{address}", rf"shop:\*\*\*@{address}: .*Access denied"),
        ("mysql+pymysql://root@no-such-host.invalid", r"root@no-such-host.invalid: .*2003"),
    ):
        named = Engines(databases=f"{server},{used[1].url}")
        with pytest.raises(DatabaseUnavailable, match=said) as error:
            named.order_store(tmp_path, NoOpTracer(), Router())
        assert "wrong-one" not in str(error.value)


START = """
import sys
from pathlib import Path
from opentelemetry.trace import NoOpTracer
from example_app.engines import Engines
from example_app.orders.shards import Router
Engines(databases=sys.argv[1]).order_store(Path(), NoOpTracer(), Router()).close()
"""


def test_databases_are_made_once_whoever_starts_first(new: Sequence[Server]) -> None:
    command = [sys.executable, "-c", START, engines(new).databases]
    starting = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=60)[1] for process in starting]
    assert [process.returncode for process in starting] == [0, 0, 0], said
    assert not re.search("missing|dropped", "".join(said))
    for server, names in zip(new, (ON_THE_FIRST, ON_THE_SECOND), strict=True):
        assert databases_of(server) == set(names)
        for name in names:
            assert server.ask("SELECT version_num FROM alembic_version", name) == (("0001",),)
            assert len(server.ask("SHOW TABLES", name)) == TABLES
        noted = {name for (name,) in server.ask("SELECT name FROM made", "db-order-made")}
        assert noted == set(DATABASES)
