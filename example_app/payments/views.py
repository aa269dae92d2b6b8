"""The payment provider's callback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

import msgspec
from flask import Blueprint, abort, request

from example_app.orders.store import Status, UnknownOrder
from example_app.payments import signature
from example_app.service import json_body

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue


class Orders(Protocol):
    """All that payments needs of the orders."""

    def set_status(self, order_id: str, status: Status) -> None:
        """Change how far an order is; `UnknownOrder` if there is none of this id."""


class Payment(msgspec.Struct, frozen=True, rename="camel"):
    """What the provider tells: this order's payment came in, or failed."""

    order_id: str
    outcome: Literal["paid", "failed"]


def payment_routes(orders: Orders, key: bytes) -> Blueprint:
    """Return the callback's route; `key` is the secret shared with the payment provider."""
    routes = Blueprint("payments", __name__, url_prefix="/payments")

    @routes.post("/callback")
    def callback() -> ResponseReturnValue:
        # Signed are the bytes as sent: JSON decoded and encoded again would not match.
        if not signature.matches(
            key, request.get_data(), request.headers.get(signature.HEADER, "")
        ):
            abort(401, f"The {signature.HEADER} header does not sign this body.")
        try:
            payment = msgspec.convert(json_body(), Payment)
        except msgspec.ValidationError as error:
            abort(400, str(error))
        status = Status.PAID if payment.outcome == "paid" else Status.PAYMENT_FAILED
        try:
            orders.set_status(payment.order_id, status)
        except UnknownOrder:
            abort(404, f"There is no order {payment.order_id}.")
        return {"orderId": payment.order_id, "status": status.value}

    return routes
