"""Who calls whom, counted from spans."""

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
    path: str = ""
    """As SVG has it."""
    label: tuple[int, int] = (0, 0)

    @property
    def calls(self) -> int:
        """How many."""
        return len(self.durations)

    @property
    def median(self) -> int:
        """Of the durations, in ns."""
        return int(median(self.durations))


@dataclass(slots=True)
class Calls:
    """The graph; `left_out` counts nodes that are too many to draw."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: Sequence[Edge] = ()
    left_out: int = 0


def count_calls(spans: Sequence[Span]) -> Calls:
    """Count the calls between services, and to what they call that makes no spans itself."""
    nodes: dict[str, Node] = {}
    edges: dict[tuple[str, str], Edge] = {}
    by_id = {(span.trace_id, span.span_id): span for span in spans}
    answered: set[tuple[str, str]] = set()

    def called(source: str, target: str, span: Span, *, failed: bool) -> None:
        edge = edges.setdefault((source, target), Edge(source, target))
        edge.durations.append(max(span.duration, 0))
        edge.errors += failed

    for span in spans:
        node = nodes.setdefault(span.service, Node(span.service, peer=False))
        node.spans += 1
        node.errors += span.failed
        parent = by_id.get((span.trace_id, span.parent_id or ""))
        if parent is not None and parent.service != span.service:
            answered.add((parent.trace_id, parent.span_id))
            timed = parent if parent.kind == _CLIENT else span
            called(parent.service, span.service, timed, failed=span.failed or timed.failed)
    for span in spans:
        if span.kind not in {_CLIENT, _PRODUCER} or (span.trace_id, span.span_id) in answered:
            continue
        peer = _peer_of(span)
        if peer:
            node = nodes.setdefault(peer, Node(peer, peer=True))
            node.spans += node.peer
            called(span.service, peer, span, failed=span.failed)
    for span in spans:
        peer = _peer_of(span) if span.kind == _CONSUMER else ""
        if peer in nodes:
            called(peer, span.service, span, failed=span.failed)
    most = sorted(nodes.values(), key=lambda node: node.spans, reverse=True)[:_MAX_NODES]
    kept = {node.name: node for node in most}
    found = [edge for edge in edges.values() if edge.source in kept and edge.target in kept]
    return Calls(kept, found, len(nodes) - len(kept))


def _peer_of(span: Span) -> str:
    """What a client span's other end is called; empty if it does not say."""
    for first, second, join in _PEERS:
        name, detail = _any_of(span, first), _any_of(span, second)
        if name:
            return f"{name}{join}{detail}" if detail else name
    return ""


def _any_of(span: Span, names: Sequence[str]) -> str:
    return next((display.text(span.attributes[n]) for n in names if span.attributes.get(n)), "")
