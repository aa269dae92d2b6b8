"""What Flask hands to a view: the request, its body re-readable in any order, and ``g.trace``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import has_request_context
from flask import request as current_request

from flask_bodytrace.trace.current import TRACE_KEY

if TYPE_CHECKING:
    pass


class _TraceOnG:
    """Gives ``g`` a `trace` that is the current request's, however ``g`` is shared or copied."""

    def __getattr__(self, name: str) -> Any:
        if name == "trace" and has_request_context():
            source = current_request.environ.get(TRACE_KEY)
            if source is not None:
                return source.trace
        inherited = getattr(super(), "__getattr__", None)
        if inherited is None:
            raise AttributeError(name)
        return inherited(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As Flask's; also finds `trace`."""
        return getattr(self, name, default)

    def __contains__(self, item: str) -> bool:
        return hasattr(self, item) if item == "trace" else item in self.__dict__


def tracing_globals(globals_class: type[Any]) -> type[Any]:
    """`globals_class`, the class of ``g``, with a `trace` attribute."""
    if issubclass(globals_class, _TraceOnG):
        return globals_class
    return type(globals_class.__name__, (_TraceOnG, globals_class), {})
