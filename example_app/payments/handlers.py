"""What the payment service does when it reads of an order: charge once, and call back, signed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from example_app.events.event import PLACED
from example_app.payments import signature
from example_app.payments.messages import Authorisation, Settlement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from example_app.events.event import Event
    from example_app.outbound import HttpService
    from example_app.payments.charges import Charges
    from example_app.payments.provider import Provider


class CallbackRefused(Exception):
    """The order service says that the callback is wrong: to send it again would not help."""


def handlers(
    provider: Provider, charges: Charges, orders: HttpService, key: bytes
) -> Mapping[str, Callable[[Event], None]]:
    """Return what to do, by topic.

    :param key: the secret shared with the order service.
    """

    def placed(event: Event) -> None:
        order = msgspec.convert(event.payload, Authorisation)
        good = provider.is_good(order)
        outcome = charges.keep(
            order.user_id, order.order_id, order.total, "paid" if good else "failed"
        )
        body = msgspec.json.encode(Settlement(order.order_id, order.user_id, outcome))
        answer = orders.send(
            "POST",
            "/payments/callback",
            content=body,
            headers={
                "Content-Type": "application/json",
                signature.HEADER: signature.sign(key, body),
            },
        )
        if answer.is_error:
            raise CallbackRefused(f"the callback is answered {answer.status_code}: {answer.text}")

    return {PLACED: placed}
