"""A trace to take away: as a Mermaid diagram, and as the curl command that repeats its request."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from urllib.parse import quote

from flask_bodytrace.capture.redactor import REDACTED, Redactor

from . import display
from .model import Span
from .summary import http_status
from .waterfall import waterfall

_MAX_CALLS = 200
_PLAIN = re.compile(r"[^A-Za-z0-9 _./<>{}\-]")
_UNPRINTABLE = re.compile(r"[^!-~]+")
_METHOD = re.compile(r"[A-Z]{1,20}")
_HEADER = re.compile(r"[a-z0-9-]{1,100}")
_REQUEST_HEADER = "http.request.header."
_SURROGATE = re.compile("[\ud800-\udfff]")
_MULTIPART = "multipart/form-data"
_CONTENT = "http.request.body.content"
_TRUNCATED = "bodytrace.request.body.truncated"
_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization"})
# What curl sets itself, and what would make the repetition part of the first trace.
_NOT_REPEATED = frozenset(
    {"host", "content-length", "connection", "traceparent", "tracestate", "x-trace-id", "x-span-id"}
)


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


def curl(root: Span) -> str | None:
    """The command that repeats a request, as far as its span tells; None if it is no HTTP request.

    The body is there if it was captured, whole and as text; a comment says what is left to fill in.
    Nothing that a span says can become an option, another command or a file that curl reads.
    """
    found = root.attributes
    method = str(found.get("http.request.method") or found.get("http.method") or "")
    url = str(found.get("url.full") or found.get("http.url") or _url(root))
    url = _UNPRINTABLE.sub(lambda match: quote(match[0], errors="replace"), url)
    if not _METHOD.fullmatch(method) or not url.lower().startswith(("http://", "https://")):
        return None
    lines = [f"curl -i -g {'' if method == 'GET' else f'-X {method} '}{shlex.quote(url)}"]
    lines += _headers(root)
    body = _body(root)
    if body is not None:
        # Other than --data, it never takes an "@" in front for a file to read.
        lines.append(f"  --data-raw {shlex.quote(body)}")
    elif method in {"POST", "PUT", "PATCH"}:
        lines.append("  --data-binary @body")
    command = " \\\n".join(lines) + "\n"
    if body is None and method in {"POST", "PUT", "PATCH"}:
        command = "# The body is not on the span: put it into a file named body.\n" + command
    if REDACTED in command:
        command = f"# Fill in what is {REDACTED}.\n" + command
    return command


def _headers(span: Span) -> list[str]:
    """The options for the request's headers, as far as they were captured."""
    redactor = Redactor()
    lines = []
    for name, value in span.attributes.items():
        header = name.removeprefix(_REQUEST_HEADER).replace("_", "-")
        if header == name or header in _NOT_REPEATED or not _HEADER.fullmatch(header):
            continue
        is_secret = header in _CREDENTIALS or redactor.is_secret(header)
        for one in value if isinstance(value, list | tuple) else [value]:
            text = _UNPRINTABLE.sub(" ", REDACTED if is_secret else display.text(one))
            # Without its boundary it means nothing.
            if text != _MULTIPART:
                lines.append(f"  -H {shlex.quote(f'{header}: {text}')}")
    return lines


def _body(span: Span) -> str | None:
    """What was captured of the request's body, if a command can send it.

    Not what is cut, nor a form with files, of which only names and sizes are kept, nor what holds
    characters that a terminal would obey.
    """
    found = span.attributes
    content = found.get(_CONTENT)
    if not isinstance(content, str) or found.get(_TRUNCATED):
        return None
    kind = found.get(f"{_REQUEST_HEADER}content-type")
    if _MULTIPART in (kind if isinstance(kind, list | tuple) else [kind]):
        return None
    shown = content.replace("\r", " ")
    is_safe = display.plain(shown) == shown and not _SURROGATE.search(content)
    return content if is_safe else None


def _url(span: Span) -> str:
    def first(*names: str) -> str:
        found = span.attributes
        return next((display.text(found[name]) for name in names if found.get(name)), "")

    scheme = first("url.scheme", "http.scheme") or "http"
    authority = first("server.address", "net.host.name") or "localhost"
    port = first("server.port", "net.host.port")
    if port and port != {"http": "80", "https": "443"}.get(scheme):
        authority += f":{port}"
    target = first("url.path", "http.target") or "/"
    query = first("url.query")
    return f"{scheme}://{authority}{target}{'?' if query else ''}{query}"
