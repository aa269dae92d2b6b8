"""When the server span starts and ends, and what belongs to it meanwhile."""

from __future__ import annotations

import gc
import io
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from flask import (
    Flask,
    Response,
    copy_current_request_context,
    g,
    request,
    send_file,
    stream_with_context,
)
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from opentelemetry.context import get_current
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode
from werkzeug.serving import make_server
from werkzeug.test import EnvironBuilder, run_wsgi_app

from flask_bodytrace import BodyTrace, current_trace
from flask_bodytrace.flow import response as response_module
from flask_bodytrace.flow.exchange import Exchange

HexIds = Callable[[ReadableSpan], tuple[str, str, str | None]]
MakeApp = Callable[..., Flask]


def answer(
    app: Any, path: str = "/", environ: dict[str, Any] | None = None
) -> tuple[Any, dict[str, Any]]:
    """Call `app` as a server does; what it returned is not iterated."""
    result: dict[str, Any] = {}

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], None]:
        if exc_info is not None and result.get("sent"):
            raise exc_info[1]
        result.update(status=status, headers=dict(headers))
        return lambda _data: result.update(sent=True)

    built = EnvironBuilder(path=path).get_environ()
    result["iterable"] = app({**built, **(environ or {})}, start_response)
    return result["iterable"], result


def broken() -> str:
    return str(1 // 0)


class Ended(SpanProcessor):
    """Lets a test wait for the end of a span."""

    def __init__(self) -> None:
        self.one = threading.Event()

    def on_end(self, span: ReadableSpan) -> None:
        if span.parent is None:
            self.one.set()


# Streaming


def streaming(app: Flask, provider: TracerProvider) -> None:
    tracer = provider.get_tracer("app")

    def chunks() -> Iterator[bytes]:
        for number in range(3):
            with tracer.start_as_current_span(f"chunk {number}"):
                trace = current_trace()
                yield trace.trace_id.encode() if trace is not None else b"none"

    app.add_url_rule("/plain", "plain", view_func=lambda: Response(chunks()))
    app.add_url_rule(
        "/context",
        "context",
        view_func=lambda: Response(stream_with_context(chunks()), mimetype="text/event-stream"),
    )
    app.add_url_rule(
        "/sized", "sized", view_func=lambda: Response(chunks(), headers={"Content-Length": "96"})
    )


@pytest.mark.parametrize("path", ["/plain", "/context", "/sized"])
# T02
def test_spans_made_while_streaming_are_children_of_a_span_that_is_still_open(
    make_app: MakeApp,
    serve: Callable[[Any], str],
    provider: TracerProvider,
    spans: Any,
    path: str,
) -> None:
    app = make_app()
    streaming(app, provider)
    with requests.get(serve(app) + path, stream=True, timeout=10) as response:
        body = b"".join(response.iter_content(32))
    spans.soon(f"GET {path}", "chunk 2")
    server = spans.one(f"GET {path}")
    assert body.decode() == response.headers["X-Trace-ID"] * 3
    for number in range(3):
        child = spans.one(f"chunk {number}")
        assert child.parent.span_id == server.get_span_context().span_id
        assert child.start_time >= server.start_time
    assert server.end_time >= spans.one("chunk 1").end_time


# T03
def test_every_chunk_and_the_end_may_come_on_another_thread(
    make_app: MakeApp, provider: TracerProvider, spans: Any
) -> None:
    app = make_app()
    tracer = provider.get_tracer("app")

    @app.get("/")
    def view() -> Response:
        def chunks() -> Iterator[bytes]:
            for number in range(3):
                with tracer.start_as_current_span(f"chunk {number}"):
                    chunk = b"x" * number
                yield chunk

        return Response(chunks())

    iterable, _ = answer(app)
    iterator = iter(iterable)
    chunks: list[bytes] = []

    def on_a_thread(step: Callable[[], None]) -> None:
        thread = threading.Thread(target=step)
        thread.start()
        thread.join(10)

    for _ in range(2):
        on_a_thread(lambda: chunks.append(next(iterator)))
    on_a_thread(iterable.close)
    assert chunks == [b"", b"x"]
    server = spans.one("GET /").get_span_context().span_id
    assert [spans.one(f"chunk {n}").parent.span_id for n in range(2)] == [server] * 2


# T04
def test_a_client_that_leaves_takes_its_context_along(
    make_app: MakeApp, provider: TracerProvider, spans: Any
) -> None:
    app = make_app()
    ended = Ended()
    provider.add_span_processor(ended)

    @app.get("/endless")
    def endless() -> Response:
        def chunks() -> Iterator[bytes]:
            while True:
                yield b"x" * 65536

        return Response(chunks())

    @app.get("/next")
    def following() -> dict[str, Any]:
        return {"parent": g.trace.parent_span_id, "thread": threading.get_ident()}

    left: list[Any] = []

    def observed(environ: Any, start_response: Any) -> Iterable[bytes]:
        left.append((threading.get_ident(), dict(get_current())))
        return app(environ, start_response)

    # One thread serves all, so that what one request leaves behind the next one finds.
    server = make_server("127.0.0.1", 0, observed, threaded=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
            connection.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(100_000).startswith(b"HTTP/1.")
        assert ended.one.wait(10)
        found = requests.get(f"http://127.0.0.1:{server.port}/next", timeout=10).json()
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
    assert found["parent"] is None
    assert left == [(found["thread"], {})] * 2
    assert spans.one("GET /endless").attributes["http.response.status_code"] == 200


# T05
def test_a_response_that_is_never_iterated_ends_its_span_at_close(
    make_app: MakeApp, provider: TracerProvider, spans: Any
) -> None:
    app = make_app()
    streaming(app, provider)
    iterable, _ = answer(app, "/plain")
    assert spans.all == []
    iterable.close()
    iterable.close()
    assert [span.name for span in spans.all] == ["GET /plain"]


# T05
def test_a_response_that_nobody_closes_ends_its_span_with_the_next_request(
    make_app: MakeApp, provider: TracerProvider, spans: Any
) -> None:
    app = make_app()
    tracer = provider.get_tracer("app")
    last: list[Any] = []

    @app.get("/")
    def view() -> Response:
        def chunks() -> Iterator[bytes]:
            try:
                with tracer.start_as_current_span("chunk"):
                    yield b"x"
            finally:
                last.append(current_trace())

        return Response(chunks())

    iterable, result = answer(app)
    next(iter(iterable))
    trace_id = result["headers"]["X-Trace-ID"]
    result.clear()
    del iterable
    gc.collect()
    assert spans.all == []
    assert last == []
    answer(app, "/nowhere")[0].close()
    assert spans.one("GET /")
    assert spans.one("chunk")
    assert [trace.trace_id for trace in last] == [trace_id]


# T05
def test_the_garbage_collector_touches_no_context(
    make_app: MakeApp, spans: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may strike within ContextVar.set, half done before Python 3.12, or within a lock."""
    app = make_app()
    app.add_url_rule("/", view_func=lambda: Response(iter([b"x", b"y"])))
    iterable, result = answer(app)
    next(iter(iterable))
    result.clear()
    cycle: list[Any] = [iterable]
    cycle.append(cycle)
    with monkeypatch.context() as patch:
        patch.setattr(response_module, "attach", None)
        patch.setattr(response_module, "detach", None)
        del cycle, iterable
        gc.collect()
    assert spans.all == []
    answer(app, "/nowhere")[0].close()
    assert spans.one("GET /")


# Files and other kinds of answers


# T06
def test_the_servers_file_wrapper_goes_out_unwrapped(
    make_app: MakeApp, spans: Any, tmp_path: Path
) -> None:
    class Wrapper:
        def __init__(self, file: Any, _size: int = 8192) -> None:
            self.file = file

        def close(self) -> None:
            self.file.close()

    (tmp_path / "file").write_bytes(b"content")
    app = make_app()
    app.add_url_rule("/", view_func=lambda: send_file(tmp_path / "file", mimetype="text/plain"))
    iterable, result = answer(app, environ={"wsgi.file_wrapper": Wrapper})
    assert isinstance(result["iterable"], Wrapper)
    assert result["headers"]["X-Trace-ID"]
    assert spans.one("GET /").attributes["http.response.status_code"] == 200
    iterable.close()


# T06
def test_a_wrapper_that_is_a_function_counts_too(make_app: MakeApp, spans: Any) -> None:
    file = io.BytesIO(b"content")
    app = make_app()
    app.add_url_rule("/", view_func=lambda: send_file(file, mimetype="text/plain"))
    iterable, _ = answer(app, environ={"wsgi.file_wrapper": lambda f, _size=8192: f})
    assert iterable is file
    assert spans.one("GET /")


class Raw(Flask):
    """An application whose WSGI callable is chosen by the test."""

    inner: Any

    def wsgi_app(self, environ: Any, start_response: Any) -> Any:
        return self.inner(environ, start_response)


def raw(inner: Any, provider: TracerProvider) -> Flask:
    app = Raw("raw")
    app.inner = inner
    BodyTrace(app, tracer_provider=provider)
    return app


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_complete_body_goes_out_as_it_is(kind: Any, provider: TracerProvider, spans: Any) -> None:
    body = kind([b"a", b"b"])

    def inner(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return body

    iterable, result = answer(raw(inner, provider))
    assert iterable is body
    assert "X-Trace-ID" in result["headers"]
    assert spans.server().status.status_code is StatusCode.UNSET


def test_an_application_that_is_a_generator(provider: TracerProvider, spans: Any) -> None:
    def inner(_environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("202 Accepted", [])
        yield b"a"

    body, status, headers = run_wsgi_app(raw(inner, provider), EnvironBuilder().get_environ())
    assert (b"".join(body), status) == (b"a", "202 Accepted")
    assert headers["X-Trace-ID"]
    assert spans.server().attributes["http.response.status_code"] == 202


def test_the_write_callable_is_the_servers(provider: TracerProvider) -> None:
    def inner(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])(b"written")
        return []

    assert answer(raw(inner, provider))[1]["sent"]


def test_a_second_start_response_replaces_the_first(provider: TracerProvider, spans: Any) -> None:
    def inner(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        start_response("503 Later", [("X-A", "b")], (KeyError, KeyError(), None))
        return [b""]

    _, result = answer(raw(inner, provider))
    assert result["status"] == "503 Later"
    assert set(result["headers"]) == {"X-A", "X-Trace-ID", "X-Span-ID"}
    assert spans.server().attributes["http.response.status_code"] == 503


def test_a_status_that_is_none_does_no_harm(
    provider: TracerProvider, spans: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def inner(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("OK", [])
        return [b"x"]

    app = raw(inner, provider)
    assert answer(app)[1]["status"] == "OK"
    assert answer(app)[1]["status"] == "OK"
    assert len([r for r in caplog.records if "'respond'" in r.getMessage()]) == 1
    assert len(spans.all) == 2


def test_head_and_empty_answers_end_their_span(make_app: MakeApp, spans: Any) -> None:
    app = make_app()
    app.add_url_rule("/", view_func=lambda: Response(iter([b"abc"])))
    app.add_url_rule("/none", "none", view_func=lambda: Response(iter([b"abc"]), 204))
    app.test_client().head("/")
    app.test_client().get("/none")
    assert [span.name for span in spans.all] == ["HEAD /", "GET /none"]


# Threads, coroutines, contexts


# T07
def test_a_copied_context_neither_ends_nor_loses_the_span(
    make_app: MakeApp, provider: TracerProvider, spans: Any
) -> None:
    app = make_app(ids="orderId")
    tracer = provider.get_tracer("app")
    answered = threading.Event()
    seen: list[Any] = []
    threads: list[threading.Thread] = []

    @app.post("/")
    def view() -> str:
        @copy_current_request_context
        def later() -> None:
            seen.append((g.trace.trace_id, g.trace.ids["orderId"], request.path))
            seen.append(g.trace.headers()["traceparent"].split("-")[2])
            assert answered.wait(10)
            seen.append(g.trace.span_id)

        threads.append(threading.Thread(target=later))
        threads[0].start()
        with tracer.start_as_current_span("work"):
            pass
        return str(g.trace.trace_id)

    with app.test_client() as client:
        response = client.post("/", json={"orderId": "A"})
        trace_id = response.text
    assert [span.name for span in spans.all] == ["work", "POST /"]
    answered.set()
    threads[0].join(10)
    assert [span.name for span in spans.all] == ["work", "POST /"]
    span_id = response.headers["X-Span-ID"]
    assert seen == [(trace_id, "A", "/"), span_id, span_id]
    assert spans.one("work").parent.span_id == int(span_id, 16)


def test_async_views_and_hooks(make_app: MakeApp, provider: TracerProvider, spans: Any) -> None:
    app = make_app()
    tracer = provider.get_tracer("app")

    @app.before_request
    async def before() -> None:
        with tracer.start_as_current_span("before"):
            pass

    @app.get("/")
    async def view() -> dict[str, Any]:
        with tracer.start_as_current_span("inside"):
            trace = current_trace()
            assert trace is not None
            return {"same": trace.span_id == g.trace.span_id}

    assert app.test_client().get("/").json == {"same": True}
    server = spans.server().get_span_context().span_id
    assert spans.one("before").parent.span_id == spans.one("inside").parent.span_id == server


# T19
def test_a_shared_application_context_shares_no_trace(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule("/", view_func=lambda: g.trace.trace_id)
    with app.app_context():
        client = app.test_client()
        answers = [client.get("/") for _ in range(3)]
        assert not hasattr(g, "trace")
        assert g.get("trace") is None
        assert current_trace() is None
    assert len({answer.text for answer in answers}) == 3
    assert all(answer.text == answer.headers["X-Trace-ID"] for answer in answers)


# T22
def test_a_test_request_context_has_a_trace_but_no_span(make_app: MakeApp, spans: Any) -> None:
    app = make_app(ids="orderId")
    with app.test_request_context("/?", method="POST", json={"orderId": "A"}):
        assert current_trace() is None
        assert "trace" in g
        assert g.trace is g.get("trace")
        assert g.trace.ids == {"orderId": "A"}
        assert int(g.trace.trace_id, 16)
        assert not g.trace.sampled
        response = app.full_dispatch_request()
        assert response.headers["X-Trace-ID"] == g.trace.trace_id
    assert spans.all == []
    with app.test_request_context("/", method="POST", data=b"body"):
        # The body is re-readable all the same.
        assert [request.get_data(), request.stream.read()] == [b"body"] * 2


# T26
def test_no_thread_or_timer_for_a_request(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(ids="orderId")
    app.add_url_rule("/", view_func=lambda: g.trace.trace_id, methods=["POST"])
    before = threading.enumerate()

    def refuse(_thread: threading.Thread) -> None:
        raise AssertionError("a thread was started")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(5):
        assert app.test_client().post("/", json={"orderId": "A"}).status_code == 200
    assert threading.enumerate() == before


@pytest.mark.parametrize("sampled", [True, False])
# T14
def test_nothing_is_kept_of_a_request_sampled_or_not(sampled: bool) -> None:
    provider = TracerProvider(sampler=None if sampled else ALWAYS_OFF, shutdown_on_exit=False)
    app = Flask("kept")
    BodyTrace(app, tracer_provider=provider, ids="orderId")
    app.add_url_rule("/", view_func=lambda: g.trace.trace_id, methods=["POST"])
    app.add_url_rule("/broken", "broken", view_func=broken, methods=["POST"])
    # A log record of an exception holds its frames.
    app.logger.disabled = True
    client = app.test_client()

    def kept() -> int:
        return sum(type(thing) is Exchange for thing in gc.get_objects())

    gc.collect()
    before = kept()
    for _ in range(50):
        client.post("/", json={"orderId": "A"}).close()
        client.post("/broken", json={"orderId": "A"}).close()
    gc.collect()
    assert kept() == before


def test_nothing_is_kept_of_an_error_page_that_nobody_closes() -> None:
    app = Flask("kept")
    BodyTrace(app, tracer_provider=TracerProvider(shutdown_on_exit=False))
    app.add_url_rule("/", view_func=broken)
    app.logger.disabled = True
    client = app.test_client()

    def ask() -> None:
        # Its frame is one of the traceback's, and has the answer.
        answer = client.get("/")
        assert (answer.status_code, bool(answer.data)) == (500, True)

    def kept() -> int:
        gc.collect()
        client.get("/nowhere").close()
        return len(response_module._open)

    before = kept()
    for _ in range(20):
        ask()
    assert kept() == before


# Exceptions


def handled(app: Flask) -> None:
    @app.errorhandler(ValueError)
    def answer_for(_error: ValueError) -> tuple[str, int]:
        return "handled", 409

    @app.errorhandler(LookupError)
    def fall_over(_error: LookupError) -> tuple[str, int]:
        return "down", 503

    def fail(error: type[Exception]) -> Callable[[], str]:
        def view() -> str:
            raise error("why")

        return view

    for error in (ValueError, LookupError, RuntimeError):
        app.add_url_rule(f"/{error.__name__}", error.__name__, fail(error))


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        ("ValueError", 409, None),
        ("LookupError", 503, "LookupError"),
        ("RuntimeError", 500, "RuntimeError"),
    ],
)
# T12
def test_an_exception_is_recorded_and_the_status_is_the_answers(
    make_app: MakeApp, spans: Any, error: str, status: int, kind: str | None
) -> None:
    app = make_app()
    handled(app)
    assert app.test_client().get(f"/{error}").status_code == status
    span = spans.server()
    assert [event.attributes["exception.type"] for event in span.events] == [error]
    assert span.attributes["http.response.status_code"] == status
    assert span.attributes.get("error.type") == kind
    expected = StatusCode.UNSET if kind is None else StatusCode.ERROR
    assert span.status.status_code is expected


# T12
def test_a_handler_for_everything_forces_nothing(make_app: MakeApp, spans: Any) -> None:
    app = make_app()
    app.register_error_handler(Exception, lambda _error: ("sorry", 200))
    app.add_url_rule("/", view_func=broken)
    assert app.test_client().get("/").status_code == 200
    assert app.test_client().get("/nowhere").status_code == 200
    first, second = spans.all
    assert [event.name for event in first.events] == ["exception"]
    assert first.status.status_code is StatusCode.UNSET
    assert second.events == ()


def test_an_exception_that_reaches_the_server_is_an_error(make_app: MakeApp, spans: Any) -> None:
    app = make_app()
    app.testing = True
    app.add_url_rule("/", view_func=broken)
    with pytest.raises(ZeroDivisionError):
        app.test_client().get("/")
    span = spans.server()
    assert span.attributes["error.type"] == "ZeroDivisionError"
    assert "http.response.status_code" not in span.attributes
    assert len(span.events) == 1


def test_an_exception_in_the_middle_of_a_stream_is_an_error(make_app: MakeApp, spans: Any) -> None:
    app = make_app()

    @app.get("/")
    def view() -> Response:
        def chunks() -> Iterator[bytes]:
            yield b"a"
            raise OSError("the disk is gone")

        return Response(chunks())

    iterable, _ = answer(app)
    with pytest.raises(OSError, match="disk"):
        list(iterable)
    iterable.close()
    span = spans.server()
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "OSError"
    assert span.attributes["http.response.status_code"] == 200


def test_an_exception_in_teardown_is_an_error(make_app: MakeApp, spans: Any) -> None:
    app = make_app()

    @app.teardown_request
    def teardown(_error: BaseException | None) -> None:
        raise KeyError("late")

    app.add_url_rule("/", view_func=lambda: "fine")
    with pytest.raises(KeyError):
        answer(app)
    assert spans.server().attributes["error.type"] == "KeyError"


def test_system_exit_ends_the_span(make_app: MakeApp, spans: Any) -> None:
    app = make_app()

    @app.get("/")
    def view() -> str:
        raise SystemExit(1)

    with pytest.raises(SystemExit):
        answer(app)
    assert spans.server().attributes["error.type"] == "SystemExit"


# Hooks and sessions


# T21
def test_a_session_interface_that_makes_spans(
    make_app: MakeApp, provider: TracerProvider, spans: Any
) -> None:
    tracer = provider.get_tracer("sessions")

    class Traced(SecureCookieSessionInterface):
        def open_session(self, app: Flask, request: Any) -> SecureCookieSession | None:
            with tracer.start_as_current_span("open"):
                return super().open_session(app, request)

        def save_session(self, app: Flask, session: Any, response: Any) -> None:
            with tracer.start_as_current_span("save"):
                super().save_session(app, session, response)

    app = make_app()
    app.secret_key = "k"
    app.session_interface = Traced()
    app.add_url_rule("/", view_func=lambda: "")
    app.test_client().get("/")
    server = spans.server().get_span_context().span_id
    assert [spans.one(name).parent.span_id for name in ("open", "save")] == [server] * 2


def test_the_trace_is_there_from_the_first_hook_to_the_last(make_app: MakeApp) -> None:
    app = make_app()
    seen: dict[str, str] = {}

    @app.url_value_preprocessor
    def preprocess(_endpoint: str | None, _values: Any) -> None:
        seen["preprocess"] = g.trace.trace_id

    @app.before_request
    def before() -> None:
        seen["before"] = g.trace.trace_id

    @app.after_request
    def after(response: Response) -> Response:
        seen["after"] = g.trace.trace_id
        return response

    @app.teardown_request
    def teardown(_error: BaseException | None) -> None:
        seen["teardown"] = g.trace.trace_id

    @app.get("/")
    def view() -> str:
        seen["view"] = g.trace.trace_id
        return ""

    trace_id = app.test_client().get("/").headers["X-Trace-ID"]
    assert seen == dict.fromkeys(["preprocess", "before", "view", "after", "teardown"], trace_id)


def test_call_on_close_runs_inside_the_trace(make_app: MakeApp) -> None:
    app = make_app()
    seen: list[Any] = []

    @app.get("/")
    def view() -> Response:
        response = Response(iter([b"x"]))
        response.call_on_close(lambda: seen.append(current_trace()))
        return response

    response = app.test_client().get("/")
    response.close()
    assert [trace.trace_id for trace in seen] == [response.headers["X-Trace-ID"]]


# T10
def test_names_and_methods_are_bounded(make_app: MakeApp, spans: Any) -> None:
    app = make_app()
    app.add_url_rule("/orders/<order_id>", "orders", view_func=lambda order_id: order_id)
    client = app.test_client()
    for path in ("/orders/1", "/orders/2", "/wp-admin", "/.env"):
        client.get(path)
    client.open("/orders/1", method="BREW")
    client.post("/orders/1")
    assert [span.name for span in spans.all] == [
        "GET /orders/<order_id>",
        "GET /orders/<order_id>",
        "GET",
        "GET",
        "HTTP",
        "POST",
    ]
    assert spans.all[4].attributes["http.request.method"] == "_OTHER"
    assert spans.all[4].attributes["http.request.method_original"] == "BREW"
    assert "http.route" not in spans.all[2].attributes


def test_an_application_may_name_its_span_itself(make_app: MakeApp, spans: Any) -> None:
    app = make_app()

    @app.get("/")
    def view() -> str:
        g.trace.span.update_name("checkout")
        return ""

    app.test_client().get("/")
    assert spans.server().name == "checkout"
    assert spans.server().attributes["http.route"] == "/"


def test_attributes_follow_the_conventions(make_app: MakeApp, serve: Any, spans: Any) -> None:
    app = make_app()
    app.add_url_rule("/o/<oid>", "o", view_func=lambda oid: oid)
    url = serve(app)
    requests.get(f"{url}/o/1?q=2", headers={"User-Agent": "tests"}, timeout=10)
    spans.soon("GET /o/<oid>")
    attributes = dict(spans.server().attributes)
    assert isinstance(attributes.pop("network.peer.port"), int)
    assert attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/o/<oid>",
        "url.scheme": "http",
        "url.path": "/o/1",
        "url.query": "q=2",
        "server.address": "127.0.0.1",
        "server.port": urlsplit(url).port,
        "client.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "user_agent.original": "tests",
    }
