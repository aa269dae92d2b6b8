"""gunicorn's settings for a service: `gunicorn -c python:example_app.gunicorn_config …`.

What is given on the command line or in `GUNICORN_CMD_ARGS` counts more.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from example_app.bootstrap import Surroundings
from example_app.metrics.exposition import FOLDER
from example_app.process import WITH_PARENT, say_ready, until_abandoned
from example_app.serving import THREADS
from example_app.stopping import STOP_S

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

worker_class = "gthread"
threads = THREADS
loglevel = "warning"
# Longer than callers keep a connection that is not used (httpx: 5 s): who closes first must not be
# the one that a request is just on its way to.
keepalive = 15
# Requests under way may take as long to end as an orderly stop may; then gunicorn kills the worker.
graceful_timeout = STOP_S
# Its default place is one for all gunicorns of a user.
control_socket_disable = True


def on_starting(server: Arbiter) -> None:
    """Give the workers an empty folder for the metrics that they have in common."""
    if FOLDER not in os.environ:
        service = server.cfg.default_proc_name.rpartition(":")[2]
        os.environ[FOLDER] = str(Surroundings.from_environment().data / "metrics" / service)
    folder = Path(os.environ[FOLDER])
    folder.mkdir(parents=True, exist_ok=True)
    # What is left there is of workers that do not run any more.
    for file in folder.glob("*.db"):
        file.unlink()


def child_exit(_server: Arbiter, worker: Worker) -> None:
    """Forget what a worker that has ended had at the moment; what it has counted, counts."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call] # half of it has types


def post_worker_init(worker: Worker) -> None:
    """Say that a worker has its service; let it watch over whoever has started us, if told so."""
    say_ready()
    if WITH_PARENT in os.environ:

        def watch() -> None:
            until_abandoned(sys.stdin.fileno())
            # gunicorn itself may have been killed before; then the worker sees that, and ends.
            with suppress(ProcessLookupError):
                os.kill(worker.ppid, signal.SIGTERM)

        threading.Thread(target=watch, name="abandoned", daemon=True).start()
