"""Headers that the standard variables ask for, as span attributes.

``OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST`` and ``…_SERVER_RESPONSE`` name them, by
regular expressions separated by commas; ``…_SANITIZE_FIELDS`` names those whose values are hidden.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from opentelemetry.util.http import (
    OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS,
    OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST,
    OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE,
)

from flask_bodytrace.capture.redactor import REDACTED, Redactor

from .patterns import patterns_in

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# Hidden whatever the patterns say: ``.*`` asks for all headers, not for credentials.
_SECRET = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie"})


class HeaderCapture:
    """Chooses headers of one direction, and hides the values of those that hold secrets.

    :param chosen: the headers to capture, by name in lower case.
    :param kind: ``request`` or ``response``.
    :param redactor: knows further names of secrets.
    """

    def __init__(self, chosen: re.Pattern[str], kind: str, redactor: Redactor) -> None:
        self._chosen = chosen
        self._hidden = _pattern(OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS)
        self._prefix = f"http.{kind}.header."
        self._redactor = redactor

    def attributes(self, headers: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
        """``http.request.header.<key>`` and so on; the key in lower case, its dashes kept."""
        found: dict[str, list[str]] = {}
        for name, value in headers:
            key = name.lower()
            if self._chosen.fullmatch(key):
                shown = REDACTED if self._is_secret(key) else value
                found.setdefault(self._prefix + key, []).append(shown)
        return found

    def _is_secret(self, key: str) -> bool:
        return (
            key in _SECRET
            or (self._hidden is not None and self._hidden.fullmatch(key) is not None)
            or self._redactor.is_secret(key)
        )


def request_capture(redactor: Redactor) -> HeaderCapture | None:
    """For request headers; None if none are asked for."""
    chosen = _pattern(OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST)
    return None if chosen is None else HeaderCapture(chosen, "request", redactor)


def response_capture(redactor: Redactor) -> HeaderCapture | None:
    """For response headers; None if none are asked for."""
    chosen = _pattern(OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE)
    return None if chosen is None else HeaderCapture(chosen, "response", redactor)


def headers_of(environ: WSGIEnvironment) -> Iterator[tuple[str, str]]:
    """The request's headers, as PEP 3333 puts them into the environ."""
    for key, value in environ.items():
        if key.startswith("HTTP_"):
            yield key[len("HTTP_") :].replace("_", "-"), str(value)
        elif key in {"CONTENT_TYPE", "CONTENT_LENGTH"} and value:
            yield key.replace("_", "-"), str(value)


def _pattern(variable: str) -> re.Pattern[str] | None:
    chosen = [f"(?:{each.lower()})" for each in patterns_in(variable)]
    return re.compile("|".join(chosen)) if chosen else None
