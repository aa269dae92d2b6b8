"""What a server span says: attributes by the stable HTTP semantic conventions (v1.23 and later)."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Span, Status, StatusCode

from flask_bodytrace.capture.redactor import Redactor

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
"""Methods known unless OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS names others."""
OTHER = "_OTHER"
"""What an unknown method counts as, so that clients cannot invent series."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_TEXT = 1024
# RFC 3986, 3.2.2 and 3.2.3: an IP literal has colons of its own.
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::([0-9]{0,5}))?", re.DOTALL)
_MAX_PORT = 65535


def known_methods() -> frozenset[str]:
    """The methods kept as they are, by the environment or by default; case counts."""
    named = os.environ.get("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "")
    methods = frozenset(filter(None, (method.strip() for method in named.split(","))))
    return methods or METHODS


def span_name(method: str, route: str | None) -> str:
    """``POST /orders/<id>``, or without a path where no route matched: unbounded names cost."""
    shown = "HTTP" if method == OTHER else method
    return f"{shown} {route}" if route else shown


def request_attributes(environ: WSGIEnvironment, method: str, redactor: Redactor) -> dict[str, Any]:
    """The attributes known when a request arrives.

    :param method: the request's, or `OTHER`.
    """
    get = environ.get
    scheme = get("wsgi.url_scheme", "http")
    path = (get("SCRIPT_NAME", "") + get("PATH_INFO", "")) or "/"
    attributes: dict[str, Any] = {
        "http.request.method": method,
        "url.scheme": scheme,
        "url.path": path if path.isascii() else text_of(path),
        **_of_client(
            get("HTTP_HOST", "")[:_MAX_TEXT],
            scheme,
            get("HTTP_USER_AGENT", "")[:_MAX_TEXT],
            get("SERVER_PROTOCOL", ""),
        ),
    }
    if method == OTHER:
        attributes["http.request.method_original"] = get("REQUEST_METHOD", "")[:32]
    query = get("QUERY_STRING")
    if query:
        attributes["url.query"] = redactor.query(query if query.isascii() else text_of(query))
    if "server.address" not in attributes and (server := get("SERVER_NAME")):
        attributes["server.address"] = server
        if (port := port_of(get("SERVER_PORT", ""))) is not None:
            attributes["server.port"] = port
    client = get("REMOTE_ADDR")
    if client:
        peer, peer_port = client, get("REMOTE_PORT", "")
        if "werkzeug.proxy_fix.orig" in environ:
            # The peer is the proxy; the client is the address that the proxy names.
            peer = environ["werkzeug.proxy_fix.orig"].get("REMOTE_ADDR") or client
        attributes["client.address"] = client
        attributes["network.peer.address"] = peer
        if (port := port_of(peer_port)) is not None:
            attributes["network.peer.port"] = port
    return attributes


def text_of(native: str) -> str:
    """Text from a native string of the environ, whose characters are bytes (PEP 3333)."""
    return native.encode("latin-1", "replace").decode("utf-8", "replace")


def port_of(text: object) -> int | None:
    """A port from its decimal digits; None unless it is 1 to 65535."""
    digits = str(text)
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5):
        return None
    port = int(digits)
    return port if 0 < port <= _MAX_PORT else None


# The same few clients send nearly all requests. All of these are cut: a key must not grow.
@lru_cache(maxsize=256)
def _of_client(host: str, scheme: str, agent: str, protocol: str) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {}
    if host:
        match = _HOST.fullmatch(host)
        port = None if match is None else port_of(match[2])
        is_plain = match is not None and (not match[2] or port is not None)
        attributes["server.address"] = match[1] if match is not None and is_plain else host
        if port is None and scheme in _DEFAULT_PORTS and is_plain:
            port = _DEFAULT_PORTS[scheme]
        if port is not None:
            attributes["server.port"] = port
    if agent:
        attributes["user_agent.original"] = agent
    if protocol.startswith("HTTP/"):
        attributes["network.protocol.version"] = protocol[5:]
    return attributes


def error_type(error: BaseException) -> str:
    """``error.type`` of an exception: its qualified name."""
    kind = type(error)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def set_error(span: Span, kind: str) -> None:
    """The answer failed: 5xx, or none at all. 4xx leave a server span's status unset.

    :param kind: the ``error.type``.
    """
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))
