"""Whose trace a request belongs to: trust modes, excluded URLs, secrets, nested applications."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, g, request
from opentelemetry import baggage
from opentelemetry.context import attach, detach, get_value, set_value
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.propagate import extract
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from flask_bodytrace import BodyTrace, BodyTraceError, current_trace
from flask_bodytrace.capture.redactor import Redactor

HexIds = Callable[[Any], tuple[str, str, str | None]]
MakeApp = Callable[..., Flask]

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
CALLER = {
    "traceparent": f"00-{TRACE}-{PARENT}-01",
    "tracestate": "vendor=1",
    "baggage": "tenant=evil",
}


def reporting(app: Flask) -> Flask:
    @app.route("/", methods=["GET", "POST"])
    def view() -> dict[str, Any]:
        return {
            "trace": g.trace.trace_id,
            "span": g.trace.span_id,
            "parent": g.trace.parent_span_id,
            "sampled": g.trace.sampled,
            "baggage": dict(baggage.get_all()),
            "sent": g.trace.headers(),
        }

    return app


# Trust


# T13
def test_continue_is_the_default(make_app: MakeApp, spans: Any, hex_ids: HexIds) -> None:
    found: Any = reporting(make_app()).test_client().get("/", headers=CALLER).json
    assert (found["trace"], found["parent"]) == (TRACE, PARENT)
    assert found["baggage"] == {"tenant": "evil"}
    assert found["sent"]["tracestate"] == "vendor=1"
    assert hex_ids(spans.server()) == (TRACE, found["span"], PARENT)


@pytest.mark.parametrize("mode", ["link", "ignore"])
@pytest.mark.parametrize(
    "headers", [CALLER, {"X-Trace-ID": TRACE, "X-Span-ID": PARENT, "baggage": "tenant=evil"}]
)
# T13
def test_a_caller_that_is_not_trusted_chooses_nothing(
    make_app: MakeApp, spans: Any, mode: str, headers: dict[str, str]
) -> None:
    found: Any = reporting(make_app(incoming=mode)).test_client().get("/", headers=headers).json
    assert found["trace"] != TRACE
    assert found["parent"] is None
    assert found["baggage"] == {}
    assert set(found["sent"]) == {"traceparent"}
    span = spans.server()
    assert span.parent is None
    links = [(link.context.trace_id, link.context.span_id) for link in span.links]
    assert links == ([(int(TRACE, 16), int(PARENT, 16))] if mode == "link" else [])


@pytest.mark.parametrize("mode", ["link", "ignore"])
# T13
def test_what_a_middleware_around_put_into_the_context_stays(
    make_app: MakeApp, spans: Any, mode: str
) -> None:
    """Traceloop's association properties are such values; the caller's trace is none."""
    app = make_app(incoming=mode)

    @app.get("/")
    def view() -> dict[str, Any]:
        return {"customer": get_value("customer"), "baggage": dict(baggage.get_all())}

    def middleware(environ: Any, start_response: Any) -> Any:
        token = attach(set_value("customer", "C7", extract(CALLER)))
        try:
            return app(environ, start_response)
        finally:
            detach(token)

    found: Any = Client(middleware).get("/").json
    assert found == {"customer": "C7", "baggage": {}}
    assert spans.server().parent is None


@pytest.mark.parametrize("mode", ["link", "ignore"])
def test_a_request_made_within_another_one_is_no_part_of_it(make_app: MakeApp, mode: str) -> None:
    """Whether that is kept says nothing of this one, which is of another trace."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ALWAYS_OFF)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    outer, inner = (
        make_app(incoming=mode, keep="errors", tracer_provider=provider) for _ in range(2)
    )
    inner.add_url_rule("/inner", view_func=lambda: ("", 500), endpoint="inner")

    @outer.get("/outer")
    def view() -> str:
        return inner.test_client().get("/inner").status

    assert outer.test_client().get("/outer").status_code == 200
    assert [span.name for span in exporter.get_finished_spans()] == ["GET /inner"]


@pytest.mark.parametrize("flag", ["00", "01"])
# T13
def test_nor_does_it_choose_the_sampling(make_app: MakeApp, spans: Any, flag: str) -> None:
    app = reporting(make_app(incoming="ignore"))
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-{flag}"}
    found: Any = app.test_client().get("/", headers=headers).json
    assert found["sampled"]
    assert spans.server()


# T13
def test_a_callable_decides_for_each_request(make_app: MakeApp) -> None:
    def incoming(environ: dict[str, Any]) -> str:
        return "continue" if environ.get("HTTP_X_INTERNAL") else "ignore"

    client = reporting(make_app(incoming=incoming)).test_client()
    inside: Any = client.get("/", headers={**CALLER, "X-Internal": "1"}).json
    outside: Any = client.get("/", headers=CALLER).json
    assert inside["trace"] == TRACE
    assert outside["trace"] != TRACE


@pytest.mark.parametrize("wrong", [None, "nonsense", 0])
# T13
def test_a_callable_that_answers_nonsense_trusts_nobody(make_app: MakeApp, wrong: Any) -> None:
    client = reporting(make_app(incoming=lambda _environ: wrong)).test_client()
    found: Any = client.get("/", headers=CALLER).json
    assert found["trace"] != TRACE


# Excluded URLs


# T09
def test_an_excluded_url_has_no_span_no_ids_and_no_orphans(
    make_app: MakeApp, provider: TracerProvider, spans: Any
) -> None:
    app = make_app(ids="orderId", excluded_urls="/health", baggage=True)
    tracer = provider.get_tracer("database")

    @app.post("/health")
    def health() -> dict[str, Any]:
        with tracer.start_as_current_span("SELECT"):
            trace = current_trace()
            assert trace is not None
            return {
                "ids": dict(g.trace.ids),
                "sampled": g.trace.sampled,
                "instrumented": is_instrumentation_enabled(),
                "trace": trace.trace_id,
                "sent": g.trace.headers(),
                "again": request.get_json()["orderId"],
            }

    response = app.test_client().post("/health", json={"orderId": "A"}, headers=CALLER)
    found: Any = response.json
    assert spans.all == []
    assert found["ids"] == {}
    assert found["again"] == "A"
    assert not found["instrumented"]
    assert (found["trace"], found["sampled"]) == (TRACE, False)
    assert found["sent"]["traceparent"].startswith(f"00-{TRACE}-")
    assert found["sent"]["traceparent"].endswith("-00")
    assert "orderId" not in found["sent"].get("baggage", "")
    assert not {"X-Trace-ID", "X-Span-ID"} & set(dict(response.headers))


# T09
def test_an_untrusted_caller_is_none_on_an_excluded_url_either(make_app: MakeApp) -> None:
    app = reporting(make_app(excluded_urls="/", incoming="ignore"))
    found: Any = app.test_client().get("/", headers=CALLER).json
    assert found["trace"] != TRACE
    assert found["baggage"] == {}


@pytest.mark.parametrize(
    "variable", ["OTEL_PYTHON_FLASK_EXCLUDED_URLS", "OTEL_PYTHON_EXCLUDED_URLS"]
)
def test_the_standard_variables_exclude_too(
    make_app: MakeApp, spans: Any, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "health, /ready$")
    app = make_app()
    for path in ("/healthz", "/ready", "/ready/not"):
        app.test_client().get(path)
    assert [span.attributes["url.path"] for span in spans.all] == ["/ready/not"]


# Secrets


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("a=1&token=s3cret", "a=1&token=REDACTED"),
        ("TOKEN=s3cret", "TOKEN=REDACTED"),
        ("access_token=s3cret&b=", "access_token=REDACTED&b="),
        ("accessToken=s3cret", "accessToken=REDACTED"),
        ("X-Amz-Signature=s3cret", "X-Amz-Signature=REDACTED"),
        ("to%6ben=s3cret", "to%6ben=REDACTED"),
        ("token=s3cret=x", "token=REDACTED"),
        ("user[password]=s3cret", "user[password]=REDACTED"),
        (
            "sig=s3cret&design=ok&code=s3cret&barcode=ok",
            "sig=REDACTED&design=ok&code=REDACTED&barcode=ok",
        ),
        ("cvv=s3cret&card_number=s3cret", "cvv=REDACTED&card_number=REDACTED"),
        ("tenant=s3cret", "tenant=REDACTED"),
        ("plain", "plain"),
    ],
)
# T16
def test_secrets_in_query_strings_never_leave(
    make_app: MakeApp, spans: Any, query: str, shown: str
) -> None:
    app = make_app(redact="tenant")
    app.test_client().get(f"/?{query}")
    assert spans.server().attributes["url.query"] == shown
    assert "s3cret" not in spans.server().to_json()


# T16
def test_names_are_words() -> None:
    redactor = Redactor()
    hidden = ("api_key", "apiKey", "api-key", "PASSWORD", "sessionid", "client_secret", "auth")
    assert [redactor.is_secret(name) for name in hidden] == [True] * len(hidden)
    assert not any(map(redactor.is_secret, ("author", "assign", "encode", "keyboard", "id", "")))


# Nested, mounted and several applications


def plain(name: str, path: str = "/") -> Flask:
    app = Flask(name)

    @app.route(path, methods=["GET", "POST"])
    def view() -> dict[str, Any]:
        trace = current_trace()
        if trace is None:
            return {}
        return {"app": name, "span": trace.span_id, "same": g.trace.span_id == trace.span_id}

    return app


# T22
def test_two_applications_in_one_process_do_not_mix(spans: Any) -> None:
    apps = []
    for name in ("one", "two"):
        app = plain(name)
        provider = TracerProvider(shutdown_on_exit=False)
        BodyTrace(app, tracer_provider=provider, ids=f"{name}.id=orderId")
        app.add_url_rule("/ids", "ids", lambda: dict(g.trace.ids), methods=["POST"])
        apps.append(app)
    for app in apps:
        found = app.test_client().post("/ids", json={"orderId": app.name}).json
        assert found == {f"{app.name}.id": app.name}
    assert spans.all == []


# T22
def test_one_extension_for_several_apps_and_blueprints(
    provider: TracerProvider, spans: Any
) -> None:
    bodytrace = BodyTrace(tracer_provider=provider)

    def create_app(name: str) -> Flask:
        app = Flask(name)
        bodytrace.init_app(app)
        blueprint = Blueprint("shop", name, url_prefix="/shop")
        blueprint.add_url_rule("/<item>", view_func=lambda item: item)
        app.register_blueprint(blueprint)
        return app

    for app in (create_app("a"), create_app("b")):
        assert app.test_client().get("/shop/shoe").text == "shoe"
    assert [span.name for span in spans.all] == ["GET /shop/<item>"] * 2


# T22
def test_a_second_init_is_refused_and_says_what_to_do(make_app: MakeApp, spans: Any) -> None:
    app = reporting(make_app())
    with pytest.raises(BodyTraceError, match="call init_app once"):
        BodyTrace(app)
    app.test_client().get("/")
    assert spans.server()


@pytest.mark.parametrize("order", ["mounted first", "traced first"])
@pytest.mark.parametrize("traced", ["outer", "inner", "both"])
# T22
def test_mounted_applications_have_one_server_span_in_any_order(
    provider: TracerProvider, spans: Any, order: str, traced: str
) -> None:
    outer, inner = plain("outer"), plain("inner")

    def mount() -> None:
        mounts: Any = {"/inner": inner}
        outer.wsgi_app = DispatcherMiddleware(outer.wsgi_app, mounts)  # type: ignore[method-assign]

    def trace() -> None:
        for app in (outer, inner):
            if traced in {app.name, "both"}:
                BodyTrace(app, tracer_provider=provider, ids=f"{app.name}=orderId")

    for step in (mount, trace) if order == "mounted first" else (trace, mount):
        step()
    for path, name in (("/", "outer"), ("/inner/", "inner")):
        spans.clear()
        response = Client(outer.wsgi_app).post(path, json={"orderId": "A"})
        servers = [span for span in spans.all if span.kind is SpanKind.SERVER]
        found: Any = response.json
        own = traced in {name, "both"}
        # Around the dispatcher, the outer application sees requests to the inner one, too.
        around = order == "mounted first" and traced != "inner"
        assert len(servers) == int(own or around)
        assert len(response.headers.getlist("X-Trace-ID")) == len(servers)
        if own:
            assert found["same"]
            assert int(found["span"], 16) == servers[0].get_span_context().span_id
            assert servers[0].name == f"POST {path}"
            assert servers[0].attributes[name] == "A"


# T22
def test_an_application_called_with_this_requests_environ(
    provider: TracerProvider, spans: Any
) -> None:
    inner = plain("inner")
    outer = Flask("outer")
    for app in (outer, inner):
        BodyTrace(app, tracer_provider=provider, ids=f"{app.name}=orderId")

    @outer.post("/")
    def view() -> Any:
        before = g.trace.span_id
        response = Response.from_app(inner, request.environ)
        assert g.trace.span_id == before
        assert dict(g.trace.ids) == {"outer": "A"}
        assert request.get_json() == {"orderId": "A"}
        return response

    response = outer.test_client().post("/", json={"orderId": "A"})
    found: Any = response.json
    assert found["same"]
    span = spans.server()
    assert int(found["span"], 16) == span.get_span_context().span_id
    assert dict(span.attributes).items() >= {"outer": "A", "inner": "A"}.items()
    assert response.headers.getlist("X-Span-ID") == [found["span"]]


# T22
def test_an_application_called_through_its_test_client_is_a_service_of_its_own(
    provider: TracerProvider, spans: Any, hex_ids: HexIds
) -> None:
    inner = plain("inner", "/inner")
    outer = Flask("outer")
    for app in (outer, inner):
        BodyTrace(app, tracer_provider=provider)

    @outer.get("/")
    def view() -> list[str]:
        before = g.trace.span_id
        client = inner.test_client()
        # By the context, and by the headers.
        ways: list[dict[str, str]] = [{}, g.trace.headers()]
        for headers in ways:
            client.get("/inner", headers=headers)
        assert g.trace.span_id == before
        trace = current_trace()
        assert trace is not None
        assert trace.span_id == before
        return []

    assert outer.test_client().get("/").status_code == 200
    outermost = hex_ids(spans.one("GET /"))
    inners = [hex_ids(span) for span in spans.all if span.name == "GET /inner"]
    assert [(i[0], i[2]) for i in inners] == [outermost[:2]] * 2


@pytest.mark.parametrize("first", ["proxy", "trace"])
# T22
def test_other_middleware_on_either_side(provider: TracerProvider, spans: Any, first: str) -> None:
    app = plain("proxied")

    def proxy() -> None:
        app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]

    def trace() -> None:
        BodyTrace(app, tracer_provider=provider)

    for step in (proxy, trace) if first == "proxy" else (trace, proxy):
        step()
    response = app.test_client().get("/", headers={"X-Forwarded-For": "192.0.2.1"})
    assert len(response.headers.getlist("X-Trace-ID")) == 1
    attributes = spans.server().attributes
    assert attributes["client.address"] == "192.0.2.1"
    assert attributes["network.peer.address"] == "127.0.0.1"


# T22
def test_a_middleware_that_tries_again_gets_a_span_for_each_try(
    provider: TracerProvider, spans: Any
) -> None:
    app = Flask("again")
    BodyTrace(app, tracer_provider=provider)
    tries: list[int] = []

    @app.get("/")
    def view() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise NotFound
        return "found"

    def again(environ: Any, start_response: Any) -> Any:
        statuses: list[str] = []

        def listen(status: str, *_: Any) -> Any:
            statuses.append(status)

        app(environ, listen).close()  # type: ignore[attr-defined]
        assert statuses == ["404 NOT FOUND"]
        return app(environ, start_response)

    assert Client(again).get("/").text == "found"
    codes = [span.attributes["http.response.status_code"] for span in spans.all]
    assert codes == [404, 200]
    assert all(span.parent is None for span in spans.all)


# Switched off


def test_the_kill_switch_leaves_everything_as_it_was(spans: Any) -> None:
    app = plain("off")
    before = (type(app), app.wsgi_app, app.request_class, app.app_ctx_globals_class)
    BodyTrace(app, enabled=False)
    assert (type(app), app.wsgi_app, app.request_class, app.app_ctx_globals_class) == before
    response = app.test_client().get("/")
    assert response.json == {}
    assert "X-Trace-ID" not in response.headers
    assert spans.all == []
    with pytest.raises(BodyTraceError):
        BodyTrace(app)
