"""docs/howto/personal-data.md and docs/howto/public-endpoints.md."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flask_bodytrace.testing import SpanRecorder
from tests.docs.pages import DOCS, blocks, load

PRIVATE = DOCS / "howto/personal-data.md"
PUBLIC = DOCS / "howto/public-endpoints.md"
CALLER = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}


def shown(title: str) -> list[str]:
    (block,) = [block for block in blocks(PRIVATE, "text") if block.title == title]
    return block.code.splitlines()


def test_of_an_address_only_its_hash_is_stored(tmp_path: Path, spans: SpanRecorder) -> None:
    module = load(PRIVATE, "hashed.py", tmp_path)
    body, ids = map(json.loads, shown("hashed.py"))
    answer = module.app.test_client().post("/orders", json=body)
    assert answer.json == {"ids": ids, "to": "ann@example.com"}
    attributes = dict(spans.one("POST /orders").attributes or {})
    assert {name: attributes[name] for name in ids} == ids
    assert "ann@" not in repr(attributes)
    pseudonym = load(PRIVATE, "pseudonym.py", tmp_path).pseudonym
    assert pseudonym("user.email", "customer.email", "ann@example.com") == ids["user.email"]


def test_named_values_of_a_query_are_hidden(tmp_path: Path, spans: SpanRecorder) -> None:
    app = load(PRIVATE, "queries.py", tmp_path).app
    app.test_client().get("/search?q=shoes&email=ann@example.com&phone=1&token=t")
    query = (spans.one("GET /search").attributes or {})["url.query"]
    assert query == "q=shoes&email=REDACTED&phone=REDACTED&token=REDACTED"


def test_only_what_is_allowed_is_shown(tmp_path: Path, spans: SpanRecorder) -> None:
    sent, stored = shown("allowed.py")
    app = load(PRIVATE, "allowed.py", tmp_path).app
    app.test_client().post("/orders", data=sent, content_type="application/json")
    attributes = spans.one("POST /orders").attributes or {}
    assert attributes["http.request.body.content"] == stored


def test_a_strangers_trace_is_linked(tmp_path: Path, spans: SpanRecorder) -> None:
    answer = load(PUBLIC, "public.py", tmp_path).app.test_client().get("/", headers=CALLER)
    assert answer.json is not None
    assert answer.json["trace"] != "1" * 32
    span = spans.one("GET /")
    assert span.parent is None
    assert [link.context.trace_id for link in span.links] == [int("1" * 32, 16)]


@pytest.mark.parametrize(
    ("headers", "environ", "continues"),
    [
        ({}, "203.0.113.7", False),
        ({}, "10.1.2.3", True),
        ({"X-Gateway": "gateway"}, "203.0.113.7", True),
        ({"X-Gateway": "gatewäy"}, "203.0.113.7", False),
        ({"X-Forwarded-For": "203.0.113.7"}, "10.1.2.3", False),
    ],
)
def test_who_calls_decides(
    tmp_path: Path, headers: dict[str, str], environ: str, continues: bool
) -> None:
    client = load(PUBLIC, "both.py", tmp_path).app.test_client()
    answer = client.get("/", headers=CALLER | headers, environ_base={"REMOTE_ADDR": environ})
    assert (answer.json["trace"] == "1" * 32) == continues
