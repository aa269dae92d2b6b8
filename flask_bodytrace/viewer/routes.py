"""Statistics per route, from the requests whose spans are in the store."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from .model import ANSWERING, Span

_PER_DECADE = 4
"""Columns of a histogram for each power of ten."""


@dataclass(slots=True)
class Route:
    """The requests to one service of one name; times in ns.

    :param traces: for each duration the trace it comes from.
    """

    service: str
    name: str
    taken: list[tuple[int, str]] = field(default_factory=list)
    errors: int = 0
    seconds: float = 1.0
    """How long they were counted."""

    @property
    def requests(self) -> int:
        """How many."""
        return len(self.taken)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    @property
    def error_rate(self) -> float:
        """Of 1."""
        return self.errors / self.requests

    def percentile(self, share: int) -> tuple[int, str]:
        """The duration that so many percent do not exceed (nearest rank), and whose it is."""
        return self.taken[max(math.ceil(len(self.taken) * share / 100), 1) - 1]


@dataclass(frozen=True, slots=True)
class Routes:
    """All of them, the most requested first; `low` and `high` bound every histogram."""

    routes: Sequence[Route]
    low: int
    high: int

    def histogram(self, route: Route) -> Sequence[int]:
        """How many requests took how long; columns are equal steps of the logarithm."""
        counts = [0] * max(self.high - self.low + 1, 1)
        for taken, _ in route.taken:
            counts[_column(taken) - self.low] += 1
        return counts

    def bounds(self, column: int) -> tuple[int, int]:
        """From which duration to which a column counts, in ns."""
        number = column + self.low
        return int(10 ** (number / _PER_DECADE)), int(10 ** ((number + 1) / _PER_DECADE))


def _column(nanos: int) -> int:
    return math.floor(math.log10(max(nanos, 1)) * _PER_DECADE)


def count_routes(spans: Sequence[Span], since: int = 0, until: int = 0) -> Routes:
    """Count requests: spans of servers and consumers, and those without a parent.

    :param since: ns since 1970; those that started before do not count.
    :param until: those that started later do not count; 0 for no bound.
    """
    found: dict[tuple[str, str], Route] = {}
    first, last = 1 << 64, 0
    for span in spans:
        if span.kind not in ANSWERING and span.parent_id is not None:
            continue
        start = span.start
        if start < since or (until and start > until):
            continue
        first, last = min(first, start), max(last, start)
        key = span.service, span.name
        route = found.get(key)
        if route is None:
            route = found[key] = Route(*key)
        route.taken.append((max(span.end - start, 0), span.trace_id))
        route.errors += span.failed
    seconds = max(((until or last) - (since or first)) / 10**9, 1.0)
    for route in found.values():
        route.taken.sort()
        route.seconds = seconds
    routes = sorted(found.values(), key=lambda route: (-route.requests, route.service, route.name))
    low = min((_column(route.taken[0][0]) for route in routes), default=0)
    high = max((_column(route.taken[-1][0]) for route in routes), default=0)
    return Routes(routes, low, high)
