from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from flask import Blueprint, Flask, Request, Response, abort, request
from opentelemetry.sdk.trace import TracerProvider

from flask_bodytrace import BodyTrace, RequestTrace

if TYPE_CHECKING:
    from tests.conftest import MakeApp


@pytest.fixture
def bodytrace(provider: TracerProvider) -> BodyTrace:
    return BodyTrace(tracer_provider=provider, ids="order.id=orderId")


@pytest.fixture
def app(bodytrace: BodyTrace) -> Flask:
    app = Flask("shop")
    bodytrace.init_app(app)

    @app.post("/orders/<kind>")
    def create(kind: str) -> str:
        return kind

    @app.get("/fail")
    def fail() -> str:
        raise LookupError("no stock")

    app.config["PROPAGATE_EXCEPTIONS"] = False
    return app


def test_hooks_get_the_trace_with_the_request_and_the_response(
    app: Flask, bodytrace: BodyTrace
) -> None:
    seen: list[Any] = []

    @bodytrace.on_request
    def arrived(trace: RequestTrace, request: Request) -> None:
        assert request.url_rule is not None
        seen.append((trace.ids["order.id"], request.url_rule.rule, request.get_data()))

    @bodytrace.on_response
    def answered(trace: RequestTrace, response: Response) -> None:
        seen.append((trace.trace_id, response.status_code, response.get_data()))

    answer = app.test_client().post("/orders/new", json={"orderId": "ORD1"})
    assert seen == [
        ("ORD1", "/orders/<kind>", b'{"orderId": "ORD1"}'),
        (answer.headers["X-Trace-ID"], 200, b"new"),
    ]


def test_hooks_can_be_given_as_arguments(make_app: MakeApp) -> None:
    seen: list[str] = []
    app = make_app(
        on_request=lambda trace, request: seen.append(f"{request.method} {trace.sampled}"),
        on_response=lambda _trace, response: seen.append(response.status),
    )
    app.test_client().get("/missing")
    assert seen == ["GET True", "404 NOT FOUND"]


def test_hooks_see_5xx_answers_and_early_aborts(app: Flask, bodytrace: BodyTrace) -> None:
    seen: list[str] = []
    bodytrace.on_request(lambda _trace, request: seen.append(request.path))
    bodytrace.on_response(lambda _trace, response: seen.append(response.status))

    @app.before_request
    def early() -> None:
        if request.path == "/orders/early":
            abort(401)

    client = app.test_client()
    client.get("/fail")
    client.post("/orders/early")
    assert seen == ["/fail", "500 INTERNAL SERVER ERROR", "/orders/early", "401 UNAUTHORIZED"]


def test_request_hooks_come_first_and_response_hooks_last(app: Flask, bodytrace: BodyTrace) -> None:
    order: list[str] = []
    blueprint = Blueprint("inner", __name__)
    blueprint.before_request(lambda: order.append("blueprint before"))

    @app.before_request
    def before() -> None:
        order.append("before")

    @app.after_request
    def after(response: Response) -> Response:
        order.append("after")
        return response

    @blueprint.after_request
    def blueprint_after(response: Response) -> Response:
        order.append("blueprint after")
        return response

    blueprint.add_url_rule("/inner", view_func=lambda: "")
    app.register_blueprint(blueprint)
    bodytrace.on_request(lambda _trace, _request: order.append("on_request"))
    bodytrace.on_response(lambda _trace, _response: order.append("on_response"))
    app.test_client().get("/inner")
    assert order == [
        "on_request",
        "before",
        "blueprint before",
        "blueprint after",
        "after",
        "on_response",
    ]


@pytest.mark.parametrize("error", [ZeroDivisionError("hook"), None])
# T01
def test_an_error_in_a_hook_changes_nothing_and_is_logged_once_per_kind(
    app: Flask,
    bodytrace: BodyTrace,
    caplog: pytest.LogCaptureFixture,
    error: Exception | None,
) -> None:
    calls: list[str] = []

    def broken(_trace: RequestTrace, subject: object) -> None:
        calls.append(type(subject).__name__)
        if error is None:
            abort(418)
        raise error

    bodytrace.on_request(broken)
    bodytrace.on_response(broken)
    client = app.test_client()
    for _ in range(3):
        answer = client.post("/orders/new")
        assert (answer.status_code, answer.data) == (200, b"new")
        assert "X-Trace-ID" in answer.headers
    assert len(calls) == 6
    logged = [record for record in caplog.records if record.name == "flask_bodytrace"]
    assert len(logged) == 2
    kind = "ImATeapot" if error is None else "ZeroDivisionError"
    assert all(kind in record.getMessage() for record in logged)


def test_what_a_hook_returns_is_ignored(app: Flask, bodytrace: BodyTrace) -> None:
    bodytrace.on_request(lambda _trace, _request: "an answer, elsewhere")
    bodytrace.on_response(lambda _trace, _response: Response("another", 500))
    answer = app.test_client().post("/orders/new")
    assert (answer.status_code, answer.data) == (200, b"new")


def test_hooks_may_be_added_after_the_first_request(app: Flask, bodytrace: BodyTrace) -> None:
    client = app.test_client()
    client.post("/orders/new")
    seen: list[str] = []
    bodytrace.on_request(lambda _trace, _request: seen.append("request"))
    bodytrace.on_response(lambda _trace, _response: seen.append("response"))
    client.post("/orders/new")
    assert seen == ["request", "response"]


def test_hooks_are_called_for_each_application_once(
    app: Flask, bodytrace: BodyTrace, provider: TracerProvider
) -> None:
    seen: list[str] = []
    bodytrace.on_request(lambda _trace, request: seen.append(request.path))
    other = Flask("other")
    bodytrace.init_app(other)
    bodytrace.on_request(lambda _trace, request: seen.append(request.path))
    unconcerned = Flask("unconcerned")
    BodyTrace(unconcerned, tracer_provider=provider)
    for each in (app, other, unconcerned):
        each.test_client().get(f"/{each.name}")
    assert seen == ["/shop", "/shop", "/other", "/other"]


def test_an_unreferenced_application_is_freed_by_the_collector(
    bodytrace: BodyTrace,
) -> None:
    bodytrace.on_response(lambda _trace, _response: None)
    app = Flask("short-lived")
    bodytrace.init_app(app)
    reference = weakref.ref(app)
    del app
    gc.collect()
    assert reference() is None


def test_async_hooks_are_awaited(app: Flask, bodytrace: BodyTrace) -> None:
    seen: list[int] = []

    @bodytrace.on_response
    async def answered(_trace: RequestTrace, response: Response) -> None:
        seen.append(response.status_code)

    app.test_client().post("/orders/new")
    assert seen == [200]


def test_off_calls_no_hooks(provider: TracerProvider) -> None:
    seen: list[object] = []
    app = Flask("shop")
    bodytrace = BodyTrace(
        app,
        tracer_provider=provider,
        enabled=False,
        on_request=lambda trace, _request: seen.append(trace),
    )
    bodytrace.on_response(lambda trace, _response: seen.append(trace))
    assert app.test_client().get("/missing").status_code == 404
    assert not seen
