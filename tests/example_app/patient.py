"""Customers, and a store of orders, who know that a busy machine is slow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.trace import NoOpTracer

from example_app.load.customer import order
from example_app.orders.mariadb_store import MariadbOrderStore
from example_app.orders.sqlite_store import SqliteOrderStore
from tests.example_app.programs import until

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import httpx

    from example_app.engines import Engines
    from example_app.load.customer import Customer
    from example_app.orders.shards import Router
    from example_app.orders.sql_store import SqlOrderStore

_TRIES = 20
_ANSWER_S = 120.0


def order_store(engines: Engines, folder: Path, router: Router) -> SqlOrderStore:
    """As the engines' own, but no database is soon taken for one that does not answer."""
    if engines.databases:
        return MariadbOrderStore(engines.databases, NoOpTracer(), router, _ANSWER_S)
    return SqliteOrderStore(folder, NoOpTracer(), router, _ANSWER_S)


def send(customer: Customer, body: Any, **headers: str) -> httpx.Response:
    """Send an order, and again after 503: a service did not answer another one in time."""
    answer = customer.send(body, **headers)
    for _ in range(_TRIES):
        if answer.status_code != 503:
            break
        answer = customer.send(body, **headers)
    return answer


def all_taken(statuses: Iterable[int]) -> bool:
    """Tell whether each order was taken.

    201 says so the first time; 200 to those who send it again, as the answer was lost: the service
    died with it, or was too slow for whoever waited.
    """
    return {*statuses} <= {200, 201}


def send_until_whole(
    customer: Customer, order_id: str, user_id: str, **headers: str
) -> tuple[str, httpx.Response]:
    """Send new orders until one is taken with nothing of it from what was known last.

    :param order_id: how their ids begin.
    :returns: the id of that one, and its answer.
    """
    answers: dict[str, httpx.Response] = {}

    def is_whole() -> bool:
        sent = f"{order_id}-{len(answers)}"
        answers[sent] = customer.send(order(sent, user_id), **headers)
        return answers[sent].status_code == 201 and not answers[sent].json()["fallbacks"]

    until(is_whole, lambda: f"not one: {[answer.text for answer in answers.values()]}")
    return [*answers.items()][-1]
