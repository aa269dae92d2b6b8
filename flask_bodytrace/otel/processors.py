"""The span processors of a provider; the SDK has no public way to ask for them."""

from __future__ import annotations

from typing import Any


def processors_of(provider: Any) -> tuple[Any, ...] | None:
    """The processors that were added to one of the SDK's providers; None if they cannot be found.

    A provider with a processor of another kind than the SDK's usual one has that alone.
    """
    active = getattr(provider, "_active_span_processor", None)
    if active is None:
        return None
    several = getattr(active, "_span_processors", (active,))
    return several if isinstance(several, tuple) else None


def is_disabled(provider: Any) -> bool:
    """Whether OTEL_SDK_DISABLED was set when the provider was made."""
    return bool(getattr(provider, "_disabled", False))
