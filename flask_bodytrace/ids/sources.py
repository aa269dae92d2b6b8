"""Where the business ids of one request are looked for: its body, query, headers, URL arguments."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from flask_bodytrace.body.cached import CachedBody

    from .extractor import IdExtractor


NO_IDS: Mapping[str, str] = MappingProxyType({})


class IdSources:
    """The sources of one request; body and query are read once, when first asked for.

    :param scan_limit: larger bodies are not read for ids, bytes.
    """

    __slots__ = ("_body", "_environ", "_extractor", "_found", "_query", "_scan_limit")

    def __init__(
        self, extractor: IdExtractor, scan_limit: int, environ: WSGIEnvironment, body: CachedBody
    ) -> None:
        self._extractor = extractor
        self._scan_limit = scan_limit
        self._environ = environ
        self._body = body
        self._found: Mapping[str, str] | None = None
        self._query: Mapping[str, str] | None = None

    def find(self, arguments: Mapping[str, object]) -> dict[str, str]:
        """The ids by attribute.

        :param arguments: the URL's, by name; empty until it is matched.
        """
        if self._found is None:
            self._found = scan(self._extractor, self._scan_limit, self._environ, self._body)

        def lookup(kind: str, name: str) -> object:
            if kind == "header":
                return self._environ.get("HTTP_" + name.upper().replace("-", "_"))
            if kind == "path":
                return arguments.get(name)
            if self._query is None:
                query = self._environ.get("QUERY_STRING", "")
                self._query = self._extractor.from_query(query.encode("latin-1"))
            return self._query.get(name)

        return self._extractor.choose(self._found, lookup)


def scan(
    extractor: IdExtractor, limit: int, environ: WSGIEnvironment, body: CachedBody
) -> Mapping[str, str]:
    """The ids in the body, by source path.

    :param limit: larger bodies are not read for ids, bytes.
    """
    declared = body.declared
    if declared == 0 or not extractor.body or environ.get("HTTP_CONTENT_ENCODING"):
        return NO_IDS
    content_type = environ.get("CONTENT_TYPE", "")
    if (declared is not None and declared > limit) or not extractor.holds_ids(content_type):
        return NO_IDS
    try:
        if declared is None:
            body.peek_at(0, limit + 1)
            if not body.complete:
                return NO_IDS
        if not body.replayable:
            return NO_IDS
        data = body.getvalue()
    except Exception:  # noqa: BLE001 - the handler gets the same error when it reads
        return NO_IDS
    return extractor.from_body(data, content_type)
