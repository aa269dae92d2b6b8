"""Numbers as places in a picture: the latency chart's dots, the waterfall's bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from . import display
from .summary import Summary
from .waterfall import Row, Waterfall

HEIGHT = 132
_TOP = 12
_BOTTOM = 22
_MAX_DOTS = 400


@dataclass(frozen=True, slots=True)
class Dot:
    """One trace in the latency chart: `x` in percent, `y` in pixels."""

    x: float
    y: float
    summary: Summary


@dataclass(frozen=True, slots=True)
class LatencyChart:
    """Durations over time; the scale of durations is logarithmic.

    :param lines: height in pixels and label of each power of ten.
    :param first: when the first began, in ns since 1970; `last` the last.
    """

    dots: Sequence[Dot]
    lines: Sequence[tuple[float, str]]
    first: int
    last: int


def latency_chart(summaries: Sequence[Summary]) -> LatencyChart | None:
    """The chart of the first few hundred; None without any."""
    shown = summaries[:_MAX_DOTS]
    if not shown:
        return None
    first = min(summary.start for summary in shown)
    last = max(summary.start for summary in shown)
    durations = [max(summary.duration, 1_000) for summary in shown]
    low = math.floor(math.log10(min(durations)))
    high = max(math.ceil(math.log10(max(durations))), low + 1)

    def height(nanos: float) -> float:
        share = (math.log10(nanos) - low) / (high - low)
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)

    dots = [
        Dot(
            round(1 + 98 * ((summary.start - first) / (last - first) if last > first else 0.5), 2),
            height(duration),
            summary,
        )
        for summary, duration in zip(shown, durations, strict=True)
    ]
    lines = [
        (height(10**power), display.duration(10**power))
        for power in range(low, high + 1, max(1, (high - low) // 3))
    ]
    return LatencyChart(dots, lines, first, last)


@dataclass(frozen=True, slots=True)
class Bar:
    """A span in the waterfall, in percent of its width.

    :param label: where its duration is written: ``after``, ``before`` or ``inside``.
    :param critical: where each critical stretch starts, and how wide it is.
    :param late: where the answer was there, if work went on after it.
    :param followed: whether it began after the answer.
    """

    x: float
    width: float
    label: str
    critical: Sequence[tuple[float, float]]
    late: float | None = None
    followed: bool = False

    @property
    def label_x(self) -> float:
        """Where the duration is written, in percent."""
        return self.x if self.label == "before" else self.x + self.width


def bar(row: Row, whole: Waterfall) -> Bar:
    """Place one row's bar."""
    scale = 100 / whole.duration
    x = (row.span.start - whole.start) * scale
    width = max(row.span.duration, 0) * scale
    label = "after" if x + width <= 84 else "before" if x >= 16 else "inside"
    critical = [
        (round((start - whole.start) * scale, 3), round((end - start) * scale, 3))
        for start, end in row.critical
    ]
    answered = whole.answered
    late = None if answered is None else round((answered - whole.start) * scale, 3)
    followed = answered is not None and row.span.start >= answered
    return Bar(round(x, 3), round(width, 3), label, critical, late, followed)


def ticks(whole: Waterfall) -> list[tuple[int, str]]:
    """Five marks along the waterfall: percent and time since its start."""
    return [(share, display.duration(whole.duration * share // 100)) for share in range(0, 101, 25)]
