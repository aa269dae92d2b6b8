"""Setting metrics up where a process begins, and `/metrics`."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

from opentelemetry.metrics import set_meter_provider

from example_app.metrics.pool import count_threads
from example_app.metrics.process_figures import observe_process
from example_app.serving import THREADS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from example_app.metrics.provider import PrometheusMeterProvider

PATH = "/metrics"
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the folder which gunicorn's workers have in common."""

_OBSERVE_EVERY_S = 2.0
_log = logging.getLogger(__name__)


class Exposition:
    """The metrics of this process and of its siblings; made before any instrument is.

    Another provider that the environment asks for (`OTEL_METRICS_EXPORTER`) gets what the services
    record; then only what the process costs is here.
    """

    def __init__(self) -> None:
        # Only now: it looks at its environment variable when it is imported.
        from prometheus_client import CollectorRegistry, make_wsgi_app
        from prometheus_client.multiprocess import MultiProcessCollector

        from example_app.metrics.provider import PrometheusMeterProvider

        own = CollectorRegistry()
        self._provider: PrometheusMeterProvider = PrometheusMeterProvider(own)
        if os.environ.get("OTEL_METRICS_EXPORTER", "none") == "none":
            set_meter_provider(self._provider)
        observe_process(self._provider.get_meter("process"))
        count_threads("http", THREADS)
        exposed = own
        if FOLDER in os.environ:
            exposed = CollectorRegistry()
            MultiProcessCollector(exposed)  # type: ignore[no-untyped-call] # half of it has types
        self._answer: WSGIApplication = make_wsgi_app(exposed)
        self._provider.observe()
        # Not when it is scraped: a sibling may answer that, and a database that hangs may be asked.
        threading.Thread(target=self._observe, name="metrics", daemon=True).start()

    def beside(self, app: WSGIApplication) -> WSGIApplication:
        """Return the application that answers `/metrics`, and else is `app`."""

        def dispatch(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            chosen = self._answer if environ.get("PATH_INFO") == PATH else app
            return chosen(environ, start_response)

        return dispatch

    def _observe(self) -> None:
        pause = threading.Event()
        while not pause.wait(_OBSERVE_EVERY_S):
            try:
                self._provider.observe()
            except Exception as error:  # noqa: BLE001 - whatever a callback raises
                _log.warning("some metrics are old: %s: %s", type(error).__name__, error)
