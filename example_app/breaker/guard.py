"""What a neighbour said last, for when a call of it fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from opentelemetry.trace import get_current_span

from example_app.breaker.breaker import BreakerOpen
from example_app.failures import CallFailed

if TYPE_CHECKING:
    from example_app.breaker.rules import BreakerRules
    from example_app.cache.store import Cache

_KEPT_S = 3600
_log = logging.getLogger(__name__)


class Unavailable(Exception):
    """There is neither an answer nor a last known value."""


@dataclass(frozen=True)
class Answer:
    """Values that JSON can hold, by key.

    :ivar age_s: None for fresh ones; of last known values how old the oldest is, in seconds.
    """

    values: Mapping[str, object]
    age_s: float | None = None


class Guard:
    """What one neighbour said last, for many threads at once.

    :param service: its name.
    :param cache: where values are kept; shared by processes.
    """

    def __init__(self, service: str, rules: BreakerRules, cache: Cache) -> None:
        self._service = service
        self._cache = cache
        self._falls_back = rules.fallback_strategy == "cache_last_known_value"
        meter = metrics.get_meter("example_app.breaker")
        self._fallbacks = meter.create_counter(
            "example.breaker.fallbacks", unit="{call}", description="Calls answered from the cache"
        )

    def call(self, keys: Sequence[str], function: Callable[[], Mapping[str, object]]) -> Answer:
        """Return what `function` does, a value for each of `keys`; else the last known values.

        :param function: does the call; raises `CallFailed` if it fails. Whatever else it raises is
            raised again.
        :raises Unavailable: there is no last known value of some key.
        """
        try:
            values = function()
        except CallFailed as error:
            return self._last_known(keys, error)
        if self._falls_back:
            self._keep({key: values[key] for key in keys})
        return Answer(values)

    def _last_known(self, keys: Sequence[str], error: CallFailed) -> Answer:
        kept = self._kept(keys) if self._falls_back else {}
        span = get_current_span()
        reason = "the breaker is open" if isinstance(error, BreakerOpen) else str(error)
        if not kept or not all(kept.values()):
            raise Unavailable(f"{self._service}: {reason}, and there is no last known value")
        age = time.time() - min(entry["at"] for entry in kept.values())
        span.add_event(
            "fallback",
            {
                "breaker.name": self._service,
                "fallback.strategy": "cache_last_known_value",
                "fallback.reason": reason,
                "fallback.age_s": age,
            },
        )
        self._fallbacks.add(1, {"breaker.name": self._service})
        return Answer({key: entry["value"] for key, entry in kept.items()}, age_s=max(age, 0.0))

    def _keep(self, values: Mapping[str, object]) -> None:
        now = time.time()
        try:
            for key, value in values.items():
                self._cache.set(self._name(key), {"value": value, "at": now}, _KEPT_S)
        except Exception as error:  # noqa: BLE001 - the answer is there, whatever a cache raises
            _log.warning("the answer of %s is not kept: %s", self._service, error)

    def _kept(self, keys: Sequence[str]) -> Mapping[str, Any]:
        try:
            return {key: self._cache.get(self._name(key)) for key in keys}
        except Exception as error:  # noqa: BLE001 - nothing is known then, whatever a cache raises
            _log.warning("what %s said last is not known: %s", self._service, error)
            return {}

    def _name(self, key: str) -> str:
        return f"last-known:{self._service}:{key}"
