"""A cache that counts what it is asked for, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from example_app.cache.store import Cache

T = TypeVar("T")


class MeteredCache:
    """The `Cache` around another one."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._operations = metrics.get_meter("example_app.cache").create_counter(
            "example.cache.operations", unit="{operation}", description="What a cache was asked"
        )

    def get(self, key: str) -> Any:
        """Return the value, None if there is none or its time is up."""
        return self._counted("get", lambda: self._cache.get(key), lambda it: it is not None)

    def set(self, key: str, value: Any, timeout: int | None = None) -> bool | None:
        """Keep a value for `timeout` seconds."""
        return self._counted("set", lambda: self._cache.set(key, value, timeout), lambda _: True)

    def add(self, key: str, value: Any, timeout: int | None = None) -> bool:
        """Keep a value unless there is one; False if there is."""
        return self._counted("add", lambda: self._cache.add(key, value, timeout), bool)

    def _counted(self, operation: str, ask: Callable[[], T], succeeds: Callable[[T], bool]) -> T:
        outcome = "error"
        try:
            answer = ask()
            outcome = "hit" if succeeds(answer) else "miss"
        finally:
            self._operations.add(1, {"operation": operation, "outcome": outcome})
        return answer
