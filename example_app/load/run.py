"""Load on a system of this machine: so many orders, by so many customers, for so long at most."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from example_app.bootstrap import FULFILMENT, GATEWAY, INVENTORY, ORDERS, PAYMENTS
from example_app.load.customer import Attempts, Customer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from example_app.system import System

USERS = 100
KILLED = (ORDERS, PAYMENTS, INVENTORY, FULFILMENT, GATEWAY)
KILL_EVERY_S = (0.2, 1.0)


@dataclass(frozen=True, kw_only=True)
class Load:
    """How much.

    :ivar orders: number of orders to send; with kills, more are sent until those are done.
    :ivar seconds: time after which no more are sent.
    :ivar customers: number of those who send at the same time.
    :ivar kills: number of times to end a service with SIGKILL, each of them in its turn.
    """

    orders: int = 500
    seconds: float = 60.0
    customers: int = 8
    kills: int = 0


@dataclass(frozen=True)
class Outcome:
    """What came of a load.

    :ivar sent: every order, accepted or not.
    :ivar seconds: from the first one sent to the last one answered.
    :ivar answered_at: when the last one was answered, as `time.perf_counter` says it.
    :ivar killed: number of times that each service was killed.
    """

    sent: Sequence[Attempts]
    seconds: float
    answered_at: float
    killed: Counter[str]

    @property
    def accepted(self) -> Sequence[Attempts]:
        """The orders that the system has said it has."""
        return [attempts for attempts in self.sent if attempts.accepted]

    @property
    def failures(self) -> Counter[str]:
        """Attempts without success, by what went wrong."""
        return Counter(failure for attempts in self.sent for failure in attempts.failures)

    def percentile_ms(self, share: float) -> float:
        """The latency in milliseconds within which this share of accepted orders was answered."""
        latencies = sorted(attempts.latency_s for attempts in self.accepted)
        if not latencies:
            return float("nan")
        return 1000 * latencies[min(int(share * len(latencies)), len(latencies) - 1)]

    def __str__(self) -> str:
        failures = ", ".join(f"{number} x {kind}" for kind, number in self.failures.items())
        killed = ", ".join(f"{number} x {name}" for name, number in self.killed.items())
        p50, p99 = self.percentile_ms(0.5), self.percentile_ms(0.99)
        lines = [
            f"orders      {len(self.accepted)} accepted of {len(self.sent)} sent",
            f"throughput  {len(self.accepted) / self.seconds:.1f} orders/s in {self.seconds:.1f} s",
            f"latency     P50 {p50:.0f} ms, P99 {p99:.0f} ms",
            f"errors      {failures or 'none'}",
        ]
        return "\n".join([*lines, *([f"killed -9   {killed}"] if killed else [])])


def drive(
    system: System, load: Load, meanwhile: Callable[[], Counter[str]] | None = None
) -> Outcome:
    """Send orders; return what came of each.

    :param meanwhile: does harm, and returns how often to whom: more orders are sent until it has
        returned. Without it so many services are killed as the load says.
    """
    gateway = system.url(GATEWAY)
    prefix = f"L{time.time_ns():x}"
    numbers = itertools.count()
    began = time.perf_counter()
    end = began + load.seconds
    sent: list[Attempts] = []
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("orders", total=load.orders)

        def shop() -> float:
            with closing(Customer(gateway)) as customer:
                while time.perf_counter() < end:
                    number = next(numbers)
                    if number >= load.orders and not harming.is_set():
                        break
                    # Those sent shortly before the end have as long again to be accepted.
                    attempts = customer.insist(
                        f"{prefix}-{number}",
                        f"U{number % USERS}",
                        lambda: time.perf_counter() > end + load.seconds,
                    )
                    sent.append(attempts)
                    progress.advance(task)
                return time.perf_counter()

        harming = threading.Event()
        if meanwhile or load.kills:
            harming.set()
        with ThreadPoolExecutor(load.customers, thread_name_prefix="customer") as pool:
            shopping = [pool.submit(shop) for _ in range(load.customers)]
            try:
                killed = meanwhile() if meanwhile else _kill(system, load.kills, end)
            finally:
                harming.clear()
            answered_at = max(customer.result() for customer in shopping)
    system.wait_until_ready()
    return Outcome(sent, answered_at - began, answered_at, killed)


def _kill(system: System, kills: int, end: float) -> Counter[str]:
    """Kill services at any moment, in any order, but each in its turn before any comes again."""
    chosen = random.Random()  # noqa: S311 - no secret
    killed: Counter[str] = Counter()
    turns = [
        name for _ in range(-(-kills // len(KILLED))) for name in chosen.sample(KILLED, len(KILLED))
    ]
    for name in turns[:kills]:
        time.sleep(chosen.uniform(*KILL_EVERY_S))
        if time.perf_counter() > end:
            break
        system.wait_until_ready()
        system.kill(name)
        killed[name] += 1
    return killed
