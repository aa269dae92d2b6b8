"""The statements that this process executes by SQLAlchemy, where nobody makes spans of them.

By SQLAlchemy's own events, on all engines. Parameters are never looked at.
"""

from __future__ import annotations

import secrets
import sys
from functools import lru_cache
from threading import Lock
from time import time_ns
from typing import Any

from opentelemetry.trace import get_current_span

from flask_bodytrace.log_once import LogOnce

from .model import Attributes, Span
from .notes import Note, Statement, notes
from .statements import LONGEST, about, hidden

# SQLAlchemy's names of databases by OpenTelemetry's, where they differ.
_SYSTEMS = {"mssql": "microsoft.sql_server", "oracle": "oracle.db"}
_CLIENT = 3
_ERROR = 2
_STARTED = "_bodytrace_started"
SCOPE = "flask_bodytrace.viewer"
"""The scope of the spans that `spans_of` makes."""
_lock = Lock()
_listens = False
_report = LogOnce("the trace viewer could not note a statement")
_hidden = lru_cache(512)(hidden)


def listen() -> bool:
    """Note statements from now on, of every engine; False while SQLAlchemy is not loaded."""
    global _listens  # noqa: PLW0603 - there is one SQLAlchemy in the process
    engine = getattr(sys.modules.get("sqlalchemy.engine.base"), "Engine", None)
    if engine is None:
        return False
    with _lock:
        if not _listens:
            from sqlalchemy import event

            event.listen(engine, "before_cursor_execute", _before)
            event.listen(engine, "after_cursor_execute", _after)
            event.listen(engine, "handle_error", _failed)
            _listens = True
    return True


def _before(_c: Any, _cursor: Any, _s: str, _p: Any, context: Any, _many: bool) -> None:
    try:
        # The note has to be there when a span that somebody makes of the statement ends.
        if context is not None and notes.of(get_current_span()) is not None:
            setattr(context, _STARTED, time_ns())
    except Exception:  # noqa: BLE001 - the statement is executed, whatever fails here
        _report("")


def _after(
    connection: Any, _cursor: Any, statement: str, parameters: Any, context: Any, many: bool
) -> None:
    try:
        sets = len(parameters) if many else 1
        _note(connection.engine, statement, context, sets=sets)
    except Exception:  # noqa: BLE001 - the statement was executed, whatever fails here
        _report("")


def _failed(failure: Any) -> None:
    try:
        if failure.engine is not None and failure.statement is not None:
            error = type(failure.original_exception).__qualname__
            _note(failure.engine, failure.statement, failure.execution_context, error=error)
    except Exception:  # noqa: BLE001 - its own error is what the application has to see
        _report("")


def _note(engine: Any, statement: str, context: Any, *, sets: int = 1, error: str = "") -> None:
    # Not there where the statement failed before it reached the database.
    start = context.__dict__.pop(_STARTED, None) if context is not None else None
    if start is None or (note := notes.of(get_current_span())) is None:
        return
    system = _SYSTEMS.get(engine.dialect.name, engine.dialect.name)
    url = engine.url
    note.add_statement(
        Statement(
            text=_hidden(statement[: LONGEST + 1], system),
            system=system,
            database=url.database or "",
            address=url.host or "",
            port=url.port or 0,
            start=start,
            end=time_ns(),
            sets=sets,
            error=error,
        )
    )


def spans_of(note: Note, parent: Span) -> list[Span]:
    """The statements of which nobody made a span, each as a child of `parent`."""
    found = []
    for one in note.uncovered():
        attributes: dict[str, Any] = {"db.system.name": one.system, "db.query.text": one.text}
        if one.database:
            attributes["db.namespace"] = one.database
        if one.address:
            attributes["server.address"] = one.address
        if one.port:
            attributes["server.port"] = one.port
        if one.sets > 1:
            attributes["db.operation.batch.size"] = one.sets
        if one.error:
            attributes["error.type"] = one.error
        found.append(_span(one, parent, attributes))
    return found


def _span(statement: Statement, parent: Span, attributes: Attributes) -> Span:
    return Span(
        trace_id=parent.trace_id,
        span_id=secrets.token_hex(8),
        parent_id=parent.span_id,
        name=about(statement.text),
        kind=_CLIENT,
        start=statement.start,
        end=statement.end,
        status=_ERROR if statement.error else 0,
        status_message=statement.error,
        service=parent.service,
        scope=SCOPE,
        trace_state=parent.trace_state,
        resource=parent.resource,
        attributes=attributes,
        events=[],
        links=[],
    )
