"""The request body as something that can be read again: filled lazily, bounded, released once.

`CachedBody` owns the bytes, `BodyStream` is one reader's position in them. A stream is an ordinary
seekable file. Reading one to its end puts a fresh stream at byte 0 under ``environ["wsgi.input"]``,
so that the next consumer gets the whole body while loops over the old one still end.
"""

from __future__ import annotations

import io
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from .exceptions import BodyNotReplayable
from .pool import BufferPool, Lease

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from _typeshed.wsgi import WSGIEnvironment

SMALL = 64 * 1024
"""Bodies up to this many bytes are kept as immutable bytes; see ``benchmarks/RESULTS.md``."""

BODY_KEY = "flask_bodytrace.body"
"""Where the environ keeps its `CachedBody`; closing it closes those wrapped around it later."""

_STEP = 1024 * 1024
_LINE_STEP = 8 * 1024
_OVER = "I/O operation on the body of a request that is over"


def _ignore(_event: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class BodyRules:
    """How bodies of one application are kept. Sizes are bytes.

    :param pool: lends the buffers for bodies between `SMALL` and `memory_limit`.
    :param memory_limit: larger bodies go to an unlinked temporary file of mode 0600.
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

    :param environ: the WSGI environ; its ``wsgi.input`` is replaced by a `BodyStream`.

    ``environ["wsgi.input_terminated"]`` becomes True (every read ends), and ``CONTENT_LENGTH``
    the real size once the body is complete.
    """

    __slots__ = (
        "_data",
        "_environ",
        "_error",
        "_closes_with",
        "_file",
        "_filelock",
        "_head",
        "_lease",
        "_lock",
        "_passed",
        "_rules",
        "_size",
        "_source",
        "closed",
        "complete",
        "declared",
        "max_length",
        "replayable",
    )

    def __init__(self, environ: WSGIEnvironment, rules: BodyRules) -> None:
        self._environ = environ
        self._rules = rules
        self._source: Any = environ["wsgi.input"]
        self._lock = threading.Lock()
        self._data: bytes | None = None
        self._head = b""
        self._lease: Lease | None = None
        self._file: IO[bytes] | None = None
        self._filelock: threading.Lock | None = None
        self._error: Exception | None = None
        self._size = 0
        self._passed = 0
        self.closed = False
        self.complete = False
        self.replayable = True
        """False once the body is known to be over the limit: it can be read once."""
        self.max_length: int | None = None
        """The application's own limit (``MAX_CONTENT_LENGTH``), bytes; None is none."""
        self.declared = _declared_length(environ)
        """What Content-Length says, bytes; None where the end is only known when reached."""
        if self.declared is None and not environ.get("wsgi.input_terminated"):
            # No length and nobody to end the stream: there is no body, and reading would hang.
            self.declared = 0
        if self.declared == 0:
            self._data = b""
            self.complete = True
        self._closes_with: list[CachedBody] = []
        environ["wsgi.input"] = BodyStream(self)
        environ["wsgi.input_terminated"] = True
        first = environ.get(BODY_KEY)
        if first is None or first.closed:
            environ[BODY_KEY] = self
        else:
            first._closes_with.append(self)

    @property
    def size(self) -> int | None:
        """The body's length in bytes if it is known: complete, or declared by the client."""
        return self._size if self.complete else self.declared

    def check_limit(self, limit: int | None) -> None:
        """Hold the body to the application's own limit from here on.

        :param limit: bytes, None for no limit (Flask's ``MAX_CONTENT_LENGTH``).
        :raises RequestEntityTooLarge: (413) if what is known of the body is already larger.
        """
        self.max_length = limit
        if limit is not None and max(self._size + self._passed, self.declared or 0) > limit:
            raise RequestEntityTooLarge

    def open(self) -> BodyStream:
        """A new stream at byte 0."""
        return BodyStream(self)

    def rewind(self) -> None:
        """Let ``environ["wsgi.input"]`` start at byte 0 again, if the body can be read again."""
        stream = self._environ.get("wsgi.input")
        if self.replayable and type(stream) is BodyStream and stream.body is self:
            stream.position = 0

    def getvalue(self) -> bytes:
        """The whole body.

        :raises ClientDisconnected: (400) the client sent less than it declared.
        :raises RequestEntityTooLarge: (413) over a limit.
        :raises BodyNotReplayable: over ``BODYTRACE_BODY_LIMIT`` and passed on before.
        :raises ValueError: the request is over.
        """
        data = self._data
        if data is not None:
            return data
        declared = self.declared
        if self.closed:
            raise ValueError(_OVER)
        if self._size == 0 and declared is not None and declared <= self._rules.memory_limit:
            # The caller wants bytes: reading straight into them saves the copy out of a buffer.
            with self._lock:
                self._take_whole(declared)
        else:
            self._ensure(None)
        if self._data is not None:
            return self._data
        if not self.replayable:
            return self.open().read()
        data = self._stored(0, self._size)
        if self._lease is not None:
            with self._lock:
                lease, self._lease = self._lease, None
                if lease is not None:
                    self._data = data
                    lease.release(self._size)
        return data

    def close(self) -> None:
        """Release everything, once. Streams still held by anybody raise `ValueError` from now on.

        The server's input is let go of as well: some servers reuse it for the next client.
        """
        self.closed = True
        self._source = None
        self._data = None
        self._head = b""
        self._error = None
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release(self._size)
        if self._filelock is not None:
            with self._filelock:
                file, self._file = self._file, None
                if file is not None:
                    file.close()
        self._environ = {}
        for body in self._closes_with:
            body.close()

    def small(self) -> bytes | None:
        """The whole body if it is, or may as well be, one bytes object already."""
        if self._data is None and self.declared is not None and 0 < self.declared <= SMALL:
            return self.getvalue() if self.replayable else None
        return self._data

    def peek_at(self, position: int, size: int) -> bytes:
        """Like `read_at`, but never takes from a body that can be read only once."""
        if self._data is None or self.closed:
            self._ensure(position + size)
        return self._stored(position, min(position + size, self._size))

    def read_at(self, position: int, size: int | None) -> bytes:
        """Up to `size` bytes from `position`, fewer only at the end; None means to the end."""
        end = None if size is None else position + size
        if self._data is None or self.closed:
            self._ensure(end)
        data = self._data
        if data is not None:
            return data[position:end]
        if not self.replayable:
            return self._pass_on(position, size)
        return self._stored(position, self._size if end is None else min(end, self._size))

    # Filling

    def _ensure(self, end: int | None) -> None:
        """Have `end` bytes, or all (None), in store, unless the body ends before that."""
        if self.closed:
            raise ValueError(_OVER)
        if self.complete or (end is not None and end <= self._size):
            return
        with self._lock:
            if self._error is not None:
                raise self._error
            if not self.replayable or self.complete or self.closed:
                return
            declared = self.declared
            if self._size == 0 and declared is not None:
                if declared > self._rules.body_limit:
                    self._over_limit()
                    return
                if declared <= SMALL or type(self._source) is io.BytesIO:
                    self._take_whole(declared)
                    return
            while self.replayable and not self.complete and (end is None or self._size < end):
                self._fill_step(end)

    def _take_whole(self, declared: int) -> None:
        """Read a body of known, moderate length into one immutable bytes object."""
        if self._error is not None:
            raise self._error
        if self.complete or self._size or not self.replayable or self.closed:
            return
        if declared > self._rules.body_limit:
            self._over_limit()
            return
        source = self._source
        if type(source) is io.BytesIO:
            # waitress, bjoern and test clients hand over a complete buffer: share it, no copy.
            start = source.tell()
            data = source.getvalue()
            if start or len(data) != declared:
                data = data[start : start + declared]
        else:
            data = self._read(min(declared, _STEP))
            if len(data) < declared:
                parts = [data]
                missing = declared - len(data)
                while missing and (data := self._read(min(missing, _STEP))):
                    parts.append(data)
                    missing -= len(data)
                data = b"".join(parts)
        if len(data) < declared:
            raise self._fail(ClientDisconnected())
        self._data = data
        self._size = declared
        self.complete = True

    def _fill_step(self, end: int | None) -> None:
        """Read once from the server into the store."""
        declared = self.declared
        want = _STEP if end is None else min(end - self._size, _STEP)
        if declared is not None:
            count = self._fill_declared(min(want, declared - self._size), declared)
            if count == 0:
                raise self._fail(ClientDisconnected())
            self._size += count
            if self._size == declared:
                self._completed()
            return
        # One byte over the limit tells a body that is too large from one that just fits.
        limit = self._limit()
        data = self._read(min(want, max(SMALL, self._size), limit + 1 - self._size))
        if not data:
            self._completed()
            return
        self._append(data)
        if self._size > limit:
            self._over_limit()

    def _fill_declared(self, want: int, declared: int) -> int:
        if declared > self._rules.memory_limit:
            data = self._read(want)
            self._write(data)
            return len(data)
        self._reserve(declared)
        assert self._lease is not None
        with self._lease.view[self._size : self._size + want] as target:
            return self._read_into(target)

    def _append(self, data: bytes) -> None:
        """Store the next piece of a body of unknown length where a body of that size lives."""
        size = self._size + len(data)
        if size <= SMALL:
            self._head += data
        elif size > self._rules.memory_limit:
            self._write(data)
        else:
            self._reserve(size)
            assert self._lease is not None
            self._lease.view[self._size : size] = data
        self._size = size

    def _limit(self) -> int:
        limit = self._rules.body_limit
        return limit if self.max_length is None else min(limit, self.max_length)

    def _completed(self) -> None:
        self.complete = True
        if self._lease is None and self._file is None:
            self._data, self._head = self._head, b""
        if self._size and self._size != self.declared:
            self._environ["CONTENT_LENGTH"] = str(self._size)

    def _reserve(self, size: int) -> None:
        lease = self._lease
        if lease is not None and len(lease.view) >= size:
            return
        larger = self._rules.pool.acquire(size)
        larger.view[: self._size] = self._in_memory(0, self._size)
        self._lease = larger
        self._head = b""
        if lease is not None:
            lease.release(self._size)

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._rules.on_event("spilled")
            # Unbuffered: what was written is what a reader sees. Closed by close().
            file = tempfile.TemporaryFile(buffering=0, prefix="bodytrace-")  # noqa: SIM115
            _write_all(file, self._in_memory(0, self._size))
            lease, self._lease = self._lease, None
            self._head = b""
            self._filelock = threading.Lock()
            self._file = file
            if lease is not None:
                lease.release(self._size)
        assert self._filelock is not None
        with self._filelock:
            self._file.seek(0, io.SEEK_END)
            _write_all(self._file, data)

    def _read(self, size: int) -> bytes:
        """One read from the server. Sizes are always positive: servers differ on -1 and None."""
        source = self._source
        if source is None:
            raise ValueError(_OVER)
        try:
            data: bytes = source.read(size)
        except (OSError, ValueError) as error:
            raise self._fail(ClientDisconnected()) from error
        if self.closed:
            raise ValueError(_OVER)
        return data

    def _read_into(self, target: memoryview) -> int:
        readinto = getattr(self._source, "readinto", None)
        if readinto is None:
            data = self._read(len(target))
            target[: len(data)] = data
            return len(data)
        try:
            count = readinto(target)
        except (OSError, ValueError) as error:
            raise self._fail(ClientDisconnected()) from error
        if self.closed:
            raise ValueError(_OVER)
        return count or 0

    def _fail(self, error: Exception) -> Exception:
        self._error = error
        return error

    def _over_limit(self) -> None:
        """The body is larger than allowed: reject it, or turn to passing it on once."""
        known = self._size or self.declared or 0
        if self._rules.reject or (self.max_length is not None and known > self.max_length):
            self._rules.on_event("rejected")
            raise self._fail(RequestEntityTooLarge())
        self.replayable = False
        self._rules.on_event("passed")

    # What is stored

    def _stored(self, start: int, end: int) -> bytes:
        if end <= start:
            return b""
        if self._filelock is None:
            return self._in_memory(start, end)
        with self._filelock:
            file = self._file
            if file is None:
                raise ValueError(_OVER)
            file.seek(start)
            data = file.read(end - start)
            if len(data) < end - start:
                parts = [data]
                while len(parts[-1]) and (start := start + len(parts[-1])) < end:
                    parts.append(file.read(end - start))
                data = b"".join(parts)
            return data

    def _in_memory(self, start: int, end: int) -> bytes:
        data = self._data
        if data is not None:
            return data[start:end]
        lease = self._lease
        if lease is None:
            if self.closed:
                raise ValueError(_OVER)
            return self._head[start:end]
        with lease.view[start:end] as part:
            return bytes(part)

    def _pass_on(self, position: int, size: int | None) -> bytes:
        """Give out a body that is over the limit: what was read to find that out, then the rest.

        Only the reader that is exactly where the server's stream stands may go on.
        """
        if position != self._size + self._passed and (self._passed or position > self._size):
            limit = self._rules.body_limit
            raise BodyNotReplayable(
                f"this request's body is larger than BODYTRACE_BODY_LIMIT ({limit} bytes), so it "
                "was passed on to its first reader and cannot be read again: raise "
                "BODYTRACE_BODY_LIMIT, read the body once, or set BODYTRACE_OVER_LIMIT=reject"
            )
        if self._error is not None:
            raise self._error
        parts = []
        missing = size
        if position < self._size:
            end = self._size if missing is None else min(position + missing, self._size)
            parts.append(self._stored(position, end))
            if missing is not None:
                missing -= end - position
        with self._lock:
            while missing is None or missing > 0:
                want = _STEP if missing is None else min(missing, _STEP)
                if self.declared is not None:
                    want = min(want, self.declared - self._size - self._passed)
                if want == 0 or self._source is None:
                    break
                data = self._read(want)
                if not data:
                    if self.declared is not None:
                        raise self._fail(ClientDisconnected())
                    break
                self._passed += len(data)
                if self.max_length is not None and self._size + self._passed > self.max_length:
                    self._rules.on_event("rejected")
                    raise self._fail(RequestEntityTooLarge())
                parts.append(data)
                if missing is not None:
                    missing -= len(data)
                    if size is not None and size <= _STEP:
                        break
        return b"".join(parts)

    def _ended(self, stream: BodyStream) -> None:
        """`stream` was read to its end: the next consumer starts over with a fresh one."""
        if self._environ.get("wsgi.input") is stream:
            self._environ["wsgi.input"] = BodyStream(self)


class BodyStream:
    """One reader's position in a `CachedBody`: a read-only, seekable binary file."""

    __slots__ = ("body", "closed", "position", "__weakref__")

    def __init__(self, body: CachedBody) -> None:
        self.body = body
        self.position = 0
        self.closed = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes, fewer only at the end; all that is left for None or -1.

        :raises ClientDisconnected: (400) the client sent less than it declared.
        :raises RequestEntityTooLarge: (413) over a limit.
        :raises BodyNotReplayable: over ``BODYTRACE_BODY_LIMIT`` and passed on before.
        :raises ValueError: the stream was closed or the request is over.
        """
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if size is None or size < 0:
            data = self.body.read_at(self.position, None)
            self.position += len(data)
            self.body._ended(self)
            return data
        if size == 0:
            return b""
        data = self.body.read_at(self.position, size)
        if data:
            self.position += len(data)
        else:
            self.body._ended(self)
        return data

    read1 = read

    def readall(self) -> bytes:
        """All that is left."""
        return self.read()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer`; fewer bytes only at the end."""
        with memoryview(buffer).cast("B") as target:
            data = self.read(len(target))
            target[: len(data)] = data
        return len(data)

    readinto1 = readinto

    def readline(self, size: int | None = -1, /) -> bytes:
        """One line with its newline, at most `size` bytes."""
        if self.closed:
            raise ValueError("I/O operation on closed file")
        limit = None if size is None or size < 0 else size
        line = b""
        while limit is None or len(line) < limit:
            step = _LINE_STEP if limit is None else min(_LINE_STEP, limit - len(line))
            ahead = self.body.peek_at(self.position, step)
            newline = ahead.find(b"\n") + 1
            # Past what is in store, a body that can be read only once goes byte by byte.
            part = self.read(newline or len(ahead) or 1)
            line += part
            if newline or not part or part == b"\n":
                break
        return line

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """The lines that are left; no further one after `hint` bytes."""
        lines = []
        total = 0
        for line in self:
            lines.append(line)
            total += len(line)
            if hint is not None and 0 < hint <= total:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move; seeking from the end reads the whole body first.

        :raises ValueError: a negative position or an unknown `whence`.
        """
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if whence == io.SEEK_CUR:
            offset += self.position
        elif whence == io.SEEK_END:
            offset += self._end()
        elif whence != io.SEEK_SET:
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        if offset < 0:
            raise ValueError(f"negative seek position {offset}")
        self.position = offset
        return offset

    def _end(self) -> int:
        body = self.body
        if body.size is None:
            body.read_at(0, None)
        return body.size or 0

    def tell(self) -> int:
        """The position, bytes from the start."""
        return self.position

    def close(self) -> None:
        """Close this stream; the body stays for others until the request is over."""
        self.closed = True
        self.body._ended(self)

    def __enter__(self) -> BodyStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.body.replayable

    def writable(self) -> bool:
        return False

    def isatty(self) -> bool:
        return False

    def flush(self) -> None:
        """Do nothing, as for any read-only file."""

    def fileno(self) -> int:
        """Refuse: there is no descriptor to read the body from.

        :raises io.UnsupportedOperation: always.
        """
        raise io.UnsupportedOperation("fileno")


io.BufferedIOBase.register(BodyStream)


def _declared_length(environ: WSGIEnvironment) -> int | None:
    """Content-Length in bytes as RFC 9112 6.3 reads it; None if absent, invalid or overruled."""
    text = environ.get("CONTENT_LENGTH")
    if not text or environ.get("HTTP_TRANSFER_ENCODING"):
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    return None


def _write_all(file: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
