"""The request body as something that can be read again: filled lazily, bounded, released once.

`CachedBody` owns the bytes, `BodyStream` is one reader's position in them. A stream is an ordinary
seekable file. Reading one to its end puts a fresh stream at byte 0 under ``environ["wsgi.input"]``,
so that the next consumer gets the whole body while loops over the old one still end.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import (
    BadRequest,
    ClientDisconnected,
    HTTPException,
    RequestEntityTooLarge,
)

from flask_bodytrace.exceptions import BodyNotReplayable, BodyTraceError

from .input import COMPLETE, DIGITS, NO_NUMBER, declared_length, read_raw, reads_lines
from .store import OVER, BodyStore, BorrowedFile
from .stream import BodyStream

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from .pool import BufferPool


SMALL = 64 * 1024
"""Form parsers get bodies up to this many bytes in one piece; see ``make bench-body``."""

BODY_KEY = "flask_bodytrace.body"
"""Where the environ keeps its `CachedBody`; closing it closes those wrapped around it later."""

_STEP = 1024 * 1024
_LINE_STEP = 8 * 1024
# A reader in another thread may sit in the server's read when its request ends. Some servers give
# the socket to the next client then, and the read would take that client's bytes.
_LATE_READ_SECONDS = 5.0


def _ignore(_event: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class BodyRules:
    """How bodies of one application are kept. Sizes are bytes.

    :param pool: lends the buffers for bodies that are read piece by piece.
    :param memory_limit: larger bodies read piece by piece go to an unlinked temporary file.
    :param body_limit: larger bodies are rejected or passed on.
    :param reject: over the limit, raise 413 instead of passing the original stream on, once.
    :param on_event: called with ``"spilled"``, ``"rejected"`` or ``"passed"`` when that happens.
    """

    pool: BufferPool
    memory_limit: int
    body_limit: int
    reject: bool = False
    on_event: Callable[[str], None] = _ignore


class CachedBody:
    """One request's body. Nothing is read from the server before the first need.

    Asked for in one piece it becomes one bytes object; read piece by piece it is kept in a
    `BodyStore`. No more is asked of the server than the reader asked for.

    :param environ: the WSGI environ; its ``wsgi.input`` is replaced by a `BodyStream`.

    ``environ["wsgi.input_terminated"]`` becomes True (every read ends), and ``CONTENT_LENGTH``
    the real size once the body is complete.
    """

    # Slots: reading one takes a third of what reading a default of the class does.
    __slots__ = (
        "__weakref__",
        "_ahead",
        "_begun",
        "_closes_with",
        "_data",
        "_environ",
        "_error",
        "_lock",
        "_passed",
        "_rules",
        "_size",
        "_source",
        "_store",
        "_waiting",
        "closed",
        "complete",
        "declared",
        "max_length",
        "replayable",
    )

    def __init__(self, environ: WSGIEnvironment, rules: BodyRules) -> None:
        self._environ: WSGIEnvironment | None = environ
        self._rules = rules
        self._source: Any = environ["wsgi.input"]
        self._lock = Lock()
        self._waiting = 0
        """Bytes to be had in one read, until somebody reads; 0 where it is not so simple."""
        self._data: bytes | None = None
        self._store: BodyStore | BorrowedFile | None = None
        self._error: type[Exception] | Exception | None = None
        self._closes_with: tuple[CachedBody, ...] = ()
        self._ahead = b""
        self._size = 0
        self._passed = 0
        self._begun = False
        self.closed = False
        self.complete = False
        self.replayable = True
        """False once the body is known to be over the limit: it can be read once."""
        self.max_length: int | None = None
        """The application's own limit (``MAX_CONTENT_LENGTH``), bytes; None is none."""
        self.declared: int | None
        """What Content-Length says, bytes; None where the end is only known when reached."""
        text = environ.get("CONTENT_LENGTH")
        if (
            text
            and "HTTP_TRANSFER_ENCODING" not in environ
            and text.isdigit()
            and text.isascii()
            and len(text) <= DIGITS
        ):
            size = self.declared = int(text)
            if size <= rules.body_limit and type(self._source) not in COMPLETE:
                self._waiting = size
        else:
            self.declared = self._find_length(environ)
        if self.declared == 0 and self._error is None:
            self._data = b""
            self.complete = True
        environ["wsgi.input"] = BodyStream(self)
        environ["wsgi.input_terminated"] = True
        first = environ.setdefault(BODY_KEY, self)
        if first is not self:
            if first.closed:
                environ[BODY_KEY] = self
            else:
                first._closes_with += (self,)

    def _find_length(self, environ: WSGIEnvironment) -> int | None:
        length = declared_length(environ)
        if length == NO_NUMBER:
            self._error = BadRequest
            return 0
        if length is None and not environ.get("wsgi.input_terminated"):
            if "uwsgi.version" not in environ or "HTTP_TRANSFER_ENCODING" not in environ:
                # No length and nobody to end the stream: no body, and reading would hang.
                return 0
            from .uwsgi import UwsgiChunks

            self._source = UwsgiChunks()
        return length

    @property
    def size(self) -> int | None:
        """The body's length in bytes if it is known: complete, or declared by the client."""
        return self._size if self.complete else self.declared

    @property
    def is_being_read(self) -> bool:
        """Whether somebody is reading it from the server right now."""
        return self._lock.locked()

    @property
    def failure(self) -> type[HTTPException] | None:
        """What a reader was refused with: `ClientDisconnected` (400), `RequestEntityTooLarge`."""
        error = self._error
        return error if isinstance(error, type) and issubclass(error, HTTPException) else None

    def check_limit(self, limit: int | None) -> None:
        """Hold the body to the application's own limit from here on.

        :param limit: bytes, None for no limit (Flask's ``MAX_CONTENT_LENGTH``).
        :raises RequestEntityTooLarge: (413) if what is known of the body is already larger.
        """
        self.max_length = limit
        if limit is not None and max(self._size + self._passed, self.declared or 0) > limit:
            self._waiting = 0
            raise RequestEntityTooLarge

    def settle(self) -> bool:
        """Get an unread body out of the way of the answer's headers, which are about to go out.

        Returns whether the connection has to be closed after this answer. Only cheroot needs
        either. Before it sends headers it throws away what is unread of a declared length, so
        that a streamed answer could not read it any more; chunks that are unread it takes for
        the next request, so that one could be smuggled in them.
        """
        environ = self._environ
        if environ is None or type(self._source).__module__ != "cheroot.server":
            return False
        if self.declared is None or self._error is not None:
            return True
        keeps_alive = (
            environ.get("SERVER_PROTOCOL") == "HTTP/1.1"
            and environ.get("HTTP_CONNECTION", "").lower() != "close"
        )
        if keeps_alive and self.replayable:
            with suppress(HTTPException, OSError):
                self._fill(-1, None)
        return self._error is not None

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
        data = self._data
        if data is not None:
            return data
        with self._lock:
            size = self._waiting
            if not size:
                data = self._take_whole()
            else:
                # Nearly always: nothing was read yet, and the server has it all. `_take_whole`
                # would do the same in three times the time.
                self._begun = True
                self._waiting = 0
                try:
                    data = self._source.read(size)
                except Exception as error:
                    self._lost(error)
                    raise
                if self.closed:
                    raise ValueError(OVER)
                if len(data) == size:
                    self._data = data
                    self._size = size
                    self.complete = True
                    return data  # type: ignore[no-any-return]
                if data:
                    self._keep(data)
                data = self._take_whole()
        return self._pass_on(0, None, line=False) if data is None else data

    def small(self) -> bytes | None:
        """The whole body if it is, or may as well be, one bytes object already."""
        if self._data is None and self.declared is not None and self.declared <= SMALL:
            return self.getvalue() if self.replayable else None
        return self._data

    def peek_at(self, position: int, size: int) -> bytes:
        """Like `read_at`, but never takes from a body that can be read only once."""
        data = self._data
        if data is None:
            self._fill(position, position + size)
            data = self._data
            if data is None:
                return self._stored(position, position + size)
        return data[position : position + size]

    def read_at(self, position: int, size: int | None) -> bytes:
        """Up to `size` bytes from `position`, fewer only at the end; None means to the end."""
        data = self._data
        end = None if size is None else position + size
        if data is None:
            if end is None and position == 0 and self._size == 0:
                return self.getvalue()
            fresh = self._fill(position, end)
            if fresh is not None:
                return fresh
            if not self.replayable:
                return self._pass_on(position, size, line=False)
            data = self._data
            if data is None:
                return self._stored(position, self._size if end is None else end)
        return data[position:end]

    def line_at(self, position: int, size: int | None) -> bytes:
        """At most one line and `size` bytes; what has no newline may be only part of a line."""
        step = _LINE_STEP if size is None else min(size, _LINE_STEP)
        data = self._data
        if data is not None:
            newline = data.find(b"\n", position) + 1
            end = len(data) if size is None else position + size
            return data[position : min(newline, end) if newline else end]
        if position > self._size:
            self._fill(position, position)
        if position >= self._size and not self.complete:
            # As lazy as the server's own readline: there may be a line, but not yet a buffer full.
            fresh = self._fill(position, position + step, line=True)
            if fresh is not None:
                return fresh
        if not self.replayable and (self._passed or position >= self._size):
            return self._pass_on(position, step, line=True)
        data = self._stored(position, position + step)
        return data[: data.find(b"\n") + 1 or None]

    def find_size(self) -> int | None:
        """The length in bytes, all read into the store if need be; None if it can be read once."""
        if self.size is None:
            self._fill(-1, None)
        return self.size

    def close(self) -> None:
        """Release everything, once. Streams still held by anybody raise `ValueError` from now on.

        The server's input is let go of as well: some servers reuse it for the next client.
        """
        if self.closed:
            return
        self.closed = True
        self._waiting = 0
        self._environ = None
        self._data = None
        self._error = None
        if (
            not self.complete
            and self._lock.locked()
            and self._lock.acquire(timeout=_LATE_READ_SECONDS)
        ):
            self._lock.release()
        self._source = None
        store = self._store
        if store is not None:
            store.close()
        for body in self._closes_with:
            body.close()

    # Filling. Everything down to `_pass_on` runs with the lock held; the lock is held while
    # waiting for the client, so nobody takes it for what is in store already.

    def _fill(self, position: int, end: int | None, *, line: bool = False) -> bytes | None:
        """Have `end` bytes, or all (None), in store, unless the body ends before that.

        Returns what was read if that is exactly what is wanted from `position` on.
        """
        if self.closed:
            raise ValueError(OVER)
        if self.complete or (end is not None and end <= self._size):
            return None
        with self._lock:
            self._begin()
            wanted = self._size == position
            parts = []
            while self.replayable and not self.complete and (end is None or self._size < end):
                want = _STEP if end is None else min(end - self._size, _STEP)
                piece = self._take(want, line=line)
                self._keep(piece)
                if wanted:
                    parts.append(piece)
                if line:
                    break
            if wanted and parts and self.replayable:
                return parts[0] if len(parts) == 1 else b"".join(parts)
            return None

    def _begin(self) -> None:
        """See, at the first need, whether it is too large already, or all there already."""
        if self._error is not None:
            raise self._error
        if self._begun:
            return
        self._begun = True
        self._waiting = 0
        source = self._source
        size = self.declared
        there = type(source) in COMPLETE
        start = 0
        if there:
            start = source.tell()
            available = source.seek(0, io.SEEK_END) - start
            source.seek(start)
            if size is None:
                size = max(available, 0)
            elif available < size:
                raise self._fail(ClientDisconnected)
        if size is not None and size > self._limit():
            self._over_limit(size)
        elif there and size is not None:
            self._size = size
            if type(source) is io.BytesIO:
                # Shared, not copied, if the body is all there is in the buffer.
                data = source.getvalue()
                whole = start == 0 and len(data) == size
                self._data = data if whole else data[start : start + size]
            else:
                self._store = BorrowedFile(source)
            self._completed()

    def _take_whole(self) -> bytes | None:
        """All of it as one bytes object; None if it can be read only once."""
        if self.closed:
            raise ValueError(OVER)
        self._begin()
        if self._data is not None or not self.replayable:
            return self._data
        parts = [self._stored(0, self._size)] if self._size else []
        if not self.complete:
            declared = self.declared
            if declared is None:
                if not self._take_to_end(parts):
                    return None
            else:
                if not parts:
                    # Nearly every body comes in one read: a third of the steps of what follows.
                    data = self._take(declared)
                    if len(data) == declared:
                        self._data = data
                        self._size = declared
                        self.complete = True
                        return data
                    parts.append(data)
                self._take_declared(parts, declared - sum(map(len, parts)))
        # Nothing from here on can fail, and `complete` is said last.
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._data = data
        self._size = len(data)
        store, self._store = self._store, None
        self._completed()
        if store is not None:
            store.close()
        return data

    def _take_declared(self, parts: list[bytes], missing: int) -> None:
        # In one call where the server has that much: it saves a copy.
        while missing:
            try:
                piece = self._take(missing)
            except BaseException:
                self._put_back(parts)
                raise
            parts.append(piece)
            missing -= len(piece)

    def _take_to_end(self, parts: list[bytes]) -> bool:
        size = taken = self._size
        limit = self._limit()
        buffer = io.BytesIO()
        try:
            # One byte over the limit tells a body that is too large from one that just fits.
            while size <= limit and (
                piece := self._read(min(max(size, SMALL), _STEP, limit + 1 - size))
            ):
                buffer.write(piece)
                size += len(piece)
        except BaseException:
            self._put_back([*parts, buffer.getvalue()])
            raise
        parts.append(buffer.getvalue())
        if size > limit:
            self._over_limit(size)
            self._put_back(parts)
            return False
        if size == taken:
            parts.pop()
        return True

    def _put_back(self, parts: list[bytes]) -> None:
        """Store what `_take_whole` took, for the readers after one that was interrupted."""
        if self._error is None:
            for piece in parts[1:] if self._size else parts:
                if piece:
                    self._keep(piece)

    def _take(self, want: int, *, line: bool = False) -> bytes:
        """At most `want` bytes from the server; empty only at the end of an unknown length."""
        known = self.declared
        size = self._size + self._passed
        if known is not None:
            piece = self._read(min(want, known - size), line=line)
            if not piece:
                raise self._fail(ClientDisconnected)
            return piece
        if self.replayable:
            want = min(want, self._limit() + 1 - size)
        return self._read(want, line=line)

    def _keep(self, piece: bytes) -> None:
        """Put `piece`, just read, in store; an empty one means that this was all."""
        if not piece:
            self._completed()
            return
        store = self._store
        if store is None:
            rules = self._rules
            store = self._store = BodyStore(
                rules.pool, rules.memory_limit, self.declared, lambda: rules.on_event("spilled")
            )
        assert isinstance(store, BodyStore)
        try:
            store.append(piece)
        except Exception as error:
            # The piece is lost, so nobody may read on behind it.
            self._error = error
            raise
        self._size += len(piece)
        if self.declared is None:
            if self.replayable and self._size > self._limit():
                self._over_limit(self._size)
        elif self._size == self.declared:
            self._completed()

    def _limit(self) -> int:
        limit = self._rules.body_limit
        return limit if self.max_length is None else min(limit, self.max_length)

    def _completed(self) -> None:
        store = self._store
        if self._data is None:
            if store is None:
                self._data = b""
            elif isinstance(store, BodyStore):
                self._data = store.only
        self.complete = True
        if self._size and self._size != self.declared and self._environ is not None:
            self._environ["CONTENT_LENGTH"] = str(self._size)

    def _read(self, size: int, *, line: bool = False) -> bytes:
        """One read from the server. Sizes are always positive: servers differ on -1 and None."""
        source = self._source
        if source is None:
            raise ValueError(OVER)
        data: bytes
        try:
            if self._ahead:
                data = self._ahead[:size]
                self._ahead = self._ahead[size:]
            elif self.declared is None and isinstance(source, io.RawIOBase):
                data = read_raw(source, size, line=line)
            elif line and reads_lines(source):
                data = source.readline(size)
            else:
                data = source.read(size)
        except Exception as error:
            self._lost(error)
            raise
        if self.closed:
            raise ValueError(OVER)
        if line and (end := data.find(b"\n") + 1) and end < len(data):
            self._ahead = data[end:] + self._ahead
            data = data[:end]
        return data

    def _lost(self, error: Exception) -> None:
        """Make of errors that servers have of their own, for broken chunks and lost clients, one.

        :raises ClientDisconnected: (400) `error` is one of these.
        """
        if not isinstance(error, HTTPException | BodyTraceError):
            raise self._fail(ClientDisconnected) from error

    def _fail(self, error: type[Exception]) -> type[Exception]:
        self._error = error
        return error

    def _over_limit(self, size: int) -> None:
        """The body is larger than allowed: reject it, or turn to passing it on once."""
        if self._rules.reject or (self.max_length is not None and size > self.max_length):
            self._rules.on_event("rejected")
            raise self._fail(RequestEntityTooLarge)
        self.replayable = False
        self._rules.on_event("passed")

    def _stored(self, start: int, end: int) -> bytes:
        store = self._store
        if store is not None:
            try:
                return store.read(start, min(end, self._size))
            except ValueError:
                if self.closed:
                    raise
        # Between the store and one piece, the change may have come in between.
        data = self._data
        if data is None:
            if self.closed:
                raise ValueError(OVER)
            return b""
        return data[start:end]

    def _pass_on(self, position: int, size: int | None, *, line: bool) -> bytes:
        """Give out a body that is over the limit: what was read to find that out, then the rest.

        Only the reader that is exactly where the server's stream stands may go on.
        """
        parts = []
        with self._lock:
            stands = self._size + self._passed
            if position != stands and (self._passed or position > self._size):
                limit = self._rules.body_limit
                raise BodyNotReplayable(
                    f"this request's body is larger than BODYTRACE_BODY_LIMIT ({limit} bytes), so "
                    "it was passed on to its first reader and cannot be read again: raise "
                    "BODYTRACE_BODY_LIMIT, read the body once, or set BODYTRACE_OVER_LIMIT=reject"
                )
            if self._error is not None:
                raise self._error
            if position < self._size:
                parts.append(
                    self._stored(position, self._size if size is None else position + size)
                )
            missing = None if size is None else size - sum(map(len, parts))
            while missing is None or missing > 0:
                if self.declared is not None and self._size + self._passed == self.declared:
                    break
                piece = self._take(_STEP if missing is None else min(missing, _STEP), line=line)
                if not piece:
                    break
                self._passed += len(piece)
                if self.max_length is not None and self._size + self._passed > self.max_length:
                    self._over_limit(self._size + self._passed)
                parts.append(piece)
                if line:
                    break
                if missing is not None:
                    missing -= len(piece)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _ended(self, stream: BodyStream) -> None:
        """`stream` was read to its end: the next consumer starts over with a fresh one."""
        environ = self._environ
        if environ is not None and environ.get("wsgi.input") is stream:
            environ["wsgi.input"] = BodyStream(self)
