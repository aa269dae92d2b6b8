"""What the payment service takes and sends."""

from __future__ import annotations

from typing import Literal

import msgspec


class Authorisation(msgspec.Struct, frozen=True, rename="camel"):
    """Whether a user is good for an order of `total` cents is asked."""

    order_id: str
    user_id: str
    total: int


class Settlement(msgspec.Struct, frozen=True, rename="camel"):
    """This order's payment came in, or failed."""

    order_id: str
    user_id: str
    outcome: Literal["paid", "failed"]
