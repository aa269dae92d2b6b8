"""Database statements as CLIENT spans."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import metrics
from opentelemetry.trace import SpanKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.trace import Span, Tracer


class Statements:
    """Makes the spans of one database.

    :param namespace: the database's name.
    :param system: as in the semantic conventions' ``db.system.name``.
    """

    def __init__(self, tracer: Tracer, namespace: str, system: str = "sqlite") -> None:
        self._tracer = tracer
        self._database = {"db.system.name": system, "db.namespace": namespace}
        self._duration = metrics.get_meter("example_app.statements").create_histogram(
            "db.client.operation.duration", unit="s", description="Database statements"
        )

    @contextmanager
    def span(self, operation: str, table: str) -> Iterator[Span]:
        """Start the span of one statement, such as ``INSERT`` into ``t_order_0A``; time it."""
        attributes = {
            **self._database,
            "db.operation.name": operation,
            "db.collection.name": table,
        }
        began, failed = time.perf_counter(), {}
        try:
            with self._tracer.start_as_current_span(
                f"{operation} {table}", kind=SpanKind.CLIENT, attributes=attributes
            ) as span:
                yield span
        except Exception as error:
            failed = {"error.type": type(error).__name__}
            raise
        finally:
            self._duration.record(time.perf_counter() - began, {**attributes, **failed})
