"""Back pressure: whether one more order may be taken."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from example_app.engines import Engines
from example_app.events.event import PLACED, new_event
from example_app.failures import BusUnavailable
from example_app.orders.admission import (
    MOST_WAITING,
    Admission,
    TooManyWaiting,
    events_waiting,
    most_waiting,
)
from example_app.orders.audit import BodyRecord
from example_app.orders.order import Item, Order
from example_app.orders.shards import Router
from example_app.orders.store import Status, StoredOrder
from tests.example_app import patient


class Waiting:
    """So many events wait; or nobody knows how many."""

    def __init__(self) -> None:
        self.events: int | None = 0

    def __call__(self) -> int:
        if self.events is None:
            raise RuntimeError("no broker answers")
        return self.events


def test_orders_are_taken_until_too_many_events_wait(caplog: pytest.LogCaptureFixture) -> None:
    waiting = Waiting()
    admission = Admission(waiting, most=10)
    admission.check()
    for events, is_full in ((10, False), (11, True), (500, True), (10, False), (11, True)):
        waiting.events = events
        admission.look()
        if is_full:
            with pytest.raises(TooManyWaiting):
                admission.check()
        else:
            admission.check()
    said = [record.getMessage() for record in caplog.records]
    refused, taken = "orders are refused: over 10 events wait", "orders are taken: "
    assert said == [refused, taken + "events are handled again", refused], "changes alone"


def test_orders_are_taken_where_nobody_knows(caplog: pytest.LogCaptureFixture) -> None:
    waiting = Waiting()
    admission = Admission(waiting, most=10)
    waiting.events = 11
    admission.look()
    waiting.events = None
    with caplog.at_level(logging.INFO):
        admission.look()
    admission.check()
    assert "not known: no broker answers" in caplog.text


def test_it_looks_again_and_again_by_itself() -> None:
    seen = threading.Semaphore(0)

    def waiting() -> int:
        seen.release()
        return 0

    with Admission(waiting, most=10, every_s=0.01).running():
        assert seen.acquire(timeout=30)
        assert seen.acquire(timeout=30)


class Groups:
    """A `Progress`."""

    def __init__(self, **behind: int) -> None:
        self._behind = behind

    def behind(self, groups: Iterable[str], topic: str) -> Mapping[str, int]:
        assert topic == "order.placed"
        if not {*groups} <= {*self._behind}:
            raise BusUnavailable("no broker answers")
        return {group: self._behind[group] for group in groups}

    def close(self) -> None:
        """Nothing is open."""


def test_outboxes_and_the_group_furthest_behind_count(tmp_path: Path) -> None:
    order = StoredOrder(Order("A1", "U1", (Item("BOLT", 2),)), Status.PLACED, BodyRecord(1, "0"))
    with closing(patient.order_store(Engines(), tmp_path, Router())) as store:
        store.add(order, new_event(PLACED, "A1", {}))
        groups = ("payments", "fulfilment")
        assert events_waiting(store, Groups(payments=3, fulfilment=5), groups) == 6
        assert events_waiting(store, Groups(payments=3), groups) == 1, "the outboxes alone"


def test_how_many_may_wait_is_a_setting() -> None:
    assert most_waiting({}) == most_waiting({"EXAMPLE_MOST_WAITING": ""}) == MOST_WAITING
    assert most_waiting({"EXAMPLE_MOST_WAITING": "20"}) == 20
    with pytest.raises(ValueError, match="EXAMPLE_MOST_WAITING: 'many' is no number"):
        most_waiting({"EXAMPLE_MOST_WAITING": "many"})
