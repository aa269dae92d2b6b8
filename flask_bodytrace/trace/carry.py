"""Taking a request's trace along: to threads, executors, timers and generators.

    executor.submit(carry(work), order)
    threading.Timer(1, carry(work)).start()

Python copies no context into a thread. Flask's `copy_current_request_context` takes the request
along, and not OpenTelemetry's context; this takes that, and with it the current span, baggage, logs
and `current_trace()`. They go together in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import ParamSpec, TypeVar

from flask_bodytrace.otel.context import attach, current, detach

P = ParamSpec("P")
R = TypeVar("R")


def carry(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, to be called elsewhere in the context that is current now.

    The request's body can be read until the request is over; its ids and trace are known after it.
    """
    context = current()

    @wraps(function)
    def carried(*args: P.args, **kwargs: P.kwargs) -> R:
        token = attach(context)
        try:
            return function(*args, **kwargs)
        finally:
            detach(token)

    return carried


def carry_iterable(iterable: Iterable[R]) -> Iterator[R]:
    """`iterable`, each of its items made in the context that is current now.

    For generators that something outside of the request iterates. Between two items the context
    is the consumer's own.
    """
    step = carry(iter(iterable).__next__)

    def items() -> Iterator[R]:
        while True:
            try:
                item = step()
            except StopIteration:
                return
            yield item

    return items()
