"""Trace headers on responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, Response, abort, g
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from flask_bodytrace import BodyTrace
from flask_bodytrace.trace.header_writer import BUDGET, HeaderWriter, expose
from flask_bodytrace.trace.headers import FORMS, SpanReference, parse

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "00f067aa0ba902b7"
PARENT = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-03"

Header = tuple[str, str]


def write(forms: tuple[str, ...], *present: Header, **more: Any) -> list[Header]:
    names = (TRACE, SPAN, more.pop("parent", PARENT), 3)
    return HeaderWriter(forms).write(list(present), names, **more)[0]


def test_every_form() -> None:
    assert write(FORMS) == [
        ("Server-Timing", f'traceparent;desc="{TRACEPARENT}"'),
        ("traceresponse", TRACEPARENT),
        ("X-Trace-ID", TRACE),
        ("X-Span-ID", SPAN),
        ("X-Parent-Span-ID", PARENT),
    ]


def test_a_root_has_no_parent() -> None:
    assert write(("x-trace",), parent=None) == [("X-Trace-ID", TRACE), ("X-Span-ID", SPAN)]


def test_the_callers_list_stays_as_it_is() -> None:
    present = [("Server-Timing", "db;dur=5")]
    written, _ = HeaderWriter(FORMS).write(present, (TRACE, SPAN, None, 1))
    assert present == [("Server-Timing", "db;dur=5")]
    assert written[0][1].startswith('db;dur=5, traceparent;desc="00-')


@pytest.mark.parametrize("forms", [(form,) for form in FORMS])
def test_what_is_written_can_be_read(forms: tuple[str, ...]) -> None:
    found = parse(write(forms, ("Server-Timing", 'cache;desc="a, b"')))
    parent = PARENT if forms == ("x-trace",) else None
    sampled = None if forms == ("x-trace",) else True
    assert found == SpanReference(TRACE, SPAN, parent, sampled)


@pytest.mark.parametrize(
    ("present", "kept"),
    [
        (("x-trace-id", "mine"), ["Server-Timing", "traceresponse"]),
        (("X-Span-ID", "mine"), ["Server-Timing", "traceresponse"]),
        (("Traceresponse", "mine"), ["Server-Timing", "X-Trace-ID"]),
        (("server-timing", 'db, traceparent;desc="mine"'), ["X-Trace-ID", "traceresponse"]),
    ],
)
def test_a_form_the_application_set_itself_is_left_alone(present: Header, kept: list[str]) -> None:
    written = write(FORMS, present)
    assert [header for header in written if header[0].lower() == present[0].lower()] == [present]
    assert {name for name, _ in written} >= set(kept)


# CORS


ORIGIN = ("Access-Control-Allow-Origin", "https://shop.example")
EXPOSE = "Access-Control-Expose-Headers"


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ([], "X-Trace-ID, X-Span-ID, X-Parent-Span-ID"),
        ([(EXPOSE, "ETag")], "ETag, X-Trace-ID, X-Span-ID, X-Parent-Span-ID"),
        ([(EXPOSE, "x-trace-id , X-SPAN-ID")], "x-trace-id , X-SPAN-ID, X-Parent-Span-ID"),
        ([(EXPOSE, "*")], "*"),
        (
            [(EXPOSE, "*"), ("Access-Control-Allow-Credentials", "true")],
            "*, X-Trace-ID, X-Span-ID, X-Parent-Span-ID",
        ),
        ([(EXPOSE, "")], "X-Trace-ID, X-Span-ID, X-Parent-Span-ID"),
    ],
)
# T23
def test_exposed_names_are_merged_each_once(present: list[Header], expected: str) -> None:
    written = write(("x-trace",), ORIGIN, *present)
    assert [value for name, value in written if name == EXPOSE] == [expected]
    again, _ = HeaderWriter(("x-trace",)).write(written, (TRACE, SPAN, PARENT, 1))
    assert [value for name, value in again if name == EXPOSE] == [expected]


# T23
def test_several_fields_count_together() -> None:
    written = write(("x-trace",), ORIGIN, (EXPOSE, "X-Trace-ID"), (EXPOSE, "X-Span-ID"))
    assert [value for name, value in written if name == EXPOSE] == [
        "X-Trace-ID, X-Parent-Span-ID",
        "X-Span-ID",
    ]


def test_nothing_is_exposed_without_cors() -> None:
    assert EXPOSE not in dict(write(FORMS))
    headers = [ORIGIN]
    assert expose(headers, []) == 0
    assert headers == [ORIGIN]


# The budget


def gained(written: list[Header], *present: Header) -> int:
    def size(headers: Any) -> int:
        return sum(len(f"{name}: {value}\r\n") for name, value in headers)

    return size(written) - size(present)


@pytest.mark.parametrize("present", [(), (ORIGIN,), (ORIGIN, ("Server-Timing", "db;dur=1"))])
# T17
def test_the_byte_budget_holds(
    present: tuple[Header, ...],
) -> None:
    entry = 'call;dur=1.5;desc="' + "x" * 100 + '"'
    offered: list[int] = []

    def calls(left: int) -> list[str]:
        offered.append(left)
        return [entry] * (left // (len(entry) + 2))

    written = write(FORMS, *present, calls=calls)
    assert gained(written, *present) <= BUDGET
    assert gained(written, *present) > BUDGET - len(entry) - 200
    assert dict(written)["Server-Timing"].count(entry) == offered[0] // (len(entry) + 2)


# T17
def test_calls_alone_write_server_timing_and_expose_it() -> None:
    written = dict(write((), ORIGIN, calls=lambda _left: ["call;dur=1"]))
    assert written["Server-Timing"] == "call;dur=1"
    assert written[EXPOSE] == "Server-Timing"
    assert "Server-Timing" not in dict(write((), calls=lambda _left: []))


# On every answer


# T18
def test_every_status_and_every_early_abort_has_the_headers(
    make_app: Callable[..., Flask], spans: Any
) -> None:
    app = make_app()

    @app.url_value_preprocessor
    def preprocess(endpoint: str | None, _values: Any) -> None:
        if endpoint == "preprocessed":
            abort(400)

    @app.errorhandler(418)
    def teapot(_error: Exception) -> Response:
        return Response("short and stout", 418)

    views: dict[str, Callable[[], Any]] = {
        "/ok": lambda: "",
        "/none": lambda: ("", 204),
        "/moved": lambda: ("", 302, {"Location": "/"}),
        "/unchanged": lambda: ("", 304),
        "/preprocessed": lambda: "",
        "/bad": lambda: abort(400),
        "/teapot": lambda: abort(418),
        "/broken": lambda: 1 // 0,
        "/aborted": lambda: abort(503),
    }
    for path, view in views.items():
        app.add_url_rule(path, endpoint=path[1:], view_func=view)
    client = app.test_client()
    expected = {
        "/ok": 200,
        "/none": 204,
        "/moved": 302,
        "/unchanged": 304,
        "/preprocessed": 400,
        "/bad": 400,
        "/teapot": 418,
        "/broken": 500,
        "/aborted": 503,
        "/nowhere": 404,
    }
    for path, status in expected.items():
        response = client.get(path)
        assert response.status_code == status
        span = spans.all[-1]
        assert int(response.headers["X-Span-ID"], 16) == span.get_span_context().span_id
        assert span.attributes["http.response.status_code"] == status
    assert client.post("/ok").headers.getlist("X-Trace-ID")
    assert client.head("/ok").headers.getlist("X-Trace-ID")
    assert client.options("/ok").headers.getlist("X-Trace-ID")
    assert len(spans.all) == len(expected) + 3


# T18
def test_an_earlier_hook_that_aborts_still_has_a_span(
    make_app: Callable[..., Flask], spans: Any
) -> None:
    app = Flask("early")

    @app.before_request
    def refuse() -> None:
        assert len(g.trace.trace_id) == 32
        abort(401)

    BodyTrace(app, tracer_provider=make_app().extensions["bodytrace"].plan.provider)
    app.add_url_rule("/<name>", view_func=lambda name: name)
    response = app.test_client().get("/x")
    assert response.status_code == 401
    assert response.headers["X-Trace-ID"]
    assert spans.server().name == "GET /<name>"


def test_the_flags_are_the_real_ones() -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    app = Flask("unsampled")
    BodyTrace(app, tracer_provider=provider, response_headers="traceresponse")
    assert app.test_client().get("/").headers["traceresponse"].endswith("-02")


def test_the_parent_is_the_caller(make_app: Callable[..., Flask]) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    response = make_app().test_client().get("/", headers=headers)
    assert response.headers["X-Trace-ID"] == TRACE
    assert response.headers["X-Parent-Span-ID"] == PARENT
    assert "X-Parent-Span-ID" not in make_app().test_client().get("/").headers


def test_none_is_a_choice(make_app: Callable[..., Flask]) -> None:
    names = {name for name, _ in make_app(response_headers="").test_client().get("/").headers}
    assert names == {"Content-Type", "Content-Length"}
