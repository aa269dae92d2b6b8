"""What a service says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask

from example_app.bootstrap import FULFILMENT, GATEWAY, ORDERS, PAYMENTS, SERVICES, Surroundings
from example_app.duty import Report
from example_app.health import health_routes
from example_app.serving import serving
from flask_bodytrace.testing import SpanRecorder

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.sdk.trace import TracerProvider
    from werkzeug.test import TestResponse

NO_DATABASE = b"this is no database" * 1000


def loop(state: str, what: str = "polling") -> dict[str, Any]:
    failed = state == "backing off"
    return {"state": state, "lastError": {"what": what} if failed else None}


def ask(path: str, *loops: dict[str, Any], **options: Any) -> TestResponse:
    app = Flask("shop")
    report = Report(7, {f"loop-{number}": it for number, it in enumerate(loops)})
    app.register_blueprint(health_routes(loops=lambda: report, **options))
    return app.test_client().get(path)


@pytest.mark.parametrize(
    ("loops", "status", "says"),
    [
        (["running", "running"], 200, "ok"),
        (["running", "backing off"], 200, "degraded"),
        (["backing off", "stopped"], 503, "stopped"),
    ],
)
def test_health_fails_only_where_starting_again_would_help(
    loops: list[str], status: int, says: str
) -> None:
    answer = ask("/health", *map(loop, loops))
    assert (answer.status_code, answer.get_json()["status"]) == (status, says)
    assert answer.get_json()["loopsRunIn"] == 7


@pytest.mark.parametrize(
    ("loops", "missing"),
    [
        ([loop("running")], []),
        ([loop("stopped")], ["loop-0"]),
        ([], ["loops"]),
        ([loop("backing off", "polling")], ["bus"]),
        ([loop("backing off", "committing")], ["bus"]),
        ([loop("backing off", "handling order.placed")], []),
        ([loop("backing off", "publishing"), loop("running")], []),
    ],
)
def test_ready_names_what_is_missing(loops: list[dict[str, Any]], missing: list[str]) -> None:
    answer = ask("/ready", *loops)
    assert answer.get_json()["missing"] == missing
    assert answer.status_code == (503 if missing else 200)


def test_a_service_that_does_without_the_bus_is_ready_without_it() -> None:
    assert ask("/ready", loop("backing off"), needs_bus=False).status_code == 200


def test_a_database_that_does_not_answer_is_named_and_its_address_is_not() -> None:
    def broken() -> None:
        raise OSError("/secret/place")

    answer = ask("/ready", loop("running"), checks={"here": lambda: None, "database": broken})
    assert answer.status_code == 503
    assert answer.get_json()["missing"] == ["database"]
    assert "secret" not in answer.text


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_both_routes_and_no_span_of_them(
    name: str, tmp_path: Path, provider: TracerProvider, spans: SpanRecorder
) -> None:
    services = dict.fromkeys((*SERVICES, "inventory-grpc"), "127.0.0.1:0")
    around = Surroundings(tmp_path, services, b"key", provider)
    with SERVICES[name](around) as app, serving(app) as url:
        import requests

        for path in ("/health", "/ready"):
            answer = requests.get(url + path, timeout=30)
            assert answer.status_code == 200, answer.text
    assert [span.name for span in spans.finished] == []


def test_a_database_that_is_gone_makes_a_service_unready_and_not_unhealthy(tmp_path: Path) -> None:
    services = dict.fromkeys((ORDERS, PAYMENTS, FULFILMENT, GATEWAY), "127.0.0.1:0")
    with SERVICES[FULFILMENT](Surroundings(tmp_path, services, b"key")) as app:
        assert isinstance(app, Flask)
        client = app.test_client()
        assert client.get("/ready").status_code == 200
        for file in tmp_path.glob("fulfilment.db*"):
            file.write_bytes(NO_DATABASE)
        assert client.get("/ready").get_json()["missing"] == ["database"]
        assert client.get("/health").status_code == 200


def test_orders_are_ready_while_one_of_their_databases_answers(tmp_path: Path) -> None:
    services = dict.fromkeys((*SERVICES, "inventory-grpc"), "127.0.0.1:0")
    with SERVICES[ORDERS](Surroundings(tmp_path, services, b"key")) as app:
        assert isinstance(app, Flask)
        client = app.test_client()
        files = sorted((tmp_path / "orders").glob("db-order-*.db*"))
        for file in files:
            if "db-order-01" not in file.name:
                file.write_bytes(NO_DATABASE)
        assert client.get("/ready").status_code == 200
        for file in files:
            file.write_bytes(NO_DATABASE)
        assert client.get("/ready").get_json()["missing"] == ["databases"]
