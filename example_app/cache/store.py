"""What services need of a cache: the Protocol, a part of cachelib's `BaseCache`."""

from __future__ import annotations

from typing import Any, Protocol


class Cache(Protocol):
    """Keeps values that JSON can hold; every cache of cachelib is one."""

    def get(self, key: str) -> Any:
        """Return the value, None if there is none or its time is up."""

    def set(self, key: str, value: Any, timeout: int | None = None) -> bool | None:
        """Keep a value for `timeout` seconds."""

    def add(self, key: str, value: Any, timeout: int | None = None) -> bool:
        """Keep a value unless there is one; False if there is.

        Of several that add the same key at the same time, in whatever processes, one gets True.
        """


class OpenCache(Cache, Protocol):
    """A cache that holds a file or connections."""

    def close(self) -> None:
        """Let go of them."""
