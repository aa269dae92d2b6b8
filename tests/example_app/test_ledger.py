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
    """Stands for a system of which every service is at one address."""

    def __init__(self, url: str) -> None:
        self._url = url

    def url(self, _service: str) -> str:
        return self._url


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

    @app.get("/orders/<order_id>")
    def order(order_id: str) -> tuple[dict[str, Any], int]:
        status = next(left)
        found = {"orderId": order_id, "status": "paid"}
        return (found if status == 200 else {"error": "no such order"}), status

    @app.get("/shipments/<order_id>")
    def shipment(order_id: str) -> dict[str, Any]:
        return {"orderId": order_id, "shippedTo": ["U1"]}

    with serving(app) as url, closing(Ledger(_System(url))) as ledger:  # type: ignore[arg-type]
        assert [*ledger.problems([Attempts("ORD1", "U1")])] == problems
