from __future__ import annotations

import re
from collections.abc import Callable

from flask_bodytrace.viewer import export
from flask_bodytrace.viewer.model import Span

NASTY = "a'; rm -rf / #\n\"$(id)`id`<script>%%end\x1b[2J\u202e"


def test_mermaid_shows_the_calls_between_services(make_span: Callable[..., Span]) -> None:
    spans = [
        make_span(0, 30, id=1, name="POST /orders", service="orders", kind=2),
        make_span(1, 2, id=2, parent=1, name="validate", service="orders"),
        make_span(5, 20, id=3, parent=1, name="POST /pay", service="pay", status=2),
    ]
    assert export.mermaid(spans).splitlines() == [
        "sequenceDiagram",
        "    participant caller",
        "    participant s0 as orders",
        "    participant s1 as pay",
        "    caller->>s0: POST /orders",
        "    s0->>s1: POST /pay",
        "    s1--xs0: error in 15 ms",
        "    s0-->>caller: ok in 30 ms",
    ]


def test_mermaid_takes_no_orders_from_names(make_span: Callable[..., Span]) -> None:
    text = export.mermaid([make_span(name=NASTY, service=f"x\nNote over a: {NASTY}")])
    assert len(text.splitlines()) == 5
    for line in text.splitlines()[1:]:
        label = re.split(r"caller: |s0: | as ", line)[-1]
        assert re.fullmatch(r"(?:[A-Za-z0-9 _./{}\-]|#(?:\d+|lt|gt);)+| +participant caller", label)
