"""A tree of calls as text, Mermaid and JSON. Pure, no I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from math import isfinite
from typing import Any

from .call import KINDS, Call, printable, status_of

_MAX_LEVELS = 100
_ID = {"trace_id": re.compile("[0-9a-f]{32}"), "span_id": re.compile("[0-9a-f]{16}")}
_ID["parent_span_id"] = _ID["span_id"]
_SCALARS = [field.name for field in fields(Call) if field.name not in {"children", "kind"}]
_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "service": (str,),
    "status": (str,),
    "trace_id": (str, type(None)),
    "span_id": (str, type(None)),
    "parent_span_id": (str, type(None)),
    "milliseconds": (int, float, type(None)),
    "start": (int, float, type(None)),
    "began": (int, type(None)),
    "more": (int,),
    "via": (bool,),
}


def to_text(roots: Sequence[Call], more: int = 0) -> str:
    """The calls as a tree, one a line, those of one trace together.

    :param more: calls left out.
    """
    lines: list[str] = []
    for trace_id in dict.fromkeys(root.trace_id for root in roots):
        lines.append(f"trace {trace_id or '(unknown)'}")
        children = [root for root in roots if root.trace_id == trace_id]
        lines += _branches(children, 0, trace_id)
    if more:
        lines.append(_left_out(more))
    return "\n".join(lines)


def _branches(calls: Sequence[Call], more: int, trace_id: str | None) -> Iterator[str]:
    # (what goes before the line, what goes before the lines below it, call or count)
    waiting: list[tuple[str, str, Call | int]] = []

    def add(calls: Sequence[Call], more: int, before: str) -> None:
        items: list[Call | int] = [*calls, *([more] if more else [])]
        last = len(items) - 1
        waiting.extend(
            (before + "└─ ", before + "   ", item)
            if at == last
            else (before + "├─ ", before + "│  ", item)
            for at, item in reversed(list(enumerate(items)))
        )

    add(calls, more, "")
    while waiting:
        first, below, item = waiting.pop()
        if isinstance(item, int):
            yield first + _left_out(item)
        else:
            yield first + _line(item, trace_id)
            add(item.children, item.more, below)


def _line(call: Call, trace_id: str | None) -> str:
    parts = [call.service, call.name, call.status, _duration(call)]
    if call.failed:
        parts.append("✗")
    if call.span_id:
        parts.append(f"[{call.span_id}]")
    if call.via:
        parts.append("(through calls not shown)")
    if call.trace_id != trace_id:
        parts.append(f"(in another trace: {call.trace_id})")
    return "  ".join(filter(None, parts))


def _duration(call: Call) -> str:
    return "" if call.milliseconds is None else f"{call.milliseconds:.1f} ms"


def _left_out(more: int) -> str:
    return f"… {more} more {'call' if more == 1 else 'calls'} not shown"


def to_mermaid(roots: Sequence[Call], more: int = 0) -> str:
    """The calls as a Mermaid flowchart; errors are drawn red.

    :param more: calls left out.
    """
    lines = ["flowchart TD"]
    edges: list[str] = []
    failed: list[str] = []
    names: dict[Call, str] = {}

    def node(label: str, parent: Call | None) -> str:
        name = f"n{len(names) + len(extra)}"
        lines.append(f'    {name}["{label}"]')
        if parent is not None:
            edges.append(f"    {names[parent]} --> {name}")
        return name

    extra: list[str] = []
    for root in roots:
        parents = {child: call for call in root.walk() for child in call.children}
        for call in root.walk():
            about = " ".join(filter(None, [call.status, _duration(call)]))
            label = "<br>".join(map(_escape, filter(None, [call.service, call.name, about]))) or "?"
            names[call] = node(label, parents.get(call))
            if call.failed:
                failed.append(names[call])
            if call.more:
                extra.append(node(_escape(_left_out(call.more)), call))
    if more:
        extra.append(node(_escape(_left_out(more)), None))
    lines += edges
    if failed:
        lines += ["    classDef failed stroke:#c00,stroke-width:2px"]
        lines += [f"    class {','.join(failed)} failed"]
    return "\n".join(lines)


def _escape(text: str) -> str:
    # Everything that Mermaid, Markdown or HTML could take for their own, as Mermaid's entities.
    return "".join(c if c.isalnum() or c in " .-" else f"#{ord(c)};" for c in printable(text))


def to_json(roots: Sequence[Call], more: int = 0) -> str:
    """The calls as JSON that `from_json` reads.

    :param more: calls left out.
    """
    return json.dumps({"calls": [_to_object(root) for root in roots], "more": more})


def _to_object(call: Call) -> dict[str, Any]:
    made: dict[Call, dict[str, Any]] = {}
    for each in reversed(list(call.walk())):
        values: dict[str, Any] = {"kind": each.kind}
        values |= {name: getattr(each, name) for name in _SCALARS}
        values["children"] = [made.pop(child) for child in each.children]
        made[each] = values
    return made[call]


def from_json(text: str | bytes) -> tuple[list[Call], int]:
    """The calls, and how many more were left out.

    :raises ValueError: `text` is not what `to_json` writes.
    """
    try:
        loaded = json.loads(text)
        more = loaded["more"]
        calls = [_from_object(value, _MAX_LEVELS) for value in _list(loaded["calls"])]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"this is no call tree: {error}") from error
    if type(more) is not int:
        raise ValueError(f"this is no call tree: more is {more!r}")
    return calls, more


def _from_object(values: Any, levels: int) -> Call:
    if not levels:
        raise ValueError(f"more than {_MAX_LEVELS} levels")
    given = {name: values[name] for name in _SCALARS}
    for name, value in given.items():
        if type(value) not in _TYPES[name]:
            raise TypeError(f"{name} is {value!r}")
        if isinstance(value, float) and not isfinite(value):
            raise ValueError(f"{name} is {value!r}")
        if isinstance(value, int) and abs(value) >> 64:
            raise ValueError(f"{name} has {value.bit_length()} bits")
        if name in _ID and value is not None and _ID[name].fullmatch(value) is None:
            raise ValueError(f"{name} is {value!r}")
    if values["kind"] not in KINDS.values():
        raise ValueError(f"kind is {values['kind']!r}")
    for name in ("name", "service"):
        given[name] = printable(given[name])
    given["status"] = status_of(given["status"])
    children = [_from_object(child, levels - 1) for child in _list(values["children"])]
    return Call(kind=values["kind"], children=children, **given)


def _list(value: Any) -> Iterable[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return value
