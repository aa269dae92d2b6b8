"""How services pass calls on to their caller, in Server-Timing. Pure, no I/O.

A service that relays writes one Server-Timing metric for each span of its subtree, itself first::

    call;dur=12.3;start=0.4;desc="b7ad6b7169203331 00f067aa0ba902b7 S200 payments POST /charge"

`desc` is the span's id, its parent's, a letter for the kind with the status, the service and the
name, percent-encoded where they hold more than plain ASCII; `start` is milliseconds after the
parent's start, as the process measured it that knows both, so that clocks need not agree.
``more=3`` says that three calls below this one are left out, ``via`` that spans between this one
and its parent are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import quote, unquote

from flask_bodytrace.trace.headers import Header, timings

from .call import KINDS, MAX_MORE, MAX_NAME, Call, printable

METRIC = "call"
MAX_CALLS = 256
"""Calls taken from one response."""

_LETTERS = {kind: letter for letter, kind in KINDS.items()}
_MAX_SERVICE = 64
_MORE_SIZE = len(f";more={MAX_MORE}")
_READ_LIMIT = 16384
_NOT_PLAIN = re.compile(r"[^ !#$&-+\--:<-\[\]-~]")
_DESC = re.compile(
    r"([0-9a-f]{16}|-) ([0-9a-f]{16}|-) ([SCIPM])([A-Za-z0-9_.]{0,64}) "
    r"([!-~]{1,512}) ([ -~]{0,1024})"
)
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
_NO_ID = "0" * 16


def read_calls(headers: Iterable[Header]) -> tuple[list[Call], int]:
    """The calls a response relays, without their children, and how many more there are.

    What is malformed is left out.

    :param headers: (name, value) pairs, untrusted.
    """
    text = ", ".join(value for name, value in headers if name.lower() == "server-timing")
    calls: list[Call] = []
    more = text[_READ_LIMIT:].count(METRIC + ";")
    for metric, parameters in timings(text[:_READ_LIMIT]):
        if metric != METRIC:
            continue
        if "desc" not in parameters:
            more += _count(parameters)
        elif (call := _decode(parameters)) is not None:
            if len(calls) < MAX_CALLS:
                calls.append(call)
            else:
                more += 1 + call.more
    return calls, min(more, MAX_MORE)


def fit(root: Call, size: int) -> list[str]:
    """`root` and what is below it as Server-Timing metrics of at most `size` bytes.

    Where they do not all fit, whole calls are left out, and the ``more`` of the next one above
    says how many: first those that led to no other service, then the deepest.
    """
    calls = list(root.walk())
    entries = {call: _encode(call, call.more) for call in calls}
    if sum(map(len, entries.values())) + 2 * len(entries) <= size:
        return list(entries.values())
    parents = {child: call for call in calls for child in call.children}
    kept: dict[Call, int] = {}
    for call in _by_importance(calls, parents):
        cost = len(entries[call]) + _MORE_SIZE + 2
        if cost <= size and (call is root or parents[call] in kept):
            kept[call] = call.more
            size -= cost
    if root not in kept:
        rest = f"{METRIC};more={min(len(calls), MAX_MORE)}"
        return [rest] if len(rest) + 2 <= size else []
    for call in calls:
        if call not in kept:
            above = parents[call]
            while above not in kept:
                above = parents[above]
            kept[above] += 1 + call.more
    return [_encode(call, kept[call]) for call in calls if call in kept]


def _by_importance(calls: list[Call], parents: dict[Call, Call]) -> list[Call]:
    root = calls[0]
    depths = {root: 0}
    for call in calls[1:]:
        depths[call] = depths[parents[call]] + 1
    leads: set[Call] = set()
    for call in reversed(calls):
        if call.kind == "server" or call.span_id is None or call in leads:
            leads.add(call)
            if call is not root:
                leads.add(parents[call])
    return sorted(calls, key=lambda call: (call not in leads, depths[call]))


def _encode(call: Call, more: int) -> str:
    parameters = ""
    if call.milliseconds is not None:
        parameters += f";dur={_number(call.milliseconds)}"
    if call.start is not None:
        parameters += f";start={_number(call.start)}"
    if more:
        parameters += f";more={min(more, MAX_MORE)}"
    if call.via:
        parameters += ";via"
    desc = (
        f"{call.span_id or '-'} {call.parent_span_id or '-'} {_LETTERS[call.kind]}{call.status} "
        f"{_described(call.service, call.name)}"
    )
    return f'{METRIC}{parameters};desc="{desc}"'


def only(  # noqa: PLR0913, PLR0917 - what identifies a span
    span_id: str, parent: str | None, status: int, service: str, name: str, milliseconds: float
) -> str:
    """The metric of a server span with no calls below it, as `fit` would write it."""
    described = _described(service, name)
    ids = f"{span_id} {parent or '-'}"
    return f'{METRIC};dur={_number(milliseconds)};desc="{ids} S{status} {described}"'


# The names of services and routes are few.
@lru_cache(maxsize=512)
def _described(service: str, name: str) -> str:
    plain = _plain(service, _MAX_SERVICE).replace(" ", "%20") or "-"
    return f"{plain} {_plain(printable(name), MAX_NAME)}"


def _decode(parameters: Mapping[str, str]) -> Call | None:
    match = _DESC.fullmatch(parameters["desc"])
    if match is None or _NO_ID in match.groups():
        return None
    span_id, parent, letter, status, service, name = match.groups()
    return Call(
        name=printable(unquote(name)),
        service="" if service == "-" else printable(unquote(service), _MAX_SERVICE),
        kind=KINDS[letter],
        status=status,
        span_id=None if span_id == "-" else span_id,
        parent_span_id=None if parent == "-" else parent,
        milliseconds=_float(parameters.get("dur", "")),
        start=_float(parameters.get("start", "")),
        more=_count(parameters),
        via="via" in parameters,
    )


def _count(parameters: Mapping[str, str]) -> int:
    text = parameters.get("more", "")
    return int(text) if re.fullmatch("[0-9]{1,6}", text) else 0


def _float(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _number(milliseconds: float) -> str:
    return f"{max(milliseconds, 0):.1f}".removesuffix(".0")


def _plain(text: str, limit: int) -> str:
    """ASCII without quotes, commas, semicolons or percent signs, so that any parser survives."""
    if len(text) <= limit and _NOT_PLAIN.search(text) is None:
        return text
    result = ""
    for character in text:
        plain = character
        if _NOT_PLAIN.match(character):
            plain = quote(character, safe="", errors="replace")
        if len(result) + len(plain) > limit - 3:
            return result + "..."
        result += plain
    return result
