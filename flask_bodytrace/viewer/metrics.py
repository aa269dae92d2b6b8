"""Metrics as the viewer keeps them: series, and their points."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

GAUGE, SUM, HISTOGRAM = "gauge", "sum", "histogram"


class Origin(Struct, frozen=True):
    """What tells one series from another.

    :param unit: as OpenTelemetry writes it: ``s``, ``By``, ``{request}``.
    :param kind: `GAUGE`, `SUM` or `HISTOGRAM`; a summary is a histogram without buckets.
    :param grows: of a sum, whether it only grows.
    :param delta: whether each point counts from the one before, instead of from `since`.
    :param since: ns since 1970 from when points count, as long as its process lives; 0 for gauges
        and deltas. A process that is started anew makes a new series, so none ever falls back.
    :param attributes: names and values, by name.
    :param resource: whatever else is known of who measures, as text: processes of one service.
    """

    service: str
    name: str
    unit: str
    kind: str
    grows: bool
    delta: bool
    since: int
    attributes: tuple[tuple[str, str], ...]
    resource: str


class Point(Struct, frozen=True):
    """One measurement.

    :param start: ns since 1970 from when it counts; 0 where that is not said.
    :param time: ns since 1970.
    :param value: of a histogram, how many measurements it has.
    :param bounds: of a histogram, the upper bounds of its buckets but the last, ascending.
    :param counts: one more than bounds; empty for a histogram without buckets.
    """

    start: int
    time: int
    value: float
    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


Measured = tuple[Origin, Point]
"""One point of one series, as it comes in."""


class Series(Struct, frozen=True):
    """One series as it was at one moment; points by their time."""

    origin: Origin
    points: Sequence[Point]


def weigh_origin(origin: Origin) -> int:
    """About how many bytes of memory it holds."""
    texts = [origin.service, origin.name, origin.unit, origin.resource]
    for name, value in origin.attributes:
        texts += [name, value]
    # A text that is not ASCII may take four bytes a character.
    return 800 + sum(60 + (len(text) if text.isascii() else 4 * len(text)) for text in texts)


def weigh_point(point: Point) -> int:
    """About how many bytes of memory it holds."""
    return 160 + 40 * (len(point.bounds) + len(point.counts))
