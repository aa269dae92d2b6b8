"""A user goes to another shard, whatever fails on the way."""

from contextlib import closing
from pathlib import Path

import pytest

from example_app.__main__ import main
from example_app.engines import Engines
from example_app.events.event import PLACED, new_event
from example_app.orders import moving
from example_app.orders.audit import BodyRecord
from example_app.orders.order import Item, Order
from example_app.orders.shards import Shard
from example_app.orders.sql_store import SqlOrderStore
from example_app.orders.sqlite_store import SqliteOrderStore
from example_app.orders.store import Status, StoredOrder
from tests.example_app import patient


def store(folder: Path) -> SqlOrderStore:
    return patient.order_store(Engines(), folder, moving.router(folder))


def fill(folder: Path) -> None:
    with closing(store(folder)) as orders:
        for user_id in ("U1", "U2"):
            for number in range(3):
                order = Order(f"A{number}", user_id, (Item("BOLT", 2),))
                kept = StoredOrder(order, Status.PLACED, BodyRecord(1, "0" * 64), 50)
                orders.add(kept, new_event(PLACED, order.order_id, {}))


def orders_of(folder: Path, user_id: str) -> list[str]:
    with closing(store(folder)) as orders:
        assert len(orders.find("A0").value) == 2, "each user's, once"
        return [stored.order.order_id for stored in orders.of_user(user_id, 10)]


def test_a_user_is_moved_and_moved_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "orders"
    fill(folder)
    for key in ("0xE000", "0x0000", "0x0001"):
        assert main(["--data", str(tmp_path), "--move", "U1", "--key", key]) == 0
        assert capsys.readouterr().out == "U1 was moved, with 3 orders\n"
        assert orders_of(folder, "U1") == orders_of(folder, "U2") == ["A0", "A1", "A2"]
    assert moving.router(folder).shard_of("U1") == Shard("db-order-01", "t_order_00")
    with closing(store(folder)) as orders:
        assert orders.unpublished().value == 6, "events go from where they are"


def test_a_move_that_failed_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)

    def fail(*_: object) -> None:
        raise OSError("no space left")

    for method in ("remove_elsewhere", "copy"):
        with monkeypatch.context() as broken:
            broken.setattr(SqliteOrderStore, method, fail)
            with pytest.raises(OSError, match="no space"):
                moving.move(tmp_path, "U1", 0xE000)
    moving.move(tmp_path, "U1", 0xE000)
    assert orders_of(tmp_path, "U1") == ["A0", "A1", "A2"]


def test_a_key_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for key in ("0x10000", "-1"):
        assert main(["--data", str(tmp_path), "--move", "U1", f"--key={key}"]) == 1
        assert "from 0x0000 to 0xffff" in capsys.readouterr().err
