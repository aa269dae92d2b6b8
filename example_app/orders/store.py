"""Where orders are kept: the Protocol; each engine is a file of its own beside this one."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from example_app.orders.audit import BodyRecord
    from example_app.orders.order import Order


class Status(enum.Enum):
    """How far an order is."""

    PLACED = "placed"
    PAID = "paid"
    PAYMENT_FAILED = "payment_failed"


class DuplicateOrder(Exception):
    """An order of this id is there already."""


class UnknownOrder(LookupError):
    """There is no order of this id."""


@dataclass(frozen=True)
class StoredOrder:
    """An order as it is kept: with its status, and the record of the body it came in."""

    order: Order
    status: Status
    body: BodyRecord


class OrderStore(Protocol):
    """Keeps orders; used from many threads at once."""

    def add(self, stored: StoredOrder) -> None:
        """Keep a new order.

        :raises DuplicateOrder: its id is taken.
        """

    def get(self, order_id: str) -> StoredOrder:
        """Return one order.

        :raises UnknownOrder: there is none of this id.
        """

    def set_status(self, order_id: str, status: Status) -> None:
        """Change how far an order is.

        :raises UnknownOrder: there is none of this id.
        """

    def close(self) -> None:
        """Let go of files and connections; the store is not used any more."""
