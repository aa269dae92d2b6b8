"""What happens while a span is current and makes no span itself: kept until that span ends.

Templates and statements of this process come in by `template_notes` and `sql_notes`; the span's
`collector` takes them when it ends. Nothing of it is exported: it is the viewer's alone.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from threading import Lock

from msgspec import Struct
from opentelemetry.trace import Span

_MAX_SPANS = 1_000
MOST = 1_000
"""Templates, and statements, of one span; more are counted only."""


class Rendering(Struct):
    """One template, rendered once.

    :param file: where it was loaded from; empty if it was no file.
    :param variables: names in its context, without Flask's own. No values.
    :param start: ns since 1970.
    :param end: 0 while it is rendered, and for one that failed.
    :param context: the identity of its context, by which its end is known.
    """

    name: str
    file: str
    variables: list[str]
    start: int
    context: int
    end: int = 0


class Statement(Struct, frozen=True):
    """One statement, executed once, with its literals hidden.

    :param sets: how many sets of parameters it was executed with.
    :param error: the type of the exception that it ended with; empty for none.
    """

    text: str
    system: str
    database: str
    address: str
    port: int
    start: int
    end: int
    sets: int = 1
    error: str = ""


class Note:
    """What is known of one span.

    `covered` are the starts, in ns since 1970, of its children that are database spans: somebody
    else makes spans of statements, and those need no other.
    """

    __slots__ = ("covered", "left_out", "statements", "templates")

    def __init__(self) -> None:
        self.templates: list[Rendering] = []
        self.statements: list[Statement] = []
        self.covered: list[int] = []
        self.left_out = 0

    def add_template(self, rendering: Rendering) -> None:
        """Keep it, if there is room."""
        if len(self.templates) < MOST:
            self.templates.append(rendering)
        else:
            self.left_out += 1

    def add_statement(self, statement: Statement) -> None:
        """Keep it, if there is room."""
        if len(self.statements) < MOST:
            self.statements.append(statement)
        else:
            self.left_out += 1

    def uncovered(self) -> list[Statement]:
        """The statements of which nobody else made a span."""
        starts = sorted(self.covered)

        def is_covered(statement: Statement) -> bool:
            at = bisect_left(starts, statement.start)
            return at < len(starts) and starts[at] <= statement.end

        return [statement for statement in self.statements if not is_covered(statement)]


class Notes:
    """The notes of spans that have not ended. Thread-safe.

    Spans that never end cannot fill the memory: over a bound, the first goes.
    """

    def __init__(self) -> None:
        self._notes: dict[tuple[int, int], Note] = {}
        self._reset_lock()

    def _reset_lock(self) -> None:
        self._lock = Lock()

    def of(self, span: Span) -> Note | None:
        """The note of a span that is current; None if it is none that will be shown."""
        context = span.get_span_context()
        if not span.is_recording() or not context.trace_flags.sampled:
            return None
        key = (context.trace_id, context.span_id)
        with self._lock:
            note = self._notes.get(key)
            if note is None:
                note = self._notes[key] = Note()
                if len(self._notes) > _MAX_SPANS:
                    del self._notes[next(iter(self._notes))]
            return note

    def cover(self, trace_id: int, parent_id: int, start: int) -> None:
        """Say that a child of a span is a database span, which started then."""
        note = self._notes.get((trace_id, parent_id))
        if note is not None and len(note.covered) < MOST:
            note.covered.append(start)

    def take(self, trace_id: int, span_id: int) -> Note | None:
        """The note of a span that ends, which is forgotten here; None if it has none."""
        return self._notes.pop((trace_id, span_id), None) if self._notes else None


notes = Notes()
"""This process's: ids tell its spans apart, whichever provider makes them."""

if hasattr(os, "register_at_fork"):
    # A forked child gets the lock as it was, perhaps held by a thread that it does not get.
    os.register_at_fork(after_in_child=notes._reset_lock)
