"""Services over real sockets: one response tells what the exporters were told."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import requests
from flask import Flask
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from flask_bodytrace import BodyTrace, ConfigError, current_trace
from flask_bodytrace.calls.call import Call
from flask_bodytrace.client import CallTree, unwatch, watch
from flask_bodytrace.trace.header_writer import BUDGET
from flask_bodytrace.wsgi import BodyTraceMiddleware

Edges = Callable[[str], set[tuple[str | None, str]]]


def chain(system: Any, **settings: Any) -> str:
    """Orders calls inventory, which calls payments, and then payments itself."""
    payments = system.service("payments", **settings)
    inventory = system.service("inventory", (f"{payments}/go/1",), **settings)
    url: str = system.service("orders", (f"{inventory}/go/2", f"{payments}/go/3"), **settings)
    return url


def calls_of(tree: CallTree) -> list[Call]:
    return [call for root in tree.roots for call in root.walk()]


@pytest.mark.parametrize("library", [requests.Session, httpx.Client])
def test_d1_one_response_gives_the_exporters_tree(
    system: Any, edges_of: Edges, library: Callable[[], Any]
) -> None:
    url = chain(system)
    tree = CallTree()
    with tree.watch(library()) as session:
        assert session.get(f"{url}/go/9").status_code == 200
    exported = system.edges(tree.trace_id)
    # Four server spans and as many of the work in them.
    assert len(exported) == 8
    root = tree.roots[0].span_id
    assert root is not None
    assert edges_of(str(tree)) == {*exported, (None, root)}
    assert [
        (call.service, call.name, call.status)
        for call in tree.roots[0].walk()
        if call.kind == "server"
    ] == [
        ("orders", "GET /go/<int:n>", "200"),
        ("inventory", "GET /go/<int:n>", "200"),
        ("payments", "GET /go/<int:n>", "200"),
        ("payments", "GET /go/<int:n>", "200"),
    ]
    assert all(call.milliseconds is not None for call in calls_of(tree))
    assert not any(call.more or call.via for call in calls_of(tree))


def test_d1_one_curl_gives_the_exporters_tree(
    system: Any, edges_of: Edges, curl: Callable[..., str]
) -> None:
    tree = CallTree()
    call = tree.add(curl(f"{chain(system)}/go/9"), name="GET /go/9")
    assert call.status == "200"
    exported = system.edges(call.trace_id)
    assert len(exported) == 8
    assert edges_of(str(tree)) == exported
    assert CallTree.from_json(tree.to_json()).to_json() == tree.to_json()
    assert str(CallTree.from_json(tree.to_json())) == str(tree)


def test_concurrent_calls_of_an_async_client(system: Any, edges_of: Edges) -> None:
    url = chain(system)
    tree = CallTree()

    async def ask() -> list[httpx.Response]:
        async with tree.watch(httpx.AsyncClient()) as client:
            return await asyncio.gather(*(client.get(f"{url}/go/{n}") for n in range(6)))

    assert [response.status_code for response in asyncio.run(ask())] == [200] * 6
    roots = tree.roots
    exported = system.edges(tree.trace_id)
    assert len(exported) == 6 * 8
    assert edges_of(str(tree)) == exported | {(None, str(root.span_id)) for root in roots}
    # Every response went below the request that it answers.
    for root in roots:
        (server,) = root.children
        (work,) = server.children
        assert work.name == f"orders work {root.name.rpartition('/')[2]}"


def test_concurrent_calls_inside_one_request(system: Any, edges_of: Edges) -> None:
    payments = system.service("payments")
    app, provider = system.app("orders")
    client = watch(httpx.AsyncClient())

    async def fan_out() -> int:
        responses = await asyncio.gather(*(client.get(f"{payments}/go/{n}") for n in range(5)))
        await client.aclose()
        return len(responses)

    @app.get("/fan")  # type: ignore[untyped-decorator]
    def fan() -> str:
        with provider.get_tracer("orders").start_as_current_span("fan out"):
            return str(asyncio.run(fan_out()))

    tree = CallTree()
    with tree.watch(requests.Session()) as session:
        assert session.get(f"{system.serve(app)}/fan").text == "5"
    exported = system.edges(tree.trace_id)
    assert len(exported) == 2 + 5 * 2
    assert edges_of(str(tree)) == exported | {(None, str(tree.roots[0].span_id))}


@pytest.mark.parametrize("library", [requests.Session, httpx.Client])
def test_instrumented_clients_are_not_doubled(
    system: Any, edges_of: Edges, library: Callable[[], Any]
) -> None:
    payments = system.service("payments")
    app, provider = system.app("orders")
    session = system.stack.enter_context(watch(library()))
    if library is httpx.Client:
        HTTPXClientInstrumentor.instrument_client(session, tracer_provider=provider)
    else:
        RequestsInstrumentor().instrument(tracer_provider=provider)
        system.stack.callback(RequestsInstrumentor().uninstrument)

    @app.get("/order")  # type: ignore[untyped-decorator]
    def order() -> str:
        with provider.get_tracer("orders").start_as_current_span("check out"):
            status = session.get(f"{payments}/go/1").status_code
            session.get(f"{payments}/fail")
            with pytest.raises((requests.ConnectionError, httpx.ConnectError)):
                session.get("http://127.0.0.1:1/")
        return str(status)

    url = system.serve(app)
    tree = CallTree()
    with httpx.Client() as client:
        assert tree.watch(client).get(f"{url}/order").text == "200"
    exported = system.edges(tree.trace_id)
    # orders, its work, three client spans, payments twice, its work.
    assert len(exported) == 8
    assert edges_of(str(tree)) == exported | {(None, str(tree.roots[0].span_id))}
    # The call that failed is its client span and nothing else besides.
    assert len(calls_of(tree)) == 9
    failed = [call.status for call in calls_of(tree) if call.kind == "client" and call.failed]
    assert len(failed) == 2
    assert failed[0] == "503"


@pytest.mark.parametrize("library", [requests.Session, httpx.Client])
def test_an_instrumented_client_keeps_the_traces_it_starts(
    system: Any, edges_of: Edges, library: Callable[[], Any]
) -> None:
    url = system.service("orders")
    _, provider = system.app("client")
    session = system.stack.enter_context(library())
    if library is httpx.Client:
        HTTPXClientInstrumentor.instrument_client(session, tracer_provider=provider)
    else:
        RequestsInstrumentor().instrument(tracer_provider=provider)
        system.stack.callback(RequestsInstrumentor().uninstrument)
    tree = CallTree()
    tree.watch(session)
    for n in range(2):
        session.get(f"{url}/go/{n}")
    traces = {str(root.trace_id) for root in tree.roots}
    assert len(traces) == 2
    assert tree.trace_id not in traces
    for root in tree.roots:
        exported = system.edges(str(root.trace_id))
        assert len(exported) == 3
        (server,) = root.children
        assert root.span_id is None
        assert (root.parent_span_id, server.span_id) in exported
        assert {edge for edge in edges_of(str(tree)) if edge[0] == server.span_id} < exported


def test_relay_off_knows_the_direct_child_only(system: Any) -> None:
    url = chain(system, relay_calls=False)
    tree = CallTree()
    with tree.watch(requests.Session()) as session:
        response = session.get(f"{url}/go/9")
    assert "Server-Timing" not in response.headers
    (server,) = tree.roots[0].children
    assert server.children == []
    assert (tree.roots[0].span_id, server.span_id) in system.edges(tree.trace_id)


def test_services_of_mixed_settings(system: Any, edges_of: Edges) -> None:
    silent = system.service("silent", relay_calls=False, response_headers="traceresponse")
    plain = Flask("plain")
    plain.add_url_rule("/x", view_func=lambda: "no trace at all")
    another = system.service("another", incoming="ignore")
    calls = (
        f"{silent}/go/1?token=secret",
        f"{system.serve(plain)}/x?token=secret",
        f"{another}/go/2",
    )
    url = system.service("orders", calls, response_headers="server-timing")
    tree = CallTree()
    with tree.watch(requests.Session()) as session:
        session.get(f"{url}/go/9")
    (orders,) = tree.roots[0].children
    first, second, third = orders.children[0].children
    # Relayed as one span: what is below it nobody told.
    assert (orders.children[0].span_id, first.span_id) in system.edges(tree.trace_id)
    assert first.children == []
    # The others did not answer with a span of this trace.
    assert (second.span_id, second.kind, second.status) == (None, "client", "200")
    assert (third.span_id, third.kind, third.status) == (None, "client", "200")
    assert {edge for edge in edges_of(str(tree)) if edge[0]} < system.edges(tree.trace_id)
    assert "secret" not in str(tree)
    assert "another  GET" not in str(tree)


def test_errors_and_timeouts_are_failed_calls(system: Any) -> None:
    deaf = system.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    dead = system.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    refused = f"http://127.0.0.1:{dead.getsockname()[1]}"
    silent = f"http://127.0.0.1:{deaf.getsockname()[1]}"
    dead.close()
    payments = system.service("payments")
    app, _ = system.app("orders")
    session = system.stack.enter_context(watch(requests.Session()))

    @app.get("/try")  # type: ignore[untyped-decorator]
    def attempt() -> str:
        with pytest.raises(requests.ConnectionError):
            session.get(f"{refused}/a")
        with pytest.raises(requests.ReadTimeout):
            session.get(f"{silent}/b", timeout=0.05)
        session.get(f"{payments}/fail")
        return "ok"

    url = system.serve(app)
    tree = CallTree()
    with tree.watch(httpx.Client()) as client:
        client.get(f"{url}/try")
        with pytest.raises(httpx.ReadTimeout):
            client.get(f"{silent}/c", timeout=0.05)
    orders, timeout = tree.roots[0].children[0], tree.roots[1]
    assert [(call.name, call.status, call.failed) for call in orders.children] == [
        (f"GET {refused}/a", "ConnectionError", True),
        (f"GET {silent}/b", "ReadTimeout", True),
        ("GET /fail", "503", True),
    ]
    assert (timeout.name, timeout.status, timeout.failed) == (
        f"GET {silent}/c",
        "ReadTimeout",
        True,
    )
    assert str(tree).count("✗") == 4


def test_cancelled_calls_are_failed_calls(system: Any) -> None:
    deaf = system.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    tree = CallTree()

    async def give_up() -> None:
        sent = asyncio.Event()

        async def sending(_request: httpx.Request) -> None:
            sent.set()

        async with tree.watch(httpx.AsyncClient()) as client:
            client.event_hooks["request"].append(sending)
            task = asyncio.create_task(client.get(f"http://127.0.0.1:{deaf.getsockname()[1]}/"))
            await sent.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(give_up())
    assert [root.status for root in tree.roots] == ["CancelledError"]


# T17
def test_truncation_is_within_the_budget_and_seen(system: Any, edges_of: Edges) -> None:
    payments = system.service("payments")
    inventory = system.service("inventory", (f"{payments}/go/1",) * 30)
    url = system.service("orders", (f"{inventory}/go/2",) * 2)
    tree = CallTree()
    with tree.watch(requests.Session()) as session:
        response = session.get(f"{url}/go/9")
    ours = ("server-timing", "x-trace-id", "x-span-id", "x-parent-span-id")
    size = sum(len(f"{n}: {v}\r\n") for n, v in response.headers.items() if n.lower() in ours)
    assert size <= BUDGET
    exported = system.edges(tree.trace_id)
    shown = edges_of(str(tree)) - {(None, tree.roots[0].span_id)}
    # What is shown is true, and what is left out is counted: none is lost.
    assert shown < exported
    left_out = sum(call.more for call in calls_of(tree))
    assert len(shown) + left_out == len(exported) == 2 + 2 * (2 + 30 * 2)
    assert re.search(r"… [0-9]+ more calls not shown", str(tree))


def test_spans_that_nobody_samples_are_relayed_all_the_same(system: Any) -> None:
    payments = system.service("payments")
    app = Flask("orders")
    provider = TracerProvider(sampler=ALWAYS_OFF)
    bodytrace = BodyTrace(app, tracer_provider=provider, relay_calls=True, metrics=False)
    session = system.stack.enter_context(bodytrace.watch(requests.Session()))

    @app.get("/order/<n>")
    def order(n: str) -> str:
        return str(session.get(f"{payments}/go/{n}").status_code)

    tree = CallTree()
    with tree.watch(requests.Session()) as client:
        client.get(f"{system.serve(app)}/order/1")
    (orders,) = tree.roots[0].children
    assert orders.name == "GET /order/<n>"
    assert [call.service for call in orders.children] == ["payments"]


def test_headers_are_injected_once_and_only_where_none_are(system: Any) -> None:
    seen: list[dict[str, str]] = []

    def record(environ: Any, start_response: Any) -> list[bytes]:
        seen.append({k: v for k, v in environ.items() if k.startswith("HTTP_")})
        start_response("200 OK", [("Content-Length", "0")])
        return []

    url = system.serve(record)
    app, _ = system.app("orders", ids="order.id=query:id", baggage=True)
    session = system.stack.enter_context(requests.Session())
    other = CallTree()
    for _ in range(2):
        other.watch(watch(session))
    own = f"00-{'1' * 32}-{'2' * 16}-01"
    span_ids: list[str] = []

    @app.get("/")  # type: ignore[untyped-decorator]
    def index() -> str:
        trace = current_trace()
        assert trace is not None
        span_ids.append(f"00-{trace.trace_id}-{trace.span_id}")
        session.get(url)
        session.get(url, headers={"traceparent": own})
        session.get(url, headers={"X-Trace-ID": "3" * 32})
        session.get(url, headers={"baggage": "mine=1"})
        unwatch(session)
        other.unwatch(session)
        session.get(url)
        return "ok"

    with app.test_client() as client:
        client.get("/?id=ORD1")
    assert seen[0]["HTTP_BAGGAGE"] == "order.id=ORD1"
    assert seen[0]["HTTP_TRACEPARENT"][:-3] == span_ids[0]
    assert seen[1]["HTTP_TRACEPARENT"] == own
    assert (seen[2]["HTTP_X_TRACE_ID"], seen[2].get("HTTP_TRACEPARENT")) == ("3" * 32, None)
    assert seen[3]["HTTP_TRACEPARENT"][:-3] == span_ids[0]
    assert seen[3]["HTTP_BAGGAGE"] == "mine=1"
    assert "HTTP_TRACEPARENT" not in seen[4]
    assert len(other.roots) == 4


def test_late_answers_belong_to_nobody_else(system: Any, curl: Callable[..., str]) -> None:
    """A thread that calls on after its request's answer went out changes no other answer."""
    payments = system.service("payments")
    app, _ = system.app("orders")
    session = system.stack.enter_context(watch(requests.Session()))
    go_on = threading.Event()
    threads: list[threading.Thread] = []

    @app.get("/later")  # type: ignore[untyped-decorator]
    def later() -> str:
        from opentelemetry.context import attach, get_current

        context = get_current()

        def work() -> None:
            attach(context)
            go_on.wait(10)
            session.get(f"{payments}/go/1")

        threads.append(threading.Thread(target=work))
        threads[-1].start()
        return "ok"

    url = system.serve(app)
    first = CallTree().add(curl(f"{url}/later"))
    go_on.set()
    second = CallTree().add(curl(f"{url}/fail"))
    threads[0].join()
    assert first.children == second.children == []
    # The trace is right even so.
    assert len(system.edges(first.trace_id)) == 3


def test_relay_without_trace_headers_is_refused() -> None:
    with pytest.raises(ConfigError, match="BODYTRACE_RESPONSE_HEADERS"):
        BodyTrace(Flask("x"), relay_calls=True, response_headers="")


def test_a_broken_relay_costs_the_answer_nothing(
    system: Any, monkeypatch: pytest.MonkeyPatch, curl: Callable[..., str]
) -> None:
    monkeypatch.setattr("flask_bodytrace.calls.relay.fit", lambda *_: 1 / 0)
    text = curl(f"{system.service('orders')}/go/1")
    assert text.startswith("HTTP/1.0 200 OK")
    assert "x-trace-id" in text.lower()
    assert "server-timing" not in text.lower()


def test_another_wsgi_application_relays_too(system: Any) -> None:
    payments = system.service("payments")
    session = system.stack.enter_context(watch(requests.Session()))

    def application(_environ: Any, start_response: Any) -> list[bytes]:
        session.get(f"{payments}/go/1")
        start_response("200 OK", [("Content-Length", "0")])
        return []

    wrapped = BodyTraceMiddleware(application, relay_calls=True, tracer_provider=TracerProvider())
    tree = CallTree()
    with tree.watch(requests.Session()) as client:
        client.get(system.serve(wrapped))
    (server,) = tree.roots[0].children
    assert [call.name for call in server.walk()] == ["GET", "GET /go/<int:n>", "payments work 1"]


def test_a_service_that_relays_nothing_imports_nothing() -> None:
    program = (
        "import sys; from flask import Flask; from flask_bodytrace import BodyTrace;"
        "BodyTrace(Flask('x'), relay_calls={});"
        "print(sorted({{'relay', 'client', 'sessions', 'calls', 'calltree', 'reporting'}} & "
        "{{n.rpartition('.')[2] for n in sys.modules if n.startswith('flask_bodytrace')}}))"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", program.format(relay)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.strip()
        for relay in (False, True)
    ]
    assert found == ["[]", "['calls', 'relay']"]


def test_a_request_of_many_spans_is_bounded_and_counted(system: Any) -> None:
    app, provider = system.app("orders")
    tracer = provider.get_tracer("orders")

    @app.get("/many")  # type: ignore[untyped-decorator]
    def many() -> str:
        for n in range(700):
            with tracer.start_as_current_span(f"query {n}"):
                pass
        return "ok"

    tree = CallTree()
    with tree.watch(requests.Session()) as session:
        session.get(f"{system.serve(app)}/many")
    (server,) = tree.roots[0].children
    below = list(server.walk())[1:]
    assert len(below) + server.more == 700


def test_services_that_say_too_much_are_bounded_and_counted(system: Any) -> None:
    def talkative(environ: Any, start_response: Any) -> list[bytes]:
        _, trace_id, parent, _ = environ["HTTP_TRACEPARENT"].split("-")
        span_id = f"{int(parent, 16) ^ 1:016x}"
        filler = [f'call;desc="{n:016x} {span_id} I - {"x" * 100}"' for n in range(1, 90)]
        headers = [
            ("Content-Length", "0"),
            ("X-Trace-ID", trace_id),
            ("X-Span-ID", span_id),
            ("Server-Timing", ", ".join(filler)),
        ]
        start_response("200 OK", headers)
        return []

    url = system.service("orders", (system.serve(talkative),) * 300)
    tree = CallTree()
    with tree.watch(requests.Session()) as session:
        response = session.get(f"{url}/go/1")
    assert response.status_code == 200
    assert len(response.headers["Server-Timing"]) < BUDGET
    shown = calls_of(tree)
    # Whose words were not kept says so; nothing is dropped in silence.
    assert len(shown) + sum(call.more for call in shown) > 300
