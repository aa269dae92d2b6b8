"""What services keep, however often they are told of an order."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from flask import Flask, request
from flask.typing import ResponseReturnValue
from opentelemetry.trace import NoOpTracer

from example_app.discovery.directory import UnknownService
from example_app.discovery.static_directory import StaticDirectory
from example_app.events.event import PAID, PAYMENT_FAILED, PLACED, Event, new_event
from example_app.failures import CallFailed
from example_app.fulfilment.handlers import handlers as fulfilment_handlers
from example_app.fulfilment.sqlite_shipments import SqliteShipments
from example_app.inventory.handlers import handlers as inventory_handlers
from example_app.inventory.messages import Line, OrderLines, StockLevel
from example_app.inventory.sqlite_stock import RESERVED_S, SqliteStock
from example_app.outbound import HttpService
from example_app.payments import signature
from example_app.payments.handlers import CallbackRefused
from example_app.payments.handlers import handlers as payment_handlers
from example_app.payments.sandbox_provider import SandboxProvider
from example_app.payments.sqlite_charges import SqliteCharges
from example_app.serving import serving

TRACER = NoOpTracer()


def placed(order_id: str = "A1", user_id: str = "U1", topic: str = PLACED) -> Event:
    lines = [{"sku": "BOLT", "quantity": 2}]
    payload = {"orderId": order_id, "userId": user_id, "lines": lines, "total": 50}
    return new_event(topic, order_id, payload)


def lines(order_id: str, **quantities: int) -> OrderLines:
    wanted = tuple(Line(sku, quantity) for sku, quantity in quantities.items())
    return OrderLines(order_id, "U1", wanted)


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[SqliteStock]:
    catalogue = {"BOLT": (10, 25), "NUT": (5, 10)}
    with closing(SqliteStock(tmp_path / "inventory.db", catalogue, TRACER)) as stock:
        yield stock


def free(stock: SqliteStock) -> list[int]:
    return [level.available for level in stock.levels(["BOLT", "NUT"])]


def test_pieces_are_reserved_and_given_back_once(stock: SqliteStock) -> None:
    for _ in range(2):
        reservation = stock.reserve(lines("A1", BOLT=3, NUT=1))
        assert reservation.reserved
        assert reservation.levels == (StockLevel("BOLT", 7, 25), StockLevel("NUT", 4, 10))
    assert stock.reserved() == 1
    for _ in range(2):
        stock.release(lines("A1"))
        assert free(stock) == [10, 5]
    assert stock.reserve(lines("A1", BOLT=1)).reserved, "after it was given back"


def test_all_pieces_of_an_order_are_reserved_or_none(stock: SqliteStock) -> None:
    refused = stock.reserve(lines("A1", BOLT=3, NUT=6))

    assert not refused.reserved
    assert [level.available for level in refused.levels] == [10, 5]
    assert (free(stock), stock.reserved()) == ([10, 5], 0)
    assert not stock.reserve(lines("A1", ANVIL=1)).reserved
    assert stock.levels(["ANVIL"]) == (StockLevel("ANVIL", 0, 0),)


def test_what_was_promised_is_reserved_even_if_it_is_missing(stock: SqliteStock) -> None:
    event = placed()
    on = inventory_handlers(stock)
    stock.reserve(lines("OTHER", BOLT=9))
    for _ in range(2):
        on[PLACED](event)
        assert free(stock) == [-1, 5]
    for _ in range(2):
        on[PAYMENT_FAILED](placed(topic=PAYMENT_FAILED))
        assert free(stock) == [1, 5]


def test_a_replayed_event_reserves_nothing_for_an_order_that_was_given_up(
    stock: SqliteStock,
) -> None:
    on = inventory_handlers(stock)
    on[PLACED](placed())
    on[PAYMENT_FAILED](placed(topic=PAYMENT_FAILED))
    # Of another user's order of the same id, and of another order, nothing was said.
    on[PLACED](placed(user_id="U2"))
    on[PLACED](placed("A2"))
    assert (free(stock), stock.reserved()) == ([6, 5], 2)
    for _ in range(2):
        on[PLACED](placed())
        assert (free(stock), stock.reserved()) == ([6, 5], 2)


def test_one_that_is_given_up_before_it_is_read_of_is_never_reserved(stock: SqliteStock) -> None:
    on = inventory_handlers(stock)
    on[PAYMENT_FAILED](placed(topic=PAYMENT_FAILED))
    on[PLACED](placed())
    assert (free(stock), stock.reserved()) == ([10, 5], 0)


def test_what_is_reserved_while_an_order_is_given_up_expires(
    tmp_path: Path, stock: SqliteStock
) -> None:
    on = inventory_handlers(stock)
    on[PAYMENT_FAILED](placed(topic=PAYMENT_FAILED))
    assert stock.reserve(lines("A1", BOLT=2)).reserved
    on[PLACED](placed())
    later = SqliteStock(
        tmp_path / "inventory.db", {"BOLT": (0, 0)}, TRACER, lambda: time.time() + 2 * RESERVED_S
    )
    with closing(later):
        later.reserve(lines("A2", BOLT=1))
    assert (free(stock), stock.reserved()) == ([9, 5], 1)


def test_the_last_piece_is_reserved_by_one(stock: SqliteStock) -> None:
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(stock.reserve, lines(f"A{number}", NUT=1)) for number in range(12)]
        reserved = [reservation.result().reserved for reservation in asked]
    assert sum(reserved) == 5
    assert free(stock) == [10, 0]


def test_a_catalogue_is_read_once(tmp_path: Path, stock: SqliteStock) -> None:
    stock.reserve(lines("A1", BOLT=3))
    with closing(SqliteStock(tmp_path / "inventory.db", {"BOLT": (10, 25)}, TRACER)) as again:
        assert again.levels(["BOLT"]) == (StockLevel("BOLT", 7, 25),)


def test_an_order_is_charged_once_and_called_back_each_time_signed(tmp_path: Path) -> None:
    key, calls = b"key", list[str]()
    app = Flask("orders")

    @app.post("/payments/callback")
    def callback() -> ResponseReturnValue:
        body = request.get_data()
        assert signature.matches(key, body, request.headers[signature.HEADER])
        calls.append(body.decode())
        return {}, 404 if b"GONE" in body else 200

    with (
        serving(app) as url,
        closing(SqliteCharges(tmp_path / "payments.db", TRACER)) as charges,
        closing(HttpService("orders", StaticDirectory({"orders": url}), TRACER, 10)) as orders,
    ):
        on = payment_handlers(SandboxProvider(), charges, orders, key)
        on[PLACED](placed())
        on[PLACED](placed())
        on[PLACED](placed("A2", "BROKE-1"))
        assert calls == [
            '{"orderId":"A1","userId":"U1","outcome":"paid"}',
            '{"orderId":"A1","userId":"U1","outcome":"paid"}',
            '{"orderId":"A2","userId":"BROKE-1","outcome":"failed"}',
        ]
        assert charges.count() == 2
        assert charges.keep("U1", "A1", 50, "failed") == "paid", "the first one stays"
        with pytest.raises(CallbackRefused, match="404"):
            on[PLACED](placed("GONE"))


def test_an_order_is_shipped_once(tmp_path: Path) -> None:
    event = placed(topic=PAID)
    with closing(SqliteShipments(tmp_path / "fulfilment.db", TRACER)) as shipments:
        on = fulfilment_handlers(shipments)
        for _ in range(2):
            on[PAID](event)
        assert shipments.of_order("A1") == ["U1"]
    with closing(SqliteShipments(tmp_path / "fulfilment.db", TRACER)) as shipments:
        assert not shipments.ship(event), "nor after it was started again"
        assert shipments.count() == 1


def test_a_static_directory_knows_what_it_was_told() -> None:
    directory = StaticDirectory({"orders": "http://127.0.0.1:1"})
    assert directory.locate("orders") == "http://127.0.0.1:1"
    with pytest.raises(UnknownService):
        directory.locate("payments")


def test_a_call_that_gets_no_answer_in_time_has_failed() -> None:
    import socket

    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        closing(
            HttpService(
                "silent",
                StaticDirectory({"silent": f"http://127.0.0.1:{silent.getsockname()[1]}"}),
                TRACER,
                0.2,
            )
        ) as service,
        pytest.raises(CallFailed, match="silent: ReadTimeout") as failed,
    ):
        service.send("GET", "/")
    assert isinstance(failed.value.__cause__, httpx.TimeoutException)
