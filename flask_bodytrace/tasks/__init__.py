"""Tasks that a request leaves to a worker: its trace and ids go along, by headers.

`task_headers` is what a message carries, `in_task` runs the task inside what it says. `celery` and
`rq` do both for these two libraries; for any other queue call them by hand.

Belongs here: what crosses a queue. Does not belong here: threads (`trace.carry`), and spans for
tasks, which OpenTelemetry's own instrumentations make.

Imported by applications and workers only.
"""

from __future__ import annotations

from .message import TaskTrace, in_task, task_headers

__all__ = ["TaskTrace", "in_task", "task_headers"]
