"""Where charges are kept: the Protocol; each engine is a file of its own beside this one."""

from __future__ import annotations

from typing import Literal, Protocol

Outcome = Literal["paid", "failed"]


class Charges(Protocol):
    """Keeps what was charged."""

    def outcome(self, user_id: str, order_id: str) -> Outcome | None:
        """Return how charging an order went; None if it was not charged yet."""

    def keep(self, user_id: str, order_id: str, total: int, outcome: Outcome) -> Outcome:
        """Keep how charging an order went; return what is kept, which is the first one."""

    def count(self) -> int:
        """Return their number."""

    def close(self) -> None:
        """Let go of files and connections."""
