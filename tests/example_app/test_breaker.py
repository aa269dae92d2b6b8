"""Every call of a neighbour goes through its one breaker."""

from __future__ import annotations

import ast
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from opentelemetry.trace import NoOpTracer

import example_app
from example_app.breaker.breaker import Breaker, BreakerOpen
from example_app.breaker.guard import Guard
from example_app.breaker.neighbours import GuardedGrpc, GuardedHttp
from example_app.breaker.rules import BreakerRules
from example_app.cache.sqlite_cache import SqliteCache
from example_app.discovery.static_directory import StaticDirectory
from example_app.failures import CallFailed
from example_app.orders.inventory_client import InventoryClient
from example_app.orders.order import Item, Order
from tests.body.servers import free_port

if TYPE_CHECKING:
    from tests.conftest import Figures

RULES = BreakerRules(2, 60_000, "cache_last_known_value")
ORDER = Order("A1", "U1", (Item("BOLT", 1),))
TRACER = NoOpTracer()


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        with pytest.raises(CallFailed), breaker.attempt():
            raise CallFailed("refused")


def test_giving_pieces_back_is_a_call_like_any_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = StaticDirectory({"inventory-grpc": f"127.0.0.1:{free_port()}"})
    breaker = Breaker("inventory", RULES)
    with (
        closing(SqliteCache(tmp_path / "cache.db")) as cache,
        closing(GuardedGrpc("inventory-grpc", directory, TRACER, breaker)) as service,
    ):
        client = InventoryClient(service, Guard("inventory", RULES, cache))
        for _ in range(3):
            client.release(ORDER)
    assert "inventory-grpc: UNAVAILABLE" in caplog.messages[0]
    assert "breaker of inventory is open" in caplog.messages[-1]
    with pytest.raises(BreakerOpen), breaker.attempt():
        pass


def test_an_open_breaker_calls_nobody() -> None:
    directory = StaticDirectory({"orders": f"http://127.0.0.1:{free_port()}"})
    with closing(GuardedHttp(directory, TRACER, Breaker("orders", RULES))) as orders:
        for error in ("ConnectError", "ConnectError", "breaker of orders is open"):
            with pytest.raises(CallFailed, match=error):
                orders.send("GET", "/")


def test_services_are_made_with_a_breaker_and_in_no_other_way() -> None:
    made = {
        (path.name, call.func.id)
        for path in Path(example_app.__file__).parent.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    }
    assert {("bootstrap.py", "GuardedHttp"), ("bootstrap.py", "GuardedGrpc")} <= made
    assert not {name for _, name in made} & {"HttpService", "GrpcService"}


def test_how_long_it_stays_open_may_differ_from_how_long_a_call_may_take() -> None:
    breaker = Breaker("orders", BreakerRules(1, 60_000, "none", open_ms=1))
    fail(breaker, 1)
    waiting = threading.Event()
    for _ in range(1000):
        try:
            with breaker.attempt():
                break
        except BreakerOpen:
            waiting.wait(0.001)
    else:
        raise AssertionError("it waits for timeout_ms")


def test_an_answer_to_a_call_let_through_before_it_opened_is_an_answer() -> None:
    breaker = Breaker("orders", RULES)
    calling, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        with breaker.attempt():
            calling.set()
            assert go_on.wait(20)
        return "answer"

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(slow)
        assert calling.wait(20)
        fail(breaker, 2)
        with pytest.raises(BreakerOpen), breaker.attempt():
            pass
        go_on.set()
        assert answer.result() == "answer"


def test_how_many_are_open_is_a_metric(counted: Figures) -> None:
    breaker = Breaker("orders", RULES)
    fail(breaker, 2)
    assert counted.value("example.breaker.open", breaker__name="orders") == 1
