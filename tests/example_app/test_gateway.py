"""The gateway in front of a service that tells what it was sent."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from flask.typing import ResponseReturnValue
from opentelemetry.sdk.trace import TracerProvider

from example_app.cache.sqlite_cache import SqliteCache
from example_app.discovery.static_directory import StaticDirectory
from example_app.gateway.views import gateway_routes
from example_app.outbound import HttpService
from example_app.service import traced_service
from example_app.serving import serving
from flask_bodytrace.testing import capture_spans

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


pytestmark = pytest.mark.usefixtures("propagators")


def upstream() -> Flask:
    app = Flask("upstream")

    @app.route("/<path:path>", methods=["GET", "POST"])
    def tell(path: str) -> ResponseReturnValue:
        told = {
            "path": path,
            "query": request.query_string.decode(),
            "body": request.get_data(as_text=True),
            "headers": {name.lower(): value for name, value in request.headers.items()},
        }
        if path == "orders/MANY":
            return told, 429, {"Retry-After": "1"}
        return told, 500 if path == "orders/BROKEN" else 201, {"Location": "/orders/A1"}

    return app


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    provider = TracerProvider(shutdown_on_exit=False)
    app = traced_service("gateway", provider, incoming="link")
    tracer = provider.get_tracer("test")
    with serving(upstream()) as url, closing(SqliteCache(tmp_path / "cache.db")) as cache:
        directory = StaticDirectory({"orders": url, "inventory": "http://127.0.0.1:9"})
        with (
            closing(HttpService("orders", directory, tracer, 10)) as orders,
            closing(HttpService("inventory", directory, tracer, 10)) as inventory,
        ):
            app.register_blueprint(gateway_routes(orders, inventory, cache))
            yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def test_a_request_is_handed_on_as_it_is(client: FlaskClient) -> None:
    raw = b'{"orderId":  "A1"}'
    answer = client.post(
        "/orders", data=raw, content_type="application/json", headers={"X-Nonce": "nonce-0001"}
    )

    assert answer.status_code == 201
    assert answer.headers["Location"] == "/orders/A1"
    told = answer.json
    assert told is not None
    assert told["body"] == raw.decode()
    assert told["headers"]["content-type"] == "application/json"

    shown = client.get("/orders/A%3F1?userId=U%261&x=").json
    assert shown is not None
    assert (shown["path"], shown["query"]) == ("orders/A?1", "userId=U%261&x=")


def test_who_is_to_come_again_later_is_told_when(client: FlaskClient) -> None:
    answer = client.get("/orders/MANY")
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "1"


def test_a_nonce_is_for_one_request(client: FlaskClient) -> None:
    for nonce, body, status in (
        ("nonce-0001", b"a", 201),
        ("nonce-0001", b"a", 409),
        ("nonce-0001", b"b", 409),
        ("nonce-0002", b"a", 201),
        ("", b"a", 400),
    ):
        answer = client.post("/orders", data=body, headers={"X-Nonce": nonce})
        assert answer.status_code == status, nonce


def test_a_caller_outside_is_linked_and_its_baggage_is_not_taken_over(
    app: Flask, client: FlaskClient
) -> None:
    with capture_spans(app) as spans:
        answer = client.post(
            "/orders",
            json={"orderId": "A1", "userId": "U1"},
            headers={"X-Nonce": "nonce-0001", "traceparent": CALLER, "baggage": "evil=1"},
        )

    server = spans.one("POST /orders") if len(spans.finished) == 1 else spans.finished[-1]
    spans.assert_root(server)
    assert [f"{link.context.trace_id:032x}" for link in server.links] == [CALLER[3:35]]
    sent = (answer.json or {})["headers"]
    assert answer.headers["X-Trace-ID"] in sent["traceparent"]
    assert sent["baggage"] == "order.id=A1,user.id=U1"


@pytest.mark.parametrize(("given", "passed"), [("canary", "canary"), ("admin", None), ("", None)])
def test_a_label_is_passed_on_if_there_is_such_a_one(
    app: Flask, client: FlaskClient, given: str, passed: str | None
) -> None:
    with capture_spans(app) as spans:
        answer = client.get("/orders/A1", headers={"X-User-Label": given})

    sent = (answer.json or {})["headers"]
    assert sent.get("x-user-label") == passed
    assert sent.get("baggage") == (passed and f"user.label={passed}")
    server = spans.one("GET /orders/<order_id>")
    assert (server.attributes or {}).get("user.label") == passed


def test_a_service_that_fails_or_is_not_there_is_503(app: Flask, client: FlaskClient) -> None:
    with capture_spans(app) as spans:
        failed = client.get("/orders/BROKEN")
        missing = client.get("/stock/BOLT")

    assert (failed.status_code, missing.status_code) == (503, 503)
    assert "orders answers 500" in (failed.json or {})["message"]
    assert "inventory: ConnectError" in (missing.json or {})["message"]
    call = spans.one("GET /stock/{sku}")
    assert not call.status.is_ok
    spans.assert_child(call, of="GET /stock/<sku>")


def test_a_cache_or_a_directory_that_fails_is_503(tmp_path: Path) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    app = traced_service("gateway", provider, incoming="link")
    tracer, nobody = provider.get_tracer("test"), StaticDirectory({})
    cache = SqliteCache(tmp_path / "cache.db")
    with (
        closing(HttpService("orders", nobody, tracer, 5)) as orders,
        closing(HttpService("inventory", nobody, tracer, 5)) as inventory,
    ):
        app.register_blueprint(gateway_routes(orders, inventory, cache))
        client = app.test_client()
        assert client.get("/stock/BOLT").status_code == 503
        cache.close()
        refused = client.post("/orders", json={}, headers={"X-Nonce": "a-nonce-of-a-test"})
    assert refused.status_code == 503
    assert "closed database" not in refused.text


def test_a_body_over_the_limit_is_413(app: Flask) -> None:
    body, nonce = b" " * ((1 << 20) + 1), {"X-Nonce": "a-nonce-of-a-test"}
    assert app.test_client().post("/orders", data=body, headers=nonce).status_code == 413
