"""The same load on systems side by side, that differ in who traces them."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from prometheus_client.parser import text_string_to_metric_families

from example_app.bootstrap import FULFILMENT, INVENTORY, PAYMENTS, SERVICES, TRACINGS
from example_app.load.cpu import seconds_of
from example_app.load.ledger import Ledger
from example_app.load.run import Load, Outcome, drive
from example_app.metrics.exposition import PATH
from example_app.system import ANY_PORTS, System, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

GROUPS = (INVENTORY, PAYMENTS, FULFILMENT)
"""The services that handle events."""

_HANDLED = "messaging_process_duration_seconds"
_WARM_UP = Load(orders=50, seconds=20, customers=4)


@dataclass(frozen=True)
class Measured:
    """What came of one system's load.

    :ivar tracing: who traced it.
    :ivar settled: number of orders that were paid and shipped.
    :ivar settle_s: how long that took beyond the time in which they were sent, in seconds.
    :ivar cpu_ms: processor time that each service spent for one order, in milliseconds.
    :ivar handle_ms: how long each group took for an event, in milliseconds on average.
    :ivar problems: a sentence for each order that was lost or doubled.
    """

    tracing: str
    outcome: Outcome
    settled: int
    settle_s: float
    cpu_ms: Mapping[str, float]
    handle_ms: Mapping[str, float]
    problems: Sequence[str]


def compare(workers: int, wanted: Load, rounds: int) -> list[Measured]:
    """Drive the load on systems side by side, in turn, so that all meet the same machine.

    :param wanted: of each system, over all rounds.
    :raises NotSettled: nothing has changed for a minute.
    """
    with ExitStack() as stack:
        trials = [_Trial(tracing, workers, stack) for tracing in TRACINGS]
        for _ in range(rounds):
            for trial in trials:
                trial.run(replace(wanted, seconds=wanted.seconds / rounds))
        return [trial.measured() for trial in trials]


class _Trial:
    """One system, running until the stack is closed."""

    def __init__(self, tracing: str, workers: int, stack: ExitStack) -> None:
        self._tracing = tracing
        data = stack.enter_context(tempfile.TemporaryDirectory())
        self._system = stack.enter_context(
            running(Path(data), ANY_PORTS, workers=workers, tracing=tracing)
        )
        self._ledger = stack.enter_context(closing(Ledger(self._system)))
        drive(self._system, _WARM_UP)
        self._before = self._ledger.settle()["shipments"]
        self._spent = self._cpu()
        self._settled = self._before
        self._settle_s = 0.0
        self._outcomes: list[Outcome] = []

    def run(self, wanted: Load) -> None:
        """Drive some load, and wait until what it has ordered is settled."""
        self._outcomes.append(drive(self._system, wanted))
        ended = time.monotonic()
        self._settled = self._ledger.settle()["shipments"]
        self._settle_s += time.monotonic() - ended

    def measured(self) -> Measured:
        """Return what came of it all."""
        outcome = Outcome(
            [attempts for outcome in self._outcomes for attempts in outcome.sent],
            sum(outcome.seconds for outcome in self._outcomes),
            self._outcomes[-1].answered_at,
            Counter(),
        )
        each = max(len(outcome.accepted), 1)
        return Measured(
            tracing=self._tracing,
            outcome=outcome,
            settled=self._settled - self._before,
            settle_s=self._settle_s,
            cpu_ms={
                name: 1000 * (it - self._spent[name]) / each for name, it in self._cpu().items()
            },
            handle_ms={name: _handle_ms(self._system, name) for name in GROUPS},
            problems=list(self._ledger.problems(outcome.accepted)),
        )

    def _cpu(self) -> dict[str, float]:
        return {name: seconds_of(self._system.pid(name)) for name in SERVICES}


def table(runs: Sequence[Measured]) -> Iterator[str]:
    """Yield the lines of a table in Markdown: a row for each run."""
    names = [*SERVICES]
    yield (
        "| tracing | orders/s | P50 ms | P99 ms | errors | accepted | settled | after s |"
        f" CPU ms an order | {' | '.join(names)} |"
    )
    yield f"| --- | {'--: | ' * 7}--: | {'--: | ' * len(names)}".rstrip()
    for run in runs:
        outcome = run.outcome
        services = " | ".join(f"{run.cpu_ms[name]:.1f}" for name in names)
        yield (
            f"| {run.tracing} | {len(outcome.accepted) / outcome.seconds:.1f}"
            f" | {outcome.percentile_ms(0.5):.0f} | {outcome.percentile_ms(0.99):.0f}"
            f" | {outcome.failures.total()} | {len(outcome.accepted)} | {run.settled}"
            f" | {run.settle_s:.1f} | {sum(run.cpu_ms.values()):.1f} | {services} |"
        )


def events_table(runs: Sequence[Measured]) -> Iterator[str]:
    """Yield the lines of a table in Markdown: how long each group took for an event."""
    yield f"| tracing | {' | '.join(f'{name}, ms an event' for name in GROUPS)} |"
    yield f"| --- | {'--: | ' * len(GROUPS)}".rstrip()
    for run in runs:
        yield f"| {run.tracing} | {' | '.join(f'{run.handle_ms[it]:.1f}' for it in GROUPS)} |"


def _handle_ms(system: System, group: str) -> float:
    text = httpx.get(f"{system.url(group)}{PATH}", trust_env=False, timeout=30).text
    totals = {"sum": 0.0, "count": 0.0}
    for family in text_string_to_metric_families(text):
        if family.name == _HANDLED:
            for sample in family.samples:
                kind = sample.name.rpartition("_")[2]
                if kind in totals:
                    totals[kind] += sample.value
    return 1000 * totals["sum"] / totals["count"] if totals["count"] else float("nan")
