"""What fulfilment does when it reads that an order was paid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.trace import get_current_span

from example_app.events.event import PAID

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from example_app.events.event import Event
    from example_app.fulfilment.shipments import Shipments


def handlers(shipments: Shipments) -> Mapping[str, Callable[[Event], None]]:
    """Return what to do, by topic."""

    def paid(event: Event) -> None:
        if not shipments.ship(event):
            get_current_span().add_event("event.handled_before", {"event.id": event.event_id})

    return {PAID: paid}
