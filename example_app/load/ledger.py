"""Whether every accepted order is there, was paid and shipped, each once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx

from example_app.bootstrap import FULFILMENT, INVENTORY, ORDERS, PAYMENTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from example_app.load.customer import Attempts
    from example_app.system import System

_STUCK_S = 60.0
_ASK_EVERY_S, _LONGEST_PAUSE_S = 0.1, 1.0


class NotSettled(Exception):
    """Orders are stuck; the message says where."""


class Ledger:
    """Asks the services of one system."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.client = httpx.Client(timeout=30, trust_env=False)

    def settle(self) -> dict[str, int]:
        """Wait until every order stored was shipped or given up, and the outboxes are empty.

        What is shipped is reserved by then, also where the inventory had not been asked before.

        :returns: numbers by what they count.
        :raises NotSettled: nothing has changed for a minute.
        """
        before: dict[str, int] = {}
        began = changed = time.monotonic()
        while True:
            counted = self.counted()
            if _is_settled(counted):
                return counted
            if counted != before:
                before, changed = counted, time.monotonic()
            elif time.monotonic() > changed + _STUCK_S:
                raise NotSettled(str(counted))
            # To count is work for those who are to settle: the longer it takes, the less often.
            time.sleep(min(_ASK_EVERY_S + (time.monotonic() - began) / 20, _LONGEST_PAUSE_S))

    def problems(self, accepted: Sequence[Attempts]) -> Iterator[str]:
        """Yield a sentence for each order that is lost or doubled, after `settle`."""
        for order in accepted:
            stored = self._get(ORDERS, f"/orders/{order.order_id}?userId={order.user_id}")
            if "orderId" not in stored:
                yield f"{order.order_id} was accepted, and is lost"
                continue
            if stored["status"] != "paid":
                yield f"{order.order_id} is {stored['status']}, not paid"
            shipped = self._get(FULFILMENT, f"/shipments/{order.order_id}")["shippedTo"]
            if shipped != [order.user_id]:
                yield f"{order.order_id} was shipped to {shipped}"

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def counted(self) -> dict[str, int]:
        """Return numbers by what they count, as they are now."""
        orders = self._get(ORDERS, "/stats")
        by_status: dict[str, int] = orders["orders"]
        return {
            "orders": sum(by_status.values()),
            "placed": by_status.get("placed", 0),
            "paid": by_status.get("paid", 0),
            "unpublished": orders["unpublished"],
            "unanswered": len(orders["unanswered"]),
            **self._get(INVENTORY, "/stats"),
            **self._get(PAYMENTS, "/stats"),
            **self._get(FULFILMENT, "/stats"),
        }

    def _get(self, service: str, path: str) -> dict[str, Any]:
        """What a service says; where a database of its is down, once that is back."""
        began = time.monotonic()
        while True:
            answer = self.client.get(self._system.url(service) + path)
            if answer.status_code != 503 or time.monotonic() > began + _STUCK_S:
                found: dict[str, Any] = answer.json()
                return found
            time.sleep(_ASK_EVERY_S)


def _is_settled(counted: Mapping[str, int]) -> bool:
    return (
        counted["placed"] == counted["unpublished"] == counted["unanswered"] == 0
        and counted["charges"] == counted["orders"]
        and counted["shipments"] == counted["paid"] <= counted["reserved"]
    )
