"""The SQL of a trace: each statement with how often one request executed it.

A statement that one request executes again and again is what an ORM does that loads each row's
relations one by one: one query, and one more for each of its N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .model import Span
from .requests_of import requests_of
from .statements import hidden

REPEATED = 5
"""So many times in one request are pointed out, as Sentry's detector of N+1 queries has it."""

# By the present semantic conventions, and the former ones.
_TEXTS = ("db.query.text", "db.statement")
_SYSTEMS = ("db.system.name", "db.system")
_DATABASES = ("db.namespace", "db.name")
# What these are asked is no SQL.
_NO_SQL = frozenset(
    {"aws.dynamodb", "couchdb", "dynamodb", "elasticsearch", "geode", "hbase", "memcached"}
    | {"mongodb", "neo4j", "opensearch", "redis", "valkey"}
)


@dataclass(slots=True)
class Query:
    """One statement, as often as one request executed it.

    :param text: with its literals hidden, as `hidden` has it.
    :param request: the server or consumer span; None where there is none.
    :param spans: the executions, by their start; durations are the spans'.
    """

    text: str
    system: str
    request: Span | None
    spans: list[Span] = field(default_factory=list)
    databases: dict[str, None] = field(default_factory=dict)
    total: int = 0
    longest: int = 0
    errors: int = 0

    @property
    def is_repeated(self) -> bool:
        """Whether it looks like one query for each row of another."""
        return len(self.spans) >= REPEATED

    def add(self, span: Span) -> None:
        """Count one execution."""
        self.spans.append(span)
        self.databases[_first(span, _DATABASES)] = None
        taken = max(span.duration, 0)
        self.total += taken
        self.longest = max(self.longest, taken)
        self.errors += span.failed


def queries_of(spans: Sequence[Span]) -> list[Query]:
    """The statements of a trace, those first that took longest in all.

    A driver's span within that of SQLAlchemy, for the same statement, is the same execution.

    :param spans: of one trace, by their start.
    """
    texts: dict[tuple[str, str], str] = {}
    asked: dict[str, str] = {}
    for span in spans:
        statement, system = _first(span, _TEXTS), _first(span, _SYSTEMS)
        if statement and system not in _NO_SQL:
            text = texts.get((statement, system))
            if text is None:
                text = texts[statement, system] = hidden(statement, system)
            asked[span.span_id] = text
    if not asked:
        return []
    requests = requests_of(spans)
    found: dict[tuple[str, str, str], Query] = {}
    for span in spans:
        text = asked.get(span.span_id, "")
        if not text or (span.parent_id is not None and asked.get(span.parent_id) == text):
            continue
        request = requests[span.span_id]
        system = _first(span, _SYSTEMS)
        key = (request.span_id if request is not None else "", system, text)
        query = found.get(key)
        if query is None:
            query = found[key] = Query(text, system, request)
        query.add(span)
    return sorted(found.values(), key=lambda query: query.total, reverse=True)


def _first(span: Span, names: Sequence[str]) -> str:
    values = (span.attributes.get(name) for name in names)
    return next((value for value in values if isinstance(value, str) and value), "")
