"""How many orders went how far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import metrics

if TYPE_CHECKING:
    from example_app.orders.store import Status


class OrderFigures:
    """Counts orders."""

    def __init__(self) -> None:
        self._orders = metrics.get_meter("example_app.orders").create_counter(
            "example.orders", unit="{order}", description="Orders that came to be of a status"
        )

    def became(self, status: Status) -> None:
        """Note that an order has this status from now on."""
        self._orders.add(1, {"order.status": status.value})
