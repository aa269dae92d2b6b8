"""Bind: the URL is matched. The span is named by its route, ids come from the URL's arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context

from flask_bodytrace.otel.context import attach, current
from flask_bodytrace.trace.attributes import span_name, text_of
from flask_bodytrace.trace.current import TRACE_KEY

if TYPE_CHECKING:
    from .exchange import Exchange


def bind_matched(exchange: Exchange) -> None:
    """Bind `exchange` to the matched route, unless there is none or it is bound already."""
    if exchange.is_bound:
        return
    try:
        route = exchange.plan.route_of(exchange.environ)
        if route is not None:
            bind(exchange, route.rule, route.arguments)
    except Exception:  # noqa: BLE001 - the application must get the request
        exchange.plan.report("bind")


def bind(exchange: Exchange, rule: str | None, arguments: Mapping[str, Any]) -> None:
    """The framework matched `rule`, with these arguments of the URL."""
    exchange.is_bound = True
    mount = exchange.environ.get("SCRIPT_NAME")
    if mount and rule is not None:
        # The route begins with the application's root (semantic conventions, ``http.route``).
        rule = text_of(mount) + rule
    exchange.route = rule
    plan = exchange.plan
    span = exchange.span
    found: dict[str, str] = {}
    wants_ids = exchange.is_recording or plan.baggage
    if plan.ids.reads_path or (exchange.found_ids is None and wants_ids):
        exchange.found_ids = exchange.look_for_ids(arguments)
        if exchange.given_ids is not None:
            exchange.found_ids.update(exchange.given_ids)
        found = exchange.found_ids
        if plan.baggage:
            exchange.share_ids()
            # Undone by `run`, which goes back to what was before its own attach.
            attach(exchange.context)
    if not exchange.is_recording:
        return
    if rule is None:
        span.set_attributes(found)
        return
    # Only if nobody else did: an application may call update_name itself, and OpenTelemetry's
    # instrumentations name spans by the path where they know no route.
    unmatched = span_name(exchange.method, None)
    named = getattr(span, "name", None)
    if named == unmatched or (not exchange.owns_span and named == _by_path(exchange, unmatched)):
        span.update_name(f"{unmatched} {rule}")
    if exchange.owns_span or "http.route" not in (getattr(span, "attributes", None) or ()):
        found = {**found, "http.route": rule}
    span.set_attributes(found)


def _by_path(exchange: Exchange, method: str) -> str:
    """The name that OpenTelemetry's instrumentations give a span while they know no route."""
    return f"{method} {exchange.environ.get('PATH_INFO', '').strip()}"


def take_over(exchange: Exchange) -> None:
    """Go on below the span that OpenTelemetry's instrumentation has just started.

    The context it attached holds nothing of what was current before.
    """
    try:
        if exchange.awaits_span:
            exchange.adopt_awaited()
            exchange.context = Context({**current(), TRACE_KEY: exchange})
            exchange.share_ids()
            # Undone by `run`, which goes back to what was before its own attach.
            attach(exchange.context)
            exchange.is_bound = False
            bind_matched(exchange)
    except Exception:  # noqa: BLE001 - the application must get the request
        exchange.plan.report("take over")
