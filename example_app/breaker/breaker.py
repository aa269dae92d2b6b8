"""The circuit breaker of one neighbour: counts failed calls, and lets none through while open."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pybreaker
from opentelemetry import metrics
from opentelemetry.trace import get_current_span

from example_app.failures import CallFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from example_app.breaker.rules import BreakerRules

_log = logging.getLogger(__name__)


class BreakerOpen(CallFailed):
    """The neighbour was not called: too many calls before have failed."""


class Breaker:
    """Calls of one neighbour, for many threads at once."""

    def __init__(self, neighbour: str, rules: BreakerRules) -> None:
        self.neighbour = neighbour
        self.rules = rules
        self._trial = threading.Lock()
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=rules.failure_threshold,
            reset_timeout=rules.open_s,
            name=neighbour,
            listeners=[_Reporter(neighbour)],
            exclude=[lambda error: not isinstance(error, CallFailed)],
            throw_new_error_on_trip=False,
        )
        self._duration = metrics.get_meter("example_app.breaker").create_histogram(
            "example.calls.duration", unit="s", description="Calls of neighbours, by what came"
        )

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Let the call in this block be made, and see what comes of it.

        A block that raises `CallFailed` has failed; whatever else it raises is an answer of a
        neighbour that works.

        :raises BreakerOpen: it is not to be made.
        """
        began, outcome = time.perf_counter(), "answered"
        try:
            with self._counted():
                yield
        except BreakerOpen:
            outcome = "refused"
            raise
        except CallFailed:
            outcome = "failed"
            raise
        finally:
            attributes = {"peer.service": self.neighbour, "outcome": outcome}
            self._duration.record(time.perf_counter() - began, attributes)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._breaker.current_state == pybreaker.STATE_CLOSED:
            # pybreaker holds a lock during a call, in which slow ones would queue: it only gets to
            # see what came of it.
            try:
                yield
            except Exception as error:
                self._note(error)
                raise
            self._note(None)
            return
        # One call at a time may try whether the neighbour is back; the others do not wait for it.
        if not self._trial.acquire(blocking=False):
            raise BreakerOpen(f"the breaker of {self.neighbour} is open")
        try:
            with self._breaker.calling():
                yield
        except pybreaker.CircuitBreakerError:
            raise BreakerOpen(f"the breaker of {self.neighbour} is open") from None
        finally:
            self._trial.release()

    def _note(self, error: Exception | None) -> None:
        def outcome() -> None:
            if error is not None:
                raise error

        try:
            self._breaker.call(outcome)
        except pybreaker.CircuitBreakerError:
            pass  # It was opened meanwhile; this call had been let through before.
        except Exception as raised:
            if raised is not error:
                raise


class _Reporter(pybreaker.CircuitBreakerListener):
    """Makes changes of state events of the current span, metrics and log records."""

    def __init__(self, neighbour: str) -> None:
        meter = metrics.get_meter("example_app.breaker")
        self._changes = meter.create_counter(
            "example.breaker.state_changes", unit="{change}", description="Breaker state changes"
        )
        self._open = meter.create_up_down_counter(
            "example.breaker.open", unit="{breaker}", description="Breakers that are not closed"
        )
        # There from the start, as nothing at all is not the same as none.
        self._open.add(0, {"breaker.name": neighbour})

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        """Report that `cb` went from one state to another."""
        if old_state is None:
            return
        attributes = {
            "breaker.name": cb.name,
            "breaker.from": old_state.name,
            "breaker.to": new_state.name,
        }
        get_current_span().add_event("breaker.state_change", attributes)
        self._changes.add(1, attributes)
        closed = pybreaker.STATE_CLOSED
        if change := (new_state.name != closed) - (old_state.name != closed):
            self._open.add(change, {"breaker.name": cb.name})
        _log.warning("breaker %s: %s -> %s", cb.name, old_state.name, new_state.name)
