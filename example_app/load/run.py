"""Load on a system of this machine: so many orders, by so many customers, for so long at most."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from example_app.bootstrap import FULFILMENT, GATEWAY, INVENTORY, ORDERS, PAYMENTS
from example_app.load.customer import Attempts, Customer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from example_app.system import System

USERS = 100
KILLED = (ORDERS, PAYMENTS, INVENTORY, FULFILMENT, GATEWAY)
KILL_EVERY_S = (0.5, 2.0)


@dataclass(frozen=True, kw_only=True)
class Load:
    """How much.

    :ivar orders: number of orders to send at most.
    :ivar seconds: time after which no more are sent.
    :ivar customers: number of those who send at the same time.
    """

    orders: int = 500
    seconds: float = 60.0
    customers: int = 8


@dataclass(frozen=True)
class Outcome:
    """What came of a load.

    :ivar sent: every order, accepted or not.
    :ivar seconds: from the first one sent to the last one answered.
    :ivar killed: number of times that each service was killed.
    """

    sent: Sequence[Attempts]
    seconds: float
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


def drive(system: System, load: Load, *, kill: bool = False, seed: int | None = None) -> Outcome:
    """Send orders; return what came of each.

    :param kill: whether to end services with SIGKILL all the while, one after the other.
    :param seed: of when which service is killed.
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

        def shop() -> None:
            with closing(Customer(gateway)) as customer:
                while (number := next(numbers)) < load.orders and time.perf_counter() < end:
                    # Those sent shortly before the end have as long again to be accepted.
                    attempts = customer.insist(
                        f"{prefix}-{number}",
                        f"U{number % USERS}",
                        lambda: time.perf_counter() > end + load.seconds,
                    )
                    sent.append(attempts)
                    progress.advance(task)

        with _killing(system, seed if kill else None, on=kill) as killed:
            with ThreadPoolExecutor(load.customers, thread_name_prefix="customer") as pool:
                for customer in [pool.submit(shop) for _ in range(load.customers)]:
                    customer.result()
            seconds = time.perf_counter() - began
    system.wait_until_ready()
    return Outcome(sent, seconds, killed)


@contextmanager
def _killing(system: System, seed: int | None, *, on: bool) -> Iterator[Counter[str]]:
    """Kill services for as long as the block lasts, each in its turn before any comes again."""
    chosen = random.Random(seed)  # noqa: S311 - no secret
    killed: Counter[str] = Counter()
    over = threading.Event()

    def run() -> None:
        order = list(KILLED)
        chosen.shuffle(order)
        for name in itertools.cycle(order):
            if over.wait(chosen.uniform(*KILL_EVERY_S)):
                return
            system.wait_until_ready()
            system.kill(name)
            killed[name] += 1

    thread = threading.Thread(target=run, name="killer")
    if on:
        thread.start()
    try:
        yield killed
    finally:
        over.set()
        if on:
            thread.join()
