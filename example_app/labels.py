"""The user's label (canary or not): from the public header into baggage, and on to every service.

Routers such as Istio's look at headers, so calls carry it as a header too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import baggage

if TYPE_CHECKING:
    from opentelemetry.context import Context

HEADER = "X-User-Label"
ATTRIBUTE = "user.label"
LABELS = ("canary", "stable")


def accepted(text: str | None) -> str | None:
    """The label that an outside caller gave, if it is one there is."""
    return text if text in LABELS else None


def current(context: Context | None = None) -> str | None:
    """The label of the request or event being handled."""
    value = baggage.get_baggage(ATTRIBUTE, context)
    return accepted(value) if isinstance(value, str) else None
