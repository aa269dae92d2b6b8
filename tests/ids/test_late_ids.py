"""Ids that are known only during the request, or at its end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, abort, g, session
from opentelemetry import baggage, trace

from flask_bodytrace import BodyTrace, current_trace
from flask_bodytrace.cli import bodytrace
from flask_bodytrace.exceptions import ConfigError
from flask_bodytrace.ids.hash import id_hasher
from flask_bodytrace.wsgi import BodyTraceMiddleware
from tests import conftest as shop

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from flask_bodytrace.testing import SpanRecorder
    from tests.conftest import MakeApp

# The fixtures of the whole folder of tests, not this folder's own.
make_app = shop.make_app
provider = shop.provider
spans = shop.spans


def attributes(spans: SpanRecorder) -> dict[str, Any]:
    (span,) = spans.finished
    return dict(span.attributes or {})


def test_a_hook_sets_the_users_id(make_app: MakeApp, spans: SpanRecorder) -> None:
    app = make_app(ids="order.id=path:order", baggage=True)
    seen: list[Any] = []

    @app.before_request
    def authenticate() -> None:
        assert g.trace.set_id("user.id", 17)

    @app.get("/orders/<order>")
    def view(order: str) -> str:
        seen.append((dict(g.trace.ids), dict(baggage.get_all()), g.trace.headers()["baggage"]))
        return order

    app.test_client().get("/orders/ORD1")
    ids = {"order.id": "ORD1", "user.id": "17"}
    assert seen == [(ids, ids, "order.id=ORD1,user.id=17")]
    assert {name: attributes(spans)[name] for name in ids} == ids
    assert baggage.get_all() == {}


def test_log_records_have_it_from_then_on(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(logs=True, ids="order.id=query:order")
    log = logging.getLogger("shop")

    @app.get("/")
    def view() -> str:
        log.warning("before")
        g.trace.set_id("user.id", "U1")
        log.warning("after")
        return ""

    app.test_client().get("/?order=O1")
    found = {
        r.getMessage(): getattr(r, "user.id", None) for r in caplog.records if r.name == "shop"
    }
    assert found == {"before": None, "after": "U1"}


def test_it_is_set_within_a_child_span(make_app: MakeApp, spans: SpanRecorder) -> None:
    app = make_app(baggage=True)

    @app.get("/")
    def view() -> str:
        tracer = trace.get_tracer("t", tracer_provider=app.extensions["bodytrace"].plan.provider)
        with tracer.start_as_current_span("child") as child:
            g.trace.set_id("user.id", "U1")
            assert trace.get_current_span() is child
            assert baggage.get_baggage("user.id") == "U1"
        return str(g.trace.headers()["baggage"])

    assert app.test_client().get("/").text == "user.id=U1"
    by_name = {span.name: dict(span.attributes or {}) for span in spans.finished}
    assert by_name["GET /"]["user.id"] == "U1"
    assert "user.id" not in by_name["child"]


def test_it_replaces_what_was_found_and_is_hashed_where_settings_say_so(
    make_app: MakeApp, spans: SpanRecorder
) -> None:
    app = make_app(ids="user.id=query:user", id_hash="user.id", hash_key="k")

    @app.get("/")
    def view() -> str:
        g.trace.set_id("user.id", "U2")
        return str(g.trace.ids["user.id"])

    expected = id_hasher("user.id", b"k")("U2")
    assert app.test_client().get("/?user=U1").text == expected
    assert attributes(spans)["user.id"] == expected


@pytest.mark.parametrize(
    "value",
    [None, "", " ", "a\nb", True, b"x", object(), 2**5000],
    ids=lambda value: repr(value)[:9],
)
def test_what_can_be_no_id_is_not_set(
    make_app: MakeApp, spans: SpanRecorder, value: object
) -> None:
    app = make_app()

    @app.get("/")
    def view() -> str:
        assert not g.trace.set_id("user.id", value)
        return ""

    assert app.test_client().get("/").status_code == 200
    assert "user.id" not in attributes(spans)


def test_a_bad_name_is_told(make_app: MakeApp) -> None:
    app = make_app()
    with app.test_request_context("/"):
        app.preprocess_request()
        with pytest.raises(ConfigError, match=r"'user id' is no attribute name"):
            g.trace.set_id("user id", "U1")


class User:
    id = "U9"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("session:user", "S1"),
        ("session:account.owner", "S2"),
        ("g:user.id", "U9"),
        ("g:numbers.first", "7"),
        (lambda: "F1", "F1"),
        (["userId", "g:missing", lambda: None, "session:user"], "S1"),
        (lambda: 1 / 0, None),
        (lambda: abort(401), None),
    ],
    ids=["session", "in the session", "g", "on g", "function", "several", "raises", "aborts"],
)
def test_sources_that_have_their_value_at_the_end(
    make_app: MakeApp, spans: SpanRecorder, source: Any, expected: str | None
) -> None:
    app = make_app(ids={"user.id": source})
    app.secret_key = "k"

    @app.post("/")
    def view() -> str:
        session["user"] = "S1"
        session["account"] = {"owner": "S2"}
        g.user = User()
        g.numbers = {"first": 7}
        assert "user.id" not in g.trace.ids
        return ""

    assert app.test_client().post("/", data="x").status_code == 200
    assert attributes(spans).get("user.id") == expected


def test_a_late_source_comes_after_what_the_request_says(
    make_app: MakeApp, spans: SpanRecorder
) -> None:
    app = make_app(ids={"user.id": ["userId", lambda: "late"]})

    @app.post("/")
    def view() -> str:
        return ""

    app.test_client().post("/", json={"userId": "U1"})
    assert attributes(spans)["user.id"] == "U1"


def test_looking_at_the_session_changes_no_answer(make_app: MakeApp) -> None:
    app = make_app(ids={"user.id": "session:user"})
    app.secret_key = "k"

    @app.get("/")
    def view() -> str:
        return ""

    @app.get("/in")
    def log_in() -> str:
        session["user"] = "U1"
        return ""

    client = app.test_client()
    client.get("/in")
    assert "Vary" not in client.get("/").headers


def test_without_flask_an_id_can_be_set_but_has_no_late_sources(
    provider: TracerProvider, spans: SpanRecorder
) -> None:
    from werkzeug.test import Client

    def plain(_environ: Any, start_response: Any) -> list[bytes]:
        found = current_trace()
        assert found is not None
        found.set_id("user.id", "U1")
        start_response("200 OK", [])
        return []

    app = BodyTraceMiddleware(plain, tracer_provider=provider, ids="order.id=path:x")
    Client(app).get("/")
    assert attributes(spans)["user.id"] == "U1"
    with pytest.raises(ConfigError, match=r"'session:user', which only BodyTrace\(app\)"):
        BodyTraceMiddleware(plain, ids={"user.id": "session:user"})


def test_a_function_is_named_by_the_commands() -> None:
    def current_user() -> str:
        return ""

    app = Flask("shop")
    BodyTrace(app, ids={"user.id": ["userId", current_user]})

    @app.get("/orders")
    def view() -> str:
        return ""

    app.cli.add_command(bodytrace)
    found = app.test_cli_runner().invoke(args=["bodytrace", "routes"])
    assert "user.id (current_user())" in found.output
    found = app.test_cli_runner().invoke(args=["bodytrace", "config"])
    assert "user.id=userId,user.id=current_user()" in found.output
