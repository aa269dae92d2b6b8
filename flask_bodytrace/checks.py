"""What may be wrong with an application's set-up, in words; for ``flask bodytrace``."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from opentelemetry import propagate
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import ProxyTracerProvider, get_tracer_provider

from .ids.rules import is_late, source_name
from .otel.processors import exporter_of, is_disabled, processors_of

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.routing import Rule

    from .extension import State
    from .settings import Settings

_BODY_METHODS = {"POST", "PUT", "PATCH", "DELETE", "QUERY"}
_CONNECT_SECONDS = 1.0
_ARGUMENT = re.compile(r"<(?:(\w+)(?:\((.*?)\))?:)?\w+>")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: an error stops spans or bodies, a warning may be intended."""

    level: Literal["error", "warning"]
    text: str


def findings(app: Flask, state: State) -> list[Finding]:
    """Everything found, errors first."""
    if state.plan is None:
        return [Finding("warning", "BODYTRACE_ENABLED is off: the application is left untouched")]
    found = [
        *_provider(state.plan.provider, keeps=state.plan.keeps is not None),
        *_fast_path(state.plan.why_not_fast),
        *_exporters(state.plan.provider),
        *_endpoint(),
        *_instrumentations(app),
        *_limits(app, state.settings),
        *_context(state.settings),
        *_privacy(state.settings),
    ]
    return sorted(found, key=lambda finding: finding.level)


def _provider(provider: Any, *, keeps: bool) -> Iterator[Finding]:
    if not isinstance(provider, TracerProvider):
        if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
            yield Finding("error", "OTEL_SDK_DISABLED is set: no span is recorded")
        elif isinstance(provider, ProxyTracerProvider) or type(provider).__name__.startswith(
            "NoOp"
        ):
            yield Finding(
                "error", f"the tracer provider is a {type(provider).__name__}: no span is recorded"
            )
        return
    if is_disabled(provider):
        yield Finding("error", "OTEL_SDK_DISABLED is set: no span is recorded")
        return
    processors = processors_of(provider)
    # What BODYTRACE_KEEP adds to the provider hands spans on to the others.
    if processors is not None and len(processors) <= keeps:
        yield Finding(
            "error",
            "no exporter: spans are made and dropped; set OTEL_TRACES_EXPORTER (otlp, zipkin, "
            "console) or OTEL_EXPORTER_OTLP_ENDPOINT, or add a span processor to your provider",
        )
    if provider.sampler is ALWAYS_OFF:
        yield Finding("error", "the sampler is always_off: no request is recorded")
    current = get_tracer_provider()
    if not isinstance(current, ProxyTracerProvider) and current is not provider:
        yield Finding(
            "warning",
            "BodyTrace uses a tracer provider of its own, other instrumentations the global one: "
            "their spans go to another place",
        )


def _fast_path(reason: str) -> Iterator[Finding]:
    if reason:
        yield Finding(
            "warning",
            f"OpenTelemetry's SDK makes the server spans, which takes longer, because {reason}",
        )


def _exporters(provider: Any) -> Iterator[Finding]:
    """Which OTLP exporters run."""
    for processor in processors_of(provider) or ():
        exporter = exporter_of(processor)
        name = f"{type(exporter).__module__}.{type(exporter).__qualname__}"
        reason = getattr(exporter, "reason", None)
        if reason:
            yield Finding("warning", f"{name} encodes spans the official way, because {reason}")
        elif name.startswith("opentelemetry.exporter.otlp.proto.http") and reason is None:
            yield Finding(
                "warning",
                f"spans go out by {name}, whose encoder takes some 50 us of a request's CPU; "
                "OTEL_TRACES_EXPORTER=otlp_bodytrace takes a seventh of that for the same bytes",
            )


def _endpoint() -> Iterator[Finding]:
    """Whether somebody listens where OTLP spans go."""
    url = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get(
        "OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    if not url:
        return
    parts = urlsplit(url if "//" in url else f"//{url}")
    try:
        port = parts.port or _PORTS.get(parts.scheme, 4317)
        with socket.create_connection((parts.hostname or "", port), _CONNECT_SECONDS):
            pass
    except (OSError, ValueError) as error:
        yield Finding(
            "error",
            f"nobody takes spans at {parts.hostname}:{parts.netloc.rpartition(':')[2]}: {error}",
        )


def _instrumentations(app: Flask) -> Iterator[Finding]:
    if getattr(app, "_is_instrumented_by_opentelemetry", False):
        yield Finding(
            "warning",
            "OpenTelemetry's Flask instrumentation is on as well: its server span is enriched "
            "instead of a second one made, but BODYTRACE_TRACE_KEY, BODYTRACE_INCOMING and our "
            "metrics are without effect; leave one of the two out",
        )
    layer: Any = app.wsgi_app
    seen: set[int] = set()
    while layer is not None and id(layer) not in seen:
        seen.add(id(layer))
        if isinstance(layer, OpenTelemetryMiddleware):
            yield Finding(
                "warning",
                "OpenTelemetryMiddleware is around the application as well: its server span is "
                "enriched instead of a second one made; leave one of the two out",
            )
            return
        layer = next(
            (
                inner
                for name in ("wsgi", "app", "wsgi_app", "application", "_inner", "_app")
                if (inner := getattr(layer, name, None)) is not None and callable(inner)
            ),
            None,
        )


def _limits(app: Flask, settings: Settings) -> Iterator[Finding]:
    most = app.config.get("MAX_CONTENT_LENGTH")
    if most is not None and settings.body_limit > most:
        yield Finding(
            "warning",
            f"BODYTRACE_BODY_LIMIT ({settings.body_limit}) is above MAX_CONTENT_LENGTH ({most}): "
            "larger bodies are answered with 413 before ours counts",
        )
    for name in ("memory_limit", "id_scan_limit"):
        limit = getattr(settings, name)
        if limit > settings.body_limit:
            yield Finding(
                "warning",
                f"BODYTRACE_{name.upper()} ({limit}) is above BODYTRACE_BODY_LIMIT "
                f"({settings.body_limit}): it is never reached",
            )


def _context(settings: Settings) -> Iterator[Finding]:
    textmap = propagate.get_global_textmap()
    if settings.incoming == "continue" and not getattr(textmap, "fields", None):
        yield Finding(
            "warning",
            "BODYTRACE_INCOMING=continue, but OTEL_PROPAGATORS names no propagator: no caller's "
            "trace is continued",
        )
    if settings.baggage and not _carries_baggage(textmap):
        yield Finding(
            "warning",
            "BODYTRACE_BAGGAGE is on, but OTEL_PROPAGATORS is without baggage: it stays here",
        )
    if (settings.trace_key or settings.id_hash) and not settings.hash_key:
        yield Finding(
            "warning",
            "BODYTRACE_TRACE_KEY is used without BODYTRACE_HASH_KEY: whoever guesses an id can "
            "compute its trace id",
        )


def _carries_baggage(textmap: Any) -> bool:
    return "baggage" in getattr(textmap, "fields", ())


def _privacy(settings: Settings) -> Iterator[Finding]:
    for name, value in (
        ("BODYTRACE_CAPTURE_BODY", settings.capture_body),
        ("BODYTRACE_CAPTURE_RESPONSE", settings.capture_response),
    ):
        if value == "always":
            yield Finding(
                "warning",
                f"{name}=always puts bodies on every span. Usual secrets are hidden (flask "
                "bodytrace config lists them): see that BODYTRACE_REDACT names what else is "
                "secret here",
            )


def traced_routes(app: Flask, state: State) -> list[tuple[str, str, str, str]]:
    """(route, methods, "yes" or why not, ids its requests can carry) of every route."""
    rows = []
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        methods = sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        traced = _traced(app, rule, state)
        ids = _ids(rule, methods, state.settings) if traced == "yes" else ""
        rows.append((rule.rule, ",".join(methods), traced, ids))
    return rows


def _traced(app: Flask, rule: Rule, state: State) -> str:
    plan = state.plan
    if plan is None:
        return "off"
    host = app.config.get("SERVER_NAME") or "localhost"
    if plan.excluded is not None and plan.excluded.match(
        {"HTTP_HOST": host, "PATH_INFO": _example(rule)}
    ):
        return "excluded"
    return "yes"


def _example(rule: Rule) -> str:
    """A path that the rule matches: excluded patterns are matched against URLs, not rules."""

    def value(match: re.Match[str]) -> str:
        converter, arguments = match[1], match[2]
        if converter == "any":
            return arguments.partition(",")[0].strip(" '\"")
        return "00000000-0000-4000-8000-000000000000" if converter == "uuid" else "1"

    return _ARGUMENT.sub(value, rule.rule)


def _ids(rule: Rule, methods: list[str], settings: Settings) -> str:
    found = []
    for attribute, sources in settings.ids.items():
        usable = []
        for source in sources:
            if is_late(source):
                usable.append(source_name(source))
                continue
            kind, colon, name = str(source).partition(":")
            if not colon:
                possible = bool(_BODY_METHODS & set(methods))
            else:
                possible = kind != "path" or name in rule.arguments
            if possible:
                usable.append(str(source) if colon else f"body:{source}")
        if usable:
            found.append(f"{attribute} ({', '.join(usable)})")
    return ", ".join(found)
