"""The order service's routes, on neighbours that say what a test tells them to."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from opentelemetry.sdk.trace import TracerProvider
from werkzeug.test import TestResponse

from example_app.breaker.guard import Unavailable
from example_app.engines import Engines
from example_app.events.event import Event
from example_app.orders.admission import Admission
from example_app.orders.callbacks import callback_routes
from example_app.orders.file_audit_log import FileAuditLog
from example_app.orders.neighbours import OutOfStock, Reserved, Standing
from example_app.orders.order import Order
from example_app.orders.shards import Router
from example_app.orders.sql_store import SqlOrderStore
from example_app.orders.views import Parts, order_routes
from example_app.payments import signature
from example_app.service import traced_service
from flask_bodytrace.capture.documents import BodyCapture
from flask_bodytrace.capture.redactor import Redactor
from tests.example_app import patient

KEY = b"the provider's"
ORDER = {"orderId": "A1", "userId": "U1", "items": [{"sku": "BOLT", "quantity": 2}]}
PAID = {"orderId": "A1", "userId": "U1", "outcome": "paid"}


@dataclass
class Neighbours:
    """Inventory and payments at once."""

    stock_age_s: float | None = None
    standing: Standing = field(default_factory=lambda: Standing(good=True, age_s=None))
    error: Exception | None = None
    reserved: list[str] = field(default_factory=list)

    def reserve(self, order: Order) -> Reserved:
        if isinstance(self.error, OutOfStock):
            raise self.error
        self.reserved.append(order.order_id)
        return Reserved(total=25 * order.pieces, age_s=self.stock_age_s)

    def release(self, order: Order) -> None:
        self.reserved.remove(order.order_id)

    def authorise(self, _order: Order, _total: int) -> Standing:
        if self.error is not None:
            raise self.error
        return self.standing


@pytest.fixture
def neighbours() -> Neighbours:
    return Neighbours()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlOrderStore]:
    with closing(patient.order_store(Engines(), tmp_path / "orders", Router())) as store:
        yield store


@pytest.fixture
def waiting() -> list[str]:
    """Events that wait to be handled."""
    return []


@pytest.fixture
def admission(waiting: list[str]) -> Admission:
    return Admission(lambda: len(waiting), most=2)


@pytest.fixture
def app(
    tmp_path: Path, neighbours: Neighbours, store: SqlOrderStore, admission: Admission
) -> Iterator[Flask]:
    app = traced_service("orders", TracerProvider(shutdown_on_exit=False))
    with closing(FileAuditLog(tmp_path / "audit" / "orders.jsonl")) as audit_log:
        parts = Parts(
            store=store,
            inventory=neighbours,
            payments=neighbours,
            audit_log=audit_log,
            admission=admission,
            redacted=BodyCapture(1000, Redactor()),
        )
        app.register_blueprint(order_routes(parts))
        app.register_blueprint(callback_routes(store, KEY))
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def call_back(client: FlaskClient, body: object, key: bytes = KEY) -> TestResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(
        "/payments/callback",
        data=raw,
        content_type="application/json",
        headers={signature.HEADER: signature.sign(key, raw)},
    )


def published(store: SqlOrderStore) -> list[Event]:
    found: list[Event] = []
    for outbox in store.outboxes:
        outbox.drain(found.extend)
    return found


def test_an_order_is_placed_shown_and_paid(client: FlaskClient, store: SqlOrderStore) -> None:
    placed = client.post("/orders", json=ORDER)
    assert placed.status_code == 201
    assert placed.json is not None
    assert placed.json["fallbacks"] == []
    assert placed.json["total"] == 50

    for url in (placed.headers["Location"], "/orders/A1", "/orders/A1?userId=U1"):
        shown = client.get(url).json
        assert shown is not None
        assert shown["status"] == "placed"
        assert shown["items"] == ORDER["items"]
    assert call_back(client, PAID).json == {"orderId": "A1", "status": "paid"}
    listed = client.get("/users/U1/orders").json
    assert listed is not None
    assert [it["status"] for it in listed["orders"]] == ["paid"]
    assert client.get("/stats").json == {"orders": {"paid": 1}, "unpublished": 2, "unanswered": []}
    assert [event.topic for event in published(store)] == ["order.placed", "order.paid"]


def test_a_new_order_is_refused_while_too_many_events_wait(
    client: FlaskClient, admission: Admission, waiting: list[str], neighbours: Neighbours
) -> None:
    assert client.post("/orders", json=ORDER).status_code == 201
    waiting += ["one", "two", "three"]
    admission.look()

    refused = client.post("/orders", json={**ORDER, "orderId": "A2"})
    assert refused.status_code == 429, "not 5xx: nothing is broken"
    assert refused.headers["Retry-After"] == "1"
    assert refused.json is not None
    assert refused.json["message"].startswith("Too many orders wait to be settled.")
    assert neighbours.reserved == ["A1"]
    # What was taken before goes on: whoever had no answer gets it, and payments are noted.
    assert client.post("/orders", json=ORDER).status_code == 200
    assert call_back(client, PAID).status_code == 200

    waiting.clear()
    admission.look()
    assert client.post("/orders", json={**ORDER, "orderId": "A2"}).status_code == 201


def test_the_events_carry_trace_and_ids(client: FlaskClient, store: SqlOrderStore) -> None:
    placed = client.post("/orders", json=ORDER)

    (event,) = published(store)
    assert placed.headers["X-Trace-ID"] in event.headers["traceparent"]
    assert event.headers["baggage"] == "order.id=A1,user.id=U1"
    assert event.payload == {
        "orderId": "A1",
        "userId": "U1",
        "lines": [{"sku": "BOLT", "quantity": 2}],
        "total": 50,
    }


def test_callbacks_that_come_twice_change_nothing(
    client: FlaskClient, store: SqlOrderStore
) -> None:
    client.post("/orders", json=ORDER)

    for body in (PAID, PAID, {**PAID, "outcome": "failed"}):
        assert call_back(client, body).status_code == 200

    assert [event.topic for event in published(store)] == ["order.placed", "order.paid"]


def test_a_failed_payment_is_told(client: FlaskClient, store: SqlOrderStore) -> None:
    client.post("/orders", json=ORDER)

    answer = call_back(client, {**PAID, "outcome": "failed"})

    assert answer.json == {"orderId": "A1", "status": "payment_failed"}
    assert published(store)[-1].topic == "order.payment_failed"


def test_the_same_order_again_is_the_same_order(
    client: FlaskClient, store: SqlOrderStore, neighbours: Neighbours
) -> None:
    first = client.post("/orders", json=ORDER)
    again = client.post("/orders", json=ORDER)
    other = client.post("/orders", json={**ORDER, "items": [{"sku": "BOLT", "quantity": 3}]})

    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert again.json == first.json
    assert len(published(store)) == 1
    neighbours.error = Unavailable("payments: refused")
    assert client.post("/orders", json=ORDER).status_code == 200
    assert neighbours.reserved == ["A1"], "reserved once, and kept"


def test_a_fallback_says_that_it_is_one(client: FlaskClient, neighbours: Neighbours) -> None:
    neighbours.stock_age_s = 1.5
    neighbours.standing = Standing(good=True, age_s=2.25)

    placed = client.post("/orders", json=ORDER)

    assert placed.status_code == 201
    assert (placed.json or {})["fallbacks"] == [
        {"of": "stock", "strategy": "cache_last_known_value", "ageS": 1.5},
        {"of": "standing", "strategy": "cache_last_known_value", "ageS": 2.25},
    ]


def test_what_cannot_be_taken_is_not_stored(
    client: FlaskClient, store: SqlOrderStore, neighbours: Neighbours
) -> None:
    neighbours.error = OutOfStock("BOLT: 2 wanted, 1 there")
    assert client.post("/orders", json=ORDER).status_code == 409
    neighbours.error = Unavailable("payments: refused")
    assert client.post("/orders", json=ORDER).status_code == 503
    neighbours.error = None
    neighbours.standing = Standing(good=False, age_s=None)
    refused = client.post("/orders", json=ORDER)
    assert refused.status_code == 402
    assert (refused.json or {})["message"] == "U1 cannot pay."
    assert neighbours.reserved == [], "given back"

    assert store.count().value == {}
    assert published(store) == []


def test_the_audit_log_has_each_body_without_its_secrets(
    client: FlaskClient, tmp_path: Path
) -> None:
    ids = [
        client.post("/orders", json={**ORDER, "cardNumber": "4111"}).headers["X-Trace-ID"],
        client.post("/orders", data="orderId=A2&password=x").headers["X-Trace-ID"],
        client.post("/orders", data=b"{", content_type="application/json").headers["X-Trace-ID"],
    ]

    path = tmp_path / "audit" / "orders.jsonl"
    first, form, broken = map(json.loads, path.read_text().splitlines())
    assert [it["traceId"] for it in (first, form, broken)] == ids
    assert json.loads(first["body"]) == {**ORDER, "cardNumber": "REDACTED"}
    assert first["orderId"] == "A1"
    assert form["size"] == len("orderId=A2&password=x")
    assert broken["body"] == "{"
    assert path.stat().st_mode & 0o777 == 0o600
    assert "4111" not in path.read_text()


def test_what_is_not_there_is_404(client: FlaskClient) -> None:
    assert client.get("/orders/A1").status_code == 404
    assert client.get("/orders/A1?userId=U1").status_code == 404
    assert call_back(client, PAID).status_code == 404


def test_an_id_that_two_users_have_needs_the_user(client: FlaskClient) -> None:
    client.post("/orders", json=ORDER)
    client.post("/orders", json={**ORDER, "userId": "U2"})

    assert client.get("/orders/A1").status_code == 409
    shown = client.get("/orders/A1?userId=U2").json
    assert shown is not None
    assert shown["userId"] == "U2"


def test_json_that_is_no_order_is_400(client: FlaskClient) -> None:
    for body in (b"", b"{", b"null", b"[]", b"{}", b'{"orderId": "\xff"}'):
        refused = client.post("/orders", data=body, content_type="application/json")

        assert refused.status_code == 400, body
        assert refused.json is not None
        assert refused.json["error"] == "Bad Request"
        assert refused.json["traceId"] == refused.headers["X-Trace-ID"]


def test_a_signed_callback_that_is_no_payment_is_400(client: FlaskClient) -> None:
    for body in (b"", b"{", b"[]", b'{"orderId": "A1", "outcome": "maybe"}'):
        assert call_back(client, body).status_code == 400, body


def test_a_signature_of_another_key_is_401(client: FlaskClient) -> None:
    client.post("/orders", json=ORDER)

    refused = call_back(client, PAID, key=b"another")

    assert refused.status_code == 401
    assert (client.get("/orders/A1").json or {})["status"] == "placed"


def test_json_nested_too_deeply_is_400(client: FlaskClient) -> None:
    body = b"[" * 200_000

    assert client.post("/orders", data=body, content_type="application/json").status_code == 400
    assert call_back(client, body).status_code == 400


def test_a_body_over_the_limit_is_413(client: FlaskClient) -> None:
    fits, over = b"{}".ljust(1 << 20), b"{}".ljust((1 << 20) + 1)
    for body, status in ((fits, 400), (over, 413)):
        answer = client.post("/orders", data=body, content_type="application/json")
        assert answer.status_code == status
        assert answer.headers["X-Trace-ID"]
        assert call_back(client, body).status_code == status


def test_another_content_type_is_415(client: FlaskClient) -> None:
    assert client.post("/orders", data=b"hello", content_type="text/plain").status_code == 415


@contextmanager
def broken_shard(folder: Path, user_id: str) -> Iterator[None]:
    """A user's table is away for as long as the block lasts."""
    shard = Router().shard_of(user_id)
    with closing(sqlite3.connect(folder / "orders" / f"{shard.database}.db")) as database:
        database.execute(f"ALTER TABLE {shard.table} RENAME TO away")
        database.commit()
        yield
        database.execute(f"ALTER TABLE away RENAME TO {shard.table}")
        database.commit()


def test_a_lookup_that_one_database_cannot_answer_is_503_unless_it_is_found(
    client: FlaskClient, tmp_path: Path
) -> None:
    client.post("/orders", json=ORDER)
    shard = Router().shard_of("U1")
    users = (f"U{number}" for number in range(2, 99))
    other = next(it for it in users if Router().shard_of(it).database != shard.database)
    elsewhere = {**ORDER, "orderId": "A2", "userId": other}
    client.post("/orders", json=elsewhere)
    with broken_shard(tmp_path, "U1"):
        found = client.get("/orders/A2")
        paths = ("/orders/A1", "/orders/NONE", "/orders/A1?userId=U1")
        refused = [client.get(path) for path in paths]
        stats = client.get("/stats").json

    assert found.status_code == 200
    assert [answer.status_code for answer in refused] == [503] * 3
    for answer in refused:
        assert answer.json is not None
        assert answer.json["traceId"] == answer.headers["X-Trace-ID"]
        for secret in (str(tmp_path), "db-order", "t_order", "SELECT", "sqlite"):
            assert secret not in answer.text
    assert stats == {
        "orders": {"placed": 1},
        "unpublished": 2,
        "unanswered": [shard.database],
    }
    assert client.get("/orders/A1").status_code == 200


def test_an_order_whose_database_fails_after_the_reservation_gives_its_pieces_back(
    client: FlaskClient, tmp_path: Path, neighbours: Neighbours
) -> None:
    shard = Router().shard_of("U1")
    with closing(sqlite3.connect(tmp_path / "orders" / f"{shard.database}.db")) as database:
        trigger = f"CREATE TRIGGER full BEFORE INSERT ON {shard.table}"
        database.execute(f"{trigger} BEGIN SELECT 1 FROM nowhere; END")  # noqa: S608 - our table
        database.commit()
    assert client.post("/orders", json=ORDER).status_code == 503
    assert neighbours.reserved == []
