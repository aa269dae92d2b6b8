"""Streamed answers: the application's iterable, inside its request until it is closed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from werkzeug.wsgi import FileWrapper

from flask_bodytrace.otel.context import attach, current, detach

from .finish import broke, end_span, finish

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from .exchange import Exchange


class _Stream:
    """A streamed answer's state; outlives the iterable, so that its request can still be ended."""

    __slots__ = ("context", "exchange", "iterable", "iterator")

    def __init__(self, exchange: Exchange, iterable: Iterable[bytes]) -> None:
        self.exchange = exchange
        self.context = exchange.context
        self.iterable: Iterable[bytes] = iterable
        self.iterator: Iterator[bytes] | None = None

    def end(self) -> None:
        """End the request without closing; a suspended generator ends in its context."""
        token = attach(self.context)
        try:
            self.iterator = None
            self.iterable = ()
        finally:
            detach(token)
            finish(self.exchange)


_open: set[_Stream] = set()
"""Keeps alive what ending a request takes, such as the provider's threads: nobody may be left who
does when a response is collected together with its application."""

dropped: deque[_Stream] = deque()
"""Streams that nobody closed, of any application: their requests end when another one begins."""


def end_dropped() -> None:
    """End the requests of responses that nobody closed."""
    while dropped:
        try:
            stream = dropped.popleft()
        except IndexError:  # another thread was faster
            return
        _open.discard(stream)
        try:
            stream.end()
        except Exception:  # noqa: BLE001 - nobody is left to tell but the log
            stream.exchange.plan.report("dropped")


class TracedResponse:
    """Makes each chunk in the request's context, and ends the request with the last one.

    What the iterable attached by the end of a chunk is there again for the next one, and never on
    the thread in between. Not in a copy of the `contextvars`: Flask's test client pops what
    `stream_with_context` pushed, and may do so only where it was pushed.
    """

    __slots__ = ("__weakref__", "_is_open", "_stream")

    def __init__(self, exchange: Exchange, iterable: Iterable[bytes]) -> None:
        self._stream = _Stream(exchange, iterable)
        self._is_open = True
        _open.add(self._stream)

    def __iter__(self) -> TracedResponse:
        return self

    def __next__(self) -> bytes:
        stream = self._stream
        exchange = stream.exchange
        token = attach(stream.context)
        try:
            if stream.iterator is None:
                stream.iterator = iter(stream.iterable)
            chunk = next(stream.iterator)
            stream.context = current()
        except StopIteration:
            _is_out(exchange)
            raise
        except BaseException as error:
            # Nothing more comes.
            broke(exchange, error)
            end_span(exchange)
            raise
        finally:
            detach(token)
        if exchange.answer is not None:
            exchange.answer.take(chunk)
        if exchange.remaining >= 0:
            exchange.remaining -= len(chunk)
            if exchange.remaining <= 0:
                # All that Content-Length promised: test clients may never ask for the end.
                _is_out(exchange)
        return chunk

    def close(self) -> None:
        """Close the application's iterable, and end the request whatever comes of that."""
        self._is_open = False
        stream = self._stream
        _open.discard(stream)
        close = getattr(stream.iterable, "close", None)
        token = attach(stream.context)
        try:
            if close is not None:
                close()
        except BaseException as error:
            broke(stream.exchange, error)
            raise
        finally:
            detach(token)
            finish(stream.exchange)

    def __del__(self) -> None:
        # A server that never closes it must not keep the span open for ever. Not here: this may be
        # the garbage collector, which before Python 3.12 strikes within ContextVar.set itself and
        # would find it half done (a crash), or while this thread holds an exporter's lock.
        if self._is_open:
            dropped.append(self._stream)


def _is_out(exchange: Exchange) -> None:
    if exchange.answer is not None:
        exchange.answer.end()
    end_span(exchange)


def is_file(iterable: Iterable[bytes], environ: WSGIEnvironment) -> bool:
    """Whether the server sends `iterable` itself, as a file: then nothing may come in between."""
    wrapper = environ.get("wsgi.file_wrapper")
    if isinstance(wrapper, type):
        return isinstance(iterable, wrapper)
    # uWSGI's wrapper is a function that returns the file itself.
    return (
        wrapper is not None and not isinstance(iterable, FileWrapper) and hasattr(iterable, "read")
    )
