"""One process with Traceloop and BodyTrace in it: requests over a socket, and what must come.

``python -m tests.traceloop.checks FIRST PATH WAY``; see `main`. It fails at the first difference.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from flask import Flask
from opentelemetry.metrics import get_meter_provider
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from traceloop.sdk import Traceloop

from flask_bodytrace import BodyTrace
from tests.docs.receiver import listening
from tests.traceloop.application import CALLERS_SPAN, Answer, Client, make_app, served
from tests.traceloop.arrivals import Arrivals, Arrived

ASSOCIATED = "traceloop.association.properties.customer"
TENANT = "traceloop.association.properties.tenant"
WORKFLOW = "traceloop.workflow.name"
BODY = "http.request.body.content"


def main(first: str, path: str, way: str) -> None:
    """Set both up, send requests, check what came.

    :param first: which is set up first, ``traceloop`` or ``bodytrace``.
    :param path: what has to make the server spans, ``fast`` or ``sdk``.
    :param way: how Traceloop gets spans out: `_start_traceloop`.
    :raises AssertionError: something is not as it should be.
    """
    said = _Said()
    arrivals = Arrivals()
    app = make_app()
    with listening(arrivals.take) as url:
        if first == "traceloop":
            _start_traceloop(way, arrivals, url)
        BodyTrace(app, ids="order.id=orderId", capture_body="always")
        if first == "bodytrace":
            _start_traceloop(way, arrivals, url)
        plan = app.extensions["bodytrace"].plan
        assert ("sdk" if plan.fast is None else "fast") == path, plan.why_not_fast
        # Who is first makes the provider: its resource and its id generator.
        assert plan.service_name == {"traceloop": "assistant", "bodytrace": "shop"}[first]
        assert plan.chooses_trace_id == (first == "bodytrace")
        with served(app) as client:
            _check_order(client, arrivals, is_hidden=way == "exporter")
            _check_without_caller(client, arrivals)
            _check_workflows(client, arrivals)
            _check_tenant(client, arrivals)
            _check_failure(client, arrivals)
            _check_client_lost(client, arrivals)
            _check_unsampled(client, arrivals)
        _check_strangers(make_app(), arrivals)
        _check_kept(make_app(), arrivals)
        if way == "socket":
            get_meter_provider().shutdown()  # type: ignore[attr-defined]
            assert "http.server.request.duration" in arrivals.metrics, arrivals.metrics
    said.check()


def _start_traceloop(way: str, arrivals: Arrivals, url: str) -> None:
    """Initialise Traceloop.

    :param way: ``exporter``, ``processor`` and ``processors`` are its arguments of these names;
        ``socket`` is its own exporter, which sends batches by OTLP.
    """
    more: dict[str, Any]
    if way == "exporter":
        more = {
            "exporter": arrivals,
            "disable_batch": True,
            "span_postprocess_callback": _hide,
        }
    elif way == "processor":
        more = {"processor": SimpleSpanProcessor(arrivals)}
    elif way == "processors":
        more = {"processor": [Traceloop.get_default_span_processor(exporter=arrivals)]}
    else:
        more = {"api_endpoint": url, "headers": {"Authorization": "none"}}
    Traceloop.init("assistant", **more)


def _hide(span: ReadableSpan) -> None:
    # What Traceloop's callback is for; an ended span has no public way to change it.
    attributes: Any = span._attributes
    if BODY in attributes:
        attributes[BODY] = "hidden"


class _Said(logging.Handler):
    """What anybody logs: a context that cannot be left, spans that cannot be sent."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Note it."""
        self.lines.append(f"{record.name}: {record.getMessage()}")

    def check(self) -> None:
        """Nothing but Flask's own lines about the view that fails."""
        flasks = "shop: Exception on /failing"
        assert all(line.startswith(flasks) for line in self.lines), self.lines


def _server_span(answer: Answer, span: Arrived, *, status: int = 200) -> None:
    assert answer.status == status, answer
    assert span.trace_id == answer.trace_id
    assert span.span_id == answer.headers["X-Span-ID"]
    assert span.attributes["order.id"] == "ORD1", span
    assert span.attributes["http.response.status_code"] == status, span
    if answer.caller:
        assert (span.trace_id, span.parent_id) == (answer.caller, CALLERS_SPAN), span
    else:
        assert not span.parent_id, span


def _check_order(client: Client, arrivals: Arrivals, *, is_hidden: bool) -> None:
    """The body is read three times, and what is associated is on the spans below."""
    answer = client.post("/orders?customer=C7")
    assert json.loads(answer.text) == {
        "price": "price of ORD1",
        "trace": answer.caller,
        "again": answer.sent,
        "stream": answer.sent,
    }, answer
    server, price, look_up = arrivals.of(
        answer.trace_id, "POST /orders", "price.workflow", "look_up.task"
    )
    _server_span(answer, server)
    assert (price.parent_id, look_up.parent_id) == (server.span_id, price.span_id)
    for span in (price, look_up):
        assert span.attributes[ASSOCIATED] == "C7", span
        assert span.attributes[WORKFLOW] == "price", span
    captured = server.attributes[BODY]
    assert captured == "hidden" if is_hidden else "ORD1" in captured and "4111" not in captured

    # The next request on the same thread has nothing of it.
    answer = client.post("/orders")
    spans = arrivals.of(answer.trace_id, "POST /orders", "price.workflow", "look_up.task")
    _server_span(answer, spans[0])
    assert WORKFLOW not in spans[0].attributes
    assert not any(ASSOCIATED in span.attributes for span in spans), spans


def _check_without_caller(client: Client, arrivals: Arrivals) -> None:
    answer = client.post("/orders", flags="")
    server, *_ = arrivals.of(answer.trace_id, "POST /orders", "price.workflow", "look_up.task")
    _server_span(answer, server)


def _check_workflows(client: Client, arrivals: Arrivals) -> None:
    """Wherever one runs, it is below the request's span, and its tasks below it."""
    for path, name, tasks in (
        ("/decorated", "decorated", 1),
        ("/stream", "words", 2),
        ("/thread", "price", 1),
        ("/coroutine", "price", 1),
    ):
        answer = client.post(path)
        assert "price of ORD1" in answer.text, answer
        server, workflow, *below = arrivals.of(
            answer.trace_id, f"POST {path}", f"{name}.workflow", *["look_up.task"] * tasks
        )
        _server_span(answer, server)
        assert workflow.parent_id == server.span_id, workflow
        assert {task.parent_id for task in below} == {workflow.span_id}, below


def _check_tenant(client: Client, arrivals: Arrivals) -> None:
    """What is associated before the request's span starts is on that as well, if it is asked."""
    for flags in ("01", ""):
        answer = client.post("/orders", flags=flags, tenant="T3")
        spans = arrivals.of(answer.trace_id, "POST /orders", "price.workflow", "look_up.task")
        assert [span.attributes.get(TENANT) for span in spans] == ["T3"] * 3, spans


def _check_client_lost(client: Client, arrivals: Arrivals) -> None:
    answer = client.post("/endless")
    server, workflow = arrivals.of(
        answer.trace_id, "POST /endless", "endless.workflow", more="look_up.task"
    )
    _server_span(answer, server)
    assert workflow.parent_id == server.span_id


def _check_strangers(app: Flask, arrivals: Arrivals) -> None:
    """Nothing of a stranger's trace is taken over; what is associated is ours."""
    BodyTrace(app, ids="order.id=orderId", incoming="link")
    with served(app) as client:
        answer = client.post("/orders", tenant="T3")
        assert answer.trace_id != answer.caller
        spans = arrivals.of(answer.trace_id, "POST /orders", "price.workflow", "look_up.task")
        assert not spans[0].parent_id
        assert [span.attributes.get(TENANT) for span in spans] == ["T3"] * 3, spans


def _check_failure(client: Client, arrivals: Arrivals) -> None:
    answer = client.post("/failing")
    server, workflow = arrivals.of(answer.trace_id, "POST /failing", "failing.workflow")
    _server_span(answer, server, status=500)
    assert server.attributes["error.type"] == "ValueError", server
    assert workflow.events == server.events == ["exception"], (workflow, server)


def _check_unsampled(client: Client, arrivals: Arrivals) -> None:
    """The caller's decision counts."""
    unsampled = client.post("/orders", flags="00")
    assert (unsampled.status, unsampled.trace_id) == (200, unsampled.caller)
    sampled = client.post("/orders")
    arrivals.of(sampled.trace_id, "POST /orders", "price.workflow", "look_up.task")
    arrivals.of(unsampled.trace_id)


def _check_kept(app: Flask, arrivals: Arrivals) -> None:
    """A request that is not sampled and fails arrives as well, where it is to be kept."""
    BodyTrace(app, ids="order.id=orderId", keep="errors")
    with served(app) as client:
        answer = client.post("/failing", flags="00")
        server, workflow = arrivals.of(answer.trace_id, "POST /failing", "failing.workflow")
        _server_span(answer, server, status=500)
        assert workflow.parent_id == server.span_id
        assert server.attributes["bodytrace.kept"] == "error"


if __name__ == "__main__":
    main(*sys.argv[1:])
