"""Who calls whom, as boxes and arrows: counted from spans, laid out in layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from . import display
from .model import Span

_CLIENT, _PRODUCER, _CONSUMER = 3, 4, 5
_MAX_NODES = 80
# By the present semantic conventions, and the former ones.
_PEERS = (
    (("db.system.name", "db.system"), ("db.namespace", "db.name"), " "),
    (("messaging.system",), ("messaging.destination.name",), " "),
    (("server.address", "net.peer.name"), ("server.port", "net.peer.port"), ":"),
)

BOX_WIDTH = 190
BOX_HEIGHT = 62
_GAP_X = 120
_GAP_Y = 34
_MARGIN = 24


@dataclass(slots=True)
class Node:
    """A service, or something that services call and that makes no spans itself.

    :param peer: a database, a broker or an unknown server, known from its clients' spans only.
    """

    name: str
    peer: bool
    spans: int = 0
    errors: int = 0
    x: int = 0
    y: int = 0


@dataclass(slots=True)
class Edge:
    """Calls from one node to another; durations in ns, as the caller or else the callee saw."""

    source: str
    target: str
    durations: list[int] = field(default_factory=list)
    errors: int = 0

    @property
    def calls(self) -> int:
        """How many."""
        return len(self.durations)

    @property
    def median(self) -> int:
        """Of the durations, in ns."""
        return int(median(self.durations))


@dataclass(frozen=True, slots=True)
class ServiceMap:
    """Laid out: coordinates in pixels, of the boxes' top left corners."""

    nodes: dict[str, Node]
    edges: Sequence[Edge]
    width: int
    height: int
    left_out: int


def service_map(spans: Sequence[Span]) -> ServiceMap:
    """Count the calls between services and lay them out, callers to the left."""
    nodes: dict[str, Node] = {}
    edges: dict[tuple[str, str], Edge] = {}
    by_id = {(span.trace_id, span.span_id): span for span in spans}
    answered: set[tuple[str, str]] = set()

    def called(source: str, target: str, span: Span) -> None:
        edge = edges.setdefault((source, target), Edge(source, target))
        edge.durations.append(max(span.duration, 0))
        edge.errors += span.failed

    for span in spans:
        node = nodes.setdefault(span.service, Node(span.service, peer=False))
        node.spans += 1
        node.errors += span.failed
        if span.parent_id is None:
            continue
        parent = by_id.get((span.trace_id, span.parent_id))
        if parent is None or parent.service == span.service:
            continue
        answered.add((parent.trace_id, parent.span_id))
        called(parent.service, span.service, parent if parent.kind == _CLIENT else span)
    for span in spans:
        if span.kind in {_CLIENT, _PRODUCER} and (span.trace_id, span.span_id) not in answered:
            peer = _peer_of(span)
            if peer and peer not in nodes:
                nodes[peer] = Node(peer, peer=True)
            if peer and nodes[peer].peer:
                nodes[peer].spans += 1
                called(span.service, peer, span)
        elif span.kind == _CONSUMER and (peer := _peer_of(span)) in nodes and nodes[peer].peer:
            called(peer, span.service, span)
    kept = dict(sorted(nodes.items(), key=lambda item: item[1].spans, reverse=True)[:_MAX_NODES])
    found = [edge for (source, target), edge in edges.items() if source in kept and target in kept]
    width, height = _lay_out(kept, found)
    return ServiceMap(kept, found, width, height, len(nodes) - len(kept))


def _peer_of(span: Span) -> str:
    """What a client span's other end is called; empty if it does not say."""
    for first, second, join in _PEERS:
        name, detail = _any_of(span, first), _any_of(span, second)
        if name:
            return f"{name}{join}{detail}" if detail else name
    return ""


def _any_of(span: Span, names: Sequence[str]) -> str:
    return next((display.text(span.attributes[n]) for n in names if span.attributes.get(n)), "")


def _lay_out(nodes: dict[str, Node], edges: Sequence[Edge]) -> tuple[int, int]:
    layers: dict[int, list[str]] = {}
    for name, layer in _layers(nodes, edges).items():
        layers.setdefault(layer, []).append(name)
    tallest = max(map(len, layers.values()), default=0)
    callers: dict[str, list[str]] = {}
    for edge in edges:
        callers.setdefault(edge.target, []).append(edge.source)
    for layer, names in sorted(layers.items()):
        # Near the middle of what calls it: fewer arrows cross.
        heights = {
            name: [nodes[caller].y for caller in callers.get(name, ()) if nodes[caller].y]
            for name in names
        }
        names.sort(key=lambda name: (sum(heights[name]) / (len(heights[name]) or 1), name))
        top = _MARGIN + (tallest - len(names)) * (BOX_HEIGHT + _GAP_Y) // 2
        for position, name in enumerate(names):
            nodes[name].x = _MARGIN + layer * (BOX_WIDTH + _GAP_X)
            nodes[name].y = top + position * (BOX_HEIGHT + _GAP_Y)
    width = 2 * _MARGIN + len(layers) * BOX_WIDTH + max(len(layers) - 1, 0) * _GAP_X
    height = 2 * _MARGIN + tallest * BOX_HEIGHT + max(tallest - 1, 0) * _GAP_Y
    return width, height


def _layers(  # noqa: C901 - one walk through the graph, which nothing is gained by cutting
    nodes: dict[str, Node], edges: Sequence[Edge]
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
