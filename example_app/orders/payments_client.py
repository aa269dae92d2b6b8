"""`Payments` over HTTP, guarded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from example_app.orders.neighbours import Standing

if TYPE_CHECKING:
    from example_app.breaker.guard import Guard
    from example_app.orders.order import Order
    from example_app.outbound import HttpService

_JSON = {"Content-Type": "application/json"}


class PaymentsClient:
    """A `Payments`.

    Where the service cannot be asked, the user's standing known last decides; the payment itself is
    made when the service reads of the order.
    """

    def __init__(self, service: HttpService, guard: Guard) -> None:
        self._service = service
        self._guard = guard

    def authorise(self, order: Order, total: int) -> Standing:
        """Ask whether the order's user is good for `total` cents; `Unavailable`."""
        request = {"orderId": order.order_id, "userId": order.user_id, "total": total}

        def ask() -> dict[str, object]:
            content = msgspec.json.encode(request)
            reply = self._service.send("POST", "/authorisations", content=content, headers=_JSON)
            return {order.user_id: bool(reply.raise_for_status().json()["good"])}

        answer = self._guard.call([order.user_id], ask)
        return Standing(good=bool(answer.values[order.user_id]), age_s=answer.age_s)
