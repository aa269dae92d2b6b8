"""Which charts there are of the metrics in the store, and their lines as paths."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import display
from .metric_lines import Slots, growths, levels, percentiles, rates
from .metrics import HISTOGRAM, Origin, Series

HEIGHT = 100
"""Of a chart's drawing, in units of its own; a slot is one unit wide."""
_SLOTS = 60
_MOST_LINES = 5
_FIRST = ("http.server.request.duration", "http.server.active_requests")
"""What people look at first."""
RATE, P95, LEVEL = "rate", "p95", "level"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart.

    :param label: what tells it from the others; empty for the only one.
    :param values: one a slot; None where nothing was measured.
    :param path: as SVG's ``d``.
    """

    label: str
    values: Sequence[float | None]
    path: str

    @property
    def latest(self) -> float | None:
        """The last value there is."""
        return next((value for value in reversed(self.values) if value is not None), None)


@dataclass(frozen=True, slots=True)
class Chart:
    """One metric of one service.

    :param unit: of its values, before "a second".
    :param what: `RATE`, `P95` or `LEVEL`.
    :param left_out: lines for which there was no room.
    :param low: the least value of its scale, 0 unless some are below; `high` the largest.
    """

    service: str
    name: str
    unit: str
    what: str
    lines: Sequence[Line]
    left_out: int
    low: float
    high: float
    slots: Slots

    def amount(self, value: float | None) -> str:
        """A value with its unit; a dash for none."""
        if value is None:
            return "-"
        return display.amount(value, self.unit) + ("/s" if self.what == RATE else "")

    def told(self, slot: int) -> list[tuple[str, str]]:
        """Label and value of each line in one slot; empty where nothing was measured."""
        return [
            (line.label, self.amount(value))
            for line in self.lines
            if (value := line.values[slot]) is not None
        ]


def charts_of(series: Sequence[Series], window: int) -> list[Chart]:
    """All charts, by service and name.

    :param window: how much of the time before the last point is shown, in ns.
    """
    slots = _slots(series, window)
    by_metric: dict[tuple[str, str, str, str], list[Series]] = {}
    for one in series:
        origin = one.origin
        key = origin.service, origin.name, origin.kind, origin.unit
        by_metric.setdefault(key, []).append(one)
    found = []
    for key in sorted(by_metric, key=_place):
        found += _charts(by_metric[key], slots)
    return found


def _place(key: tuple[str, str, str, str]) -> tuple[object, ...]:
    service, name, kind, unit = key
    rank = _FIRST.index(name) if name in _FIRST else len(_FIRST) + (not name.startswith("http."))
    return service, rank, name, kind, unit


def _slots(series: Sequence[Series], window: int) -> Slots:
    last = max((one.points[-1].time for one in series if one.points), default=0)
    first = last
    for one in series:
        if one.points:
            grown = next(growths(one), None) if _only_grows(one) else None
            first = min(first, grown.start if grown else one.points[0].time)
    # With a single point there is no stretch of time: a second, so that it has a place.
    return Slots(min(max(first, last - window), last - 10**9), last, _SLOTS)


def _only_grows(series: Series) -> bool:
    return series.origin.grows or series.origin.kind == HISTOGRAM


def _charts(series: Sequence[Series], slots: Slots) -> list[Chart]:
    origin = series[0].origin
    if origin.kind == HISTOGRAM:
        found = [_chart(RATE, [("", rates(series, slots))], series, slots)]
        slow = percentiles(series, slots, 0.95)
        if any(value is not None for value in slow):
            found.append(_chart(P95, [("", slow)], series, slots))
        return found
    values: Callable[[Sequence[Series], Slots], list[float | None]]
    values = rates if origin.grows else levels
    what = RATE if origin.grows else LEVEL
    lines = [(label, values(its, slots)) for label, its in _labelled(series)]
    return [_chart(what, lines, series, slots)]


def _labelled(series: Sequence[Series]) -> list[tuple[str, list[Series]]]:
    """By their attributes, which processes share; a label names what is not the same in all."""
    groups: dict[tuple[tuple[str, str], ...], list[Series]] = {}
    for one in series:
        groups.setdefault(one.origin.attributes, []).append(one)
    common = set.intersection(*(set(attributes) for attributes in groups))
    return [
        (" ".join(value for name, value in attributes if (name, value) not in common), its)
        for attributes, its in groups.items()
    ]


def _chart(
    what: str,
    lines: Sequence[tuple[str, list[float | None]]],
    series: Sequence[Series],
    slots: Slots,
) -> Chart:
    origin = series[0].origin

    def highest(line: tuple[str, list[float | None]]) -> float:
        return max((abs(value) for value in line[1] if value is not None), default=0.0)

    shown = sorted(lines, key=highest, reverse=True)[:_MOST_LINES]
    shown.sort()
    known = [value for _, values in shown for value in values if value is not None]
    low, high = min([*known, 0.0]), max([*known, 0.0])
    top = high if high > low else low + 1
    return Chart(
        service=origin.service,
        name=origin.name,
        unit=_unit(origin, what),
        what=what,
        lines=[Line(label, values, _path(values, low, top)) for label, values in shown],
        left_out=len(lines) - len(shown),
        low=low,
        high=high,
        slots=slots,
    )


def _unit(origin: Origin, what: str) -> str:
    """Of measurements a second, and of time a second, there is none."""
    is_bare = what == RATE and (origin.kind == HISTOGRAM or origin.unit in {"s", "ms", "us", "ns"})
    return "" if is_bare else origin.unit


def _path(values: Sequence[float | None], low: float, high: float) -> str:
    """From the middle of one slot to that of the next; where values are missing it is cut."""
    found = ""
    drawn = False
    for slot, value in enumerate(values):
        if value is None or not math.isfinite(value):
            drawn = False
            continue
        y = round(HEIGHT - 2 - (value - low) / (high - low) * (HEIGHT - 4), 1)
        if drawn:
            found += f"L{slot + 0.5} {y}"
        else:
            # A value alone is as wide as its slot.
            found += f"M{slot} {y}L{slot + 0.5} {y}"
        following = values[slot + 1] if slot + 1 < len(values) else None
        if following is None:
            found += f"L{slot + 1} {y}"
        drawn = True
    return found
