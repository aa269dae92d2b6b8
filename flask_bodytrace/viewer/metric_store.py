"""The last points of each series of metrics, within bounds: of series, of points, of bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from msgspec.structs import replace

from .metrics import Measured, Origin, Point, Series, weigh_origin, weigh_point


class MetricStore:
    """Over a bound, the series that was quiet for longest goes. Whoever calls holds a lock.

    :param series: number of them.
    :param points: of one series.
    :param size: bytes of all, as `weigh_point` estimates them.
    """

    def __init__(self, *, series: int, points: int, size: int) -> None:
        self._series = series
        self._points = points
        self._limit = size
        self._kept: dict[Origin, deque[Point]] = {}
        """The one that was added to last is the last."""
        self._size = 0

    def add(self, measured: Iterable[Measured]) -> None:
        """Keep points; one that is no later than the last of its series is none that is new."""
        for origin, point in measured:
            points = self._kept.pop(origin, None)
            if points is None:
                points = deque()
                self._size += weigh_origin(origin)
            self._kept[origin] = points
            if points and points[-1].time >= point.time:
                continue
            bounds = points[-1].bounds if points else ()
            # The bounds of a series stay as they are: kept once.
            points.append(replace(point, bounds=bounds) if bounds == point.bounds else point)
            self._size += weigh_point(point)
            if len(points) > self._points:
                self._size -= weigh_point(points.popleft())
            while len(self._kept) > self._series or self._size > self._limit:
                self._forget(next(iter(self._kept)))

    def _forget(self, origin: Origin) -> None:
        points = self._kept.pop(origin)
        self._size -= weigh_origin(origin) + sum(map(weigh_point, points))

    def series(self) -> list[Series]:
        """All of them."""
        return [Series(origin, tuple(points)) for origin, points in self._kept.items()]
