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
from pathlib import Path

from opentelemetry.trace import NoOpTracer

from example_app.engines import Engines
from example_app.events.event import PLACED, new_event
from example_app.orders.audit import BodyRecord
from example_app.orders.order import Item, Order
from example_app.orders.shards import Router
from example_app.orders.store import Status, StoredOrder

_THREADS = 32
_ORDERS = 4000


def orders_a_second(engines: Engines, router: Router, users: list[str]) -> float:
    """Return how many orders a second many threads store, each in a transaction with its event."""
    with closing(engines.order_store(Path(), NoOpTracer(), router)) as store:

        def add(number: int) -> None:
            order = Order(uuid.uuid4().hex, users[number % len(users)], (Item("BOLT", 2),))
            stored = StoredOrder(order, Status.PLACED, BodyRecord(1, "0" * 64), 50)
            store.add(stored, new_event(PLACED, order.order_id, {}))

        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(add, range(_THREADS)))  # Connections are open from here on.
            began = time.perf_counter()
            list(pool.map(add, range(_ORDERS)))
            return _ORDERS / (time.perf_counter() - began)


def main(urls: str) -> None:
    """Measure both in turn, and print them."""
    engines = Engines(databases=urls)
    users = [f"U{number}" for number in range(1000)]
    one = Router(dict.fromkeys(users, 0))
    best = {"one table": 0.0, "8 x 16 tables": 0.0}
    for _ in range(3):
        for name, router in (("one table", one), ("8 x 16 tables", Router())):
            best[name] = max(best[name], orders_a_second(engines, router, users))
    for name, rate in best.items():
        print(f"{name}: {rate:.0f} orders/s")
    print(f"{best['8 x 16 tables'] / best['one table']:.2f} times the writes")


if __name__ == "__main__":
    main(sys.argv[1])
