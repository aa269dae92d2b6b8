"""Building a tree of what a response relays; it may say anything. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from flask_bodytrace.trace.headers import Header, parse

from .call import MAX_MORE, Call
from .wire import read_calls

MAX_DEPTH = 32
"""Levels taken from one response."""


def answer(
    call: Call,
    headers: list[Header],
    status: int | None,
    sent: int = 0,
    taken: Collection[str] = (),
) -> None:
    """Complete `call` by its response, and put the span that answered below it.

    :param headers: the response's, untrusted.
    :param sent: the span id that the request named as parent; 0 if that is unknown.
    :param taken: span ids that nothing below may have.
    """
    call.status = "" if status is None else str(status)
    reference = parse(headers)
    if reference is None:
        return
    parent = f"{sent:016x}" if sent else None
    if reference.span_id is not None and reference.span_id == parent:
        # Our own headers, sent back.
        return
    calls, more = read_calls(headers)
    server = Call(
        call.name,
        kind="server",
        status=call.status,
        trace_id=reference.trace_id,
        span_id=reference.span_id or (calls[0].span_id if calls else None),
        more=more,
    )
    rebuild(server, calls, {*taken, parent} if parent else taken)
    server.parent_span_id = parent or reference.parent_span_id
    server.via = parent is not None and reference.parent_span_id not in {None, parent}
    call.children.append(server)


def rebuild(root: Call, calls: Iterable[Call], taken: Collection[str | None] = ()) -> None:
    """Put `calls` below `root`, which one of them may describe; each is used once.

    Only `root` and `calls` become parents. What names another parent, or is its own ancestor, goes
    directly below `root`.

    :param taken: span ids that no call may have.
    """
    known: dict[str | None, Call] = {root.span_id: root}
    others: list[Call] = []
    described = False
    for call in calls:
        if call.span_id is None:
            others.append(call)
        elif call.span_id == root.span_id:
            if not described:
                _describe(root, call)
                described = True
        elif call.span_id not in known and call.span_id not in taken:
            known[call.span_id] = call
            others.append(call)
    below: dict[Call, list[Call]] = {}
    lost: list[Call] = []
    for call in others:
        parent = None if call.parent_span_id is None else known.get(call.parent_span_id)
        if parent is None:
            lost.append(call)
        else:
            below.setdefault(parent, []).append(call)
    placed = {root}
    _place(root, below, placed)
    # First the calls whose parent is unknown, with their subtrees. Only cycles are left after that.
    for call in [*lost, *others]:
        if call not in placed:
            call.via = True
            placed.add(call)
            adopt(root, call)
            _place(call, below, placed, depth=1)


def adopt(parent: Call, child: Call) -> None:
    """Make `child` one of `parent`'s, in the order in which they started."""
    child.parent_span_id = parent.span_id
    child.trace_id = parent.trace_id
    parent.children.append(child)
    parent.children.sort(key=lambda call: float("inf") if call.start is None else call.start)


def _place(root: Call, below: dict[Call, list[Call]], placed: set[Call], depth: int = 0) -> None:
    waiting = [(root, depth)]
    while waiting:
        parent, depth = waiting.pop()
        for call in below.get(parent, ()):
            if call in placed:
                continue
            placed.add(call)
            if depth < MAX_DEPTH:
                adopt(parent, call)
                waiting.append((call, depth + 1))
            else:
                parent.more = min(parent.more + 1 + call.more, MAX_MORE)
                # Handled by the next rounds of this loop.
                below[parent].extend(below.pop(call, ()))


def _describe(root: Call, call: Call) -> None:
    root.name, root.service, root.kind = call.name, call.service, call.kind
    root.status, root.milliseconds = call.status, call.milliseconds
    root.more = min(root.more + call.more, MAX_MORE)
