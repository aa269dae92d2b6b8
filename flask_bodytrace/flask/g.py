"""``g.trace``."""

from __future__ import annotations

from typing import Any

from flask import current_app, has_request_context, request

from flask_bodytrace.flow.begin import unserved
from flask_bodytrace.trace.current import TRACE_KEY


class _TraceOnG:
    """Gives ``g`` a `trace`: the current request's.

    Looked up, not stored: one ``g`` may be shared by requests that are made inside another one, and
    a copy of a request's context in a thread has a ``g`` of its own.
    """

    def __getattr__(self, name: str) -> Any:
        if name == "trace" and has_request_context():
            state = current_app.extensions.get("bodytrace")
            if state is not None and state.plan is not None:
                environ = request.environ
                return environ.get(TRACE_KEY) or unserved(state.plan, environ)
        inherited = getattr(super(), "__getattr__", None)
        if inherited is None:
            raise AttributeError(name)
        return inherited(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As the application's; also finds `trace`."""
        inherited: Any = super()
        return getattr(self, name, default) if name == "trace" else inherited.get(name, default)

    def __contains__(self, item: str) -> bool:
        inherited: Any = super()
        return hasattr(self, item) if item == "trace" else inherited.__contains__(item)


def with_trace(globals_class: Any) -> Any:
    """`globals_class`, the class of ``g``, with a `trace` attribute; as it is if it is no class.

    Flask calls it to make a ``g``, so it may be any function.
    """
    if not isinstance(globals_class, type) or issubclass(globals_class, _TraceOnG):
        return globals_class
    return type(globals_class.__name__, (_TraceOnG, globals_class), {})
