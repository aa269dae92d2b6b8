"""Who calls whom, counted from spans."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from . import display
from .model import ANSWERING, Span

_CLIENT, _CONSUMER = 3, 5
_ASKING = frozenset({3, 4})
_MAX_NODES = 80
# By the present semantic conventions, and the former ones.
_PEERS = (
    (("db.system.name", "db.system"), ("db.namespace", "db.name"), " "),
    (("messaging.system",), ("messaging.destination.name",), " "),
    (("server.address", "net.peer.name"), ("server.port", "net.peer.port"), ":"),
)


@dataclass(slots=True)
class Node:
    """A service, or something that services call and that makes no spans itself.

    :param peer: a database, a broker or an unknown server, known from its clients' spans only.
    :param system: of a database, what it runs on.
    :param durations: in ns, of what it was asked: server and consumer spans, or its clients'.
    """

    name: str
    peer: bool
    spans: int = 0
    errors: int = 0
    system: str = ""
    folded: set[str] = field(default_factory=set)
    """Of several databases of one system that are one box, the names."""
    durations: list[int] = field(default_factory=list)
    x: int = 0
    y: int = 0

    @property
    def p95(self) -> int:
        """In ns; 0 where nothing was asked."""
        return _p95(self.durations)


@dataclass(slots=True)
class Edge:
    """Calls from one node to another; durations in ns, as the caller or else the callee saw."""

    source: str
    target: str
    durations: list[int] = field(default_factory=list)
    errors: int = 0
    path: str = ""
    """As SVG has it."""
    label: tuple[int, int] = (0, 0)

    @property
    def calls(self) -> int:
        """How many."""
        return len(self.durations)

    @property
    def p95(self) -> int:
        """Of the durations, in ns."""
        return _p95(self.durations)


def _p95(durations: list[int]) -> int:
    found = sorted(durations)
    return found[math.ceil(len(found) * 0.95) - 1] if found else 0


@dataclass(slots=True)
class Calls:
    """The graph; `left_out` counts nodes that are too many to draw."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: Sequence[Edge] = ()
    left_out: int = 0


def count_calls(spans: Sequence[Span], opened: AbstractSet[str] = frozenset()) -> Calls:
    """Count the calls between services, and to what they call that makes no spans itself.

    :param opened: systems of which each database is a box of its own; of others they are one box.
    """
    counted = _Counted()
    traces: dict[str, list[Span]] = {}
    for span in spans:
        traces.setdefault(span.trace_id, []).append(span)
    for members in traces.values():
        counted.trace(members)
    for span in counted.consumers:
        peer, _ = _peer_of(span)
        if peer in counted.nodes:
            counted.call(peer, span.service, span, failed=span.failed)
    if folds := counted.folds(opened):
        counted.fold(folds)
    nodes = counted.nodes
    most = sorted(nodes.values(), key=lambda node: node.spans, reverse=True)[:_MAX_NODES]
    kept = {node.name: node for node in most}
    found = [edge for edge in counted.edges.values() if edge.source in kept and edge.target in kept]
    return Calls(kept, found, len(nodes) - len(kept))


class _Counted:
    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: dict[tuple[str, str], Edge] = {}
        self.consumers: list[Span] = []

    def call(self, source: str, target: str, span: Span, *, failed: bool) -> None:
        edge = self.edges.setdefault((source, target), Edge(source, target))
        edge.durations.append(max(span.duration, 0))
        edge.errors += failed

    def service(self, name: str) -> Node:
        node = self.nodes.get(name)
        if node is None:
            node = self.nodes[name] = Node(name, peer=False)
        return node

    def trace(self, spans: Sequence[Span]) -> None:
        by_id = {span.span_id: span for span in spans}
        answered: set[str] = set()
        asking: list[Span] = []
        for span in spans:
            node = self.service(span.service)
            node.spans += 1
            node.errors += span.failed
            kind = span.kind
            if kind in ANSWERING:
                node.durations.append(max(span.end - span.start, 0))
                if kind == _CONSUMER:
                    self.consumers.append(span)
            elif kind in _ASKING:
                asking.append(span)
            parent = by_id.get(span.parent_id) if span.parent_id else None
            if parent is not None and parent.service != span.service:
                answered.add(parent.span_id)
                timed = parent if parent.kind == _CLIENT else span
                self.call(parent.service, span.service, timed, failed=span.failed or timed.failed)
        for span in asking:
            if span.span_id not in answered:
                self.ask(span)

    def ask(self, span: Span) -> None:
        """One that nobody here answered."""
        peer, system = _peer_of(span)
        if not peer:
            return
        node = self.nodes.setdefault(peer, Node(peer, peer=True, system=system))
        if node.peer:
            node.spans += 1
            node.errors += span.failed
            node.durations.append(max(span.duration, 0))
        self.call(span.service, peer, span, failed=span.failed)

    def folds(self, opened: AbstractSet[str]) -> dict[str, str]:
        """Which node goes into which: where a system has several databases, and is not opened."""
        systems: dict[str, list[str]] = {}
        for node in self.nodes.values():
            if node.system:
                systems.setdefault(node.system, []).append(node.name)
        return {
            name: system
            for system, names in systems.items()
            # A service may be called like it.
            if len(names) > 1 and system not in opened and system not in self.nodes.keys() - names
            for name in names
        }

    def fold(self, folds: Mapping[str, str]) -> None:
        parts = {name: self.nodes.pop(name) for name in folds}
        for name, system in folds.items():
            part = parts[name]
            whole = self.nodes.setdefault(system, Node(system, peer=True, system=system))
            whole.folded.add(name)
            whole.spans += part.spans
            whole.errors += part.errors
            whole.durations += part.durations
        edges = list(self.edges.values())
        self.edges.clear()
        for edge in edges:
            source, target = (
                folds.get(edge.source, edge.source),
                folds.get(edge.target, edge.target),
            )
            whole_edge = self.edges.setdefault((source, target), Edge(source, target))
            whole_edge.durations += edge.durations
            whole_edge.errors += edge.errors


def _peer_of(span: Span) -> tuple[str, str]:
    """What a client span's other end is called, empty if it does not say; and its system, if it
    is a database.
    """  # noqa: D205 - one sentence
    for number, (first, second, join) in enumerate(_PEERS):
        name, detail = _any_of(span, first), _any_of(span, second)
        if name:
            return f"{name}{join}{detail}" if detail else name, "" if number else name
    return "", ""


def _any_of(span: Span, names: Sequence[str]) -> str:
    return next((display.text(span.attributes[n]) for n in names if span.attributes.get(n)), "")
