"""What stands in for a cache that cannot be opened: services start, and go on, without it."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from example_app.failures import TemporarilyUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from example_app.cache.store import OpenCache

_PAUSE_S = 5.0
_log = logging.getLogger(__name__)


class MissingCache:
    """A `Cache` that keeps nothing, until the one it stands for can be opened.

    What is asked of it raises `TemporarilyUnavailable`: "there is none" would let a nonce be used
    twice.

    :param open_cache: opens the other one, or raises `TemporarilyUnavailable`; tried again now and
        then.
    :param error: why that cannot be opened; logged, once.
    """

    def __init__(
        self,
        open_cache: Callable[[], OpenCache],
        error: TemporarilyUnavailable,
        pause_s: float = _PAUSE_S,
    ) -> None:
        self._open_cache = open_cache
        self._error = error
        self._pause_s = pause_s
        self._opening = threading.Lock()
        self._due = time.monotonic() + pause_s
        self._cache: OpenCache | None = None
        _log.warning("there is no cache, and what needs it is refused: %s", error)

    def get(self, key: str) -> Any:
        """Return the value, None if there is none or its time is up."""
        return self._needed().get(key)

    def set(self, key: str, value: Any, timeout: int | None = None) -> bool | None:
        """Keep a value for `timeout` seconds; False while there is no cache."""
        cache = self._opened()
        return False if cache is None else cache.set(key, value, timeout)

    def add(self, key: str, value: Any, timeout: int | None = None) -> bool:
        """Keep a value unless there is one; False if there is."""
        return self._needed().add(key, value, timeout)

    def close(self) -> None:
        """Close the other one, if it was opened."""
        if self._cache is not None:
            self._cache.close()

    def _needed(self) -> OpenCache:
        cache = self._opened()
        if cache is None:
            raise TemporarilyUnavailable(f"there is no cache: {self._error}")
        return cache

    def _opened(self) -> OpenCache | None:
        # One thread at a time tries, and the others are not held up by that.
        if self._cache is None and self._opening.acquire(blocking=False):
            try:
                if self._cache is None and time.monotonic() >= self._due:
                    self._cache = self._open_cache()
                    _log.warning("the cache is there")
            except TemporarilyUnavailable as error:
                self._error = error
                self._due = time.monotonic() + self._pause_s
            finally:
                self._opening.release()
        return self._cache
