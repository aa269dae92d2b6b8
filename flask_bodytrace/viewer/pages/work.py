"""What the requests of a trace did: their SQL, and the templates that they rendered."""

from __future__ import annotations

from collections.abc import Sequence

from werkzeug.wrappers import Response

from flask_bodytrace.viewer.model import Span
from flask_bodytrace.viewer.queries import Query, queries_of
from flask_bodytrace.viewer.renderings import templates_of

from .site import Visit

_MOST = 200
"""Statements, and templates, that the page has."""
_RUNS = 20
"""Executions of one statement that it leads to."""


def work(visit: Visit, trace_id: str) -> Response:
    """The statements and templates of one trace."""
    trace = visit.find(trace_id)
    queries = queries_of(trace.spans)
    templates = templates_of(trace.spans)
    return visit.page(
        "work.html",
        trace=trace,
        summary=trace.summary,
        queries=queries[:_MOST],
        templates=templates[:_MOST],
        more_queries=max(len(queries) - _MOST, 0),
        more_templates=max(len(templates) - _MOST, 0),
        executed=sum(len(query.spans) for query in queries),
        taken=sum(query.total for query in queries),
        rendered=sum(template.times for template in templates),
        runs=_RUNS,
    )


def work_in(spans: Sequence[Span]) -> tuple[int, Query | None, int]:
    """How many statements a trace executed, the most repeated one, and how many templates."""
    queries = queries_of(spans)
    most = max(queries, key=lambda query: len(query.spans), default=None)
    templates = sum(template.times for template in templates_of(spans))
    executed = sum(len(query.spans) for query in queries)
    return executed, most if most is not None and most.is_repeated else None, templates
