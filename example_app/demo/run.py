"""The demo itself: order, show the calls, compare, print."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from example_app import labels
from example_app.bootstrap import GATEWAY, PAYMENTS, VIEWER
from example_app.breaker import rules
from example_app.demo.expected import good_order
from example_app.demo.spans import SpanReader, differences, edges, tree
from example_app.gateway import nonces
from example_app.load.customer import Customer, order
from example_app.load.ledger import Ledger
from example_app.load.run import Load, drive
from flask_bodytrace.client import CallTree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from example_app.system import System

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
USER = "U987654"
_LOAD = Load(orders=300, seconds=40, kills=5)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One request, and what it must be answered with.

    :ivar says: what the answer's text holds.
    """

    title: str
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int
    says: str = ""


STEPS = (
    Step(
        title="a good order, of a canary user",
        body=order("ORD123456", USER),
        headers={labels.HEADER: "canary"},
        status=201,
        says='"placed"',
    ),
    Step(
        title="an order from a form, whose caller names a trace: linked, not continued",
        body="orderId=ORD-FORM&userId=U987654&sku=BOLT-M8&quantity=2&sku=NUT-M8&quantity=3",
        headers={**FORM, "traceparent": CALLER},
        status=201,
        says='"pieces":5',
    ),
    Step(
        title="out of stock",
        body=order("ORD-ANVIL", USER, "ANVIL", 1),
        status=409,
        says="ANVIL: 1 wanted, 0 there",
    ),
    Step(title="of someone who cannot pay", body=order("ORD-BROKE", "BROKE-1"), status=402),
    Step(
        title="an order, its nonce kept for the next step",
        body=order("ORD-ONCE", USER),
        headers={nonces.HEADER: "a-nonce-for-once"},
        status=201,
    ),
    Step(
        title="the same once more: replayed",
        body=order("ORD-ONCE", USER),
        headers={nonces.HEADER: "a-nonce-for-once"},
        status=409,
        says="for this very body",
    ),
    Step(
        title="malformed: JSON that ends too soon",
        body='{"orderId": "ORD-BROKEN", ',
        headers=JSON,
        status=400,
    ),
    Step(
        title="oversized: two megabytes, refused by their length alone",
        body=b" " * 2_000_000,
        headers=JSON,
        status=413,
    ),
    Step(
        title="payment slow: answered in time, from what was known last",
        body=order("SLOW-1", USER),
        status=201,
        says='"of":"standing"',
    ),
)


class Demo:
    """Runs once on one system, and counts what is not as it must be.

    :ivar problems: a sentence for each.
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self._number = 0
        self.problems: list[str] = []

    def order(self) -> None:
        """Send one order after the other."""
        with (
            closing(Customer(self._system.url(GATEWAY))) as customer,
            closing(SpanReader(self._system)) as spans,
        ):
            first, *_ = [self._step(customer, step) for step in STEPS]
            self._whole_trace(spans, first.headers["X-Trace-ID"])
            self._payments_down(customer)

    def kill(self) -> None:
        """Send many, and kill services meanwhile."""
        self._title("many orders, while one process after the other is killed (-9)")
        outcome = drive(self._system, _LOAD)
        self._print(str(outcome).splitlines())
        with closing(Ledger(self._system)) as ledger:
            counted = ledger.settle()
            problems = list(ledger.problems(outcome.accepted))
        self._print(f"{number} {what}" for what, number in counted.items())
        self._check(bool(outcome.accepted), "no order was accepted")
        self.problems += problems
        print(f"   lost or doubled: {len(problems)}")

    def _step(self, customer: Customer, step: Step) -> httpx.Response:
        response, took_s = self._send(customer, step)
        size = (
            len(step.body) if isinstance(step.body, str | bytes) else len(response.request.read())
        )
        self._title(f"{step.title} ({size} bytes)")
        print(f"   {response.status_code} in {1000 * took_s:.0f} ms: {response.text.strip()[:160]}")
        calls = CallTree()
        calls.add(response.headers.multi_items(), status=response.status_code, name="POST /orders")
        self._print(str(calls).splitlines())
        return response

    def _send(self, customer: Customer, step: Step) -> tuple[httpx.Response, float]:
        began = time.perf_counter()
        response = customer.send(step.body, **step.headers)
        took_s = time.perf_counter() - began
        self._check(response.status_code == step.status, f"{step.title}: {response.status_code}")
        self._check(step.says in response.text, f"{step.title}: {response.text}")
        return response, took_s

    def _whole_trace(self, spans: SpanReader, trace_id: str) -> None:
        expected = good_order(USER)
        found = spans.wait_for(trace_id, lambda spans: edges(spans) == expected)
        processes = len({span.service for span in found})
        self._title(
            f"the first order again, with what happened after the answer: one trace of {len(found)}"
            f" spans in {processes} processes"
        )
        print(f"   {self._system.url(VIEWER)}/trace/{trace_id}")
        self._print(tree(found))
        self.problems += differences(expected, edges(found))

    def _payments_down(self, customer: Customer) -> None:
        allowed = rules.read()[PAYMENTS]
        # A success: of failures one after the other there are none yet.
        self._send(customer, Step(title="one more", body=order("ORD-MORE", USER), status=201))
        self._system.hold(PAYMENTS)
        self._title(
            f"payment down (killed): {allowed.failure_threshold} failures open the breaker, and"
            " orders are taken on what was known last"
        )
        for number in range(allowed.failure_threshold + 1):
            step = Step(
                title=f"order {number + 1} while payment is down",
                body=order(f"ORD-DOWN-{number}", USER),
                status=201,
                says='"cache_last_known_value"',
            )
            response, took_s = self._send(customer, step)
            called = "authorisations" in response.headers["Server-Timing"]
            print(
                f"   {response.status_code} in {1000 * took_s:.0f} ms, payment was"
                f" {'called' if called else 'not called'}: {response.json().get('fallbacks')}"
            )
            self._check(called == (number < allowed.failure_threshold), "not so many failures")
        self._system.resume(PAYMENTS)
        orders = (order(f"ORD-UP-{number}", USER) for number in range(1000))
        recovered = self._until(lambda: customer.send(next(orders)).json()["fallbacks"] == [])
        print(
            f"   payment is back: the breaker {'closed by itself' if recovered else 'stays open'}"
        )
        self._check(recovered, "the breaker stays open")

    def _until(self, is_so: Callable[[], bool], timeout_s: float = 20.0) -> bool:
        deadline = time.monotonic() + timeout_s
        while not is_so():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def _title(self, text: str) -> None:
        self._number += 1
        print(f"\n{self._number}. {text}", flush=True)

    def _print(self, lines: Iterator[str] | list[str]) -> None:
        for line in lines:
            print(f"   {line}")

    def _check(self, is_so: bool, problem: str) -> None:
        if not is_so:
            self.problems.append(problem)
            print(f"   WRONG: {problem}")


def run(system: System) -> int:
    """Run the demo and print it; return 0 if everything was as it must be, else 1."""
    demo = Demo(system)
    demo.order()
    demo.kill()
    print("", *demo.problems, f"{len(demo.problems)} problems", sep="\n")
    return 1 if demo.problems else 0
