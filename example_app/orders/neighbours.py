"""What taking an order needs of other services: the Protocols, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from example_app.orders.order import Order


class OutOfStock(Exception):
    """There are not enough pieces; the message says of what."""


@dataclass(frozen=True)
class Reserved:
    """An order's pieces are reserved.

    :ivar total: what they cost, in cents.
    :ivar age_s: None; else this is what the stock known last says, and so many seconds old.
    """

    total: int
    age_s: float | None


@dataclass(frozen=True)
class Standing:
    """Whether a user pays.

    :ivar age_s: None; else this is what was known last, so many seconds ago.
    """

    good: bool
    age_s: float | None


class Inventory(Protocol):
    """Reserves pieces."""

    def reserve(self, order: Order) -> Reserved:
        """Reserve the order's pieces, once however often it is asked to.

        :raises OutOfStock: there are not enough.
        :raises Unavailable: nobody can tell.
        """

    def release(self, order: Order) -> None:
        """Give the pieces back, if that is possible."""


class Payments(Protocol):
    """Knows who pays."""

    def authorise(self, order: Order, total: int) -> Standing:
        """Ask whether the order's user is good for `total` cents.

        :raises Unavailable: nobody can tell.
        """
