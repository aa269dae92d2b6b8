"""The whole system while nobody handles events: orders are refused, and taken again."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from example_app.bootstrap import FULFILMENT, GATEWAY
from example_app.load.customer import Customer, order
from example_app.load.ledger import Ledger
from example_app.system import NotStarted, running
from tests.example_app import patient
from tests.example_app.programs import until


def test_orders_are_refused_while_too_many_wait_and_all_taken_are_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXAMPLE_MOST_WAITING", "2")
    with (
        running(tmp_path) as system,
        closing(Customer(system.url(GATEWAY))) as customer,
        closing(Ledger(system)) as ledger,
    ):
        system.hold(FULFILMENT)
        statuses = [patient.send(customer, order("FIRST", "U1")).status_code]

        def is_refused() -> bool:
            body = order(f"MORE-{len(statuses)}", "U1")
            statuses.append(patient.send(customer, body).status_code)
            return statuses[-1] == 429

        until(is_refused, lambda: f"none is refused: {statuses}")
        assert patient.all_taken(statuses[:-1])
        # Whoever had no answer asks for nothing new.
        assert patient.send(customer, order("FIRST", "U1")).status_code == 200

        system.resume(FULFILMENT)
        assert customer.insist("LAST", "U1", lambda: False).accepted
        assert ledger.settle()["shipments"] == len(statuses[:-1]) + 1


def test_a_setting_that_is_no_number_stops_the_system_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXAMPLE_MOST_WAITING", "many")
    with pytest.raises(NotStarted, match="'many' is no number"), running(tmp_path):
        pass
