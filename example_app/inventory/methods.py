"""The inventory's gRPC methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from example_app.inventory.messages import SERVICE, OrderLines, Released, Reservation
from example_app.rpc import Method

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from example_app.inventory.stock import Stock

RESERVE = Method(SERVICE, "Reserve", OrderLines, Reservation)
RELEASE = Method(SERVICE, "Release", OrderLines, Released)


def inventory_methods(stock: Stock) -> Mapping[Method[Any, Any], Callable[[Any], Any]]:
    """Return what each method does with `stock`."""

    def release(order: OrderLines) -> Released:
        stock.release(order)
        return Released()

    return {RESERVE: stock.reserve, RELEASE: release}
