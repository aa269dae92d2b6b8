"""Answers on the span: their first bytes, without changing a byte or keeping anything back."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, Response, request, send_file
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.trace import TracerProvider

from flask_bodytrace import BodyTrace
from flask_bodytrace.capture.text import LOOK_AHEAD
from flask_bodytrace.wsgi import BodyTraceMiddleware

if TYPE_CHECKING:
    from pathlib import Path

    from flask_bodytrace.testing import SpanRecorder
    from tests.conftest import MakeApp

CONTENT = "http.response.body.content"
SIZE = "http.response.body.size"
TRUNCATED = "bodytrace.response.body.truncated"
UNPARSED = "bodytrace.response.body.unparsed"


def answering(app: Flask) -> Flask:  # noqa: C901 - one view for each kind of answer
    @app.get("/json")
    def in_json() -> dict[str, Any]:
        return {"orderId": "ORD1", "token": "hunter2"}

    @app.get("/stream")
    def stream() -> Response:
        return Response((f"line {number}\n" for number in range(3)), mimetype="text/plain")

    @app.get("/json-stream")
    def json_stream() -> Response:
        return Response(iter(['{"a": 1, ', '"pin": 12}']), mimetype="application/json")

    @app.get("/texts")
    def texts() -> Response:
        return Response(["é", "b"], mimetype="text/plain")

    @app.get("/events")
    def events() -> Response:
        def made() -> Iterator[str]:
            for number in range(5):
                yield f'data: {{"number": {number}, "password": "hunter2"}}\n\n'

        return Response(made(), mimetype="text/event-stream")

    @app.get("/large")
    def large() -> Response:
        return Response((b"x" * 1000 + b" " for _ in range(1000)), mimetype="text/plain")

    @app.get("/raises")
    def raises() -> Response:
        def made() -> Iterator[bytes]:
            yield b'{"a": 1, '
            raise LookupError("gone")

        return Response(made(), mimetype="application/json")

    @app.get("/gzip")
    def compressed() -> Response:
        return Response(gzip.compress(b'{"a": 1}'), headers={"Content-Encoding": "gzip"})

    @app.get("/file")
    def file() -> Response:
        return send_file(io.BytesIO(b"some text"), mimetype="text/plain")

    @app.get("/empty")
    def empty() -> tuple[str, int]:
        return "", 204

    @app.get("/cached")
    def cached() -> tuple[str, int]:
        return "body of a 304", 304

    @app.get("/image")
    def image() -> Response:
        return Response(b"\x89PNG", mimetype="image/png")

    @app.get("/missing")
    def missing() -> tuple[dict[str, str], int]:
        return {"error": "no such order"}, 404

    @app.get("/fails")
    def fails() -> str:
        raise LookupError("no stock")

    app.config["PROPAGATE_EXCEPTIONS"] = False
    return app


PATHS = [
    *("/json", "/stream", "/json-stream", "/events", "/large", "/gzip", "/file", "/empty"),
    *("/cached", "/image", "/missing", "/fails"),
]


def said(spans: SpanRecorder) -> dict[str, Any]:
    (span,) = spans.finished
    return {
        name: value
        for name, value in (span.attributes or {}).items()
        if name.startswith(("http.response.body.", "bodytrace.response."))
    }


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", PATHS)
def test_answers_are_byte_for_byte_the_same(path: str, method: str) -> None:
    stock = answering(Flask("stock"))
    app = answering(Flask("captured"))
    BodyTrace(app, capture_response="always", capture_body="always", response_headers=())
    for headers in ({}, {"Range": "bytes=2-5"}):
        expected = stock.test_client().open(path, method=method, headers=headers)
        answer = app.test_client().open(path, method=method, headers=headers)
        assert answer.data == expected.data
        assert answer.status == expected.status
        names = [name for name, _ in answer.headers if name != "Date"]
        assert names == [name for name, _ in expected.headers if name != "Date"]
        assert answer.is_streamed == expected.is_streamed


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/json", {CONTENT: '{"orderId":"ORD1","token":"REDACTED"}', SIZE: 36}),
        ("/stream", {CONTENT: "line 0\nline 1\nline 2\n", SIZE: 21, UNPARSED: True}),
        ("/json-stream", {CONTENT: '{"a":1,"pin":"REDACTED"}', SIZE: 19}),
        ("/texts", {CONTENT: "éb", SIZE: 3, UNPARSED: True}),
        ("/gzip", {SIZE: len(gzip.compress(b'{"a": 1}'))}),
        ("/image", {SIZE: 4}),
        ("/empty", {}),
        ("/cached", {}),
    ],
)
def test_the_answer_is_on_the_span(
    make_app: MakeApp, spans: SpanRecorder, path: str, expected: dict[str, Any]
) -> None:
    answering(make_app(capture_response="always")).test_client().get(path).get_data()
    found = said(spans)
    if path == "/json":
        found[CONTENT] = json.dumps(json.loads(found[CONTENT]), separators=(",", ":"))
        found.pop(SIZE), expected.pop(SIZE, None)
    assert found == expected


def test_of_a_range_of_a_document_nothing_is_shown(make_app: MakeApp, spans: SpanRecorder) -> None:
    # It may begin behind the name of a secret.
    app = make_app(capture_response="always")

    @app.get("/part")
    def part() -> Response:
        text = io.BytesIO(b"password=hunter2 and more")
        return send_file(text, mimetype="text/plain", conditional=True)

    answer = app.test_client().get("/part", headers={"Range": "bytes=4-"})
    assert (answer.status_code, answer.data[:5]) == (206, b"word=")
    assert CONTENT not in said(spans)


def test_only_the_first_bytes_of_a_stream_are_kept(make_app: MakeApp, spans: SpanRecorder) -> None:
    app = answering(make_app(capture_response="always", capture_limit=100))
    with app.test_client().get("/large") as answer:
        answer.get_data()
    found = said(spans)
    assert len(found[CONTENT]) <= 100
    assert found[TRUNCATED] is True
    assert found[SIZE] == 1_001_000


def test_a_stream_whose_first_chunk_is_all_that_is_noted_is_cut(
    make_app: MakeApp, spans: SpanRecorder
) -> None:
    app = make_app(capture_response="always", capture_limit=100)
    # What is hidden of it makes it shorter than the limit.
    first = b"pin: 1 ".ljust(100 + LOOK_AHEAD, b"2")

    @app.get("/")
    def view() -> Response:
        return Response(iter([first, b"3"]), mimetype="text/plain")

    app.test_client().get("/").get_data()
    found = said(spans)
    assert found[TRUNCATED] is True
    assert found[SIZE] == len(first) + 1


def test_events_go_out_one_by_one(make_app: MakeApp, spans: SpanRecorder) -> None:
    app = answering(make_app(capture_response="always"))
    answer = app.test_client().get("/events", buffered=False)
    assert b'"number": 0' in next(answer.iter_encoded())
    assert spans.finished == []
    answer.close()
    assert "hunter2" not in said(spans)[CONTENT]


def test_an_answer_that_breaks_off_says_so(make_app: MakeApp, spans: SpanRecorder) -> None:
    app = answering(make_app(capture_response="errors", capture_limit=1000))
    answer = app.test_client().get("/raises")
    with answer, pytest.raises(LookupError):
        answer.get_data()
    found = said(spans)
    assert found[TRUNCATED] is True
    assert SIZE not in found


@pytest.mark.parametrize(
    ("when", "shown"),
    [
        ("never", []),
        ("errors", ["/missing", "/fails"]),
        ("server-errors", ["/fails"]),
        ("always", ["/json", "/missing", "/fails"]),
    ],
)
def test_the_setting_says_when(
    make_app: MakeApp, spans: SpanRecorder, when: str, shown: list[str]
) -> None:
    app = answering(make_app(capture_response=when))
    for path in ("/json", "/missing", "/fails"):
        app.test_client().get(path).get_data()
    found = [
        (span.attributes or {})["url.path"]
        for span in spans.finished
        if CONTENT in (span.attributes or {})
    ]
    assert found == shown


def test_request_and_answer_are_both_there(make_app: MakeApp, spans: SpanRecorder) -> None:
    app = make_app(capture_response="always", capture_body="always")

    @app.post("/echo")
    def echo() -> bytes:
        return request.get_data()

    app.test_client().post("/echo", json={"a": 1})
    (span,) = spans.finished
    attributes = span.attributes or {}
    assert json.loads(str(attributes["http.request.body.content"])) == {"a": 1}
    assert json.loads(str(attributes["http.response.body.content"])) == {"a": 1}


def test_the_span_of_opentelemetrys_instrumentation_gets_the_answer_too(
    provider: TracerProvider, spans: SpanRecorder
) -> None:
    app = Flask("shop")
    BodyTrace(app, tracer_provider=provider, capture_response="always")
    FlaskInstrumentor().instrument_app(app, tracer_provider=provider)  # type: ignore[no-untyped-call]
    answering(app).test_client().get("/missing")
    assert json.loads(said(spans)[CONTENT]) == {"error": "no such order"}


def test_an_answer_that_a_middleware_changes_is_shown_as_it_goes_out(
    provider: TracerProvider, spans: SpanRecorder
) -> None:
    app = answering(Flask("shop"))
    inner = app.wsgi_app

    def doubled(environ: Any, start_response: Any) -> Iterator[bytes]:
        yield from (chunk + chunk for chunk in inner(environ, start_response))

    app.wsgi_app = doubled  # type: ignore[method-assign]
    BodyTrace(app, tracer_provider=provider, capture_response="always")
    app.test_client().get("/stream").get_data()
    assert said(spans)[CONTENT] == "line 0\nline 0\nline 1\nline 1\nline 2\nline 2\n"


def test_wsgi_applications_that_are_not_flask(
    provider: TracerProvider, spans: SpanRecorder
) -> None:
    from werkzeug.test import Client

    def plain(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("418 I'm a teapot", [("Content-Type", "application/json")])
        return [b'{"a": ', b'"b"}']

    app = BodyTraceMiddleware(plain, tracer_provider=provider, capture_response="errors")
    assert Client(app).get("/").data == b'{"a": "b"}'
    assert said(spans) == {CONTENT: '{"a": "b"}', SIZE: 10}


def test_a_file_that_the_server_sends_goes_as_it_is(tmp_path: Path) -> None:
    """PEP 3333: the server recognises its own wrapper, so nothing may be put around it."""

    class Wrapper:
        def __init__(self, file: io.BufferedReader, _size: int = 8192) -> None:
            self.file = file

        def __iter__(self) -> Iterator[bytes]:
            return iter(self.file)

        def close(self) -> None:
            self.file.close()

    path = tmp_path / "a.txt"
    path.write_bytes(b"text")
    app = Flask("files")
    BodyTrace(app, capture_response="always")

    @app.get("/")
    def send() -> Response:
        return send_file(path)

    from werkzeug.test import EnvironBuilder

    environ = EnvironBuilder(environ_overrides={"wsgi.file_wrapper": Wrapper}).get_environ()
    answer = app(environ, lambda *_: lambda _data: None)
    assert type(answer) is Wrapper
    answer.close()


def test_the_answer_is_not_kept_after_the_request(make_app: MakeApp) -> None:
    from flask import g

    app = make_app(capture_response="always")
    kept = []

    @app.get("/kept")
    def view() -> str:
        kept.append(g.trace)
        return "x" * 1000

    app.test_client().get("/kept").close()
    assert kept[0].answer is None
    assert kept[0].complete is None


def test_a_long_stream_takes_no_memory_to_capture(make_app: MakeApp) -> None:
    import tracemalloc

    app = make_app(capture_response="always")

    @app.get("/long")
    def long() -> Response:
        return Response((b"x" * 20_000 for _ in range(1000)), mimetype="text/plain")

    answer = app.test_client().get("/long", buffered=False)
    tracemalloc.start()
    try:
        size = sum(map(len, answer.iter_encoded()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        answer.close()
    assert size == 20_000_000
    assert peak < 500_000
