"""The order service's routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from flask import Blueprint, abort, request, url_for

from example_app.orders import audit
from example_app.orders.order import InvalidOrder, from_form, from_json
from example_app.orders.store import DuplicateOrder, Status, StoredOrder, UnknownOrder
from example_app.service import json_body

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from example_app.orders.store import OrderStore


def order_routes(store: OrderStore) -> Blueprint:
    """Return the routes of an order service that keeps its orders in `store`."""
    routes = Blueprint("orders", __name__)

    @routes.post("/orders")
    def create() -> ResponseReturnValue:
        # The body is read twice: here as a stream of bytes, below as what the bytes say.
        body = audit.record(request.stream)
        try:
            is_form = request.mimetype == "application/x-www-form-urlencoded"
            order = from_form(request.form) if is_form else from_json(json_body())
        except InvalidOrder as error:
            abort(400, str(error))
        stored = StoredOrder(order=order, status=Status.PLACED, body=body)
        try:
            store.add(stored)
        except DuplicateOrder:
            abort(409, f"There is an order {order.order_id} already.")
        location = url_for("orders.show", order_id=order.order_id)
        return _summary(stored), 201, {"Location": location}

    @routes.get("/orders/<order_id>")
    def show(order_id: str) -> ResponseReturnValue:
        try:
            stored = store.get(order_id)
        except UnknownOrder:
            abort(404, f"There is no order {order_id}.")
        return {**_summary(stored), "items": msgspec.to_builtins(stored.order.items)}

    return routes


def _summary(stored: StoredOrder) -> dict[str, object]:
    return {
        "orderId": stored.order.order_id,
        "userId": stored.order.user_id,
        "status": stored.status.value,
        "lines": len(stored.order.items),
        "pieces": stored.order.pieces,
        "body": {"size": stored.body.size, "sha256": stored.body.sha256},
    }
