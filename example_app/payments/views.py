"""The payment service's routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from flask import Blueprint, abort

from example_app.payments.messages import Authorisation
from example_app.service import json_body

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from example_app.payments.charges import Charges
    from example_app.payments.provider import Provider


def payment_routes(provider: Provider, charges: Charges) -> Blueprint:
    """Return the routes of a payment service."""
    routes = Blueprint("payments", __name__)

    @routes.post("/authorisations")
    def authorise() -> ResponseReturnValue:
        try:
            asked = msgspec.convert(json_body(), Authorisation)
        except msgspec.ValidationError as error:
            abort(400, str(error))
        return {"orderId": asked.order_id, "good": provider.is_good(asked)}

    @routes.get("/stats")
    def stats() -> ResponseReturnValue:
        return {"charges": charges.count()}

    return routes
