"""What counts as a lost order."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from flask import Flask

from example_app.load.customer import Attempts
from example_app.load.ledger import Ledger
from example_app.serving import serving


class _System:
    """Stands for a system of which every service is at one address, below its name."""

    def __init__(self, url: str) -> None:
        self._url = url

    def url(self, service: str) -> str:
        return f"{self._url}/{service}"


@pytest.mark.parametrize(
    ("answers", "problems"),
    [
        ([200], []),
        ([404], ["ORD1 was accepted, and is lost"]),
        # Its database is down for a while, as in `make drill`.
        ([503, 503, 200], []),
        ([503, 404], ["ORD1 was accepted, and is lost"]),
    ],
)
def test_an_order_is_lost_when_its_database_says_so(
    answers: list[int], problems: list[str]
) -> None:
    app = Flask("orders")
    left = iter(answers)

    @app.get("/orders/orders/<order_id>")
    def order(order_id: str) -> tuple[dict[str, Any], int]:
        status = next(left)
        found = {"orderId": order_id, "status": "paid"}
        return (found if status == 200 else {"error": "no such order"}), status

    @app.get("/fulfilment/shipments/<order_id>")
    def shipment(order_id: str) -> dict[str, Any]:
        return {"orderId": order_id, "shippedTo": ["U1"]}

    with serving(app) as url, closing(Ledger(_System(url))) as ledger:  # type: ignore[arg-type]
        assert [*ledger.problems([Attempts("ORD1", "U1")])] == problems


def test_it_is_settled_once_the_inventory_has_caught_up_too() -> None:
    # An order that was taken on the stock known last is reserved when the inventory reads of it.
    reserved = iter([1, 1, 2])
    others: dict[str, dict[str, Any]] = {
        "orders": {"orders": {"paid": 2}, "unpublished": 0, "unanswered": []},
        "payments": {"charges": 2},
        "fulfilment": {"shipments": 2},
    }
    app = Flask("shop")

    @app.get("/<service>/stats")
    def stats(service: str) -> dict[str, Any]:
        return {"reserved": next(reserved)} if service == "inventory" else others[service]

    with serving(app) as url, closing(Ledger(_System(url))) as ledger:  # type: ignore[arg-type]
        assert ledger.settle()["reserved"] == 2
