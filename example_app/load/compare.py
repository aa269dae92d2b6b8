"""The same load on fresh systems that differ in who traces them."""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from prometheus_client.parser import text_string_to_metric_families

from example_app.bootstrap import FULFILMENT, INVENTORY, PAYMENTS, SERVICES
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
    """One run.

    :ivar tracing: who traced it.
    :ivar settled: number of orders that were paid and shipped.
    :ivar settle_s: how long that took after the last order was sent, in seconds.
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


def measure(tracing: str, workers: int, wanted: Load) -> Measured:
    """Start a system, let it get warm, drive the load, and wait until every order is settled.

    :raises NotSettled: nothing has changed for a minute.
    """
    with (
        tempfile.TemporaryDirectory() as data,
        running(Path(data), ANY_PORTS, workers=workers, tracing=tracing) as system,
        closing(Ledger(system)) as ledger,
    ):
        drive(system, _WARM_UP)
        before, spent = ledger.settle()["shipments"], _cpu(system)
        outcome = drive(system, wanted)
        ended = time.monotonic()
        settled = ledger.settle()["shipments"] - before
        settle_s = time.monotonic() - ended
        each = max(len(outcome.accepted), 1)
        cpu_ms = {name: 1000 * (it - spent[name]) / each for name, it in _cpu(system).items()}
        handle_ms = {name: _handle_ms(system, name) for name in GROUPS}
        problems = list(ledger.problems(outcome.accepted))
    return Measured(tracing, outcome, settled, settle_s, cpu_ms, handle_ms, problems)


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


def _cpu(system: System) -> dict[str, float]:
    return {name: seconds_of(system.pid(name)) for name in SERVICES}
