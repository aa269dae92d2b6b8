"""The context of a request goes along to where Python takes none."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask, copy_current_request_context, g, request
from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import TracerProvider

from flask_bodytrace import carry, carry_iterable, current_trace

Places = dict[str, Callable[[Callable[[], Any]], Any]]


def in_thread(function: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def in_executor(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(function).result()


def in_timer(function: Callable[[], Any]) -> Any:
    found: list[Any] = []
    timer = threading.Timer(0, lambda: found.append(function()))
    timer.start()
    timer.join()
    return found[0]


PLACES: Places = {"thread": in_thread, "executor": in_executor, "timer": in_timer}


@pytest.mark.parametrize("with_request", [False, True], ids=["alone", "with the request"])
@pytest.mark.parametrize("place", PLACES)
def test_trace_ids_baggage_and_logs_go_along(  # noqa: PLR0913, PLR0917 - fixtures
    make_app: Callable[..., Flask],
    provider: TracerProvider,
    spans: Any,
    caplog: pytest.LogCaptureFixture,
    place: str,
    with_request: bool,
) -> None:
    app = make_app(ids="order.id=orderId", baggage=True, logs=True)
    tracer = provider.get_tracer("app")

    def work() -> tuple[str, Any, bool]:
        logging.getLogger("work").warning("working")
        with tracer.start_as_current_span("work"):
            known = current_trace()
            assert known is not None
            assert known.ids == {"order.id": "A"}
            return known.trace_id, baggage.get_baggage("order.id"), with_request and bool(g.trace)

    @app.post("/")
    def view() -> dict[str, Any]:
        assert request.get_json()
        function = carry(work)
        if with_request:
            function = copy_current_request_context(function)
        trace_id, carried, has_request = PLACES[place](function)
        return {"same": trace_id == g.trace.trace_id, "id": carried, "request": has_request}

    answer = app.test_client().post("/", json={"orderId": "A"})
    assert answer.json == {"same": True, "id": "A", "request": with_request}
    assert spans.one("work").parent.span_id == spans.server().get_span_context().span_id
    (record,) = [each for each in caplog.records if each.name == "work"]
    assert record.__dict__["otelTraceID"] == answer.headers["X-Trace-ID"]
    assert record.__dict__["order.id"] == "A"


def test_items_are_made_in_the_context_and_consumed_outside(
    make_app: Callable[..., Flask], provider: TracerProvider, spans: Any
) -> None:
    app = make_app()
    tracer = provider.get_tracer("app")
    kept: list[Any] = []

    def numbers() -> Any:
        for number in range(2):
            with tracer.start_as_current_span(f"item {number}"):
                pass
            yield number

    @app.get("/")
    def view() -> str:
        kept.append(carry_iterable(numbers()))
        return ""

    app.test_client().get("/")
    for _ in kept[0]:
        assert not trace.get_current_span().get_span_context().is_valid
    server = spans.server().get_span_context().span_id
    assert [spans.one(f"item {number}").parent.span_id for number in range(2)] == [server] * 2


def test_what_the_function_raises_and_returns_is_its_own() -> None:
    def divide(number: int, by: int = 0) -> float:
        """Divide."""
        return number / by

    assert carry(divide)(4, by=2) == 2
    assert carry(divide).__doc__ == "Divide."
    with pytest.raises(ZeroDivisionError):
        carry(divide)(1)
