"""What a customer does who is told that an order was not taken."""

from __future__ import annotations

from contextlib import closing

import pytest
from flask import Flask

from example_app.load.customer import Customer
from example_app.serving import serving


@pytest.mark.parametrize(
    ("answers", "accepted", "failures"),
    [
        ([201], True, []),
        ([429, 201], True, ["429"]),
        ([503, 429, 200], True, ["503", "429"]),
        # It is not taken later either.
        ([409], False, ["409"]),
    ],
)
def test_who_may_come_again_later_does(
    answers: list[int], accepted: bool, failures: list[str]
) -> None:
    app = Flask("gateway")
    left = iter(answers)

    @app.post("/orders")
    def take() -> tuple[str, int, dict[str, str]]:
        status = next(left)
        return "", status, {"Retry-After": "0"} if status == 429 else {}

    with serving(app) as url, closing(Customer(url)) as customer:
        attempts = customer.insist("ORD1", "U1", lambda: False)
    assert attempts.accepted is accepted
    assert attempts.failures == failures
    assert list(left) == []
