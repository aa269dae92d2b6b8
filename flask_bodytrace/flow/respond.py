"""Respond: the trace headers go on the answer, its status is noted, its chunks run in context."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from flask_bodytrace.trace.attributes import span_name
from flask_bodytrace.trace.header_writer import without

from .bind import bind_matched
from .finish import end_span, finish, record_bodies
from .response import TracedResponse, is_file

if TYPE_CHECKING:
    from flask_bodytrace.capture.record import BodyRecorder
    from flask_bodytrace.otel.sampling import SpanIds
    from flask_bodytrace.trace.headers import Header

    from .exchange import Exchange

_BODYLESS = frozenset({204, 304})
_LENGTH_SIZE = len("Content-Length")
_NUMBER = re.compile("[0-9]{1,18}")


def start_response(  # noqa: C901, PLR0912 - one line for each thing that may be wanted
    exchange: Exchange, status: str, headers: list[Header], exc_info: Any = None, /
) -> Callable[[bytes], object]:
    """The server's ``start_response`` (PEP 3333), with the trace headers on every status."""
    plan = exchange.plan
    try:
        exchange.status = _code_of(status)
        if exchange.awaits_span:
            exchange.adopt_awaited()
        if not exchange.is_bound and (
            exchange.is_recording or exchange.counted is not None or exchange.relayed is not None
        ):
            bind_matched(exchange)
        if exchange.complete is None:
            exchange.remaining = _promised(exchange, headers)
        if not exchange.body.complete and exchange.body.settle():
            headers = [*headers, ("Connection", "close")]
        if plan.response_headers is not None and exchange.is_recording and exchange.owns_span:
            exchange.span.set_attributes(plan.response_headers.attributes(headers))
        if plan.headers is not None and exchange.writes_headers:
            written = exchange.written
            if written is None:
                headers = with_trace_headers(exchange, headers)
            else:
                for each in written:
                    if each not in headers:
                        # The response object is shared with a request that was faster.
                        headers = with_trace_headers(exchange, without(headers, written))
                        break
        if plan.recorder is not None and (plan.recorder.takes_answers or not exchange.owns_span):
            _note_answer(exchange, plan.recorder, headers)
    except Exception:  # noqa: BLE001 - the answer goes out as it is
        plan.report("respond")
    if exc_info is None:
        return exchange.server_start_response(status, headers)
    return exchange.server_start_response(status, headers, exc_info)


def _note_answer(exchange: Exchange, recorder: BodyRecorder, headers: list[Header]) -> None:
    """Begin to capture the answer, if settings say so."""
    if recorder.takes_answers and _has_body(exchange):
        exchange.answer = recorder.answer(headers)
    if exchange.plan.span_of(exchange.environ) is exchange.span:
        # OpenTelemetry's Flask instrumentation ends its span before the answer is out.
        if exchange.answer is not None and exchange.complete is not None:
            exchange.answer.take_all(exchange.complete)
        record_bodies(exchange)


def with_trace_headers(exchange: Exchange, headers: list[Header]) -> list[Header]:
    """`headers` and the trace headers of this request; notes which it wrote.

    Nothing is written for a span that is none of ours.
    """
    plan = exchange.plan
    ids = exchange.span_ids or exchange.named_span()
    if ids is None or plan.headers is None:
        return headers
    calls = None if exchange.relayed is None else _relayed(exchange, ids)
    headers, exchange.written = plan.headers.write(headers, ids, calls)
    return headers


def respond(exchange: Exchange, iterable: Iterable[bytes]) -> Iterable[bytes]:
    """The iterable for the server: `iterable`, wrapped so that each chunk is made in context.

    Complete bodies and files that the server sends itself go out as they are.
    """
    whole = exchange.complete
    if whole is not None:
        closing: Any = getattr(iterable, "_callbacks", None)
        # What the application does after our hook, as in `Flask.process_response`, may have made
        # another response of it.
        response: Any = getattr(closing[-1], "__self__", None) if type(closing) is list else None
        if getattr(response, "response", None) is whole and not response._on_close:
            # Werkzeug's ClosingIterator around a complete body: no code of the application runs
            # while it is sent, so a callback at its end is enough.
            closing.append(partial(finish, exchange))
            if exchange.answer is not None:
                exchange.answer.take_all(response.response)
            if exchange.is_recording or exchange.counted is not None:
                end_span(exchange)
            return iterable
    # Not list | tuple: that builds the union at every call.
    if isinstance(iterable, (list, tuple)) or is_file(iterable, exchange.environ):
        if exchange.answer is not None and isinstance(iterable, (list, tuple)):
            exchange.answer.take_all(iterable)
        finish(exchange)
        return iterable
    return TracedResponse(exchange, iterable)


def _relayed(exchange: Exchange, ids: SpanIds) -> Callable[[int], list[str]]:
    name = getattr(exchange.span, "name", "") or span_name(exchange.method, exchange.route)
    assert exchange.relayed is not None
    return exchange.relayed.metrics(exchange.span, ids, name, exchange.status or 0)


def _promised(exchange: Exchange, headers: list[Header]) -> int:
    """How many bytes the answer will have, if it says so; else -1."""
    if not _has_body(exchange):
        return 0
    for name, value in headers:
        if len(name) == _LENGTH_SIZE and name.lower() == "content-length":
            return int(value) if _NUMBER.fullmatch(value) else -1
    return -1


def _has_body(exchange: Exchange) -> bool:
    return exchange.status not in _BODYLESS and exchange.environ.get("REQUEST_METHOD") != "HEAD"


# An application answers with few different statuses.
@lru_cache(maxsize=64)
def _code_of(status: str) -> int:
    return int(status[:3])
