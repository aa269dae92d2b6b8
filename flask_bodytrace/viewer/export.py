"""A trace to take away, as a Mermaid diagram."""

from __future__ import annotations

import re
from collections.abc import Sequence

from . import display
from .model import Span
from .summary import http_status
from .waterfall import waterfall

_MAX_CALLS = 200
_PLAIN = re.compile(r"[^A-Za-z0-9 _./<>{}\-]")


def mermaid(spans: Sequence[Span]) -> str:
    """The calls between services, in order, as a sequence diagram; calls within one are notes."""
    rows = waterfall(spans).rows
    by_id = {span.span_id: span for span in spans}
    names: dict[str, str] = {}
    calls: list[str] = []
    # Each call's answer comes after what it called in turn.
    answers: list[tuple[int, str]] = []
    shown = [
        row
        for row in rows
        if (parent := by_id.get(row.span.parent_id or "")) is None
        or parent.service != row.span.service
    ]
    for row in shown[:_MAX_CALLS]:
        while answers and answers[-1][0] >= row.depth:
            calls.append(answers.pop()[1])
        span = row.span
        parent = by_id.get(span.parent_id or "")
        target = names.setdefault(span.service, f"s{len(names)}")
        source = names[parent.service] if parent and parent.service in names else "caller"
        status = http_status(span)
        answer = (
            f"{status or ('error' if span.failed else 'ok')} in {display.duration(span.duration)}"
        )
        calls.append(f"    {source}->>{target}: {_label(span.name)}")
        arrow = "x" if span.failed else ">>"
        answers.append((row.depth, f"    {target}--{arrow}{source}: {_label(answer)}"))
    calls += [line for _, line in reversed(answers)]
    lines = ["sequenceDiagram", "    participant caller"]
    lines += [f"    participant {short} as {_label(name)}" for name, short in names.items()]
    lines += calls
    if len(shown) > _MAX_CALLS:
        lines.append(f"    Note over caller: {len(shown) - _MAX_CALLS} more calls left out")
    return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    """Everything that means something to Mermaid or HTML as an entity code."""
    short = text if len(text) <= 80 else text[:79] + "…"
    escaped = _PLAIN.sub(lambda match: f"#{ord(match[0])};", short)
    return escaped.replace("<", "#lt;").replace(">", "#gt;") or "-"
