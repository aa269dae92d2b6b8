"""The fulfilment consumer's routes, which only show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from example_app.fulfilment.shipments import Shipments


def fulfilment_routes(shipments: Shipments) -> Blueprint:
    """Return the routes that show `shipments`."""
    routes = Blueprint("fulfilment", __name__)

    @routes.get("/shipments/<order_id>")
    def show(order_id: str) -> ResponseReturnValue:
        return {"orderId": order_id, "shippedTo": [*shipments.of_order(order_id)]}

    @routes.get("/stats")
    def stats() -> ResponseReturnValue:
        return {"shipments": shipments.count()}

    return routes
