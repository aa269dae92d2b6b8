"""gunicorn's settings for a service: `gunicorn -c python:example_app.gunicorn_config …`.

What is given on the command line or in `GUNICORN_CMD_ARGS` counts more.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from example_app.process import READY, WITH_PARENT, until_abandoned
from example_app.serving import THREADS
from example_app.stopping import STOP_S

if TYPE_CHECKING:
    from gunicorn.workers.base import Worker

worker_class = "gthread"
threads = THREADS
loglevel = "warning"
# Requests under way may take as long to end as an orderly stop may; then gunicorn kills the worker.
graceful_timeout = STOP_S
# Its default place is one for all gunicorns of a user.
control_socket_disable = True


def post_worker_init(worker: Worker) -> None:
    """Say that a worker has its service; let it watch over whoever has started us, if told so."""
    print(READY, flush=True)
    if WITH_PARENT in os.environ:

        def watch() -> None:
            until_abandoned(sys.stdin.fileno())
            os.kill(worker.ppid, signal.SIGTERM)

        threading.Thread(target=watch, name="abandoned", daemon=True).start()
