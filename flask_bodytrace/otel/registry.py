"""Things remembered about OpenTelemetry's objects, by identity.

Providers may define equality without a hash, as Logfire's do, and some cannot be referred to
weakly, so no `weakref.WeakKeyDictionary` holds them all.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class IdentityRegistry(Generic[K, V]):
    """A value per object. An object that is gone takes its value along, where it allows that."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[Callable[[], K | None], V]] = {}

    def get(self, key: K) -> V | None:
        """The value kept for `key`, or None."""
        entry = self._entries.get(id(key))
        return entry[1] if entry is not None and entry[0]() is key else None

    def get_or_make(self, key: K, make: Callable[[], V]) -> V:
        """The value kept for `key`, made at the first call."""
        value = self.get(key)
        if value is None:
            value = make()
            self._entries[id(key)] = (self._reference(key), value)
        return value

    def keys(self) -> Iterator[K]:
        """The objects that are still there."""
        for reference, _ in list(self._entries.values()):
            key = reference()
            if key is not None:
                yield key

    def _reference(self, key: K) -> Callable[[], K | None]:
        number = id(key)
        entries = self._entries

        def forget(gone: object) -> None:
            entry = entries.get(number)
            # Another object may have the number by now.
            if entry is not None and entry[0] is gone:
                del entries[number]

        try:
            return weakref.ref(key, forget)
        except TypeError:
            return lambda: key
