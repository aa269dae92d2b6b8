"""The inventory's routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from flask import Blueprint

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from example_app.inventory.stock import Stock


def inventory_routes(stock: Stock) -> Blueprint:
    """Return the routes that show `stock`."""
    routes = Blueprint("inventory", __name__)

    @routes.get("/stock/<sku>")
    def show(sku: str) -> ResponseReturnValue:
        (level,) = stock.levels([sku])
        shown: dict[str, object] = msgspec.to_builtins(level)
        return shown

    @routes.get("/stats")
    def stats() -> ResponseReturnValue:
        return {"reserved": stock.reserved()}

    return routes
