"""The order service's routes for customers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import msgspec
from flask import Blueprint, abort, g, request, url_for
from werkzeug.exceptions import HTTPException, TooManyRequests

from example_app.breaker.guard import Unavailable
from example_app.events.event import PLACED, new_event
from example_app.failures import DatabaseUnavailable
from example_app.orders import audit
from example_app.orders.admission import AGAIN_AFTER_S, TooManyWaiting
from example_app.orders.figures import OrderFigures
from example_app.orders.neighbours import OutOfStock
from example_app.orders.order import InvalidOrder, from_form, from_json
from example_app.orders.store import DuplicateOrder, Status, StoredOrder, UnknownOrder
from example_app.service import json_body

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flask.typing import ResponseReturnValue

    from example_app.orders.admission import Admission
    from example_app.orders.audit import AuditLog, BodyRecord
    from example_app.orders.neighbours import Inventory, Payments
    from example_app.orders.order import Order
    from example_app.orders.store import Gathered, OrderStore
    from flask_bodytrace.audit import BodyCapture

_LISTED = 100
_TOO_MANY = "Too many orders wait to be settled. Send it again later."


class PaymentRequired(HTTPException):
    """402, which Werkzeug has no exception for."""

    code = 402


@dataclass(frozen=True)
class Parts:
    """What the order service is made of.

    :ivar redacted: renders bodies without their secrets.
    """

    store: OrderStore
    inventory: Inventory
    payments: Payments
    audit_log: AuditLog
    admission: Admission
    redacted: BodyCapture
    figures: OrderFigures = field(default_factory=OrderFigures)


def order_routes(parts: Parts) -> Blueprint:
    """Return the routes of an order service."""
    routes = Blueprint("orders", __name__)

    @routes.post("/orders")
    def create() -> ResponseReturnValue:
        # The body is read three times: as a stream of bytes, as text for the audit, as an order.
        body = audit.record(request.stream)
        parts.audit_log.write(_entry(body, parts.redacted))
        try:
            is_form = request.mimetype == "application/x-www-form-urlencoded"
            order = from_form(request.form) if is_form else from_json(json_body())
        except InvalidOrder as error:
            abort(400, str(error))
        return _take(order, body, parts)

    @routes.get("/orders/<order_id>")
    def show(order_id: str) -> ResponseReturnValue:
        user_id = request.args.get("userId")
        if user_id is not None:
            try:
                return _whole(parts.store.get(user_id, order_id))
            except UnknownOrder:
                abort(404, f"User {user_id} has no order {order_id}.")
        return _whole(_only(parts.store.find(order_id), order_id))

    @routes.get("/users/<user_id>/orders")
    def of_user(user_id: str) -> ResponseReturnValue:
        return {"orders": [_summary(it) for it in parts.store.of_user(user_id, _LISTED)]}

    @routes.get("/stats")
    def stats() -> ResponseReturnValue:
        counted, unpublished = parts.store.count(), parts.store.unpublished()
        return {
            "orders": {status.value: number for status, number in counted.value.items()},
            "unpublished": unpublished.value,
            "unanswered": sorted({*counted.unanswered, *unpublished.unanswered}),
        }

    return routes


def _only(asked: Gathered[Sequence[StoredOrder]], order_id: str) -> StoredOrder:
    found = asked.value
    if not found and asked.unanswered:
        # It may be in one of those, so nobody can say that there is none.
        raise DatabaseUnavailable(f"{order_id} is looked for, without {asked.unanswered}")
    if not found:
        abort(404, f"There is no order {order_id}.")
    if len(found) > 1:
        abort(409, f"{len(found)} users have an order {order_id}: add ?userId=")
    return found[0]


def _take(order: Order, body: BodyRecord, parts: Parts) -> ResponseReturnValue:
    try:
        return _again(parts.store.get(order.user_id, order.order_id), body)
    except UnknownOrder:
        pass
    try:
        parts.admission.check()
        reserved = parts.inventory.reserve(order)
    except TooManyWaiting:
        # Not 503: breakers and proxies would take that for a service that is broken.
        raise TooManyRequests(_TOO_MANY, retry_after=AGAIN_AFTER_S) from None
    except OutOfStock as error:
        abort(409, f"Out of stock: {error}")
    except Unavailable as error:
        abort(503, f"The order cannot be taken now: {error}.")
    try:
        standing = parts.payments.authorise(order, reserved.total)
    except Unavailable as error:
        parts.inventory.release(order)
        abort(503, f"The order cannot be taken now: {error}.")
    if not standing.good:
        parts.inventory.release(order)
        raise PaymentRequired(f"{order.user_id} cannot pay.")
    stored = StoredOrder(order=order, status=Status.PLACED, body=body, total=reserved.total)
    try:
        parts.store.add(stored, new_event(PLACED, order.order_id, _payload(stored)))
    except DuplicateOrder:
        return _again(parts.store.get(order.user_id, order.order_id), body)
    except DatabaseUnavailable:
        # Should it be stored all the same, its event reserves the pieces again.
        parts.inventory.release(order)
        raise
    parts.figures.became(Status.PLACED)
    return _placed(stored, {"stock": reserved.age_s, "standing": standing.age_s}), 201, _at(order)


def _again(stored: StoredOrder, body: BodyRecord) -> ResponseReturnValue:
    """Answer someone who sends an order again, as they did not get our answer."""
    if stored.body.sha256 != body.sha256:
        abort(409, f"There is another order {stored.order.order_id} already.")
    return _placed(stored, {}), 200, _at(stored.order)


def _placed(stored: StoredOrder, ages_s: Mapping[str, float | None]) -> dict[str, object]:
    fallbacks = [
        {"of": name, "strategy": "cache_last_known_value", "ageS": round(age, 3)}
        for name, age in ages_s.items()
        if age is not None
    ]
    return {**_summary(stored), "fallbacks": fallbacks}


def _at(order: Order) -> dict[str, str]:
    path = url_for("orders.show", order_id=order.order_id, userId=order.user_id)
    return {"Location": path}


def _entry(body: BodyRecord, redacted: BodyCapture) -> audit.AuditEntry:
    return audit.AuditEntry(
        at=datetime.now(timezone.utc).isoformat(),
        trace_id=g.trace.trace_id,
        order_id=g.trace.ids.get("order.id"),
        size=body.size,
        sha256=body.sha256,
        body=redacted.content(request.get_data(), request.content_type or ""),
    )


def _payload(stored: StoredOrder) -> dict[str, object]:
    order = stored.order
    lines = [{"sku": sku, "quantity": quantity} for sku, quantity in order.quantities.items()]
    return {
        "orderId": order.order_id,
        "userId": order.user_id,
        "lines": lines,
        "total": stored.total,
    }


def _whole(stored: StoredOrder) -> dict[str, object]:
    return {**_summary(stored), "items": msgspec.to_builtins(stored.order.items)}


def _summary(stored: StoredOrder) -> dict[str, object]:
    return {
        "orderId": stored.order.order_id,
        "userId": stored.order.user_id,
        "status": stored.status.value,
        "lines": len(stored.order.items),
        "pieces": stored.order.pieces,
        "total": stored.total,
        "body": {"size": stored.body.size, "sha256": stored.body.sha256},
    }
