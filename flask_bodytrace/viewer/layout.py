"""The service map as boxes and arrows, in layers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .servicemap import Edge, Node

BOX_WIDTH = 190
BOX_HEIGHT = 62
_GAP_X = 130
_GAP_Y = 34
_MARGIN = 24


def lay_out(nodes: Mapping[str, Node], edges: Sequence[Edge]) -> tuple[int, int]:
    """Place boxes and draw arrows, callers to the left; gives width and height in pixels.

    An arrow past a layer gets a lane of its own there, so that none runs behind a box.
    """
    layers, ways = _slots(nodes, edges)
    height = _stack(layers)
    for edge, way in ways:
        bends = [(slot.x, slot.y + slot.height // 2) for slot in way[1:-1]]
        _draw(edge, nodes[edge.source], nodes[edge.target], bends)
    width = 2 * _MARGIN + len(layers) * (BOX_WIDTH + _GAP_X) - _GAP_X
    return max(width, 0), height


def _slots(
    nodes: Mapping[str, Node], edges: Sequence[Edge]
) -> tuple[list[list[_Slot]], list[tuple[Edge, list[_Slot]]]]:
    """What each layer holds, and the way of each edge through the layers."""
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
    return layers, ways


def _stack(layers: Sequence[list[_Slot]]) -> int:
    """Place what is in the layers; gives the height of it all."""
    heights = [sum(slot.height for slot in layer) + _GAP_Y * (len(layer) - 1) for layer in layers]
    tallest = max(heights, default=0)
    x = _MARGIN
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
    """The arrow's path; calls within a layer or backwards, in cycles, go below the boxes."""
    if target.x <= source.x:
        x1, x2 = source.x + BOX_WIDTH // 2, target.x + BOX_WIDTH // 2
        y1, y2 = source.y + BOX_HEIGHT, target.y + BOX_HEIGHT + 3
        low = max(y1, y2) + _GAP_Y - 6
        edge.path = f"M{x1} {y1}C{x1} {low} {x2} {low} {x2} {y2}"
        edge.label = ((x1 + x2) // 2, low - 8)
        return
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
