# ruff: noqa: INP001, RUF001 - a script, not a package; and it writes Chinese
"""Write the parts of the reference that the code knows: ``make reference``.

A page has them between ``<!-- generated: NAME -->`` and ``<!-- end -->``. What a table says of a
header, an attribute or a command is taken from a running application, or from the code itself; what
the words beside it are, if the code has none, is in this file. ``tests/docs/test_reference.py``
fails for a page that says something else.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from flask import Flask, g, request
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from werkzeug.middleware.proxy_fix import ProxyFix

import flask_bodytrace
from flask_bodytrace import BodyTrace
from flask_bodytrace.cli import bodytrace as commands
from flask_bodytrace.settings import keys
from flask_bodytrace.testing import capture_spans
from flask_bodytrace.trace.headers import FORMS

DOCS = Path(__file__).parent
PAGES = (
    "../README.md",
    "../README.zh.md",
    "settings.md",
    "metrics.md",
    "performance.md",
    "cli.md",
    "reference/headers.md",
    "reference/attributes.md",
    "reference/api.md",
)
_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_CALLER = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


# Settings


def settings() -> str:
    """Every setting, as `flask_bodytrace.settings` has it."""
    rows = []
    for key, about in keys().items():
        default = about["default"]
        if isinstance(default, bool):
            shown = "on" if default else "off"
        elif isinstance(default, tuple):
            shown = ",".join(default)
        else:
            shown = str(default) if default not in ("", None, {}) else ""
        doc = about["doc"] + (" (secret)" if about["secret"] else "")
        rows.append((f"`{key}`", f"`{shown}`" if shown else "", about["unit"], doc))
    return table(("key", "default", "unit", "what it does"), rows)


# What a request leaves


def _exercised() -> tuple[Flask, InMemoryMetricReader]:
    """An application that does everything once, and its metrics."""
    reader = InMemoryMetricReader()
    app = Flask("reference")
    BodyTrace(
        app,
        tracer_provider=TracerProvider(),
        meter_provider=MeterProvider(metric_readers=[reader]),
        ids={"order.id": ["orderId", "query:order"]},
        capture_body="always",
        capture_response="always",
        capture_limit=64,
        memory_limit=1024,
        body_limit="64KiB",
        response_headers=FORMS,
        incoming=lambda environ: "link" if "link" in environ["QUERY_STRING"] else "continue",
    )
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    app.logger.disabled = True  # one of the requests fails

    @app.route("/orders", methods=["GET", "POST"])
    def orders() -> dict[str, Any]:
        if "fail" in request.args:
            raise ValueError
        while request.stream.read(512):
            pass
        return {"bytes": len(request.get_data()), "ids": dict(g.trace.ids), "long": "x" * 100}

    return app, reader


def _exercise(app: Flask) -> list[Any]:
    """Send it requests of every kind; the answers."""
    client = app.test_client()
    peer = {"REMOTE_PORT": "4711"}
    return [
        client.get("/orders?order=ORD1", headers=_CALLER, environ_base=peer),
        client.get("/orders?link=1", headers=_CALLER),
        client.get("/orders?fail=1"),
        client.open("/orders", method="BREW"),
        client.post("/orders", json={"orderId": "ORD1", "more": "y" * 200}),
        client.post("/orders", data=b"{", content_type="application/json"),
        client.post("/orders", data=b"\x1f", headers={"Content-Encoding": "gzip"}, json=None),
        client.post(
            "/orders",
            data=b"x",
            content_type="application/json",
            headers={"Content-Encoding": "gzip"},
        ),
        client.post("/orders", data=b"z" * 4096),
        client.post("/orders", data=b"z" * 100_000),
    ]


ATTRIBUTES = {
    "http.request.method": "the method; `_OTHER` for one that is not known",
    "http.request.method_original": "what `_OTHER` was, up to 32 characters",
    "url.scheme": "`http` or `https`; what `ProxyFix` made of it",
    "url.path": "the path as it came",
    "url.query": "the query, values of secret names replaced by `REDACTED`",
    "server.address": "the host of `Host`, or the server's own",
    "server.port": "its port, if it is not the scheme's usual one",
    "user_agent.original": "`User-Agent`, up to 1,024 characters",
    "network.protocol.version": "`1.0`, `1.1`, `2` or `3`",
    "client.address": "the client; behind `ProxyFix` the one that the proxy names",
    "network.peer.address": "who is at the other end of the socket: client or proxy",
    "network.peer.port": "its port, where the server tells",
    "http.route": "the URL rule; missing where none matched",
    "http.response.status_code": "the status; missing where the application raised",
    "error.type": "the status of a 5xx, or the class of an exception that reached the server",
    "order.id": "and the like: the ids of `BODYTRACE_IDS`, under the names given there",
    "bodytrace.ids.unread": (
        "why a body was not searched for ids to its end: `encoded`, `too_large`, `unparsed`, "
        "`unreadable`"
    ),
    "bodytrace.kept": "`error`, `slow` or `id`: why a request that was not sampled is exported",
    "http.request.body.size": "bytes, where bodies are captured",
    "http.request.body.content": "the captured body, without secrets",
    "http.request.header.content-type": "its media type, where bodies are captured",
    "bodytrace.request.body.truncated": "true if the content was cut at `BODYTRACE_CAPTURE_LIMIT`",
    "bodytrace.request.body.unparsed": (
        "true if the body is not what its media type says, or has no structure to go by"
    ),
    "http.response.body.size": "bytes, where answers are captured",
    "http.response.body.content": "the captured beginning of the answer, without secrets",
    "http.response.header.content-type": "its media type, where answers are captured",
    "bodytrace.response.body.truncated": "true if the content was cut",
    "bodytrace.response.body.unparsed": "as for the request",
}
"""What the attributes of the server span say, in the order of the page."""


def observed_attributes() -> set[str]:
    """The attributes of the spans that `_exercise` leaves, and of one that was kept."""
    app, _ = _exercised()
    kept = Flask("kept")
    provider = TracerProvider(sampler=ALWAYS_OFF)
    BodyTrace(kept, tracer_provider=provider, keep="errors", metrics=False)
    with capture_spans() as spans:
        _exercise(app)
        kept.test_client().get("/nowhere")
    return {name for span in spans.finished for name in span.attributes or {}}


def attributes() -> str:
    """The table of attributes."""
    rows = [(f"`{name}`", says) for name, says in ATTRIBUTES.items()]
    return table(("attribute", "what it says"), rows)


# Headers

RECEIVED = (
    ("`traceparent`, `tracestate`", "the caller's trace (W3C), if `BODYTRACE_INCOMING` lets it"),
    ("`baggage`", "W3C baggage, under `continue`"),
    ("`X-Trace-ID`", "32 hex digits or a UUID: the caller's trace; anything else: correlation id"),
    ("`X-Span-ID`", "the caller's span, beside `X-Trace-ID`"),
    ("others", "whatever the propagators of `OTEL_PROPAGATORS` read (b3, jaeger, xray, …)"),
)
WRITTEN = {
    "X-Trace-ID": ("x-trace", "the trace, 32 hex digits"),
    "X-Span-ID": ("x-trace", "the span that answered, 16 hex digits"),
    "X-Parent-Span-ID": ("x-trace", "its parent; left out where the trace starts"),
    "Server-Timing": (
        "server-timing",
        '`traceparent;desc="00-…"`; with `BODYTRACE_RELAY_CALLS` a `call` for each span below',
    ),
    "traceresponse": ("traceresponse", "`00-<trace>-<span>-<flags>`"),
    "Access-Control-Expose-Headers": ("any", "names those above, on answers to CORS requests"),
}
"""Headers that answers get: form, and what it says."""


def observed_headers() -> set[str]:
    """The headers that answers have with the extension and do not have without it."""
    app, _ = _exercised()
    app.after_request(_allow_cors)
    plain = Flask("plain")
    plain.add_url_rule("/orders", "orders", dict)
    plain.after_request(_allow_cors)
    without = set(plain.test_client().get("/orders").headers.keys())
    return set(app.test_client().get("/orders", headers=_CALLER).headers.keys()) - without


def _allow_cors(response: Any) -> Any:
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response


def headers() -> str:
    """The tables of headers."""
    written = [(f"`{name}`", f"`{form}`", says) for name, (form, says) in WRITTEN.items()]
    return (
        "On requests:\n\n"
        + table(("header", "what it says"), RECEIVED)
        + "\n\nOn answers, as `BODYTRACE_RESPONSE_HEADERS` chooses:\n\n"
        + table(("header", "form", "what it says"), written)
    )


# Metrics

_KINDS = {"Histogram": "histogram", "Sum": "counter"}


def metrics() -> str:
    """Name, kind, unit, description and attributes of what `_exercise` records."""
    app, reader = _exercised()
    _exercise(app)
    rows = []
    data = reader.get_metrics_data()
    assert data is not None
    for metric in (
        metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ):
        kind = _KINDS[type(metric.data).__name__]
        if kind == "counter" and not metric.data.is_monotonic:  # type: ignore[union-attr]
            kind = "up-down counter"
        points = metric.data.data_points
        names = sorted({name for point in points for name in point.attributes or {}})
        shown = ", ".join(f"`{name}`" for name in names)
        rows.append((f"`{metric.name}`", f"{kind}, {metric.unit}", metric.description or "", shown))
    return table(("name", "kind, unit", "what it counts", "attributes"), sorted(rows))


# Commands


def options() -> str:
    """Every command with its arguments and options, as ``--help`` has them."""
    rows = []
    for name, command in sorted(commands.commands.items()):
        takes = []
        for parameter in command.params:
            is_option = isinstance(parameter, click.Option)
            shown = parameter.opts[0] if is_option else parameter.human_readable_name
            default = parameter.default
            is_told = isinstance(default, str | int | float) and not isinstance(default, bool)
            takes.append(f"`{shown}` ({default})" if is_told else f"`{shown}`")
        doc = inspect.cleandoc(command.help or "").partition("\n\n")[0]
        rows.append((f"`{name}`", ", ".join(takes), doc))
    return table(("command", "arguments and options (defaults)", "what it does"), rows)


# API

API = {
    "flask_bodytrace": tuple(name for name in flask_bodytrace.__all__ if name != "__version__"),
    "flask_bodytrace.audit": ("BodyCapture", "Redactor"),
    "flask_bodytrace.client": ("CallTree", "watch", "unwatch"),
    "flask_bodytrace.logs": ("TraceLogFilter", "add_trace_fields", "fields", "uninstall"),
    "flask_bodytrace.otlp.exporter": ("OTLPSpanExporter",),
    "flask_bodytrace.tasks": ("TaskTrace", "in_task", "task_headers"),
    "flask_bodytrace.tasks.celery": ("trace_tasks",),
    "flask_bodytrace.tasks.rq": ("TracedJob",),
    "flask_bodytrace.testing": (
        "SpanRecorder",
        "TracingClient",
        "capture_spans",
        "deterministic_ids",
        "tracing_client",
    ),
    "flask_bodytrace.wsgi": ("BodyTraceMiddleware",),
}
"""What is public, by module."""


def api() -> str:
    """A table of what is public, and for the site each docstring."""
    rows, parts = [], []
    for module_name, names in API.items():
        module = importlib.import_module(module_name)
        parts.append(f"## {module_name}\n")
        for name in names:
            doc = inspect.getdoc(getattr(module, name)) or ""
            rows.append((f"`{module_name}`", f"`{name}`", doc.partition("\n\n")[0]))
            parts.append(f"::: {module_name}.{name}\n")
    return table(("module", "name", "what it is"), rows) + "\n\n" + "\n".join(parts)


# Costs

_SUBJECTS = (
    # Its row in RESULTS.md where spans are exported and where they are discarded, "" if it is not
    # in it; its name in English and in Chinese.
    (
        "OTel Flask, otlp over HTTP",
        "OpenTelemetry Flask instrumentation",
        "OpenTelemetry's Flask instrumentation",
        "OpenTelemetry 的 Flask 插桩",
    ),
    ("OTel Flask, fastotel", "", "the same, exporter fastotel", "同上，导出器 fastotel"),
    (
        "flask_bodytrace",
        "flask_bodytrace, defaults and two ids",
        "**flask_bodytrace**, two ids",
        "**flask_bodytrace**，两个 ID",
    ),
    (
        "flask_bodytrace, every feature on but captured bodies",
        "flask_bodytrace, every feature on but captured bodies",
        "**flask_bodytrace**, every feature on but captured bodies",
        "**flask_bodytrace**，除记录正文外全部功能打开",
    ),
    (
        "flask_bodytrace, every feature on",
        "flask_bodytrace, every feature on",
        "**flask_bodytrace**, every feature on",
        "**flask_bodytrace**，全部功能打开",
    ),
    ("", "hand-written span", "a span and two ids by hand", "手写的 span 加两个 ID"),
    (
        "elastic-apm, bodies captured",
        "elastic-apm, bodies captured",
        "elastic-apm, bodies captured",
        "elastic-apm，记录请求体",
    ),
    ("sentry-sdk", "sentry-sdk", "sentry-sdk", "sentry-sdk"),
    ("ddtrace", "ddtrace", "ddtrace", "ddtrace"),
)


def _measured(part: str, name: str) -> list[str]:
    """The cells of a row of RESULTS.md, below a heading; none if it is not there."""
    results = (DOCS.parent / "benchmarks/RESULTS.md").read_text("utf-8")
    below = results.partition(f"\n{part}\n")[2].partition("\n#")[0]
    row = name and re.search(rf"^\| {re.escape(name)} \|(.*)\|$", below, re.MULTILINE)
    return [cell.strip() for cell in row[1].split("|")] if row else []


def _costs(head: tuple[str, ...], language: int) -> str:
    rows = []
    for subject in _SUBJECTS:
        exported = _measured("## Per request, exported", subject[0])
        sampled = _measured("### Sampled", subject[1])
        unsampled = _measured("### Unsampled (incoming flags 00)", subject[1])
        shown = [f"{float(row[0]):.0f}" if row else "" for row in (exported, sampled, unsampled)]
        ratio = exported[1] if exported else ""
        rows.append((subject[language], shown[0], ratio, *shown[1:]))
    left = "| --- | --- | --- | --- | --- |"
    return table(head, rows).replace(left, "| --- | --: | --: | --: | --: |")


def _saturated() -> tuple[str, str]:
    """Of bare requests a second, all exported: ours and OpenTelemetry's."""
    server = "### 100 % sampled and exported, to a sink on the core of wrk"
    ours = _measured(server, "flask_bodytrace, defaults and two ids")
    theirs = _measured(server, "OpenTelemetry Flask instrumentation, otlp over HTTP")
    return f"{float(ours[1]):.2f}", f"{float(theirs[1]):.2f}"


def costs() -> str:
    """The README's comparison, from benchmarks/RESULTS.md."""
    ours, theirs = _saturated()
    head = ("", "exported, us", "of OpenTelemetry's", "discarded, us", "not sampled, us")
    return f"""{_costs(head, 2)}

Under gunicorn at saturation, all exported: {ours} of bare Flask's requests per second, where
OpenTelemetry's instrumentation leaves {theirs}."""


def costs_zh() -> str:
    """The same in Chinese."""
    ours, theirs = _saturated()
    head = ("", "导出，微秒", "与 OpenTelemetry 之比", "丢弃，微秒", "未采样，微秒")
    return f"""{_costs(head, 3)}

在 gunicorn 满载、全部导出的情况下，每秒请求数是裸 Flask 的 {ours}，而 OpenTelemetry 的插桩只剩
{theirs}。"""


_AGENTS = ("Moesif", "Apitally", "Monoscope", "ReadMe", "ReadMe, in batches of 100", "Hypertrace")


def capturing() -> str:
    """What captured bodies cost beside other agents, from benchmarks/RESULTS.md."""
    costs, secrets = "## Bodies captured", "## Secrets in captured bodies"
    over = _measured(costs, "capturing, over the same without")
    rows = [("capturing alone", *over[:2], "", "", "", "")]
    for name in ("flask_bodytrace", *_AGENTS):
        shares = _measured(costs, f"capturing alone, of {name}")[:2] or ["", ""]
        sent = _measured(secrets, name) or ["", ""]
        cost = _measured(costs, name)[:2] or ["", ""]
        rows.append((name, *cost, *shares, *sent))
    head = (
        *("", "1 KiB, us", "8 KiB, us", "our capturing, of it", "at 8 KiB"),
        *("secrets sent of JSON", "of any body"),
    )
    numbers = "| --- |" + " --: |" * 6
    return table(head, rows).replace("| --- |" + " --- |" * 6, numbers)


# Writing

PARTS: dict[str, Callable[[], str]] = {
    "settings": settings,
    "metrics": metrics,
    "options": options,
    "headers": headers,
    "attributes": attributes,
    "api": api,
    "costs": costs,
    "costs_zh": costs_zh,
    "capturing": capturing,
}


def rewritten(text: str) -> str:
    """A page with its generated parts as they should be."""
    return _PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]]().strip()}\n\n{part[3]}", text)


def parts_of(text: str) -> Iterator[str]:
    """The names of a page's generated parts."""
    return (match[2] for match in _PART.finditer(text))


def main() -> None:
    """Rewrite all pages."""
    for name in PAGES:
        page = DOCS / name
        page.write_text(rewritten(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
