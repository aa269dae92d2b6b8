"""Celery: a task's log records and `current_trace` know the request that it comes from.

    from flask_bodytrace.tasks.celery import trace_tasks
    trace_tasks()

Once in the web process and once in the worker, before tasks are sent or run.
"""

from __future__ import annotations

from contextvars import Token
from typing import Any

from celery import signals
from opentelemetry.context import Context

from flask_bodytrace.log_once import LogOnce
from flask_bodytrace.otel.context import attach, detach

from .message import context_of, task_headers

_report = LogOnce("a task's trace is lost at '%s'; the task runs without it")
_HEADERS = "bodytrace"
"""The one header of a Celery message that holds all of ours."""
_running: dict[str, Token[Context]] = {}


def trace_tasks() -> None:
    """Send the trace along with every task, and run every task inside it. Further calls do nothing.

    OpenTelemetry's own Celery instrumentation may be on as well: its spans stay the current ones.
    """
    signals.before_task_publish.connect(_before_publish, dispatch_uid="flask_bodytrace")
    signals.task_prerun.connect(_before_run, dispatch_uid="flask_bodytrace")
    signals.task_postrun.connect(_after_run, dispatch_uid="flask_bodytrace")


def _before_publish(headers: dict[str, Any] | None = None, **_: Any) -> None:
    try:
        if headers is not None and (found := task_headers()):
            headers.setdefault(_HEADERS, found)
    except Exception:  # noqa: BLE001 - the task is sent all the same
        _report("publish")


def _before_run(task_id: str = "", task: Any = None, **_: Any) -> None:
    try:
        request = task.request
        found = (request.headers or {}).get(_HEADERS) or getattr(request, _HEADERS, None)
        if isinstance(found, dict):
            _running[task_id] = attach(context_of(found))
    except Exception:  # noqa: BLE001 - the task runs all the same
        _report("prerun")


def _after_run(task_id: str = "", **_: Any) -> None:
    token = _running.pop(task_id, None)
    if token is not None:
        try:
            detach(token)
        except ValueError:
            # Other instrumentation has moved on to a context of its own.
            _report("postrun")
