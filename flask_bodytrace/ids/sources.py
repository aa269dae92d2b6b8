"""Where the business ids of one request are looked for: its body, query, headers, URL arguments."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from flask_bodytrace.body.media_type import is_coded

from .extractor import MAX_TYPE, form_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from flask_bodytrace.body.cached import CachedBody

    from .extractor import IdExtractor


ENCODED = "encoded"
"""Why ids were not found: the body has a Content-Encoding."""
TOO_LARGE = "too_large"
"""Likewise: it is larger than ``BODYTRACE_ID_SCAN_LIMIT`` or ``BODYTRACE_BODY_LIMIT``."""
UNREADABLE = "unreadable"
"""Likewise: reading it failed."""

Found = tuple[Mapping[str, str], "str | None"]
"""Ids by source path, and why there may be more than were found."""

_NOTHING: Found = (MappingProxyType({}), None)


class IdSources:
    """The sources of one request; body and query are read once, when first asked for.

    :param scan_limit: larger bodies are not read for ids, bytes.
    """

    __slots__ = ("_body", "_environ", "_extractor", "_found", "_query", "_scan_limit", "unread")

    def __init__(
        self, extractor: IdExtractor, scan_limit: int, environ: WSGIEnvironment, body: CachedBody
    ) -> None:
        self._extractor = extractor
        self._scan_limit = scan_limit
        self._environ = environ
        self._body = body
        self._found: Found | None = None
        self.unread: str | None = None
        self._query: Mapping[str, str] | None = None

    def find(self, arguments: Mapping[str, object]) -> dict[str, str]:
        """The ids by attribute.

        :param arguments: the URL's, by name; empty until it is matched.
        """
        if self._found is None:
            self._found = scan(self._extractor, self._scan_limit, self._environ, self._body)
        in_body, self.unread = self._found

        def lookup(kind: str, name: str) -> object:
            if kind == "header":
                return self._environ.get("HTTP_" + name.upper().replace("-", "_"))
            if kind == "path":
                return arguments.get(name)
            if self._query is None:
                query = self._environ.get("QUERY_STRING", "")
                self._query = self._extractor.from_query(query.encode("latin-1"))
            return self._query.get(name)

        return self._extractor.choose(in_body, lookup)


def scan(  # noqa: PLR0911 - one line for each reason
    extractor: IdExtractor, limit: int, environ: WSGIEnvironment, body: CachedBody
) -> Found:
    """The ids in the body.

    :param limit: larger bodies are not read for ids, bytes.
    """
    declared = body.declared
    if declared == 0 or not extractor.body:
        return _NOTHING
    content_type = environ.get("CONTENT_TYPE", "")
    if form_of(content_type[:MAX_TYPE]) is None:
        return _NOTHING
    encoding = environ.get("HTTP_CONTENT_ENCODING")
    if encoding and is_coded(encoding):
        return _NOTHING[0], ENCODED
    if declared is not None and declared > limit:
        return _NOTHING[0], TOO_LARGE
    try:
        if declared is None:
            body.peek_at(0, limit + 1)
            if not body.complete:
                return _NOTHING[0], TOO_LARGE
        if not body.replayable:
            return _NOTHING[0], TOO_LARGE
        data = body.getvalue()
    except Exception:  # noqa: BLE001 - the handler gets the same error when it reads
        return _NOTHING[0], UNREADABLE
    return extractor.from_body(data, content_type)
