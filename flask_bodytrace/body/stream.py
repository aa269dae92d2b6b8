"""One reader's position in a request body: what ``environ["wsgi.input"]`` is."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class BodyStream:
    """One reader's position in a `CachedBody`: a read-only, seekable binary file.

    Attributes that it does not have are those of the server's own input, as long as the request
    lasts: web sockets take the socket from there.

    :param body: the `CachedBody`.
    """

    def __init__(self, body: Any) -> None:
        self.body = body
        self.position = 0
        self.closed = False
        self.has_ended = False
        """Whether the reader has seen the end."""

    def __getattr__(self, name: str) -> Any:
        source = None if name == "body" else self.body.source
        if source is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(source, name)

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
            data: bytes = self.body.read_at(self.position, None)
            self.position += len(data)
            self._end_seen()
            return data
        if size == 0:
            return b""
        data = self.body.read_at(self.position, size)
        if data:
            self.position += len(data)
        else:
            self._end_seen()
        return data

    read1 = read

    def peek(self, size: int = 0, /) -> bytes:
        """Bytes from the position on, without moving; fewer than `size` only at the end.

        :raises io.UnsupportedOperation: over ``BODYTRACE_BODY_LIMIT``: it can be read once.
        """
        if self.closed:
            raise ValueError("I/O operation on closed file")
        data: bytes = self.body.peek_at(self.position, max(size, 1))
        if not data and not self.body.replayable:
            raise io.UnsupportedOperation("peek at a body that can be read once")
        return data

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
        left = None if size is None or size < 0 else size
        parts: list[bytes] = []
        while left is None or left > 0:
            part = self.body.line_at(self.position, left)
            if not part:
                if not parts:
                    self._end_seen()
                break
            self.position += len(part)
            parts.append(part)
            if part.endswith(b"\n"):
                break
            if left is not None:
                left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

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
        :raises io.UnsupportedOperation: from the end of a body that can be read only once.
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
        self.has_ended = False
        return offset

    def _end(self) -> int:
        size: int | None = self.body.find_size()
        if size is None:
            raise io.UnsupportedOperation("the end is not known before it is read")
        return size

    def _end_seen(self) -> None:
        self.has_ended = True
        self.body.ended(self)

    def tell(self) -> int:
        """The position, bytes from the start."""
        return self.position

    def close(self) -> None:
        """Close this stream; the body stays for others until the request is over."""
        self.closed = True
        self._end_seen()

    def __enter__(self) -> BodyStream:  # noqa: PYI034 - Self is Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """Whether the body can be read again; one of unknown length is read to find out."""
        again: bool = self.body.can_be_read_again()
        return again

    def writable(self) -> bool:
        """False."""
        return False

    def isatty(self) -> bool:
        """False."""
        return False

    def flush(self) -> None:
        """Do nothing, as for any read-only file."""

    def fileno(self) -> int:
        """Refuse: there is no descriptor to read the body from.

        :raises io.UnsupportedOperation: always.
        """
        raise io.UnsupportedOperation("fileno")


io.BufferedIOBase.register(BodyStream)
