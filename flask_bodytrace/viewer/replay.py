"""The request a trace starts with, as far as its span tells: what has to be sent to repeat it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from msgspec import Struct
from werkzeug.http import parse_options_header

from flask_bodytrace.capture.redactor import REDACTED, Redactor

from . import display
from .model import Attributes, Span
from .summary import root_of

_UNPRINTABLE = re.compile(r"[^!-~]+")
_METHOD = re.compile(r"[A-Z]{1,20}")
# None begins as an option does.
_HEADER = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
_REQUEST_HEADER = "http.request.header."
_MULTIPART = "multipart/form-data"
_CONTENT = "http.request.body.content"
_TRUNCATED = "bodytrace.request.body.truncated"
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization"})
# What the client sets itself, and what would make the repetition part of the first trace.
_NOT_REPEATED = frozenset(
    {"host", "content-length", "connection", "traceparent", "tracestate", "x-trace-id", "x-span-id"}
    | {"expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)


class Replay(Struct, frozen=True):
    """One request.

    :param url: http or https, of printable ASCII without spaces.
    :param headers: names in lower case, values of printable ASCII; a name may come several times.
    :param body: what was sent; None if there was no body, or if it is `missing`.
    :param missing: why the body has to be found elsewhere, as a sentence; empty if it has not.
    """

    method: str
    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes | None
    missing: str = ""

    @property
    def has_secrets(self) -> bool:
        """Whether something was hidden, and has to be filled in."""
        return (
            REDACTED in self.url
            or any(REDACTED in value for _, value in self.headers)
            or REDACTED.encode() in (self.body or b"")
        )

    @property
    def has_type(self) -> bool:
        """Whether the body's type is known."""
        return any(name == "content-type" for name, _ in self.headers)


def replay_of_trace(spans: Iterable[Span]) -> Replay | None:
    """What repeats the request that a trace starts with; None if it starts with none.

    :param spans: at least one.
    """
    return replay_of(root_of({span.span_id: span for span in spans}))


def replay_of(root: Span) -> Replay | None:
    """What repeats a request; None if the span is of no HTTP request.

    The body is there if it was captured, whole. A form with files is not: of those, only names and
    sizes are kept.
    """
    found = root.attributes
    method = str(found.get("http.request.method") or found.get("http.method") or "")
    url = str(found.get("url.full") or found.get("http.url") or _url(root))
    url = _UNPRINTABLE.sub(lambda match: quote(match[0], errors="replace"), url)
    if not _METHOD.fullmatch(method) or not url.lower().startswith(("http://", "https://")):
        return None
    missing = _why_missing(found, method)
    body = None if missing else _bytes(found)
    if not body and method not in _WITH_BODY:
        body = None
    return Replay(method, url, _headers(root), body, missing)


def _headers(span: Span) -> list[tuple[str, str]]:
    """The request's headers, as far as they were captured."""
    redactor = Redactor()
    found = []
    for name, value in span.attributes.items():
        header = name.removeprefix(_REQUEST_HEADER).replace("_", "-")
        if header == name or header in _NOT_REPEATED or not _HEADER.fullmatch(header):
            continue
        is_secret = header in _CREDENTIALS or redactor.is_secret(header)
        for one in value if isinstance(value, list | tuple) else [value]:
            text = _UNPRINTABLE.sub(" ", REDACTED if is_secret else display.text(one)).strip()
            # Without its boundary it means nothing.
            if text != _MULTIPART:
                found.append((header, text))
    return found


def _why_missing(found: Attributes, method: str) -> str:
    """Why the body that was sent is not among the attributes; empty if it is, or if none was."""
    content = found.get(_CONTENT)
    if content is None:
        return "The body is not on the span." if method in _WITH_BODY else ""
    if found.get(_TRUNCATED):
        return "The body on the span is cut."
    if _content_type(found).lower().startswith(_MULTIPART):
        return "Of a form with files, only names and sizes are on the span."
    return "" if _bytes(found) is not None else "The body on the span is not what was sent."


def _bytes(found: Attributes) -> bytes | None:
    """The body as it was sent; None where what was captured cannot have been."""
    content = found.get(_CONTENT)
    if not isinstance(content, str):
        return content if isinstance(content, bytes) else None
    charset = parse_options_header(_content_type(found))[1].get("charset") or "utf-8"
    try:
        return content.encode(charset)
    except (LookupError, UnicodeError):
        return None


def _content_type(found: Attributes) -> str:
    kind = found.get(f"{_REQUEST_HEADER}content-type")
    kinds = kind if isinstance(kind, list) else [kind]
    return next((display.text(one) for one in kinds if one), "")


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
