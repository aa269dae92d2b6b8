"""The request body as something that can be read again: filled lazily, bounded, released once.

`CachedBody` owns the bytes, `BodyStream` is one reader's position in them. A stream is an ordinary
seekable file. Reading one to its end puts a fresh stream at byte 0 under ``environ["wsgi.input"]``,
so that the next consumer gets the whole body while loops over the old one still end.
"""

from __future__ import annotations

import io
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge

from .filling import SMALL, fill, limit_of, lost, pass_on, stored, take_whole
from .input import COMPLETE, NO_NUMBER, declared_length, is_chunked
from .state import BodyRules, BodyState
from .store import OVER
from .stream import BodyStream

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["BODY_KEY", "BodyRules", "CachedBody"]

BODY_KEY = "flask_bodytrace.body"
"""Where the environ keeps its `CachedBody`; closing it closes those wrapped around it later."""

_LINE_STEP = 8 * 1024
# A reader in another thread may sit in the server's read when its request ends. Some servers give
# the socket to the next client then, and the read would take that client's bytes.
_LATE_READ_SECONDS = 5.0


class CachedBody(BodyState):
    """One request's body. Nothing is read from the server before the first need.

    Asked for in one piece it becomes one bytes object; read piece by piece it is kept in a
    `BodyStore`. No more is asked of the server than the reader asked for.

    :param environ: the WSGI environ; its ``wsgi.input`` is replaced by a `BodyStream`, and
        ``wsgi.input_terminated`` becomes True, since every read ends.
    """

    __slots__ = ()

    def __init__(self, environ: WSGIEnvironment, rules: BodyRules) -> None:
        self.environ = environ
        self.rules = rules
        self.source: Any = environ.get("wsgi.input")
        if self.source is None:
            # PEP 3333 asks for one; test clients and adapters leave it out where there is no body.
            self.source = io.BytesIO()
        self.lock = Lock()
        self.waiting = 0
        self.data = None
        self.store = None
        self.error = None
        self.closes_with = ()
        self.ahead = b""
        self.ahead_at = 0
        self.kept = 0
        self.passed = 0
        self.begun = False
        self.closed = False
        self.complete = False
        self.replayable = True
        self.max_length = None
        size = self.declared = declared_length(environ)
        if size is None:
            if not environ.get("wsgi.input_terminated"):
                self._look_for_chunks(environ)
        elif size == NO_NUMBER:
            self.error = BadRequest
            self.declared = 0
        elif size <= rules.body_limit and type(self.source) not in COMPLETE:
            self.waiting = size
        if self.declared == 0 and self.error is None:
            self.data = b""
            self.complete = True
        environ["wsgi.input"] = BodyStream(self)
        environ["wsgi.input_terminated"] = True
        first = environ.setdefault(BODY_KEY, self)
        if first is not self:
            if first.closed:
                environ[BODY_KEY] = self
            else:
                first.closes_with += (self,)

    def _look_for_chunks(self, environ: WSGIEnvironment) -> None:
        coding = environ.get("HTTP_TRANSFER_ENCODING", "")
        if "uwsgi.version" not in environ or not is_chunked(coding):
            # No length and nobody to end the stream: no body, and reading would hang.
            self.declared = 0
            return
        from .uwsgi import UwsgiChunks

        self.source = UwsgiChunks()

    @property
    def size(self) -> int | None:
        """The body's length in bytes if it is known: complete, or declared by the client."""
        return self.kept if self.complete else self.declared

    @property
    def is_being_read(self) -> bool:
        """Whether somebody is reading it from the server right now."""
        return self.lock.locked()

    @property
    def is_there(self) -> bool:
        """Whether all of it can be had without waiting for the client."""
        return self.complete or type(self.source) in COMPLETE

    @property
    def is_over_limit(self) -> bool:
        """Whether the body is known to be over the limit, so that it can be read only once."""
        return not self.replayable or (self.declared or 0) > limit_of(self)

    @property
    def failure(self) -> type[HTTPException] | None:
        """The HTTP error that readers get, such as `ClientDisconnected` (400); None if none."""
        error = self.error
        return error if isinstance(error, type) and issubclass(error, HTTPException) else None

    def check_limit(self, limit: int | None) -> None:
        """Hold the body to the application's own limit from here on.

        :param limit: bytes, None for no limit (Flask's ``MAX_CONTENT_LENGTH``).
        :raises RequestEntityTooLarge: (413) if what is known of the body is already larger.
        """
        self.max_length = limit
        if limit is not None and max(self.kept + self.passed, self.declared or 0) > limit:
            self.waiting = 0
            raise RequestEntityTooLarge

    def settle(self) -> bool:
        """Prepare an unread body for the response headers, which are about to be sent.

        Returns whether the connection has to be closed after this answer. Only cheroot needs
        either. Before it sends headers it throws away what is unread of a declared length, so
        that a streamed answer could not read it any more; chunks that are unread it takes for
        the next request, so that one could be smuggled in them.
        """
        environ = self.environ
        if environ is None or type(self.source).__module__ != "cheroot.server":
            return False
        if self.declared is None or self.error is not None:
            return True
        keeps_alive = (
            environ.get("SERVER_PROTOCOL") == "HTTP/1.1"
            and environ.get("HTTP_CONNECTION", "").lower() != "close"
        )
        if keeps_alive and self.replayable:
            with suppress(HTTPException, OSError):
                fill(self, -1, None)
        return self.error is not None

    def open(self) -> BodyStream:
        """A new stream at byte 0."""
        return BodyStream(self)

    def getvalue(self) -> bytes:
        """The whole body, in one piece from now on.

        :raises ClientDisconnected: (400) the client sent less than it declared.
        :raises BadRequest: (400) the declared length is no number.
        :raises RequestEntityTooLarge: (413) over a limit.
        :raises BodyNotReplayable: over ``BODYTRACE_BODY_LIMIT`` and passed on before.
        :raises ValueError: the request is over.
        """
        data = self.data
        if data is not None:
            return data
        with self.lock:
            size = self.waiting
            if not size:
                data = take_whole(self)
            else:
                # The usual case: nothing was read yet, and one read gets all of it. `take_whole`
                # would do the same in many more steps.
                self.begun = True
                self.waiting = 0
                try:
                    data = self.source.read(size)
                except Exception as error:
                    lost(self, error)
                    raise
                if self.closed:
                    raise ValueError(OVER)
                data = bytes(data)
                if len(data) == size:
                    self.data = data
                    self.kept = size
                    self.complete = True
                    return data
                self.ahead = data
                data = take_whole(self)
        return pass_on(self, 0, None, line=False) if data is None else data

    def small(self) -> bytes | None:
        """The whole body, if it is one bytes object already or small enough to become one."""
        if (
            self.data is None
            and self.declared is not None
            and self.declared <= min(SMALL, limit_of(self))
        ):
            return self.getvalue() if self.replayable else None
        return self.data

    def peek_at(self, position: int, size: int) -> bytes:
        """Like `read_at`, but never takes from a body that can be read only once."""
        data = self.data
        if data is None:
            fill(self, position, position + size)
            data = self.data
            if data is None:
                return stored(self, position, position + size)
        return data[position : position + size]

    def read_at(self, position: int, size: int | None) -> bytes:
        """Up to `size` bytes from `position`, fewer only at the end; None means to the end."""
        data = self.data
        end = None if size is None else position + size
        if data is None:
            if end is None and position == 0 and self.kept == 0:
                return self.getvalue()
            fresh = fill(self, position, end)
            if fresh is not None:
                return fresh
            if not self.replayable:
                return pass_on(self, position, size, line=False)
            data = self.data
            if data is None:
                return stored(self, position, self.kept if end is None else end)
        return data[position:end]

    def line_at(self, position: int, size: int | None) -> bytes:
        """At most one line and `size` bytes; what has no newline may be only part of a line."""
        step = _LINE_STEP if size is None else min(size, _LINE_STEP)
        data = self.data
        if data is not None:
            end = len(data) if size is None else position + size
            return data[position : data.find(b"\n", position, end) + 1 or end]
        if position > self.kept:
            fill(self, position, position)
        if position >= self.kept and not self.complete:
            # As lazy as the server's own readline: there may be a line, but not yet a buffer full.
            fresh = fill(self, position, position + step, line=True)
            if fresh is not None:
                return fresh
        if not self.replayable and (self.passed or position >= self.kept):
            return pass_on(self, position, step, line=True)
        data = stored(self, position, position + step)
        return data[: data.find(b"\n") + 1 or None]

    def can_be_read_again(self) -> bool:
        """Whether the whole body is kept; one of unknown length is read to find out."""
        if self.size is None and self.replayable:
            with suppress(HTTPException):
                fill(self, -1, None)
        elif self.size is not None and not self.begun:
            return self.size <= limit_of(self)
        return self.replayable

    def find_size(self) -> int | None:
        """The length in bytes, all read into the store if need be; None if it can be read once."""
        if self.size is None:
            fill(self, -1, None)
        return self.size

    def close(self) -> None:
        """Release everything, once. Streams still held by anybody raise `ValueError` from now on.

        The server's input is let go of as well: some servers reuse it for the next client.
        """
        if self.closed:
            return
        self.closed = True
        self.waiting = 0
        environ, self.environ = self.environ, None
        stream = None if environ is None else environ.get("wsgi.input")
        if environ is not None and type(stream) is BodyStream and stream.body is self:
            # A middleware may call the application again with the same environ.
            if self.data is not None:
                environ["wsgi.input"] = io.BytesIO(self.data)
            elif not self.begun and "uwsgi.version" not in environ:
                environ["wsgi.input"] = self.source
        self.data = None
        self.error = None
        if (
            not self.complete
            and self.lock.locked()
            and self.lock.acquire(timeout=_LATE_READ_SECONDS)
        ):
            self.lock.release()
        self.source = None
        store = self.store
        if store is not None:
            store.close()
        for body in self.closes_with:
            body.close()

    def ended(self, stream: BodyStream) -> None:
        """`stream` was read to its end: the next consumer starts over with a fresh one."""
        environ = self.environ
        if environ is not None and environ.get("wsgi.input") is stream:
            environ["wsgi.input"] = BodyStream(self)
