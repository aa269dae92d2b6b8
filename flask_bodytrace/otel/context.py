"""OpenTelemetry's current context, and the keys under which it holds span and baggage.

`current()` is the context, `attach(context)` makes another one current, `detach(token)` undoes
that. The keys are private names of OpenTelemetry's, so they are read off contexts that its public
functions made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Token
from typing import Any

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import (
    suppress_http_instrumentation,
    suppress_instrumentation,
)
from opentelemetry.trace import INVALID_SPAN, SpanContext, get_current_span, set_span_in_context

current: Callable[[], Context]
attach: Callable[[Context], Token[Context]]
detach: Callable[[Token[Context]], None]

(SPAN_KEY,) = set_span_in_context(INVALID_SPAN, Context())
"""Where a context holds the current span."""

(BAGGAGE_KEY,) = baggage.set_baggage("key", "value", Context())
"""Where a context holds the baggage, a dict."""

NOTHING = Context()


def _what_suppresses() -> dict[str, object]:
    token = otel_context.attach(Context())
    try:
        with suppress_instrumentation(), suppress_http_instrumentation():
            return dict(otel_context.get_current())
    finally:
        otel_context.detach(token)


SUPPRESSED: Mapping[str, object] = _what_suppresses()
"""What a context holds in which no instrumentation may start a span."""


def is_suppressed(context: Context) -> bool:
    """Whether a context says that no instrumentation may start a span."""
    return any(context.get(key) for key in SUPPRESSED)


def parent_in(context: Context) -> SpanContext | None:
    """The current span's context; None if there is no valid one."""
    if SPAN_KEY not in context:
        return None
    parent = get_current_span(context).get_span_context()
    return parent if parent.is_valid else None


def baggage_only(context: Context) -> Context:
    """A context with the baggage of this one and nothing else."""
    return Context({BAGGAGE_KEY: context[BAGGAGE_KEY]})


def without_trace(context: Context) -> dict[str, Any]:
    """What a context holds that is of no trace: no span, no baggage, nothing of a request."""
    traced = (SPAN_KEY, BAGGAGE_KEY)
    return {
        key: value
        for key, value in context.items()
        if key not in traced and not key.startswith("flask_bodytrace.")
    }


# The usual runtime context is a `ContextVar` under three layers of calls. It is used directly where
# it turns out to be that; OTEL_PYTHON_CONTEXT may name another one.
def _variable() -> Any:
    variable = getattr(getattr(otel_context, "_RUNTIME_CONTEXT", None), "_current_context", None)
    marked = Context({"flask_bodytrace.trial": True})
    try:
        token = variable.set(marked)  # type: ignore[union-attr]
        try:
            seen = otel_context.get_current() is marked
        finally:
            variable.reset(token)  # type: ignore[union-attr]
        token = otel_context.attach(marked)
        try:
            seen = seen and variable.get() is marked  # type: ignore[union-attr]
        finally:
            otel_context.detach(token)
    except Exception:  # noqa: BLE001 - whatever it is, it is no such variable
        return None
    return variable if seen else None


_found = _variable()
if _found is None:
    current, attach, detach = otel_context.get_current, otel_context.attach, otel_context.detach
else:
    current, attach, detach = _found.get, _found.set, _found.reset
