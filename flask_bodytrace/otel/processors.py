"""The span processors of a provider; the SDK has no public way to ask for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan


def processors_of(provider: Any) -> tuple[Any, ...] | None:
    """The processors that were added to one of the SDK's providers; None if they cannot be found.

    A provider with a processor of another kind than the SDK's usual one has that alone.
    """
    active = getattr(provider, "_active_span_processor", None)
    if active is None:
        return None
    several = getattr(active, "_span_processors", (active,))
    return several if isinstance(several, tuple) else None


def pass_on(provider: Any, span: ReadableSpan) -> None:
    """Give an ended span to the processors of a provider, which take one in no public way.

    :param span: made elsewhere.
    """
    for processor in processors_of(provider) or ():
        processor.on_end(span)


def is_disabled(provider: Any) -> bool:
    """Whether OTEL_SDK_DISABLED was set when the provider was made."""
    return bool(getattr(provider, "_disabled", False))


def exporter_of(processor: Any) -> Any:
    """What a processor exports to; None if it cannot be found, or exports nothing."""
    for name in ("exporter", "span_exporter", "_exporter"):
        found = getattr(processor, name, None)
        if found is not None:
            return found
    return getattr(getattr(processor, "_batch_processor", None), "_exporter", None)
