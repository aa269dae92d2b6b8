"""Two traces side by side: what is new, gone, slower.

Spans are matched by their path in the tree: service and name of each step, and which of several
siblings of that name. Nothing recurses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .waterfall import Row, Waterfall

_MATTERS = 0.2
"""Of the longer duration: a smaller difference is none."""
_LEAST = 10**6
"""ns, the same."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What stands at one place in either tree; one of both may be missing."""

    before: Row | None
    after: Row | None
    depth: int

    @property
    def row(self) -> Row:
        """One that is there."""
        found = self.after or self.before
        assert found is not None
        return found

    @property
    def change(self) -> int:
        """By how much longer it took, in ns; 0 for what is in one of them only."""
        if self.before is None or self.after is None:
            return 0
        return self.after.span.duration - self.before.span.duration

    @property
    def what(self) -> str:
        """``new``, ``gone``, ``slower``, ``faster`` or ``same``."""
        if self.before is None:
            return "new"
        if self.after is None:
            return "gone"
        longer = max(self.before.span.duration, self.after.span.duration)
        if abs(self.change) < max(_MATTERS * longer, _LEAST):
            return "same"
        return "slower" if self.change > 0 else "faster"

    @property
    def failed(self) -> bool:
        """Whether the later one is an error, and the earlier one was none."""
        was = self.before is not None and self.before.span.failed
        return self.after is not None and self.after.span.failed and not was


_Key = tuple[str, str, int]


def compare(before: Waterfall, after: Waterfall) -> list[Pair]:
    """Match the spans of two traces, in the order of the later one's tree."""
    first, second = _trees(before.rows), _trees(after.rows)
    pairs: list[Pair] = []
    pending: list[tuple[_Node | None, _Node | None, int]] = [(first, second, -1)]
    while pending:
        one, other, depth = pending.pop()
        rows = one.row if one else None, other.row if other else None
        if depth >= 0:
            pairs.append(Pair(*rows, depth))
        mine = one.below if one else {}
        theirs = other.below if other else {}
        pending += [
            (mine.get(key), theirs.get(key), depth + 1) for key in reversed(_merged(mine, theirs))
        ]
    return pairs


@dataclass(slots=True)
class _Node:
    row: Row | None
    below: dict[_Key, _Node]
    siblings: dict[tuple[str, str], int]
    """How many of each name are below."""


def _trees(rows: Sequence[Row]) -> _Node:
    top = _Node(None, {}, {})
    path = [top]
    # The root of either stands at the same place whatever it is called.
    for number, row in enumerate(rows):
        del path[row.depth + 1 :]
        above = path[-1]
        service, name = (row.span.service, row.span.name) if number else ("", "")
        count = above.siblings.get((service, name), 0)
        above.siblings[service, name] = count + 1
        node = above.below[service, name, count] = _Node(row, {}, {})
        path.append(node)
    return top


def _merged(mine: dict[_Key, _Node], theirs: dict[_Key, _Node]) -> list[_Key]:
    """Their order; what only we have comes after what it comes after with us."""
    follows: dict[_Key | None, list[_Key]] = {}
    last: _Key | None = None
    for key in mine:
        if key in theirs:
            last = key
        else:
            follows.setdefault(last, []).append(key)
    merged = list(follows.get(None, ()))
    for key in theirs:
        merged.append(key)
        merged += follows.get(key, ())
    return merged
