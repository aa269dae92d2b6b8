"""The order service's route for the payment service: signed over the raw body, read as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from flask import Blueprint, abort, request

from example_app.events.event import PAID, PAYMENT_FAILED, new_event
from example_app.orders.figures import OrderFigures
from example_app.orders.store import Status, UnknownOrder
from example_app.payments import signature
from example_app.payments.messages import Settlement
from example_app.service import json_body

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from example_app.orders.store import OrderStore


def callback_routes(store: OrderStore, key: bytes) -> Blueprint:
    """Return the callback's route.

    :param key: the secret shared with the payment service.
    """
    figures = OrderFigures()
    routes = Blueprint("callbacks", __name__, url_prefix="/payments")

    @routes.post("/callback")
    def callback() -> ResponseReturnValue:
        # Signed are the bytes as sent: JSON decoded and encoded again would not match.
        given = request.headers.get(signature.HEADER, "")
        if not signature.matches(key, request.get_data(), given):
            abort(401, f"The {signature.HEADER} header does not sign this body.")
        try:
            settled = msgspec.convert(json_body(), Settlement)
        except msgspec.ValidationError as error:
            abort(400, str(error))
        paid = settled.outcome == "paid"
        status = Status.PAID if paid else Status.PAYMENT_FAILED
        try:
            order = store.get(settled.user_id, settled.order_id).order
            lines = [{"sku": sku, "quantity": count} for sku, count in order.quantities.items()]
            payload = {"orderId": order.order_id, "userId": order.user_id, "lines": lines}
            event = new_event(PAID if paid else PAYMENT_FAILED, order.order_id, payload)
            if store.settle(settled.user_id, settled.order_id, status, event):
                figures.became(status)
        except UnknownOrder:
            abort(404, f"User {settled.user_id} has no order {settled.order_id}.")
        return {"orderId": settled.order_id, "status": status.value}

    return routes
