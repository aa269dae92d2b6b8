"""The service map as boxes and arrows, in layers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .servicemap import Edge, Node

BOX_WIDTH = 190
BOX_HEIGHT = 62
_GAP_X = 140
_GAP_Y = 34
_MARGIN = 24
_ASIDE = 66
"""Left and right of all boxes: arrows that go back pass there."""
_LANE = 36
_LABEL = 36


def lay_out(nodes: Mapping[str, Node], edges: Sequence[Edge]) -> tuple[int, int]:
    """Place boxes and draw arrows, callers to the left; gives width and height in pixels.

    An arrow past a layer gets a lane of its own there, one that goes back a lane below all boxes:
    so none runs behind a box.
    """
    layers, ways, has_back = _slots(nodes, edges)
    aside = _ASIDE if has_back else _MARGIN
    height = _stack(layers, aside)
    back = 0
    for edge, way in ways:
        source, target = nodes[edge.source], nodes[edge.target]
        if target.x <= source.x:
            _draw_back(edge, source, target, height - _MARGIN + _LANE * (back + 1), back)
            back += 1
            continue
        bends = [(slot.x, slot.y + slot.height // 2) for slot in way[1:-1]]
        _draw(edge, source, target, bends)
    _part_labels(edges)
    height += _LANE * back + (_MARGIN if back else 0)
    width = 2 * aside + len(layers) * (BOX_WIDTH + _GAP_X) - _GAP_X
    return max(width, 0), height


def _slots(
    nodes: Mapping[str, Node], edges: Sequence[Edge]
) -> tuple[list[list[_Slot]], list[tuple[Edge, list[_Slot]]], bool]:
    """What each layer holds, the way of each edge through the layers, and whether any goes back."""
    layer_of = _layers(nodes, edges)
    layers: list[list[_Slot]] = [[] for _ in range(max(layer_of.values(), default=-1) + 1)]
    slots = {name: _Slot(node=nodes[name]) for name in nodes}
    for name, layer in layer_of.items():
        layers[layer].append(slots[name])
    ways: list[tuple[Edge, list[_Slot]]] = []
    for edge in edges:
        way = [slots[edge.source]]
        for layer in range(layer_of[edge.source] + 1, layer_of[edge.target]):
            way.append(_Slot())
            layers[layer].append(way[-1])
        way.append(slots[edge.target])
        for before, after in itertools.pairwise(way):
            after.callers.append(before)
        ways.append((edge, way))
    has_back = any(layer_of[edge.target] <= layer_of[edge.source] for edge in edges)
    return layers, ways, has_back


def _stack(layers: Sequence[list[_Slot]], x: int) -> int:
    """Place what is in the layers, from `x` to the right; gives the height of it all."""
    heights = [sum(slot.height for slot in layer) + _GAP_Y * (len(layer) - 1) for layer in layers]
    tallest = max(heights, default=0)
    for layer, height in zip(layers, heights, strict=True):
        # Near the middle of what calls it: fewer arrows cross.
        layer.sort(key=lambda slot: (slot.pull, slot.node.name if slot.node else ""))
        y = _MARGIN + (tallest - height) // 2
        for slot in layer:
            slot.x, slot.y = x, y
            if slot.node is not None:
                slot.node.x, slot.node.y = x, y
            y += slot.height + _GAP_Y
        x += BOX_WIDTH + _GAP_X
    return 2 * _MARGIN + tallest


@dataclass(slots=True, eq=False)
class _Slot:
    """A place in a layer: of a node, or of an arrow that goes past."""

    node: Node | None = None
    callers: list[_Slot] = field(default_factory=list)
    x: int = 0
    y: int = 0

    @property
    def height(self) -> int:
        return 20 if self.node is None else BOX_HEIGHT

    @property
    def pull(self) -> float:
        placed = [slot.y + slot.height / 2 for slot in self.callers if slot.y]
        return sum(placed) / len(placed) if placed else 0.0


def _layers(  # noqa: C901 - one walk through the graph, which nothing is gained by cutting
    nodes: Mapping[str, Node], edges: Sequence[Edge]
) -> dict[str, int]:
    """The longest way from a node nobody calls; an edge that closes a cycle does not count."""
    targets: dict[str, list[str]] = {name: [] for name in nodes}
    for edge in edges:
        if edge.source != edge.target:
            targets[edge.source].append(edge.target)
    called = {target for found in targets.values() for target in found}
    order: list[str] = []
    state: dict[str, int] = {}
    back: set[tuple[str, str]] = set()
    for root in [*(name for name in nodes if name not in called), *nodes]:
        stack = [(root, iter(targets[root]))] if root not in state else []
        state.setdefault(root, 1)
        while stack:
            name, rest = stack[-1]
            target = next(rest, None)
            if target is None:
                state[name] = 2
                order.append(name)
                stack.pop()
            elif target not in state:
                state[target] = 1
                stack.append((target, iter(targets[target])))
            elif state[target] == 1:
                back.add((name, target))
    layers = dict.fromkeys(nodes, 0)
    for name in reversed(order):
        for target in targets[name]:
            if (name, target) not in back:
                layers[target] = max(layers[target], layers[name] + 1)
    # No empty layers.
    used = {layer: position for position, layer in enumerate(sorted(set(layers.values())))}
    return {name: used[layer] for name, layer in layers.items()}


def _draw(edge: Edge, source: Node, target: Node, bends: Sequence[tuple[int, int]]) -> None:
    """The arrow's path, from the right of its source to the left of its target."""
    x, y = source.x + BOX_WIDTH, source.y + BOX_HEIGHT // 2
    path = f"M{x} {y}"
    lanes = [*bends, (target.x - 3, target.y + BOX_HEIGHT // 2)]
    for index, (to_x, to_y) in enumerate(lanes):
        half = (to_x - x) // 2
        path += f"C{x + half} {y} {to_x - half} {to_y} {to_x} {to_y}"
        if index == 0:
            # Written on its lane, where nothing else is; without one, half way.
            edge.label = (to_x + BOX_WIDTH // 2, to_y) if bends else (x + half, (y + to_y) // 2)
        x, y = to_x, to_y
        if index < len(lanes) - 1:
            x += BOX_WIDTH
            path += f"H{x}"
    edge.path = path


def _draw_back(edge: Edge, source: Node, target: Node, lane: int, number: int) -> None:
    """The path of an arrow that goes back or stays in its layer: in the gaps, and in its lane."""
    aside = 14 + number % 6 * 8
    right, left = source.x + BOX_WIDTH + aside, target.x - aside
    y1, y2 = source.y + BOX_HEIGHT - 10, target.y + BOX_HEIGHT - 10
    edge.path = (
        f"M{source.x + BOX_WIDTH} {y1}H{right - 6}q6 0 6 6V{lane - 6}q0 6 -6 6"
        f"H{left + 6}q-6 0 -6 -6V{y2 + 6}q0 -6 6 -6H{target.x - 3}"
    )
    edge.label = ((left + right) // 2, lane)


def _part_labels(edges: Sequence[Edge]) -> None:
    """Push labels that would be written over one another down."""
    columns: dict[int, list[Edge]] = {}
    for edge in edges:
        columns.setdefault(edge.label[0], []).append(edge)
    for x, column in columns.items():
        free = 0
        for edge in sorted(column, key=lambda edge: edge.label[1]):
            y = max(edge.label[1], free)
            edge.label = (x, y)
            free = y + (_LABEL if edge.errors else _LABEL // 2 + 2)
