"""The templates that an application renders: their names and those of their variables."""

from __future__ import annotations

from collections.abc import Mapping
from time import time_ns
from typing import Any

from flask import Flask, before_render_template, template_rendered
from opentelemetry.trace import get_current_span

from flask_bodytrace.log_once import LogOnce

from .model import Event
from .notes import Note, Rendering, notes

TEMPLATE = "template"
"""The name of the events that `events_of` makes."""
NAME, FILE, VARIABLES, TAKEN = (
    "template.name", "template.file", "template.variables", "template.duration",
)  # fmt: skip
# Flask's context processor puts them into every context.
_OF_FLASK = frozenset({"g", "request", "session"})
_MAX_VARIABLES = 100
_MAX_NAME = 256
_report = LogOnce("the trace viewer could not note a template")


def watch(app: Flask) -> None:
    """Note what `app` renders from now on. Included templates and parents belong to theirs."""
    before_render_template.connect(_before, app)
    template_rendered.connect(_after, app)


def _before(_app: Flask, template: Any, context: Mapping[str, Any], **_: Any) -> None:
    try:
        note = notes.of(get_current_span())
        if note is not None:
            note.add_template(_rendering(template, context))
    except Exception:  # noqa: BLE001 - the page is rendered, whatever fails here
        _report("")


def _rendering(template: Any, context: Mapping[str, Any]) -> Rendering:
    file = template.filename
    return Rendering(
        name=str(template.name or "")[:_MAX_NAME],
        # Jinja calls a template that was made from a string "<template>".
        file=file if isinstance(file, str) and not file.startswith("<") else "",
        variables=sorted(str(name)[:_MAX_NAME] for name in context if name not in _OF_FLASK)[
            :_MAX_VARIABLES
        ],
        start=time_ns(),
        context=id(context),
    )


def _after(_app: Flask, context: Mapping[str, Any], **_: Any) -> None:
    try:
        note = notes.of(get_current_span())
        # One that failed has no end, and its context may have left its identity to another.
        for rendering in reversed(note.templates if note is not None else ()):
            if rendering.context == id(context) and not rendering.end:
                rendering.end = time_ns()
                return
    except Exception:  # noqa: BLE001 - the page is rendered, whatever fails here
        _report("")


def events_of(note: Note) -> list[Event]:
    """The templates as a span's events; `TAKEN` is in seconds, and left out for what failed."""
    found = []
    for one in note.templates:
        attributes: dict[str, Any] = {NAME: one.name, VARIABLES: one.variables}
        if one.file:
            attributes[FILE] = one.file
        if one.end:
            attributes[TAKEN] = (one.end - one.start) / 1e9
        found.append(Event(TEMPLATE, one.start, attributes))
    return found
