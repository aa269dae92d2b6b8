"""The viewer inside an application, at ``/_bodytrace/``."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from threading import Lock
from typing import TYPE_CHECKING

from flask import Flask
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from werkzeug.wrappers import Response

from flask_bodytrace.otel.registry import IdentityRegistry

from . import handover, sql_notes, template_notes
from .access import Access
from .collector import StoreProcessor, collect_logs
from .pages import Viewer
from .store import TraceStore

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from opentelemetry.trace import TracerProvider

    from flask_bodytrace.settings import Settings

PREFIX = "/_bodytrace"

_stores: IdentityRegistry[TracerProvider, TraceStore] = IdentityRegistry()
_lock = Lock()
_log = logging.getLogger("flask_bodytrace")


def mount(app: Flask, settings: Settings, provider: TracerProvider) -> None:
    """Put the viewer in front of `app`, fed with the spans of `provider` and this process's logs.

    In front of everything, also of tracing: its requests never reach the application, and no
    instrumentation of it sees them. Applications of one provider share one store.

    Outside of debug mode it asks for a token: a proxy that says nothing of itself would make
    everybody look like this machine. Without one in the settings it makes one, and logs it.
    """
    token = settings.viewer_token
    if not token and not app.debug:
        token = secrets.token_urlsafe(24)
        _log.warning(
            "the trace viewer of %r at %s/ asks for this token: %s (BODYTRACE_VIEWER_TOKEN sets "
            "one that stays)",
            app.name,
            PREFIX,
            token,
        )
    viewer = Viewer(_store_of(provider, settings), Access(token))
    # An open page must not fill the terminal. Added twice, a filter is there once.
    logging.getLogger("werkzeug").addFilter(_not_ours)
    template_notes.watch(app)
    app.wsgi_app = ViewerMount(app.wsgi_app, viewer)  # type: ignore[method-assign]


class ViewerMount:
    """The WSGI object that answers below `PREFIX`, and hands everything else on."""

    def __init__(self, app: WSGIApplication, viewer: Viewer) -> None:
        self.app = app
        self._viewer = viewer
        self._listens = sql_notes.listen()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if not self._listens:
            # An application may load SQLAlchemy after the extension, or never.
            self._listens = sql_notes.listen()
        path = environ.get("PATH_INFO", "")
        below = path.removeprefix(PREFIX)
        if below == path or (below and not below.startswith("/")):
            return self.app(environ, start_response)
        prefix = environ.get("SCRIPT_NAME", "") + PREFIX
        if not below:
            redirect = Response(status=308, headers={"Location": prefix + "/"})
            return redirect(environ, start_response)
        return self._viewer({**environ, "SCRIPT_NAME": prefix, "PATH_INFO": below}, start_response)


class _NotOurs(logging.Filter):
    """Leaves the viewer's own requests out of the log of Werkzeug's server."""

    def filter(self, record: logging.LogRecord) -> bool:
        arguments = record.args if isinstance(record.args, tuple) else ()
        return not any(f" {PREFIX}/" in str(argument) for argument in arguments[:3])


_not_ours = _NotOurs()


def _store_of(provider: TracerProvider, settings: Settings) -> TraceStore:
    with _lock:
        store = _stores.get(provider)
        if store is None:
            store = _stores.get_or_make(provider, lambda: TraceStore(business_ids=settings.ids))
            handover.keep(store)
            # A provider without an SDK records nothing that could be shown.
            if isinstance(provider, SdkTracerProvider):
                provider.add_span_processor(StoreProcessor(store))
            collect_logs(store)
    return store
