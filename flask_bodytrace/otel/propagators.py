"""What the globally configured propagator is made of."""

from __future__ import annotations

from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator


def parts_of(textmap: TextMapPropagator) -> tuple[TextMapPropagator, ...] | None:
    """The propagators that a composite one asks, in order; any other one alone.

    None if they are not to be found: then it has to be asked as a whole.
    """
    if type(textmap) is not CompositePropagator:
        return (textmap,)
    parts = getattr(textmap, "_propagators", None)
    try:
        parts = tuple(parts)  # type: ignore[arg-type]
    except TypeError:
        return None
    return parts if all(isinstance(part, TextMapPropagator) for part in parts) else None
