"""Where shipments are kept: the Protocol; each engine is a file of its own beside this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from example_app.events.event import Event


class Shipments(Protocol):
    """Keeps what was shipped."""

    def ship(self, event: Event) -> bool:
        """Ship the order that was paid; False if this event was handled before."""

    def of_order(self, order_id: str) -> Sequence[str]:
        """Return the ids of the users to whom an order of this id was shipped."""

    def count(self) -> int:
        """Return their number."""

    def close(self) -> None:
        """Let go of files and connections."""
