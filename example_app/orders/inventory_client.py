"""`Inventory` over gRPC, guarded."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from example_app.failures import CallFailed
from example_app.inventory.messages import Line, OrderLines, StockLevel
from example_app.inventory.methods import RELEASE, RESERVE
from example_app.orders.neighbours import OutOfStock, Reserved

if TYPE_CHECKING:
    from collections.abc import Iterable

    from example_app.breaker.guard import Guard
    from example_app.orders.order import Order
    from example_app.rpc import GrpcService

_log = logging.getLogger(__name__)


class InventoryClient:
    """An `Inventory`.

    Where the service cannot be asked, the stock known last decides; the pieces are then reserved
    when the service reads of the order.
    """

    def __init__(self, service: GrpcService, guard: Guard) -> None:
        self._service = service
        self._guard = guard

    def reserve(self, order: Order) -> Reserved:
        """Reserve the order's pieces; `OutOfStock` or `Unavailable` if that cannot be."""
        wanted = order.quantities

        def ask() -> dict[str, object]:
            reply = self._service.call(RESERVE, _lines(order))
            if not reply.reserved:
                _refuse_missing(wanted, reply.levels)
            return {level.sku: msgspec.to_builtins(level) for level in reply.levels}

        answer = self._guard.call(list(wanted), ask)
        levels = msgspec.convert([*answer.values.values()], list[StockLevel])
        if answer.age_s is not None:
            _refuse_missing(wanted, levels)
        total = sum(level.price * wanted[level.sku] for level in levels)
        return Reserved(total=total, age_s=answer.age_s)

    def release(self, order: Order) -> None:
        """Give the pieces back; if the service cannot be reached, they stay reserved."""
        try:
            self._service.call(RELEASE, _lines(order))
        except CallFailed as error:
            _log.warning("the pieces of %s stay reserved: %s", order.order_id, error)


def _lines(order: Order) -> OrderLines:
    lines = tuple(Line(sku, quantity) for sku, quantity in order.quantities.items())
    return OrderLines(order_id=order.order_id, user_id=order.user_id, lines=lines)


def _refuse_missing(wanted: dict[str, int], levels: Iterable[StockLevel]) -> None:
    short = [level for level in levels if level.available < wanted[level.sku]]
    if short:
        raise OutOfStock(
            ", ".join(f"{it.sku}: {wanted[it.sku]} wanted, {it.available} there" for it in short)
        )
