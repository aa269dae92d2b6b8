"""The tree as text, Mermaid, JSON and spans."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from flask_bodytrace.calls.call import Call
from flask_bodytrace.calls.render import to_mermaid
from flask_bodytrace.client import CallTree

TRACE = "0af7651916cd43dd8448eb211c80319c"


def orders() -> Call:
    """What one operation led to."""

    def call(number: int, *args: Any, **kwargs: Any) -> Call:
        made = Call(*args, **kwargs)
        made.trace_id, made.span_id = TRACE, f"{number:016x}"
        return made

    return call(
        1,
        "POST http://shop.example/orders",
        kind="client",
        status="200",
        milliseconds=52.1,
        began=1_700_000_000_000_000_000,
        children=[
            call(
                2,
                "POST /orders",
                "orders",
                "server",
                "200",
                parent_span_id=f"{1:016x}",
                milliseconds=48.1,
                more=2,
                children=[
                    call(
                        3,
                        "PUT /stock/<sku>",
                        "inventory",
                        "server",
                        "503",
                        parent_span_id=f"{2:016x}",
                        milliseconds=10.0,
                        start=1.5,
                        via=True,
                    ),
                    Call(
                        "GET http://mail.example/",
                        kind="client",
                        status="ReadTimeout",
                        trace_id=TRACE,
                        parent_span_id=f"{2:016x}",
                        start=12.0,
                    ),
                ],
            )
        ],
    )


def tree_of(*roots: Call) -> CallTree:
    tree = CallTree()
    tree._roots = list(roots)
    return tree


def test_text() -> None:
    assert str(tree_of(orders())) == "\n".join(
        [
            f"trace {TRACE}",
            "└─ POST http://shop.example/orders  200  52.1 ms  [0000000000000001]",
            "   └─ orders  POST /orders  200  48.1 ms  [0000000000000002]",
            (
                "      ├─ inventory  PUT /stock/<sku>  503  10.0 ms  ✗  "
                "[0000000000000003]  (through calls not shown)"
            ),
            "      ├─ GET http://mail.example/  ReadTimeout  ✗",
            "      └─ … 2 more calls not shown",
        ]
    )


def test_json_is_read_back() -> None:
    tree = tree_of(orders())
    again = CallTree.from_json(tree.to_json())
    assert again.to_json() == tree.to_json()
    assert str(again) == str(tree)
    assert again.to_mermaid() == tree.to_mermaid()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"calls": 1, "more": 0}',
        '{"calls": [1], "more": 0}',
        '{"calls": [], "more": "many"}',
        '{"calls": [{}], "more": 0}',
        json.dumps({"calls": [], "more": 0}) + "}",
        tree_of(orders()).to_json().replace("0000000000000003", "<script>"),
        tree_of(orders()).to_json().replace('"more": 2', '"more": true'),
        tree_of(orders()).to_json().replace('"kind": "server"', '"kind": "boss"'),
        '{"calls": ' * 100_000,
        tree_of(orders()).to_json().replace('"start": 1.5', '"start": NaN'),
        tree_of(orders()).to_json().replace('"start": 1.5', '"start": 1e999'),
    ],
)
def test_json_of_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="this is no call tree"):
        CallTree.from_json(text)


LINES = [
    r"flowchart TD",
    r'    n[0-9]+\["(?:<br>|#[0-9]+;|[^"<>#&`;\[\]{}()|\\])+"\]',
    r"    n[0-9]+ --> n[0-9]+",
    r"    classDef failed stroke:#c00,stroke-width:2px",
    r"    class n[0-9]+(?:,n[0-9]+)* failed",
]


@given(st.lists(st.text(), max_size=8), st.text())
def test_mermaid_of_any_names_is_the_same_few_kinds_of_lines(
    names: list[str], service: str
) -> None:
    root = orders()
    root.children += [Call(name, service, status="x") for name in names]
    lines = to_mermaid([root], more=1).split("\n")
    assert all(any(re.fullmatch(kind, line) for kind in LINES) for line in lines), lines
    # As many boxes as calls and counts, and an edge to each but the root and its count.
    assert sum('["' in line for line in lines) == 4 + 1 + len(names) + 1
    assert sum("-->" in line for line in lines) == 3 + 1 + len(names)


def test_report_keeps_ids_parents_and_times() -> None:
    exporter = InMemorySpanExporter()
    assert tree_of(orders()).report(exporter) == 3
    client, server, inventory = exporter.get_finished_spans()
    began = 1_700_000_000_000_000_000
    for number, span in enumerate((client, server, inventory), 1):
        context = span.get_span_context()
        assert context is not None
        assert format_trace_id(context.trace_id) == TRACE
        assert format_span_id(context.span_id) == f"{number:016x}"
    assert client.parent is None
    assert [span.parent and span.parent.span_id for span in (server, inventory)] == [1, 2]
    assert [span.kind for span in (client, server)] == [SpanKind.CLIENT, SpanKind.SERVER]
    assert (client.start_time, client.end_time) == (began, began + 52_100_000)
    # Nobody measured when it arrived: in the middle, and it says so.
    assert (server.start_time, server.end_time) == (began + 2_000_000, began + 50_100_000)
    assert (server.attributes or {})["bodytrace.start_estimated"] is True
    assert inventory.start_time == began + 3_500_000
    assert "bodytrace.start_estimated" not in (inventory.attributes or {})
    assert inventory.status.status_code is StatusCode.ERROR
    assert (inventory.attributes or {})["http.response.status_code"] == 503
    assert inventory.resource.attributes["service.name"] == "inventory"


def test_report_gives_the_tree_the_exporters_saw(
    system: Any, edges_of: Callable[[str], set[tuple[str | None, str]]]
) -> None:
    payments = system.service("payments")
    url = system.service("orders", (f"{payments}/go/1",))
    tree = CallTree()
    with tree.watch(requests.Session()) as session:
        session.get(f"{url}/go/2")
    exported = system.edges(tree.trace_id)
    system.exporter.clear()
    assert tree.report(system.exporter) == 5
    # The client's own span is what the services' exporters could not see.
    assert system.edges(tree.trace_id) == exported | {(None, str(tree.roots[0].span_id))}
    assert edges_of(str(tree)) == system.edges(tree.trace_id)


def test_nothing_is_reported_into_another_trace(system: Any) -> None:
    other = "f" * 32

    def liar(_environ: Any, start_response: Any) -> list[bytes]:
        lie = f'call;dur=1;desc="{"a" * 16} {"b" * 16} S200 liar lie"'
        headers = [
            ("Content-Length", "0"),
            ("X-Trace-ID", other),
            ("X-Span-ID", "a" * 16),
            ("Server-Timing", lie),
        ]
        start_response("200 OK", headers)
        return []

    tree = CallTree()
    url = system.serve(liar)
    with tree.watch(requests.Session()) as session:
        session.get(url)
    assert f"(in another trace: {other})" in str(tree)
    exporter = InMemorySpanExporter()
    assert tree.report(exporter) == 1
    (span,) = exporter.get_finished_spans()
    assert span.kind is SpanKind.CLIENT


def test_nobody_takes_the_span_of_another_call() -> None:
    first, second = orders(), orders()
    for number, call in enumerate(second.walk(), 10):
        call.span_id = f"{number:016x}"
    # The second service says that it is the first call's own span, and repeats one of its ids.
    second.children[0].span_id = first.span_id
    second.children[0].children[0].span_id = first.children[0].span_id
    exporter = InMemorySpanExporter()
    tree = tree_of(first, second)
    tree.report(exporter)
    ids = [
        context.span_id
        for span in exporter.get_finished_spans()
        if (context := span.get_span_context()) is not None
    ]
    assert len(ids) == len(set(ids))
    owner = {
        context.span_id: span.name
        for span in exporter.get_finished_spans()
        if (context := span.get_span_context()) is not None
    }
    assert owner[1] == first.name


def test_report_goes_to_the_configured_exporter() -> None:
    program = (
        "import sys; from flask_bodytrace.client import CallTree;"
        "print(CallTree.from_json(sys.stdin.read()).report(), file=sys.stderr)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        input=tree_of(orders()).to_json(),
        env={"OTEL_TRACES_EXPORTER": "console"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert run.stderr.strip() == "3"
    assert run.stdout.count(f'"trace_id": "0x{TRACE}"') == 3


def test_inside_a_span_calls_belong_to_its_trace(system: Any) -> None:
    url = system.service("orders")
    provider = TracerProvider()
    tree = CallTree()
    with (
        tree.watch(requests.Session()) as session,
        provider.get_tracer("test").start_as_current_span("operation") as span,
    ):
        session.get(f"{url}/go/1")
        session.get(f"{url}/go/2")
    context = span.get_span_context()
    parent = format_span_id(context.span_id)
    assert {root.trace_id for root in tree.roots} == {format_trace_id(context.trace_id)}
    assert {root.parent_span_id for root in tree.roots} == {parent}
    below = {root.children[0].span_id for root in tree.roots}
    assert {(parent, span_id) for span_id in below} < system.edges(
        format_trace_id(context.trace_id)
    )
    # The span that made the calls is exported by whoever started it.
    exporter = InMemorySpanExporter()
    assert tree.report(exporter) == 4
    assert {span.kind for span in exporter.get_finished_spans()} == {
        SpanKind.SERVER,
        SpanKind.INTERNAL,
    }


def test_curl_shows_redirects_and_interim_answers_first() -> None:
    text = (
        "HTTP/1.1 302 FOUND\r\nX-Trace-Id: " + "1" * 32 + "\r\nX-Span-Id: " + "2" * 16 + "\r\n\r\n"
        "HTTP/1.1 100 Continue\r\n\r\n"
        "HTTP/2 503\r\nx-trace-id: " + TRACE + "\r\nx-span-id: " + "3" * 16 + "\r\n\r\n"
        "HTTP/1.1 200 OK\r\nX-Trace-ID: " + "4" * 32 + "\r\n"
    )
    call = CallTree().add(text, name="GET /")
    assert (call.trace_id, call.span_id, call.status) == (TRACE, "3" * 16, "503")


def test_a_response_without_trace_headers_is_a_call_too() -> None:
    tree = CallTree()
    call = tree.add({"Content-Type": "text/plain"}, status=204, name="GET /", milliseconds=3)
    assert (call.kind, call.status, call.milliseconds, call.children) == ("client", "204", 3, [])
    assert str(tree) == "trace (unknown)\n└─ GET /  204  3.0 ms"


def test_more_calls_than_a_tree_keeps_are_counted() -> None:
    tree = CallTree()
    for _ in range(1003):
        tree.add({}, status=200)
    assert len(tree.roots) == 1000
    assert str(tree).endswith("… 3 more calls not shown")
    assert str(CallTree.from_json(tree.to_json())) == str(tree)
