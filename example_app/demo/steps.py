"""The requests of the demo, and beside each what it must lead to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from opentelemetry.trace import SpanKind

from example_app.demo.expectation import Expectation, ExpectedSpan
from example_app.payments import signature

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
USER = {"user.id": "U987654"}
CALLER = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
# So many lines make a body of 5 MB: above what is kept in memory or searched for ids.
LARGE_LINES = 130_000


@dataclass(frozen=True, kw_only=True)
class Step:
    """One request, and what it must lead to."""

    title: str
    method: str = "POST"
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    expected: Expectation


def steps(payment_key: bytes) -> list[Step]:
    """Return the requests in their order; `payment_key` is the secret that signs callbacks."""
    paid = _json({"orderId": "ORD123456", "outcome": "paid"})
    return [
        _order("an order in JSON", "ORD123456"),
        _form_order(),
        _order("an order that continues its caller's trace", "ORD-ONWARD", caller=CALLER),
        _large_order(),
        Step(
            title="the first order, shown",
            method="GET",
            path="/orders/ORD123456",
            expected=Expectation(
                status=200,
                reply={"orderId": "ORD123456", "status": "placed", "pieces": 2},
                spans=_spans("GET /orders/<order_id>", 200, statement="SELECT"),
            ),
        ),
        Step(
            title="a payment callback, signed",
            path="/payments/callback",
            headers={**JSON, signature.HEADER: signature.sign(payment_key, paid)},
            body=paid,
            expected=Expectation(
                status=200,
                reply={"orderId": "ORD123456", "status": "paid"},
                spans=_spans(
                    "POST /payments/callback",
                    200,
                    ids={"order.id": "ORD123456"},
                    statement="UPDATE",
                ),
            ),
        ),
        Step(
            title="a payment callback with the signature of another body",
            path="/payments/callback",
            headers={**JSON, signature.HEADER: signature.sign(payment_key, paid + b" ")},
            body=paid,
            expected=Expectation(
                status=401,
                reply={"error": "Unauthorized"},
                spans=_spans("POST /payments/callback", 401, ids={"order.id": "ORD123456"}),
            ),
        ),
        _refused_order("an order in malformed JSON", b'{"orderId": "ORD-BROKEN", '),
        _refused_order("an order in JSON without a body", b""),
    ]


def _order(title: str, order_id: str, caller: tuple[str, str] | None = None) -> Step:
    line = {"sku": "BOLT-M8", "quantity": 2}
    body = _json({"orderId": order_id, "userId": USER["user.id"], "items": [line]})
    traceparent = {"traceparent": f"00-{caller[0]}-{caller[1]}-01"} if caller else {}
    return Step(
        title=title,
        path="/orders",
        headers={**JSON, **traceparent},
        body=body,
        expected=Expectation(
            status=201,
            reply={"orderId": order_id, "pieces": 2, "body": _record(body)},
            spans=_spans(
                "POST /orders", 201, ids={"order.id": order_id, **USER}, statement="INSERT"
            ),
            continues=caller,
        ),
    )


def _form_order() -> Step:
    fields = [("orderId", "ORD-FORM"), ("userId", USER["user.id"])]
    lines = [("sku", "BOLT-M8"), ("quantity", "2"), ("sku", "NUT-M8"), ("quantity", "3")]
    body = urlencode([*fields, *lines]).encode()
    return Step(
        title="an order from a form",
        path="/orders",
        headers=FORM,
        body=body,
        expected=Expectation(
            status=201,
            reply={"orderId": "ORD-FORM", "lines": 2, "pieces": 5, "body": _record(body)},
            spans=_spans(
                "POST /orders", 201, ids={"order.id": "ORD-FORM", **USER}, statement="INSERT"
            ),
        ),
    )


def _large_order() -> Step:
    items = [{"sku": f"BOLT-{number:06}", "quantity": 3} for number in range(LARGE_LINES)]
    body = _json({"orderId": "ORD-LARGE", "userId": USER["user.id"], "items": items})
    record, pieces = _record(body), 3 * LARGE_LINES
    return Step(
        title=f"an order of {len(body) / 1e6:.1f} MB, read twice: for its digest, then as JSON",
        path="/orders",
        headers=JSON,
        body=body,
        expected=Expectation(
            status=201,
            reply={"orderId": "ORD-LARGE", "lines": LARGE_LINES, "pieces": pieces, "body": record},
            spans=_spans("POST /orders", 201, statement="INSERT"),
        ),
    )


def _refused_order(title: str, body: bytes) -> Step:
    return Step(
        title=title,
        path="/orders",
        headers=JSON,
        body=body,
        expected=Expectation(
            status=400, reply={"error": "Bad Request"}, spans=_spans("POST /orders", 400)
        ),
    )


def _spans(
    name: str, status: int, ids: Mapping[str, str] | None = None, statement: str | None = None
) -> list[ExpectedSpan]:
    """The SERVER span `name`, and under it the CLIENT span of the database statement, if any."""
    server = ExpectedSpan(
        name=name,
        kind=SpanKind.SERVER,
        ids=ids or {},
        attributes={"http.route": name.split()[1], "http.response.status_code": status},
    )
    if statement is None:
        return [server]
    return [server, ExpectedSpan(name=f"{statement} orders", kind=SpanKind.CLIENT, parent=name)]


def _record(body: bytes) -> dict[str, object]:
    return {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def _json(payload: object) -> bytes:
    return json.dumps(payload).encode()
