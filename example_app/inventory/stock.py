"""Where stocks are kept: the Protocol; each engine is a file of its own beside this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from example_app.inventory.messages import OrderLines, Reservation, StockLevel

CATALOGUE = {
    # article: (pieces at the start, price in cents)
    "BOLT-M8": (10_000_000, 25),
    "NUT-M8": (10_000_000, 10),
    "WASHER-M8": (10_000_000, 5),
    "ANVIL": (0, 24_900),
}


class Stock(Protocol):
    """Keeps stocks and reservations; used from many threads at once."""

    def levels(self, skus: Sequence[str]) -> Sequence[StockLevel]:
        """Return what is free of each; nothing, of an article that there is not."""

    def reserve(self, order: OrderLines, *, even_if_missing: bool = False) -> Reservation:
        """Reserve all of an order's pieces or none; done once however often it is asked for.

        A reservation expires, and its pieces are free again, if its order is not placed in time.

        :param even_if_missing: the order is placed, so the reservation stays and what is missing
            must be bought; unless it was given up since.
        """

    def release(self, order: OrderLines) -> None:
        """Give an order's pieces back, if they are reserved."""

    def give_up(self, order: OrderLines) -> None:
        """Give an order's pieces back for good, as it was placed and not paid.

        To read again that it was placed, as a message may be delivered again, reserves nothing.
        """

    def reserved(self) -> int:
        """Return the number of orders with a reservation."""

    def close(self) -> None:
        """Let go of files and connections."""
