"""Orders stored a second in 8 databases of 16 tables, against one database and one table.

    python -m example_app.load.writes mysql+pymysql://root@127.0.0.1:3306,mysql+pymysql://…

It fills the databases of the servers it is given.
"""

from __future__ import annotations

import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry.trace import NoOpTracer

from example_app.engines import Engines
from example_app.events.event import PLACED, new_event
from example_app.orders.audit import BodyRecord
from example_app.orders.order import Item, Order
from example_app.orders.shards import Router
from example_app.orders.store import Status, StoredOrder

if TYPE_CHECKING:
    from collections.abc import Sequence

_THREADS = (8, 32)
"""As many as a service has in one process, and many more."""

_ORDERS = 2000
_ROUNDS = 3


@dataclass(frozen=True)
class Rate:
    """How fast orders are stored.

    :ivar orders_a_second: each in a transaction with its event.
    :ivar client_ms: processor time of this process for one order, in milliseconds.
    """

    orders_a_second: float
    client_ms: float

    def __str__(self) -> str:
        cores = self.orders_a_second * self.client_ms / 1000
        return (
            f"{self.orders_a_second:.0f} orders/s; an order takes {self.client_ms:.2f} ms of this"
            f" process's time, so it keeps {cores:.2f} cores busy"
        )


def measured(engines: Engines, router: Router, users: Sequence[str], threads: int) -> Rate:
    """Return how fast so many threads of this process store orders."""
    with closing(engines.order_store(Path(), NoOpTracer(), router)) as store:

        def add(number: int) -> None:
            order = Order(uuid.uuid4().hex, users[number % len(users)], (Item("BOLT", 2),))
            stored = StoredOrder(order, Status.PLACED, BodyRecord(1, "0" * 64), 50)
            store.add(stored, new_event(PLACED, order.order_id, {}))

        with ThreadPoolExecutor(threads) as pool:
            # From here on connections are open, and each table's statements are compiled.
            list(pool.map(add, range(len(users))))
            began, spent = time.perf_counter(), time.process_time()
            list(pool.map(add, range(_ORDERS)))
            return Rate(
                _ORDERS / (time.perf_counter() - began),
                1000 * (time.process_time() - spent) / _ORDERS,
            )


def main(urls: str) -> None:
    """Measure both in turn, and print them."""
    engines = Engines(databases=urls)
    users = [f"U{number}" for number in range(1000)]
    one = Router(dict.fromkeys(users, 0))
    for threads in _THREADS:
        best: dict[str, Rate] = {}
        for _ in range(_ROUNDS):
            for name, router in (("one table", one), ("8 x 16 tables", Router())):
                rate = measured(engines, router, users, threads)
                best[name] = max(rate, best.get(name, rate), key=lambda it: it.orders_a_second)
        for name, rate in best.items():
            print(f"{threads} threads, {name}: {rate}")
        times = best["8 x 16 tables"].orders_a_second / best["one table"].orders_a_second
        print(f"{threads} threads: {times:.2f} times the writes")


if __name__ == "__main__":
    main(sys.argv[1])
