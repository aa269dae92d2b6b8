"""What the inventory does when it reads of an order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from example_app.events.event import PAYMENT_FAILED, PLACED
from example_app.inventory.messages import OrderLines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from example_app.events.event import Event
    from example_app.inventory.stock import Stock


def handlers(stock: Stock) -> Mapping[str, Callable[[Event], None]]:
    """Return what to do, by topic."""

    def placed(event: Event) -> None:
        # Reserved before, unless the order was taken on the stock known last.
        stock.reserve(msgspec.convert(event.payload, OrderLines), even_if_missing=True)

    def failed(event: Event) -> None:
        stock.give_up(msgspec.convert(event.payload, OrderLines))

    return {PLACED: placed, PAYMENT_FAILED: failed}
