"""RQ: a job's log records and `current_trace` know the request that it comes from.

For example::

    Queue(connection=redis, job_class=TracedJob)
    Worker(queues, connection=redis, job_class=TracedJob)

Both need it: the queue to send the trace, the worker to run inside it.
"""

from __future__ import annotations

from typing import Any

from rq.job import Job

from .message import in_task, task_headers

_META = "bodytrace"


class TracedJob(Job):
    """A job that carries the trace in its `meta`, and runs inside it."""

    @classmethod
    def create(cls, *args: Any, **kwargs: Any) -> Job:
        """As RQ's own."""
        kwargs["meta"] = {_META: task_headers(), **(kwargs.get("meta") or {})}
        return super().create(*args, **kwargs)

    def perform(self) -> Any:
        """Run the job, as RQ's own does."""
        found = self.meta.get(_META)
        with in_task(found if isinstance(found, dict) else {}):
            return super().perform()
