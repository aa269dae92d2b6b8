"""What an order is, and how it is read from JSON and from a form. Pure: no Flask, no storage."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import msgspec

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

Identifier = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]


class InvalidOrder(ValueError):
    """The body was read, but is no order; the message says which field and why."""


class Item(msgspec.Struct, frozen=True):
    """One line of an order: so many pieces of one article."""

    sku: Identifier
    quantity: Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class Order(msgspec.Struct, frozen=True, rename="camel"):
    """An order as a customer sends it: `orderId`, `userId` and at least one item."""

    order_id: Identifier
    user_id: Identifier
    items: Annotated[tuple[Item, ...], msgspec.Meta(min_length=1)]

    @property
    def pieces(self) -> int:
        """Number of pieces over all lines."""
        return sum(item.quantity for item in self.items)

    @property
    def quantities(self) -> dict[str, int]:
        """Number of pieces by article."""
        found: Counter[str] = Counter()
        for item in self.items:
            found[item.sku] += item.quantity
        return dict(found)


def from_json(payload: object) -> Order:
    """Read an order from decoded JSON.

    :raises InvalidOrder: a field is missing or not as it has to be.
    """
    return _convert(payload, strict=True)


def from_form(form: MultiDict[str, str]) -> Order:
    """Read an order from a form, where `sku` and `quantity` may repeat, once for each line.

    :raises InvalidOrder: a field is missing or not as it has to be.
    """
    skus, quantities = form.getlist("sku"), form.getlist("quantity")
    if len(skus) != len(quantities):
        raise InvalidOrder(f"{len(skus)} sku but {len(quantities)} quantity: one each a line")
    lines = zip(skus, quantities, strict=True)
    items = [{"sku": sku, "quantity": quantity} for sku, quantity in lines]
    return _convert({**form.to_dict(), "items": items}, strict=False)


def _convert(payload: object, *, strict: bool) -> Order:
    try:
        return msgspec.convert(payload, Order, strict=strict)
    except msgspec.ValidationError as error:
        raise InvalidOrder(str(error)) from None
