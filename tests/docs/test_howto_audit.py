"""docs/howto/audit.md: what is written, and what is refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from flask_bodytrace.testing import SpanRecorder
from tests.docs.pages import DOCS, load

PAGE = DOCS / "howto/audit.md"
ORDER = {"orderId": "ORD1", "userId": 7, "password": "hunter2", "loyalty_number": "77-1"}


def test_the_audit_log_has_everything_but_secrets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = load(PAGE, "audited.py", tmp_path)
    client = module.app.test_client()
    with caplog.at_level(logging.INFO, "audit"):
        answer = client.post("/orders", json=ORDER)
        client.get("/orders")
    (record,) = caplog.records
    entry = json.loads(record.getMessage())
    assert answer.status_code == 201
    assert entry["trace"] == answer.headers["X-Trace-ID"]
    assert entry["ids"] == {"order.id": "ORD1", "user.id": "7"}
    assert entry["did"] == "POST /orders"
    assert json.loads(entry["sent"]) == {
        **ORDER, "password": "REDACTED", "loyalty_number": "REDACTED",
    }  # fmt: skip


def test_of_what_failed_the_body_is_on_the_span(tmp_path: Path, spans: SpanRecorder) -> None:
    client = load(PAGE, "captured.py", tmp_path).app.test_client()
    assert client.post("/orders", json=ORDER).status_code == 201
    sent = {"customer": {"address": "3 Elm St"}, "loyalty_number": "77-1"}
    assert client.post("/orders", json=sent).status_code == 500
    fine, failed = [dict(span.attributes or {}) for span in spans.named("POST /orders")]
    assert "http.request.body.content" not in fine
    assert json.loads(str(failed["http.request.body.content"])) == {
        "customer": {"address": "REDACTED"}, "loyalty_number": "REDACTED",
    }  # fmt: skip


def test_a_request_is_taken_once(tmp_path: Path, redis_url: str) -> None:
    app = load(PAGE, "once.py", tmp_path).app
    app.config["NONCES"] = redis_url
    client = app.test_client()

    def send(order: dict[str, object], nonce: str) -> tuple[int, str]:
        answer = client.post("/orders", json=order, headers={"X-Nonce": nonce})
        return answer.status_code, answer.text

    assert send(ORDER, "nonce-0001")[0] == 201
    status, text = send(ORDER, "nonce-0001")
    assert (status, "this very body" in text) == (409, True)
    status, text = send({"orderId": "ORD2"}, "nonce-0001")
    assert (status, "another body" in text) == (409, True)
    assert send(ORDER, "nonce-0002")[0] == 201
    assert send(ORDER, "")[0] == 400
