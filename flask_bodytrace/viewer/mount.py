"""The viewer inside an application, at ``/_bodytrace/``."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from flask import Flask
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from werkzeug.wrappers import Response

from .access import Access
from .collector import StoreProcessor, collect_logs
from .pages import Viewer
from .store import TraceStore

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from opentelemetry.trace import TracerProvider

    from flask_bodytrace.settings import Settings

PREFIX = "/_bodytrace"

_stores: WeakKeyDictionary[TracerProvider, TraceStore] = WeakKeyDictionary()
_lock = Lock()


def mount(app: Flask, settings: Settings, provider: TracerProvider) -> None:
    """Put the viewer in front of `app`, fed with the spans of `provider` and this process's logs.

    In front of everything, also of tracing: its requests never reach the application, and no
    instrumentation of it sees them. Applications of one provider share one store.
    """
    store = _store_of(provider, settings)
    viewer = Viewer(store, Access(settings.viewer_token))
    outer = app.__dict__.get("wsgi_app")
    own = type(app)
    app.__class__ = type(
        own.__name__,
        (_Viewed, own),
        {"__module__": own.__module__, "__doc__": own.__doc__, "_bodytrace_viewer": viewer},
    )
    if outer is not None:
        app.wsgi_app = partial(_dispatch, viewer, outer)  # type: ignore[method-assign]


class _Viewed(Flask):
    """Goes in front of an application's own class, as tracing itself does."""

    _bodytrace_viewer: Viewer

    def wsgi_app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return _dispatch(self._bodytrace_viewer, super().wsgi_app, environ, start_response)


def _dispatch(
    viewer: Viewer, app: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    path = environ.get("PATH_INFO", "")
    if not path.startswith(PREFIX):
        return app(environ, start_response)
    below = path[len(PREFIX) :]
    prefix = environ.get("SCRIPT_NAME", "") + PREFIX
    if not below:
        redirect = Response(status=308, headers={"Location": prefix + "/"})
        return redirect(environ, start_response)
    if not below.startswith("/"):
        return app(environ, start_response)
    return viewer({**environ, "SCRIPT_NAME": prefix, "PATH_INFO": below}, start_response)


def _store_of(provider: TracerProvider, settings: Settings) -> TraceStore:
    with _lock:
        store = _stores.get(provider)
        if store is None:
            store = _stores[provider] = TraceStore(business_ids=settings.ids)
            # A provider without an SDK records nothing that could be shown.
            if isinstance(provider, SdkTracerProvider):
                provider.add_span_processor(StoreProcessor(store))
            collect_logs(store)
    return store
