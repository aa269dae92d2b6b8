"""Where orders are kept: the Protocol; each engine is a file of its own beside this one."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from example_app.events.event import Event
    from example_app.orders.audit import BodyRecord
    from example_app.orders.order import Order

T_co = TypeVar("T_co", covariant=True)


class Status(enum.Enum):
    """How far an order is."""

    PLACED = "placed"
    PAID = "paid"
    PAYMENT_FAILED = "payment_failed"


class DuplicateOrder(Exception):
    """This user has an order of this id already."""


class UnknownOrder(LookupError):
    """There is no order of this id."""


@dataclass(frozen=True)
class StoredOrder:
    """An order as it is kept: with its status, and the record of the body it came in.

    :ivar total: its price in cents.
    """

    order: Order
    status: Status
    body: BodyRecord
    total: int = 0


@dataclass(frozen=True)
class Gathered(Generic[T_co]):
    """What the databases that have answered say together.

    :ivar unanswered: the names of those that have not: what they hold is missing in `value`.
    """

    value: T_co
    unanswered: Sequence[str] = ()


class OrderStore(Protocol):
    """Keeps orders, and in the same transactions the events about them; for many threads at once.

    An order's id is unique among one user's orders: users live in different databases, and no
    database knows of another's. What asks one database raises `DatabaseUnavailable` if that is
    down; what asks all says which have not answered.
    """

    def add(self, stored: StoredOrder, event: Event) -> None:
        """Keep a new order, and `event` to be published.

        :raises DuplicateOrder: its user has an order of its id.
        """

    def get(self, user_id: str, order_id: str) -> StoredOrder:
        """Return one order; asks one database.

        :raises UnknownOrder: there is none of this id.
        """

    def find(self, order_id: str) -> Gathered[Sequence[StoredOrder]]:
        """Return every user's order of this id; asks all databases."""

    def of_user(self, user_id: str, limit: int) -> Sequence[StoredOrder]:
        """Return up to `limit` of a user's orders, by id; asks one database."""

    def count(self) -> Gathered[Mapping[Status, int]]:
        """Return the number of orders of each status; asks all databases."""

    def settle(self, user_id: str, order_id: str, status: Status, event: Event) -> bool:
        """Change a placed order's status, and keep `event` to be published.

        :returns: False if that was done before.
        :raises UnknownOrder: there is none of this id.
        """

    def unpublished(self) -> Gathered[int]:
        """Return the number of events not yet published; asks all databases."""

    def close(self) -> None:
        """Let go of files and connections; the store is not used any more."""
