"""Database statements as CLIENT spans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.trace import SpanKind

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from opentelemetry.trace import Span, Tracer


class Statements:
    """Makes the spans of one database.

    :param namespace: the database's name.
    :param system: as in the semantic conventions' ``db.system.name``.
    """

    def __init__(self, tracer: Tracer, namespace: str, system: str = "sqlite") -> None:
        self._tracer = tracer
        self._database = {"db.system.name": system, "db.namespace": namespace}

    def span(self, operation: str, table: str) -> AbstractContextManager[Span]:
        """Start the span of one statement, such as ``INSERT`` into ``t_order_0A``."""
        return self._tracer.start_as_current_span(
            f"{operation} {table}",
            kind=SpanKind.CLIENT,
            attributes={
                **self._database,
                "db.operation.name": operation,
                "db.collection.name": table,
            },
        )
