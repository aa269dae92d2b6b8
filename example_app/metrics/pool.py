"""A pool of threads that says how many of them are busy, and how much waits for one."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from opentelemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


def count_threads(pool: str, threads: int) -> None:
    """Say that a pool has so many threads."""
    meter = metrics.get_meter("example_app.pool")
    meter.create_up_down_counter(
        "example.pool.threads", unit="{thread}", description="Threads that a pool may have"
    ).add(threads, {"pool": pool})


class MeteredPool(ThreadPoolExecutor):
    """A pool whose state is in metrics.

    :param name: on the metrics, and of the threads.
    """

    def __init__(self, threads: int, name: str) -> None:
        super().__init__(threads, thread_name_prefix=name)
        self._attributes = {"pool": name}
        meter = metrics.get_meter("example_app.pool")
        self._busy = meter.create_up_down_counter(
            "example.pool.busy", unit="{thread}", description="Threads of a pool that do something"
        )
        self._queued = meter.create_up_down_counter(
            "example.pool.queued", unit="{task}", description="Tasks that wait for a pool's thread"
        )
        count_threads(name, threads)
        # There from the start, as nothing at all is not the same as none.
        self._busy.add(0, self._attributes)
        self._queued.add(0, self._attributes)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Let a thread call `fn`."""
        self._queued.add(1, self._attributes)
        try:
            future = super().submit(self._run, fn, *args, **kwargs)
        except RuntimeError:
            self._queued.add(-1, self._attributes)
            raise
        future.add_done_callback(self._forget_cancelled)
        return future

    def _run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        self._queued.add(-1, self._attributes)
        self._busy.add(1, self._attributes)
        try:
            return fn(*args, **kwargs)
        finally:
            self._busy.add(-1, self._attributes)

    def _forget_cancelled(self, future: Future[T]) -> None:
        if future.cancelled():
            self._queued.add(-1, self._attributes)
