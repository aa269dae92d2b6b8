"""What a type checker makes of calls.

Each line with ``type: ignore`` must be an error: mypy reports the comment where it is not.
``make lint`` checks this file with the rest, and `test_typing.py` the errors' kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask, g
from typing_extensions import assert_type

from flask_bodytrace import BodyTrace, RequestTrace, current_trace

app = Flask(__name__)


def whom(environ: Mapping[str, Any]) -> Any:
    return "link" if environ.get("HTTP_X_PUBLIC") else "continue"


# Accepted: every form that a setting takes.
BodyTrace(app, enabled=True, body_limit="16MiB", memory_limit=1 << 20, over_limit="reject")
BodyTrace(app, ids="order.id=orderId", id_hash=["order.id"], hash_key="a secret")
BodyTrace(app, ids={"order.id": ["orderId", "path:order_id"], "user.id": "userId"})
BodyTrace(app, incoming="link", excluded_urls=("/health",), response_headers={"x-trace"})
BodyTrace(app, incoming=whom, capture_body="errors", viewer="off", logs="on")
BodyTrace(ids="order.id=orderId").init_app(app)

# Refused.
BodyTrace(app, body_limt=5)  # type: ignore[call-arg]
BodyTrace(app, body_limit=1.5)  # type: ignore[arg-type]
BodyTrace(app, over_limit="drop")  # type: ignore[arg-type]
BodyTrace(app, incoming="trust")  # type: ignore[arg-type]
BodyTrace(app, incoming=lambda: "link")  # type: ignore[arg-type,misc]
BodyTrace(app, capture_body=True)  # type: ignore[arg-type]
BodyTrace(app, ids=["order.id", 1])  # type: ignore[list-item]
BodyTrace(app, redact=None)  # type: ignore[arg-type]
BodyTrace(app, sources={})  # type: ignore[call-arg]


def view() -> str:
    trace: RequestTrace = g.trace
    assert_type(trace.trace_id, str)
    assert_type(trace.ids, Mapping[str, str])
    return trace.order_id  # type: ignore[attr-defined, no-any-return]


def helper() -> str:
    trace = current_trace()
    assert_type(trace, RequestTrace | None)
    return trace.trace_id  # type: ignore[union-attr]
