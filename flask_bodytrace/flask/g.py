"""The current request, and ``g.trace``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import current_app, has_request_context, request

from flask_bodytrace.flow.begin import unserved
from flask_bodytrace.trace.current import TRACE_KEY

if TYPE_CHECKING:
    from flask import Request

    from flask_bodytrace.flow.exchange import Exchange
    from flask_bodytrace.flow.plan import Plan


def current_request() -> Request:
    """The request itself, not the proxy, which would look for it at every attribute."""
    found: Request = request._get_current_object()  # type: ignore[attr-defined]
    return found


def exchange_of(environ: dict[str, Any], plan: Plan) -> Exchange:
    """The trace of a request; made now if it did not come through ``app.wsgi_app``."""
    found: Exchange | None = environ.get(TRACE_KEY)
    return unserved(plan, environ) if found is None else found


class _TraceOnG:
    """Gives ``g`` a `trace`: the current request's.

    Looked up, not stored: one ``g`` may be shared by requests that are made inside another one, and
    a copy of a request's context in a thread has a ``g`` of its own.
    """

    def __getattr__(self, name: str) -> Any:
        if name == "trace" and has_request_context():
            state = current_app.extensions.get("bodytrace")
            if state is not None and state.plan is not None:
                return exchange_of(request.environ, state.plan)
        inherited = getattr(super(), "__getattr__", None)
        if inherited is None:
            raise AttributeError(name)
        return inherited(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As Flask's; also finds `trace`."""
        return getattr(self, name, default)

    def __contains__(self, item: str) -> bool:
        return hasattr(self, item) if item == "trace" else item in self.__dict__


def with_trace(globals_class: type[Any]) -> type[Any]:
    """`globals_class`, the class of ``g``, with a `trace` attribute."""
    if issubclass(globals_class, _TraceOnG):
        return globals_class
    return type(globals_class.__name__, (_TraceOnG, globals_class), {})
