"""The viewer as one WSGI application: its pages, and the OTLP receiver where it has one.

Werkzeug and Jinja only, no Flask application: nothing that instruments Flask, ours included, sees
its requests. Everything that comes from a span is escaped by Jinja, and a Content-Security-Policy
forbids scripts and styles other than the viewer's own files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, RequestRedirect, Rule
from werkzeug.wrappers import Request, Response

from flask_bodytrace.viewer.access import Access
from flask_bodytrace.viewer.receiver import receive
from flask_bodytrace.viewer.store import TraceStore

from . import (
    changes,
    compare,
    events,
    files,
    flame,
    imports,
    login,
    logs,
    look,
    metrics,
    routes,
    service_map,
    span,
    take_away,
    trace,
    traces,
    work,
)
from .site import Site, Visit

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_MAX_FORM = 4096
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_ONE = "/trace/<trace_id>"
_PAGES: tuple[tuple[str, str, Callable[..., Response]], ...] = (
    ("/", "traces", traces.traces),
    ("/traces.json", "traces_json", traces.as_json),
    ("/otlp.json", "otlp_list", traces.export),
    ("/import", "import", imports.take_in),
    ("/map", "map", service_map.service_map),
    ("/routes", "routes", routes.routes),
    ("/routes/flame", "flame_route", flame.of_route),
    ("/logs", "logs", logs.logs),
    ("/metrics", "metrics", metrics.metrics),
    ("/compare", "compare", compare.side_by_side),
    (_ONE, "trace", trace.trace),
    (f"{_ONE}/flame", "flame", flame.of_trace),
    (f"{_ONE}/work", "work", work.work),
    (f"{_ONE}/find.json", "find", trace.find),
    (f"{_ONE}/span/<span_id>", "span", span.span),
    (f"{_ONE}/export", "export", take_away.take_away),
    (f"{_ONE}/otlp.json", "otlp", take_away.otlp),
    (f"{_ONE}/mermaid.mmd", "mermaid", take_away.mermaid),
    (f"{_ONE}/curl.sh", "curl", take_away.curl),
    (f"{_ONE}/httpie.sh", "httpie", take_away.httpie),
    (f"{_ONE}/python.py", "python", take_away.python),
    ("/version", "version", changes.version),
    ("/events", "events", events.events),
    ("/changed.json", "changed", changes.changed),
    ("/look", "look", look.look),
    ("/login", "login", login.login),
    ("/static/<name>", "static", files.static),
)
_FORMS = frozenset({"import", "login"})
_FOR_EVERYBODY = frozenset({"login", "look", "static"})
_URLS = Map(
    [
        Rule(path, endpoint=name, methods=["GET", "POST"] if name in _FORMS else ["GET"])
        for path, name, _ in _PAGES
    ]
)
_ANSWERS = {name: answer for _, name, answer in _PAGES}
_SIGNALS = {"/v1/traces": "traces", "/v1/logs": "logs", "/v1/metrics": "metrics"}


class Viewer:
    """The WSGI application.

    :param store: the traces to show.
    :param access: who may see them.
    :param receives: whether to take OTLP at ``/v1/traces``, ``/v1/logs`` and ``/v1/metrics``.
    """

    def __init__(self, store: TraceStore, access: Access, *, receives: bool = False) -> None:
        self._site = Site(store, access, receives=receives)
        self.streams = self._site.streams

    @property
    def access(self) -> Access:
        """Who may see them."""
        return self._site.access

    @property
    def store(self) -> TraceStore:
        """The traces to show."""
        return self._site.store

    @store.setter
    def store(self, store: TraceStore) -> None:
        self._site.store = store

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        request.max_content_length = _MAX_FORM
        response = self._respond(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response(environ, start_response)

    def _respond(self, request: Request) -> Response:
        signal = _SIGNALS.get(request.path) if self._site.receives else None
        visit = Visit(self._site, request, _URLS.bind_to_environ(request.environ))
        is_allowed = self._site.access.allows(request.environ)
        if is_allowed and signal is not None:
            request.max_content_length = None
            return receive(self.store, signal, request)
        try:
            name, arguments = visit.urls.match()
            if is_allowed or (self._site.access.needs_token and name in _FOR_EVERYBODY):
                if name == "import":
                    request.max_content_length = None
                return _ANSWERS[name](visit, **arguments)
        except RequestRedirect as redirect:
            if is_allowed:
                return Response(status=308, headers={"Location": redirect.new_url})
        except HTTPException as error:
            if is_allowed:
                text = error.description
                return visit.page("error.html", error.code or 500, title=error.name, text=text)
        return self._refuse(visit, signal)

    def _refuse(self, visit: Visit, signal: str | None) -> Response:
        request = visit.request
        if not self._site.access.needs_token:
            text = (
                "The trace viewer answers on this machine only, under a loopback name such as\n"
                "localhost, and not through a proxy. To let others in, set "
                "BODYTRACE_VIEWER_TOKEN.\n"
            )
            return Response(text, 403, content_type="text/plain; charset=utf-8")
        seconds = self._site.access.wait(request.environ)
        if seconds and "Authorization" in request.headers:
            return login.too_many(seconds)
        if signal is None and request.accept_mimetypes.accept_html and request.method == "GET":
            return Response(status=303, headers={"Location": visit.urls.build("login")})
        text = "Send the viewer's token: Authorization: Bearer …\n"
        headers = {"WWW-Authenticate": "Bearer"}
        return Response(text, 401, headers, content_type="text/plain; charset=utf-8")
