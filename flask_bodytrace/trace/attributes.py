"""The server span: attributes by the stable HTTP semantic conventions (v1.23 and later)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.wsgi import (
    collect_custom_request_headers_attributes,
    collect_custom_response_headers_attributes,
)
from opentelemetry.trace import Span, Status, StatusCode

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

from .redact import Redactor

METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
"""Methods kept as they are; others are ``_OTHER``, so that clients cannot invent series."""
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_TEXT = 1024


def span_name(method: str, route: str | None) -> str:
    """``POST /orders/<id>``, or without a path where no route matched: unbounded names cost."""
    shown = "HTTP" if method == "_OTHER" else method
    return f"{shown} {route}" if route else shown


def request_attributes(environ: WSGIEnvironment, method: str, redactor: Redactor) -> dict[str, Any]:
    """The attributes known when a request arrives."""
    get = environ.get
    scheme = get("wsgi.url_scheme", "http")
    attributes: dict[str, Any] = {
        "http.request.method": method,
        "url.scheme": scheme,
        "url.path": (get("SCRIPT_NAME", "") + get("PATH_INFO", "")) or "/",
        **_of_client(get("HTTP_HOST"), scheme, get("HTTP_USER_AGENT"), get("SERVER_PROTOCOL", "")),
    }
    if method == "_OTHER":
        attributes["http.request.method_original"] = get("REQUEST_METHOD", "")[:32]
    query = get("QUERY_STRING")
    if query:
        attributes["url.query"] = redactor.query(query)
    if "server.address" not in attributes and (server := get("SERVER_NAME")):
        attributes["server.address"] = server
        if (port := get("SERVER_PORT", "")).isdigit():
            attributes["server.port"] = int(port)
    peer = get("REMOTE_ADDR")
    if peer:
        attributes["client.address"] = attributes["network.peer.address"] = peer
        port = str(get("REMOTE_PORT", ""))
        if port.isdigit():
            attributes["network.peer.port"] = int(port)
    return attributes


# The same few clients send nearly all requests.
@lru_cache(maxsize=256)
def _of_client(
    host: str | None, scheme: str, agent: str | None, protocol: str
) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {}
    if host:
        name, colon, port = host.rpartition(":")
        attributes["server.address"] = name if colon and port.isdigit() else host
        if colon and port.isdigit():
            attributes["server.port"] = int(port)
        elif scheme in _DEFAULT_PORTS:
            attributes["server.port"] = _DEFAULT_PORTS[scheme]
    if agent:
        attributes["user_agent.original"] = agent[:_MAX_TEXT]
    if protocol.startswith("HTTP/"):
        attributes["network.protocol.version"] = protocol[5:]
    return attributes


def capture_request_headers(span: Span, environ: WSGIEnvironment) -> None:
    """Headers named in ``OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST``."""
    span.set_attributes(collect_custom_request_headers_attributes(environ))


def capture_response_headers(span: Span, headers: Sequence[tuple[str, str]]) -> None:
    """Headers named in ``OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE``."""
    span.set_attributes(collect_custom_response_headers_attributes(list(headers)))


def error_type(error: BaseException) -> str:
    """``error.type`` of an exception: its qualified name."""
    kind = type(error)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def set_outcome(
    span: Span, status: int | None, error: BaseException | None, *, broken: bool = False
) -> str | None:
    """Status code and span status of the answer; the ``error.type``, if it is an error.

    4xx leave a server span's status unset; 5xx, and no answer at all, are errors.

    :param status: None if the application raised instead of answering.
    :param error: the exception behind it, where one is known.
    :param broken: whether that exception reached the server, so that the answer was not as meant.
    """
    kind: str | None = None
    if broken or status is None or status >= 500:
        kind = str(status) if error is None else error_type(error)
        span.set_attribute("error.type", kind)
        span.set_status(Status(StatusCode.ERROR))
    if status is not None:
        span.set_attribute("http.response.status_code", status)
    return kind
