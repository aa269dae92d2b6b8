"""The viewer as one WSGI application: its pages, and the OTLP receiver where it has one.

Werkzeug and Jinja only, no Flask application: nothing that instruments Flask, ours included, sees
its requests. Everything that comes from a span is escaped by Jinja, and a Content-Security-Policy
forbids scripts and styles other than the viewer's two files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from werkzeug.exceptions import HTTPException, NotFound, RequestEntityTooLarge
from werkzeug.routing import Map, MapAdapter, RequestRedirect, Rule
from werkzeug.wrappers import Request, Response

from . import display, export, otlp_writer
from .access import COOKIE, Access
from .chart import HEIGHT, bar, latency_chart, ticks
from .layout import BOX_HEIGHT, BOX_WIDTH, lay_out
from .model import KINDS, Span
from .receiver import receive
from .search import Filter
from .servicemap import count_calls
from .store import Trace, TraceStore
from .summary import root_of
from .terms import asking_for
from .waterfall import Row, Waterfall, waterfall

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_HERE = Path(__file__).parent
_ON_A_PAGE = 100
_COLOURS = 10
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
_STATIC = {
    "viewer.css": "text/css; charset=utf-8",
    "viewer.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_URLS = Map(
    [
        Rule("/", endpoint="traces", methods=["GET"]),
        Rule("/map", endpoint="map", methods=["GET"]),
        Rule("/trace/<trace_id>", endpoint="trace", methods=["GET"]),
        Rule("/trace/<trace_id>/span/<span_id>", endpoint="span", methods=["GET"]),
        Rule("/trace/<trace_id>/export", endpoint="export", methods=["GET"]),
        Rule("/trace/<trace_id>/otlp.json", endpoint="otlp", methods=["GET"]),
        Rule("/trace/<trace_id>/mermaid.mmd", endpoint="mermaid", methods=["GET"]),
        Rule("/trace/<trace_id>/curl.sh", endpoint="curl", methods=["GET"]),
        Rule("/version", endpoint="version", methods=["GET"]),
        Rule("/changed.json", endpoint="changed", methods=["GET"]),
        Rule("/login", endpoint="login", methods=["GET", "POST"]),
        Rule("/static/<name>", endpoint="static", methods=["GET"]),
    ]
)
_SIGNALS = {"/v1/traces": "traces", "/v1/logs": "logs", "/v1/metrics": "metrics"}


class Viewer:
    """The WSGI application.

    :param store: the traces to show.
    :param access: who may see them.
    :param receives: whether to take OTLP at ``/v1/traces`` and ``/v1/logs``.
    """

    def __init__(self, store: TraceStore, access: Access, *, receives: bool = False) -> None:
        self.store = store
        self._access = access
        self._receives = receives
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "duration": display.duration,
            "clock": display.clock,
            "day": display.day,
            "text": display.text,
            "asking": lambda pair: asking_for(*pair),
        }
        self._files = {name: (_HERE / "static" / name).read_bytes() for name in _STATIC}
        self._colours: dict[str, int] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        request.max_content_length = _MAX_FORM
        response = self._respond(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response(environ, start_response)

    def _respond(self, request: Request) -> Response:
        signal = _SIGNALS.get(request.path) if self._receives else None
        if not self._access.allows(request.environ):
            return self._refuse(request, signal)
        if signal is not None:
            request.max_content_length = None
            return receive(self.store, signal, request)
        urls = _URLS.bind_to_environ(request.environ)
        try:
            endpoint, arguments = urls.match()
            answer: Callable[..., Response] = getattr(self, f"_{endpoint}")
            return answer(request, urls, **arguments)
        except RequestRedirect as redirect:
            return Response(status=308, headers={"Location": redirect.new_url})
        except HTTPException as error:
            return self._error(urls, error)

    def _refuse(self, request: Request, signal: str | None) -> Response:
        urls = _URLS.bind_to_environ(request.environ)
        if not self._access.needs_token:
            text = (
                "The trace viewer answers on this machine only, under a loopback name such as\n"
                "localhost, and not through a proxy. To let others in, set "
                "BODYTRACE_VIEWER_TOKEN.\n"
            )
            return Response(text, 403, content_type="text/plain; charset=utf-8")
        if request.path.startswith("/static/") or request.path == "/login":
            try:
                endpoint, arguments = urls.match()
                answer: Callable[..., Response] = getattr(self, f"_{endpoint}")
                return answer(request, urls, **arguments)
            except HTTPException as error:
                return self._error(urls, error)
        if signal is None and request.accept_mimetypes.accept_html and request.method == "GET":
            return Response(status=303, headers={"Location": urls.build("login")})
        text = "Send the viewer's token: Authorization: Bearer …\n"
        headers = {"WWW-Authenticate": "Bearer"}
        return Response(text, 401, headers, content_type="text/plain; charset=utf-8")

    def _page(self, urls: MapAdapter, template: str, status: int = 200, **values: Any) -> Response:
        html = self._templates.get_template(template).render(
            url=partial(_link, urls),
            colour=self._colour,
            store=self.store,
            needs_token=self._access.needs_token,
            **values,
        )
        # Names may hold what no encoding does: half a surrogate pair.
        return Response(
            html.encode(errors="replace"), status, content_type="text/html; charset=utf-8"
        )

    def _colour(self, service: str) -> str:
        number = self._colours.setdefault(service, len(self._colours) % _COLOURS)
        if len(self._colours) > 10_000:
            self._colours.clear()
        return f"c{number}"

    def _error(self, urls: MapAdapter, error: HTTPException) -> Response:
        status = error.code or 500
        return self._page(urls, "error.html", status, title=error.name, text=error.description)

    # Pages

    def _traces(self, request: Request, urls: MapAdapter) -> Response:
        version = self.store.version
        everything = self.store.summaries()
        wanted = Filter.read(request.args)
        found = wanted.of(self.store, everything)
        page = max(request.args.get("page", 1, type=int), 1)
        start = (page - 1) * _ON_A_PAGE
        shown = found[start : start + _ON_A_PAGE]
        return self._page(
            urls,
            "traces.html",
            version=version,
            filter=wanted,
            found=len(found),
            total=len(everything),
            shown=shown,
            page=page,
            more=start + _ON_A_PAGE < len(found),
            chart=latency_chart(found[start:]),
            chart_height=HEIGHT,
            slowest=max((summary.duration for summary in shown), default=1) or 1,
            services=sorted({name for summary in everything for name in summary.services}),
        )

    def _map(self, request: Request, urls: MapAdapter) -> Response:
        trace_id = request.args.get("trace", "").lower()
        version = self._find(trace_id).version if trace_id else self.store.version
        spans = self._find(trace_id).spans if trace_id else self.store.spans()
        calls = count_calls(spans)
        return self._page(
            urls,
            "map.html",
            version=version,
            calls=calls,
            size=lay_out(calls.nodes, calls.edges),
            trace_id=trace_id,
            box=(BOX_WIDTH, BOX_HEIGHT),
        )

    def _trace(self, request: Request, urls: MapAdapter, trace_id: str) -> Response:
        del request
        trace = self._find(trace_id)
        whole = waterfall(trace.spans)
        services: dict[str, int] = {}
        for row in whole.rows:
            services[row.span.service] = services.get(row.span.service, 0) + row.own
        return self._page(
            urls,
            "trace.html",
            trace=trace,
            summary=trace.summary,
            whole=whole,
            bar=bar,
            ticks=ticks(whole),
            services=services,
            log_counts=Counter(log.span_id for log in trace.logs),
            kinds=KINDS,
        )

    def _span(self, request: Request, urls: MapAdapter, trace_id: str, span_id: str) -> Response:
        del request
        trace = self._find(trace_id)
        whole = waterfall(trace.spans)
        rows = list(whole.rows)
        place = next((i for i, row in enumerate(rows) if row.span.span_id == span_id), None)
        if place is None:
            raise NotFound("This span is not in the store, or no longer.")
        row = rows[place]
        exceptions = [event for event in row.span.events if event.name == "exception"]
        return self._page(
            urls,
            "span.html",
            trace=trace,
            summary=trace.summary,
            whole=whole,
            row=row,
            span=row.span,
            bar=bar(row, whole),
            kind=KINDS[row.span.kind],
            parent=_parent(row, whole),
            children=[
                other for other in rows if other.span.parent_id == span_id and other is not row
            ],
            previous=rows[place - 1].span if place else None,
            next=rows[place + 1].span if place + 1 < len(rows) else None,
            exceptions=exceptions,
            logs=[log for log in trace.logs if log.span_id == span_id],
            known={link.trace_id: self.store.trace(link.trace_id) for link in row.span.links},
        )

    def _export(self, request: Request, urls: MapAdapter, trace_id: str) -> Response:
        del request
        trace = self._find(trace_id)
        return self._page(
            urls,
            "export.html",
            trace=trace,
            summary=trace.summary,
            mermaid=export.mermaid(trace.spans),
            curl=_curl(trace),
            otlp=otlp_writer.to_json(trace.spans),
        )

    # For programs

    def _otlp(self, request: Request, urls: MapAdapter, trace_id: str) -> Response:
        del request, urls
        text = otlp_writer.to_json(self._find(trace_id).spans)
        return Response(text, content_type="application/json")

    def _mermaid(self, request: Request, urls: MapAdapter, trace_id: str) -> Response:
        del request, urls
        text = export.mermaid(self._find(trace_id).spans)
        return Response(text, content_type="text/plain; charset=utf-8")

    def _curl(self, request: Request, urls: MapAdapter, trace_id: str) -> Response:
        del request, urls
        text = _curl(self._find(trace_id))
        if text is None:
            raise NotFound("This trace does not start with an HTTP request.")
        return Response(text, content_type="text/plain; charset=utf-8")

    def _version(self, request: Request, urls: MapAdapter) -> Response:
        """What a page asks every second: one number."""
        del urls
        trace_id = request.args.get("trace")
        if trace_id:
            trace = self.store.trace(trace_id)
            version = trace.version if trace is not None else 0
        else:
            version = self.store.version
        return Response(str(version), content_type="text/plain")

    def _changed(self, request: Request, urls: MapAdapter) -> Response:
        """The traces that changed after a version: what ``flask bodytrace tail`` asks."""
        del urls
        version = self.store.version
        found = self.store.summaries(after=request.args.get("after", 0, type=int))
        traces = [
            {
                "traceId": summary.trace_id,
                "complete": summary.complete,
                "spans": summary.spans,
                "quietSeconds": round(self.store.quiet(summary.trace_id), 3),
            }
            for summary in found
        ]
        body = {"version": version, "traces": traces}
        return Response(json.dumps(body), content_type="application/json")

    # The rest

    def _login(self, request: Request, urls: MapAdapter) -> Response:
        wrong = False
        if request.method == "POST" and self._access.wait:
            text = "Too many wrong tokens: wait a minute.\n"
            headers = {"Retry-After": str(self._access.wait)}
            return Response(text, 429, headers, content_type="text/plain; charset=utf-8")
        if request.method == "POST":
            try:
                token = request.form.get("token", "")
            except RequestEntityTooLarge:
                token = ""
            if self._access.accepts(token):
                response = Response(status=303, headers={"Location": urls.build("traces")})
                response.set_cookie(
                    COOKIE,
                    self._access.cookie,
                    path=urls.build("traces"),
                    secure=request.is_secure,
                    httponly=True,
                    samesite="Strict",
                )
                return response
            wrong = True
        return self._page(urls, "login.html", 403 if wrong else 200, wrong=wrong)

    def _static(self, request: Request, urls: MapAdapter, name: str) -> Response:
        del urls
        if name not in self._files:
            raise NotFound
        response = Response(self._files[name], content_type=_STATIC[name])
        response.headers["Cache-Control"] = "no-cache"
        response.add_etag()
        return response.make_conditional(request)

    def _find(self, trace_id: str) -> Trace:
        trace = self.store.trace(trace_id.lower())
        if trace is None:
            raise NotFound(
                "This trace is not in the store. It was never received, or it was the oldest when "
                "room was needed."
            )
        return trace


def _parent(row: Row, whole: Waterfall) -> Span | None:
    return next((o.span for o in whole.rows if o.span.span_id == row.span.parent_id), None)


def _curl(trace: Trace) -> str | None:
    return export.curl(root_of({span.span_id: span for span in trace.spans}))


def _link(urls: MapAdapter, page: str, arguments: Mapping[str, Any] | None = None) -> str:
    """The address of a page; what no encoding holds, half a surrogate pair, becomes ``?``."""
    encodable = {
        name: value.encode(errors="replace").decode() if isinstance(value, str) else value
        for name, value in (arguments or {}).items()
    }
    return urls.build(page, encodable)
