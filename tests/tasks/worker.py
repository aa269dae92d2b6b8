"""A Celery application and an RQ job, for a web process and its worker."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

from celery import Celery, signals

from flask_bodytrace import current_trace
from flask_bodytrace.tasks.celery import trace_tasks

FOLDER = os.environ.get("TASKS_FOLDER", "")
celery_app = Celery(
    "tasks", broker="filesystem://" if FOLDER else "memory://", backend="cache+memory://"
)
if FOLDER:
    celery_app.conf.broker_transport_options = {
        "data_folder_in": FOLDER,
        "data_folder_out": FOLDER,
        "control_folder": FOLDER + "/control",
    }
trace_tasks()


@signals.setup_logging.connect
def leave_logging_alone(**_: Any) -> None:
    """Else Celery sets up the logging of the whole process, other tests' included."""


_log = logging.getLogger("tests.tasks")
_log.setLevel(logging.INFO)


def told() -> dict[str, Any]:
    """What a log record made here says, and what `current_trace` knows."""
    kept: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = kept.append  # type: ignore[method-assign,assignment]
    _log.addHandler(handler)
    try:
        _log.warning("in a task")
    finally:
        _log.removeHandler(handler)
    (record,) = kept
    trace = current_trace()
    return {
        "record": [record.__dict__.get(name) for name in ("otelTraceID", "order.id")],
        "trace": None if trace is None else [trace.trace_id, dict(trace.ids)],
    }


@celery_app.task
def work() -> dict[str, Any]:
    return told()


@celery_app.task
def write(path: str) -> None:
    with open(path + ".part", "w") as file:  # noqa: PTH123
        json.dump(told(), file)
    os.replace(path + ".part", path)  # noqa: PTH105 - seen whole or not at all


def job(path: str) -> None:
    write.run(path)
