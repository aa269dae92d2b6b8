"""How many pages may be told of changes at the same time: each holds a thread."""

from __future__ import annotations

from threading import BoundedSemaphore, Event

MAX_STREAMS = 32
"""Pages that are told at the same time."""


class Streams:
    """The pages that are being told, at most so many at a time."""

    def __init__(self, limit: int = MAX_STREAMS) -> None:
        self._free = BoundedSemaphore(limit)
        self.closing = Event()
        """Set to end all of them."""

    def take(self) -> bool:
        """Whether there is room for one more, which then has to be given back."""
        return not self.closing.is_set() and self._free.acquire(blocking=False)

    def give_back(self) -> None:
        """One has ended."""
        self._free.release()
