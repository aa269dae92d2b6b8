"""What the inventory's gRPC methods take and return: JSON, so that no code has to be generated."""

from __future__ import annotations

import msgspec

SERVICE = "example.Inventory"


class Line(msgspec.Struct, frozen=True):
    """So many pieces of one article."""

    sku: str
    quantity: int


class OrderLines(msgspec.Struct, frozen=True, rename="camel"):
    """What one order needs."""

    order_id: str
    user_id: str
    lines: tuple[Line, ...]


class StockLevel(msgspec.Struct, frozen=True):
    """How many pieces are free, and what one costs in cents."""

    sku: str
    available: int
    price: int


class Reservation(msgspec.Struct, frozen=True):
    """Whether the pieces are reserved, and what is free now of these articles."""

    reserved: bool
    levels: tuple[StockLevel, ...]


class Released(msgspec.Struct, frozen=True):
    """That is done."""
