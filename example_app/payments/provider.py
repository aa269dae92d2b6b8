"""Whoever moves the money: the Protocol; each engine is a file of its own beside this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from example_app.payments.messages import Authorisation


class Provider(Protocol):
    """Knows what users are good for."""

    def is_good(self, asked: Authorisation) -> bool:
        """Whether the user pays."""
