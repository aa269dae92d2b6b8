"""Points of series as values over time: rates, percentiles, and what is counted up and down.

Time is cut into slots of equal length. What grows between two points grew evenly: each slot gets
its share of it. A slot in which nothing was measured has no value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .metrics import GAUGE, Point, Series

Bucket = tuple[float, float]
"""Above the first, up to the second."""
_INFINITE = float("inf")


@dataclass(frozen=True, slots=True)
class Slots:
    """The stretch of time that is shown, in ns since 1970, and in how many slots."""

    first: int
    last: int
    number: int

    @property
    def length(self) -> float:
        """Of one slot, in ns; above 0."""
        return max(self.last - self.first, 1) / self.number

    def parts(self, start: int, end: int) -> Iterator[tuple[int, float]]:
        """The slots that a stretch runs through, and for how many ns each."""
        start, end = max(start, self.first), min(end, self.last)
        slot = int((start - self.first) / self.length)
        while slot < self.number:
            begins = self.first + slot * self.length
            taken = min(begins + self.length, end) - max(begins, start)
            if taken <= 0:
                return
            yield slot, taken
            slot += 1

    def middle(self, slot: int) -> int:
        """When a slot is half over, in ns since 1970."""
        return int(self.first + (slot + 0.5) * self.length)


@dataclass(frozen=True, slots=True)
class Growth:
    """What was added between two moments, in ns since 1970.

    :param base: from which it is counted; None for from nothing.
    """

    start: int
    point: Point
    base: Point | None

    @property
    def end(self) -> int:
        """When it had grown."""
        return self.point.time

    @property
    def amount(self) -> float:
        """How much, of a histogram how many measurements."""
        return self.point.value - (0 if self.base is None else self.base.value)

    @property
    def buckets(self) -> Mapping[Bucket, int]:
        """Of a histogram, how many measurements were between which values."""
        return _added(self.point, self.base)


def growths(series: Series, slots: Slots | None = None) -> Iterator[Growth]:
    """Between each point of a series that only grows, and the one before.

    :param slots: what is needed for these is enough.
    """
    before: Point | None = None
    delta = series.origin.delta
    points = series.points if delta or slots is None else _needed(series.points, slots)
    for point in points:
        # A count that fell began anew.
        base = None if delta or (before and before.value > point.value) else before
        start = base.time if base is not None else point.start
        if delta and not start and before is not None:
            start = before.time
        before = point
        if 0 < start < point.time and (slots is None or point.time > slots.first):
            yield Growth(start, point, base)


def _needed(points: Sequence[Point], slots: Slots) -> list[Point]:
    """The last point of each slot, and the last before all of them: counts go on from there."""
    last: dict[int, Point] = {}
    for point in points:
        last[max(int((point.time - slots.first) // slots.length), -1)] = point
    return list(last.values())


def _added(point: Point, base: Point | None) -> Mapping[Bucket, int]:
    if not point.counts:
        return {}
    bounds = point.bounds
    # Most histograms are of what cannot be negative: their first bucket begins at 0.
    least = 0.0 if not bounds or bounds[0] > 0 else -_INFINITE
    buckets = list(zip((least, *bounds), (*bounds, _INFINITE), strict=True))
    if base is None or not base.counts:
        return dict(zip(buckets, point.counts, strict=True))
    if base.bounds == bounds:
        return {
            bucket: max(now - then, 0)
            for bucket, now, then in zip(buckets, point.counts, base.counts, strict=True)
        }
    former = dict(zip((*base.bounds, _INFINITE), base.counts, strict=True))
    if not former.keys() <= {high for _, high in buckets}:
        # Its buckets are others now: how many were added to which, nobody knows.
        return {}
    return {
        bucket: max(now - former.get(bucket[1], 0), 0)
        for bucket, now in zip(buckets, point.counts, strict=True)
    }


def rates(many: Iterable[Series], slots: Slots) -> list[float | None]:
    """How much a second was added to all of these together."""
    amounts = [0.0] * slots.number
    covered = [0.0] * slots.number
    for series in many:
        its = [0.0] * slots.number
        for growth in growths(series, slots):
            for slot, taken in slots.parts(growth.start, growth.end):
                amounts[slot] += growth.amount * taken / (growth.end - growth.start)
                its[slot] += taken
        covered = [max(pair) for pair in zip(covered, its, strict=True)]
    return [
        amount / (taken / 10**9) if taken else None
        for amount, taken in zip(amounts, covered, strict=True)
    ]


def percentiles(many: Iterable[Series], slots: Slots, share: float) -> list[float | None]:
    """What that share, of 1, of what was measured does not exceed."""
    found: list[Counter[Bucket]] = [Counter() for _ in range(slots.number)]
    for series in many:
        for growth in growths(series, slots):
            for slot, taken in slots.parts(growth.start, growth.end):
                part = taken / (growth.end - growth.start)
                buckets = found[slot]
                for bucket, count in growth.buckets.items():
                    if count:
                        # Counters hold shares of counts as well.
                        buckets[bucket] += count * part  # type: ignore[assignment]
    return [percentile(buckets, share) for buckets in found]


def percentile(buckets: Mapping[Bucket, float], share: float) -> float | None:
    """Within its bucket as if values were spread evenly; None where nothing was measured."""
    left = share * sum(buckets.values())
    if not left:
        return None
    low = high = 0.0
    for (low, high), count in sorted(buckets.items(), key=lambda item: item[0][::-1]):
        if count and left <= count:
            if high == _INFINITE:
                return low if low != -_INFINITE else None
            return high if low == -_INFINITE else low + (high - low) * left / count
        left -= count
    return low if high == _INFINITE else high


def levels(many: Sequence[Series], slots: Slots) -> list[float | None]:
    """What is counted up and down: of sums together, of gauges the mean.

    A value stays until the next one; the last of a series is its last.
    """
    sums = [0.0] * slots.number
    counts = [0] * slots.number
    for series in many:
        its: list[float | None] = [None] * slots.number
        for point, after in _held(series):
            for slot, _ in slots.parts(point.time, after):
                its[slot] = point.value
            if slots.first <= point.time <= slots.last:
                its[min(int((point.time - slots.first) / slots.length), slots.number - 1)] = (
                    point.value
                )
        for slot, value in enumerate(its):
            if value is not None:
                sums[slot] += value
                counts[slot] += 1
    is_mean = bool(many) and many[0].origin.kind == GAUGE
    return [
        (total / count if is_mean else total) if count else None
        for total, count in zip(sums, counts, strict=True)
    ]


def _held(series: Series) -> Iterator[tuple[Point, int]]:
    """Each point, and until when its value stays."""
    points = series.points
    if series.origin.delta:
        total = 0.0
        added = []
        for point in points:
            total += point.value
            added.append(Point(point.start, point.time, total))
        points = added
    for number, point in enumerate(points):
        yield point, points[number + 1].time if number + 1 < len(points) else point.time
