"""Finish: the outcome goes on span and metrics, the body is released. Once, whatever happens."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from flask_bodytrace.otel.context import BAGGAGE_KEY, NOTHING, baggage_only
from flask_bodytrace.trace import attributes
from flask_bodytrace.trace.current import TRACE_KEY

if TYPE_CHECKING:
    from .exchange import Exchange


def failed(exchange: Exchange, error: BaseException) -> None:
    """An exception happened, whether or not an error handler answers for it."""
    if error is exchange.error or exchange.is_over:
        return
    exchange.error = error
    if exchange.enclosing is not None:
        failed(exchange.enclosing, error)
    elif exchange.owns_span and exchange.is_recording:
        try:
            exchange.span.record_exception(error)
        except Exception:  # noqa: BLE001 - the application's own error is the one to show
            exchange.plan.report("failed")


def broke(exchange: Exchange, error: BaseException) -> None:
    """An exception reached the server, so the application's answer does not count."""
    exchange.is_broken = True
    failed(exchange, error)


def end_span(exchange: Exchange) -> None:  # noqa: C901, PLR0912 - one line for each thing that is said
    """The answer is out: record its outcome, once."""
    if exchange.is_over:
        return
    exchange.is_over = True
    plan = exchange.plan
    try:
        if plan.recorder is not None:
            record_bodies(exchange)
        if not exchange.owns_span:
            return
        span = exchange.span
        status = exchange.status
        kind = None
        is_kept = False
        try:
            if exchange.is_broken or status is None or status >= 500:
                kind = _error_type(exchange)
            if exchange.ids_unread is not None:
                _say_unread(exchange, exchange.ids_unread)
            if exchange.is_recording:
                if kind is not None:
                    attributes.set_error(span, kind)
                if status is not None:
                    span.set_attribute("http.response.status_code", status)
            is_kept = exchange.held is not None and _is_kept(exchange)
        finally:
            try:
                if exchange.counted is not None:
                    _measure(exchange, kind)
            finally:
                span.end()
        if exchange.held is not None:
            exchange.held.release(is_kept=is_kept)
    except Exception:  # noqa: BLE001 - the answer is out already
        plan.report("finish")
    finally:
        # Its traceback holds the frames that hold the answer, which may never be closed.
        exchange.error = None


def _is_kept(exchange: Exchange) -> bool:
    """Whether a request whose spans are held is exported; its own span says why."""
    keeps = exchange.plan.keeps
    assert keeps is not None
    outcome = 500 if exchange.error is not None else exchange.status or 500
    return keeps.judge(exchange.span, outcome, exchange.found_ids or {})


def _error_type(exchange: Exchange) -> str:
    error = exchange.error
    return str(exchange.status) if error is None else attributes.error_type(error)


def _say_unread(exchange: Exchange, reason: str) -> None:
    """Record why the body was not searched to its end: else a client could hide its ids."""
    if exchange.is_recording:
        exchange.span.set_attribute("bodytrace.ids.unread", reason)
    if exchange.plan.metrics is not None:
        exchange.plan.metrics.ids_unread(reason)


def record_bodies(exchange: Exchange) -> None:
    """Put the bodies of the request and its answer on the span, if settings say so."""
    recorder = exchange.plan.recorder
    if recorder is None or exchange.enclosing is not None or not exchange.span.is_recording():
        return
    outcome = 500 if exchange.error is not None else exchange.status or 500
    try:
        recorder.record(exchange.span, exchange.body, exchange.environ, exchange.answer, outcome)
    except Exception:  # noqa: BLE001 - the span ends all the same
        exchange.plan.report("capture")


def _measure(exchange: Exchange, error_type: str | None) -> None:
    metrics = exchange.plan.metrics
    assert metrics is not None
    assert exchange.counted is not None
    metrics.finished(
        exchange.counted,
        seconds=perf_counter() - exchange.started,
        status=exchange.status,
        route=exchange.route,
        protocol=exchange.environ.get("SERVER_PROTOCOL", ""),
        error_type=error_type,
        body_size=exchange.body.size,
        context=exchange.context,
    )


def finish(exchange: Exchange) -> None:
    """The request is over: span ended, body released; any further call does nothing."""
    if not exchange.is_over and (exchange.is_recording or exchange.counted is not None):
        end_span(exchange)
    exchange.is_over = True
    if exchange.held is not None:
        # Where ending its span failed, which is waited for.
        exchange.held.release(is_kept=False)
    # Its traceback holds the frames that hold the exchange.
    exchange.error = None
    if exchange.enclosing is None:
        exchange.body.close()
    elif exchange.environ.get(TRACE_KEY) is exchange:
        exchange.environ[TRACE_KEY] = exchange.enclosing
    # Whoever keeps the trace keeps its ids and baggage, but nothing refers back to it: else each
    # request would wait for the garbage collector.
    exchange.environ = {}
    exchange.answer = exchange.complete = None
    exchange.start_response = exchange.server_start_response = _is_over
    exchange.id_sources = None
    if BAGGAGE_KEY in exchange.context:
        exchange.context = baggage_only(exchange.context)
    else:
        exchange.context = NOTHING


def _is_over(*_: object) -> Any:
    raise RuntimeError("this request is over")
