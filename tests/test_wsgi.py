from __future__ import annotations

import http.client
import json
import logging
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import bottle
import django
import pytest
import requests
from django.conf import settings as django_settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import StatusCode
from werkzeug.test import Client, EnvironBuilder

from flask_bodytrace import ConfigError, current_trace
from flask_bodytrace.testing import SpanRecorder, span_id_of, trace_id_of
from flask_bodytrace.wsgi import BodyTraceMiddleware

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from tests.conftest import Figures, Serve

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
IDS = "order.id=orderId"


def ids() -> dict[str, str]:
    trace = current_trace()
    assert trace is not None
    return dict(trace.ids)


# The same application three times: it answers with what it read, twice, and the ids.


def plain(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    stream = environ["wsgi.input"]
    first = stream.read()
    stream.seek(0)
    second = stream.read()
    third = environ["wsgi.input"].read()
    assert first == second == third
    answer = json.dumps({"size": len(first), "ids": ids()}).encode()
    start_response(
        "200 OK",
        [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))],
    )
    return [answer]


def lazy(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Nothing happens before the first chunk is asked for."""
    yield from plain(environ, start_response)


def bottled() -> bottle.Bottle:
    app = bottle.Bottle()

    @app.post("/orders/<kind>")  # type: ignore[untyped-decorator,unused-ignore]
    def create(kind: str) -> dict[str, Any]:
        assert kind == "new"
        stream = bottle.request.environ["wsgi.input"]
        raw = stream.read()
        stream.seek(0)
        assert bottle.request.body.read() == raw
        if bottle.request.json is not None:
            assert bottle.request.json["orderId"]
        return {"size": len(raw), "ids": ids()}

    return app


@csrf_exempt  # type: ignore[untyped-decorator,unused-ignore]
def create(request: HttpRequest, kind: str) -> HttpResponse:
    assert kind == "new"
    raw = request.body
    again = request.environ["wsgi.input"]
    again.seek(0)
    assert again.read() == raw
    return JsonResponse({"size": len(raw), "ids": ids()})


urlpatterns = [path("orders/<kind>", create)]


def djangoed() -> WSGIApplication:
    if not django_settings.configured:
        django_settings.configure(
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF=__name__,
            SECRET_KEY="x" * 50,
            LOGGING_CONFIG=None,
            USE_TZ=True,
        )
        django.setup()
    app: WSGIApplication = get_wsgi_application()
    return app


def bottle_route(environ: WSGIEnvironment) -> str | None:
    return getattr(environ.get("bottle.route"), "rule", None)


APPS: dict[str, Callable[[], Any]] = {
    "plain": lambda: plain,
    "lazy": lambda: lazy,
    "bottle": bottled,
    "django": djangoed,
}


@pytest.fixture(params=sorted(APPS))
def inner(request: pytest.FixtureRequest) -> Any:
    return APPS[request.param]()


@pytest.fixture
def wrap(provider: TracerProvider, spans: SpanRecorder) -> Callable[..., BodyTraceMiddleware]:
    del spans

    def wrapped(app: Any, **settings: Any) -> BodyTraceMiddleware:
        return BodyTraceMiddleware(app, tracer_provider=provider, ids=IDS, **settings)

    return wrapped


Wrap = Callable[..., BodyTraceMiddleware]


@pytest.fixture(autouse=True)
def _quiet_frameworks() -> Iterator[None]:
    # They log the exceptions they turn into 500s.
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def test_the_body_is_read_again_the_ids_found_the_span_a_child(
    inner: Any, wrap: Wrap, spans: SpanRecorder, serve: Serve
) -> None:
    port = serve(wrap(inner))
    answer = requests.post(
        f"http://127.0.0.1:{port}/orders/new",
        json={"orderId": "ORD1"},
        headers={"traceparent": PARENT},
        timeout=10,
    )
    assert answer.json() == {"size": 19, "ids": {"order.id": "ORD1"}}
    span = spans.one("POST")
    spans.assert_ids(span, {"order.id": "ORD1"})
    assert answer.headers["X-Trace-ID"] == trace_id_of(span) == PARENT[3:35]
    assert answer.headers["X-Span-ID"] == span_id_of(span)
    assert answer.headers["X-Parent-Span-ID"] == PARENT[36:52]
    assert (span.attributes or {})["http.response.status_code"] == 200


def test_a_declared_body_over_the_limit_is_413_and_the_application_not_called(
    inner: Any, wrap: Wrap, spans: SpanRecorder, figures: Figures, serve: Serve
) -> None:
    def refusing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        assert int(environ["CONTENT_LENGTH"]) <= 100, "called with a body that is too large"
        answered: Iterable[bytes] = inner(environ, start_response)
        return answered

    app = wrap(refusing, body_limit=100, over_limit="reject", meter_provider=figures.provider)
    url = f"http://127.0.0.1:{serve(app)}/orders/new"
    answer = requests.post(url, data=b"x" * 101, timeout=10)
    assert (answer.status_code, answer.text) == (413, "413 Request Entity Too Large\n")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert len(answer.headers["X-Trace-ID"]) == 32
    assert requests.post(url, data=b"x" * 100, timeout=10).status_code == 200
    assert [(span.attributes or {})["http.response.status_code"] for span in spans.finished] == [
        413,
        200,
    ]
    assert {span.status.status_code for span in spans.finished} == {StatusCode.UNSET}
    assert figures.value("bodytrace.body.events", event="rejected") == 1


# B07
def test_a_chunked_body_over_the_limit_is_413(wrap: Wrap, spans: SpanRecorder) -> None:
    # Django reads no body without a Content-Length.
    for name in ("plain", "lazy", "bottle"):
        app = wrap(APPS[name](), body_limit=100, over_limit="reject")
        answer = Client(app).post(
            "/orders/new",
            environ_overrides={
                "wsgi.input": Chunks(b"x" * 60, b"x" * 60),
                "wsgi.input_terminated": True,
                "HTTP_TRANSFER_ENCODING": "chunked",
            },
        )
        assert (name, answer.status_code) == (name, 413)
        assert answer.text == "413 Request Entity Too Large\n"
    assert len(spans.finished) == 3


class Chunks:
    """What a server that decodes chunks hands over."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)

    def read(self, size: int = -1) -> bytes:
        if not self.chunks:
            return b""
        chunk, self.chunks[0] = self.chunks[0][:size], self.chunks[0][size:]
        if not self.chunks[0]:
            del self.chunks[0]
        return chunk


# B06
def test_a_short_body_is_400_not_500(
    inner: Any, wrap: Wrap, spans: SpanRecorder, serve: Serve
) -> None:
    port = serve(wrap(inner))
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(
            b"POST /orders/new HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30\r\n\r\nshort"
        )
        client.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert (answer.status, answer.read()) == (400, b"400 Bad Request\n")
        assert answer.headers["X-Trace-ID"]
    assert (spans.one("POST").attributes or {})["http.response.status_code"] == 400


def test_an_application_that_answers_for_the_failure_itself_is_left_to_it(wrap: Wrap) -> None:
    def careful(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            environ["wsgi.input"].read()
        except Exception:  # noqa: BLE001 - whatever it is
            start_response("422 Unprocessable Entity", [])
            return [b"mine"]
        raise AssertionError("the body was short")

    answer = Client(wrap(careful)).post(
        "/", environ_overrides={"wsgi.input": Chunks(b"x"), "CONTENT_LENGTH": "10"}
    )
    assert (answer.status_code, answer.data) == (422, b"mine")


def test_an_answer_started_before_the_failure_is_replaced_while_nothing_went_out(
    wrap: Wrap, serve: Serve
) -> None:
    def hasty(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["wsgi.input"].read()]

    port = serve(wrap(hasty))
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\nshort")
        client.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert (answer.status, answer.read()) == (400, b"400 Bad Request\n")


def test_a_status_of_any_type_goes_to_the_server(provider: TracerProvider) -> None:
    """It is the server's to refuse."""
    seen: list[object] = []

    def inner(_environ: WSGIEnvironment, start_response: Any) -> Iterable[bytes]:
        start_response(200, [])
        return [b"x"]

    def started(status: object, *_: object) -> Any:
        seen.append(status)

    app = BodyTraceMiddleware(inner, tracer_provider=provider)
    environ = EnvironBuilder(method="POST").get_environ()
    assert list(app(environ, started)) == [b"x"]
    assert seen == [200]


def test_the_applications_own_failures_stay_its_own(wrap: Wrap, spans: SpanRecorder) -> None:
    def broken(_environ: WSGIEnvironment, _start_response: StartResponse) -> Iterable[bytes]:
        raise LookupError("no stock")

    def unavailable(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("503 Service Unavailable", [])
        return [b"later"]

    with pytest.raises(LookupError, match="no stock"):
        Client(wrap(broken)).post("/", data=b"x")
    answer = Client(wrap(unavailable)).post("/", data=b"x")
    assert (answer.status_code, answer.data) == (503, b"later")
    assert [span.status.status_code for span in spans.finished] == [StatusCode.ERROR] * 2


def test_the_applications_iterable_is_closed_also_where_another_answer_goes_out(
    wrap: Wrap,
) -> None:
    closed: list[str] = []

    class Answer:
        def __init__(self, name: str) -> None:
            self.name = name

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"never shown"])

        def close(self) -> None:
            closed.append(self.name)

    def failing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            environ["wsgi.input"].read()
        except Exception:  # noqa: BLE001 - whatever it is
            start_response("500 Internal Server Error", [])
            return Answer("refused")
        start_response("200 OK", [])
        return Answer("answered")

    client = Client(wrap(failing))
    refused = client.post(
        "/", environ_overrides={"wsgi.input": Chunks(b"x"), "CONTENT_LENGTH": "10"}
    )
    assert (refused.status_code, refused.data) == (400, b"400 Bad Request\n")
    client.post("/", data=b"x").close()
    assert closed == ["refused", "answered"]


def test_the_route_names_the_span_where_the_framework_can_tell(
    wrap: Wrap, spans: SpanRecorder
) -> None:
    client = Client(wrap(bottled(), route_of=bottle_route))
    client.post("/orders/new", json={"orderId": "ORD1"})
    client.post("/missing")
    assert [span.name for span in spans.finished] == ["POST /orders/<kind>", "POST"]
    assert (spans.finished[0].attributes or {})["http.route"] == "/orders/<kind>"


def test_bodies_over_the_limit_are_passed_on_by_default(wrap: Wrap) -> None:
    def once(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    answer = Client(wrap(once, body_limit=10)).post("/", data=b"x" * 1000)
    assert answer.data == b"x" * 1000


def test_switched_off_it_is_not_there(provider: TracerProvider, spans: SpanRecorder) -> None:
    seen: list[object] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        seen.append(environ["wsgi.input"])
        assert current_trace() is None
        start_response("200 OK", [])
        return []

    body = Chunks()
    answer = Client(BodyTraceMiddleware(app, tracer_provider=provider, enabled=False)).get(
        "/", environ_overrides={"wsgi.input": body}
    )
    assert seen == [body]
    assert "X-Trace-ID" not in answer.headers
    assert not spans.finished


def test_settings_come_from_the_environment_first(
    monkeypatch: pytest.MonkeyPatch, provider: TracerProvider
) -> None:
    monkeypatch.setenv("FLASK_BODYTRACE_OVER_LIMIT", "reject")
    monkeypatch.setenv("FLASK_BODYTRACE_BODY_LIMIT", "10")
    app = BodyTraceMiddleware(plain, tracer_provider=provider, body_limit=1000)
    assert Client(app).post("/", data=b"x" * 11).status_code == 413
    monkeypatch.setenv("FLASK_BODYTRACE_BODY_LIMIT", "banana")
    with pytest.raises(ConfigError, match="banana"):
        BodyTraceMiddleware(plain, tracer_provider=provider)
