"""Asking all databases at once: one that does not answer holds up none of the others."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NoAnswer
from contextvars import copy_context
from time import monotonic
from typing import TYPE_CHECKING, Generic, TypeVar

from example_app.failures import DatabaseUnavailable
from example_app.orders.store import Gathered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

D = TypeVar("D")
T = TypeVar("T")
_THREADS = 2
_log = logging.getLogger(__name__)


class Scatter(Generic[D]):
    """Asks databases on threads that each has for itself.

    :param databases: by name.
    :param timeout_s: how long all of them together may take for their answers, in seconds.
    """

    def __init__(self, databases: Mapping[str, D], timeout_s: float) -> None:
        self._databases = databases
        self._timeout_s = timeout_s
        # Shared threads would all wait in the end for the one database that hangs.
        self._pools = {
            name: ThreadPoolExecutor(_THREADS, thread_name_prefix=f"ask {name}")
            for name in databases
        }

    def ask(self, question: Callable[[D], T]) -> Gathered[list[T]]:
        """Return what the databases answer, each asked in a copy of the current context."""
        asked = {
            name: self._pools[name].submit(copy_context().run, question, database)
            for name, database in self._databases.items()
        }
        until = monotonic() + self._timeout_s
        answers, unanswered = [], []
        for name, future in asked.items():
            try:
                answers.append(self._answer(name, future, until))
            except DatabaseUnavailable as error:
                _log.warning("%s", error)
                unanswered.append(name)
        return Gathered(answers, tuple(unanswered))

    def close(self) -> None:
        """End the threads, once what they are asked now is answered."""
        for pool in self._pools.values():
            pool.shutdown(cancel_futures=True)

    def _answer(self, name: str, future: Future[T], until: float) -> T:
        """The answer of one.

        :param until: when the time for all of them is over, as `monotonic` says it.
        """
        try:
            return future.result(max(until - monotonic(), 0))
        except NoAnswer:
            future.cancel()
            raise DatabaseUnavailable(f"{name} does not answer in {self._timeout_s} s") from None
