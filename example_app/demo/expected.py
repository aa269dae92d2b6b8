"""The one table of what a good order leads to: every span, in every process, and what it is below.

It drives the demo and the end-to-end test.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from example_app.orders.shards import Router

if TYPE_CHECKING:
    from example_app.demo.spans import Edge

_TABLE: tuple[Edge, ...] = (
    # While the customer waits.
    ("gateway server POST /orders", None),
    ("gateway client POST /orders", "gateway server POST /orders"),
    ("orders server POST /orders", "gateway client POST /orders"),
    ("orders client SELECT {table}", "orders server POST /orders"),
    ("orders client example.Inventory/Reserve", "orders server POST /orders"),
    ("inventory server example.Inventory/Reserve", "orders client example.Inventory/Reserve"),
    ("inventory client INSERT reservations", "inventory server example.Inventory/Reserve"),
    ("orders client POST /authorisations", "orders server POST /orders"),
    ("payments server POST /authorisations", "orders client POST /authorisations"),
    ("orders client INSERT {table}", "orders server POST /orders"),
    # The outbox is published: two services read that there is an order.
    ("orders producer send order.placed", "orders server POST /orders"),
    ("inventory consumer process order.placed", "orders producer send order.placed"),
    ("inventory client INSERT reservations", "inventory consumer process order.placed"),
    ("payments consumer process order.placed", "orders producer send order.placed"),
    ("payments client INSERT charges", "payments consumer process order.placed"),
    # Payments calls back, signed.
    ("payments client POST /payments/callback", "payments consumer process order.placed"),
    ("orders server POST /payments/callback", "payments client POST /payments/callback"),
    ("orders client SELECT {table}", "orders server POST /payments/callback"),
    ("orders client UPDATE {table}", "orders server POST /payments/callback"),
    # The outbox again: what is paid is shipped.
    ("orders producer send order.paid", "orders server POST /payments/callback"),
    ("fulfilment consumer process order.paid", "orders producer send order.paid"),
    ("fulfilment client INSERT shipments", "fulfilment consumer process order.paid"),
)


def good_order(user_id: str) -> Counter[Edge]:
    """Return the spans of an order that this user placed, and got."""
    table = Router().shard_of(user_id).table
    return Counter(
        (span.format(table=table), parent and parent.format(table=table)) for span, parent in _TABLE
    )
