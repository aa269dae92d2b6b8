from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from opentelemetry.sdk.trace import TracerProvider
from werkzeug.test import TestResponse

from example_app.bootstrap import order_service
from example_app.payments import signature

KEY = b"the provider's"
ORDER = {"orderId": "A1", "userId": "U1", "items": [{"sku": "BOLT", "quantity": 2}]}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[FlaskClient]:
    provider = TracerProvider(shutdown_on_exit=False)
    with order_service(tmp_path / "orders.db", KEY, provider) as app:
        yield app.test_client()


def call_back(client: FlaskClient, body: bytes, key: bytes = KEY) -> TestResponse:
    return client.post(
        "/payments/callback",
        data=body,
        content_type="application/json",
        headers={signature.HEADER: signature.sign(key, body)},
    )


def test_an_order_is_placed_shown_and_paid(client: FlaskClient) -> None:
    placed = client.post("/orders", json=ORDER)
    assert placed.status_code == 201
    assert placed.headers["Location"] == "/orders/A1"

    shown = client.get(placed.headers["Location"])
    assert shown.json == {**(placed.json or {}), "items": ORDER["items"]}
    assert shown.json["status"] == "placed"

    assert call_back(client, b'{"orderId": "A1", "outcome": "paid"}').status_code == 200
    assert (client.get("/orders/A1").json or {})["status"] == "paid"


def test_a_failed_payment_is_told(client: FlaskClient) -> None:
    client.post("/orders", json=ORDER)

    assert call_back(client, b'{"orderId": "A1", "outcome": "failed"}').json == {
        "orderId": "A1",
        "status": "payment_failed",
    }


def test_an_order_is_placed_once(client: FlaskClient) -> None:
    client.post("/orders", json=ORDER)

    assert client.post("/orders", json=ORDER).status_code == 409


def test_what_is_not_there_is_404(client: FlaskClient) -> None:
    assert client.get("/orders/A1").status_code == 404
    assert call_back(client, b'{"orderId": "A1", "outcome": "paid"}').status_code == 404


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b"{}", b'{"orderId": "\xff"}'])
def test_json_that_is_no_order_is_400(client: FlaskClient, body: bytes) -> None:
    refused = client.post("/orders", data=body, content_type="application/json")

    assert refused.status_code == 400
    assert refused.json is not None
    assert refused.json["error"] == "Bad Request"
    assert refused.json["traceId"] == refused.headers["X-Trace-ID"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"orderId": "A1", "outcome": "maybe"}'])
def test_a_signed_callback_that_is_no_payment_is_400(client: FlaskClient, body: bytes) -> None:
    assert call_back(client, body).status_code == 400


def test_a_signature_of_another_key_is_401(client: FlaskClient) -> None:
    client.post("/orders", json=ORDER)

    refused = call_back(client, b'{"orderId": "A1", "outcome": "paid"}', key=b"another")

    assert refused.status_code == 401
    assert (client.get("/orders/A1").json or {})["status"] == "placed"


def test_json_nested_too_deeply_is_400(client: FlaskClient) -> None:
    body = b"[" * 200_000

    assert client.post("/orders", data=body, content_type="application/json").status_code == 400
    assert call_back(client, body).status_code == 400


def test_a_body_over_the_limit_is_413(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_BODYTRACE_BODY_LIMIT", "100")
    provider = TracerProvider(shutdown_on_exit=False)
    with order_service(tmp_path / "orders.db", KEY, provider) as app:
        client = app.test_client()
        fits, over = b"{}".ljust(100), b"{}".ljust(101)
        for body, status in ((fits, 400), (over, 413)):
            answer = client.post("/orders", data=body, content_type="application/json")
            assert answer.status_code == status
            assert answer.headers["X-Trace-ID"]
            assert call_back(client, body).status_code == status


def test_another_content_type_is_415(client: FlaskClient) -> None:
    assert client.post("/orders", data=b"hello", content_type="text/plain").status_code == 415
