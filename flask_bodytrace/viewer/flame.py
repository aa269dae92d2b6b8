"""Where the time goes: own time by operation, and by call path (a flame graph).

Own time is what none of a span's children covers. Widths add up, also where children ran at the
same time: a box is as wide as the own time of everything below it and its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .waterfall import Waterfall

_LEAST = 0.002
"""Of the whole: narrower boxes are not drawn."""


@dataclass(slots=True)
class Operation:
    """Spans of one name in one service; ns."""

    service: str
    name: str
    spans: int = 0
    errors: int = 0
    own: int = 0
    whole: int = 0


@dataclass(slots=True)
class Box:
    """The spans of one call path; `x` and `width` in percent of the whole."""

    service: str
    name: str
    depth: int
    own: int = 0
    whole: int = 0
    spans: int = 0
    errors: int = 0
    x: float = 0.0
    width: float = 0.0
    below: dict[tuple[str, str], Box] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Flame:
    """Boxes from the top down, and the operations, most own time first; `own` is all there is."""

    boxes: Sequence[Box]
    operations: Sequence[Operation]
    own: int
    depth: int


def burn(wholes: Iterable[Waterfall]) -> Flame:
    """Add up traces."""
    top = Box("", "", -1)
    operations: dict[tuple[str, str], Operation] = {}
    in_order: list[Box] = []
    above: dict[int, Box] = {}
    for whole in wholes:
        path: list[Box] = [top]
        for row in whole.rows:
            span = row.span
            key = span.service, span.name
            del path[row.depth + 1 :]
            box = path[-1].below.get(key)
            if box is None:
                box = path[-1].below[key] = Box(*key, depth=row.depth)
                above[id(box)] = path[-1]
                in_order.append(box)
            path.append(box)
            operation = operations.get(key)
            if operation is None:
                operation = operations[key] = Operation(*key)
            for one in (box, operation):
                one.own += row.own
                one.spans += 1
                one.errors += span.failed
            operation.whole += max(span.duration, 0)
            box.whole += row.own
    # Deepest first, so that each has all of its own when it is added to what is above it.
    for box in sorted(in_order, key=lambda box: box.depth, reverse=True):
        above[id(box)].whole += box.whole
    drawn = _place(top)
    return Flame(
        drawn,
        sorted(operations.values(), key=lambda operation: operation.own, reverse=True),
        top.whole,
        max((box.depth for box in drawn), default=-1) + 1,
    )


def _place(top: Box) -> list[Box]:
    scale = 100 / max(top.whole, 1)
    drawn = []
    pending = [(top, 0.0)]
    while pending:
        box, x = pending.pop()
        for below in sorted(box.below.values(), key=lambda one: one.whole, reverse=True):
            below.x, below.width = x, below.whole * scale
            if below.width < 100 * _LEAST:
                break
            drawn.append(below)
            pending.append((below, x))
            x += below.width
    return drawn
