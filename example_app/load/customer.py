"""A customer of the gateway: sends orders, again where the answer did not come."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from example_app.gateway import nonces

if TYPE_CHECKING:
    from collections.abc import Callable

_TIMEOUT_S = 15.0
_PAUSE_S = 0.1
_TOO_MANY = 429


def order(order_id: str, user_id: str, sku: str = "BOLT-M8", quantity: int = 2) -> dict[str, Any]:
    """Return an order of one line."""
    return {"orderId": order_id, "userId": user_id, "items": [{"sku": sku, "quantity": quantity}]}


@dataclass
class Attempts:
    """What came of sending one order.

    :ivar accepted: whether the system has said that it has the order.
    :ivar latency_s: of the attempt that was accepted.
    :ivar failures: of the attempts before, what went wrong.
    """

    order_id: str
    user_id: str
    accepted: bool = False
    latency_s: float = 0.0
    failures: list[str] = field(default_factory=list)


class Customer:
    """Sends orders to one gateway; for one thread."""

    def __init__(self, gateway: str) -> None:
        self._gateway = gateway
        # A proxy set in the environment is for elsewhere.
        self.client = httpx.Client(timeout=_TIMEOUT_S, trust_env=False)

    def send(self, body: Any, **headers: str) -> httpx.Response:
        """Send an order once, with a new nonce unless one is given.

        :param body: what is sent as JSON; text and bytes are sent as they are.
        :raises httpx.TransportError: no answer came.
        """
        given = {nonces.HEADER: secrets.token_urlsafe(16), **headers}
        url = f"{self._gateway}/orders"
        if isinstance(body, str | bytes):
            return self.client.post(url, content=body, headers=given)
        return self.client.post(url, json=body, headers=given)

    def insist(self, order_id: str, user_id: str, is_over: Callable[[], bool]) -> Attempts:
        """Send an order until it is accepted or refused, or everything `is_over`."""
        attempts = Attempts(order_id, user_id)
        while not is_over():
            began, pause_s = time.perf_counter(), _PAUSE_S
            try:
                response = self.send(order(order_id, user_id))
            except httpx.TransportError as error:
                attempts.failures.append(type(error).__name__)
            else:
                if response.is_success:
                    attempts.accepted = True
                    attempts.latency_s = time.perf_counter() - began
                    break
                attempts.failures.append(str(response.status_code))
                if response.status_code == _TOO_MANY:
                    pause_s = float(response.headers.get("Retry-After", pause_s))
                elif response.is_client_error:
                    break
            time.sleep(pause_s)
        return attempts

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
