"""What the process itself costs: what Java's virtual machine would tell of one of its own."""

from __future__ import annotations

import gc
import os
import resource
import threading
import time
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.metrics import CallbackOptions, Meter

    Callback = Callable[[CallbackOptions], Iterator[Observation]]

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Pauses:
    """How long garbage collection has held the process up, by generation."""

    def __init__(self) -> None:
        self.seconds = [0.0] * len(gc.get_stats())
        self._began = 0.0

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        """Note that a collection begins or has ended.

        It may begin anywhere, also where a lock is held: nothing here takes one.
        """
        now = time.perf_counter()
        if phase == "start":
            self._began = now
        else:
            self.seconds[info["generation"]] += now - self._began


def observe_process(meter: Meter) -> None:
    """Let `meter` ask for memory, processor time, threads, open files and garbage collection."""
    pauses, started = Pauses(), time.time()
    gc.callbacks.append(pauses)

    def gauge(name: str, unit: str, description: str, value: Callable[[], float]) -> None:
        callback: Callback = lambda _: iter([Observation(value())])  # noqa: E731 - one expression
        meter.create_observable_gauge(name, [callback], unit, description)

    gauge("process.resident_memory", "By", "Memory that is resident.", _resident_bytes)
    gauge("process.threads", "{thread}", "Threads of Python.", threading.active_count)
    gauge("process.open_fds", "{file}", "Open files and sockets.", _open_files)
    gauge("process.max_fds", "{file}", "How many may be open.", _most_files)
    gauge("process.start_time", "s", "When it was started, in Unix time.", lambda: started)

    def processor(_: CallbackOptions) -> Iterator[Observation]:
        yield Observation(time.process_time())

    def collections(_: CallbackOptions) -> Iterator[Observation]:
        for generation, stats in enumerate(gc.get_stats()):
            yield Observation(stats["collections"], {"generation": str(generation)})

    def paused(_: CallbackOptions) -> Iterator[Observation]:
        for generation, seconds in enumerate(pauses.seconds):
            yield Observation(seconds, {"generation": str(generation)})

    meter.create_observable_counter("process.cpu", [processor], "s", "Processor time.")
    meter.create_observable_counter(
        "python.gc.collections", [collections], "{collection}", "Garbage collections."
    )
    meter.create_observable_counter(
        "python.gc.pause", [paused], "s", "Time that garbage collections took."
    )


def _resident_bytes() -> float:
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - no path to join
            return int(statm.read().split()[1]) * _PAGE_BYTES
    except OSError:
        # Not on Linux: the most it ever was.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def _open_files() -> float:
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are not needed
    except OSError:
        return float("nan")


def _most_files() -> float:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
