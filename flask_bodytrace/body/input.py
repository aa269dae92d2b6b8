"""What WSGI servers hand over as ``wsgi.input``, and how each of them has to be read."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


_LINE_READERS = frozenset(
    {
        "cheroot.server.KnownLengthRFile",
        "gevent.pywsgi.Input",
        "gunicorn.http.body.Body",
        "uwsgi._Input",
        f"{__package__}.uwsgi.UwsgiChunks",
    }
)
COMPLETE = frozenset({io.BytesIO, io.BufferedRandom})
"""What waitress, bjoern and test clients hand over: all of it is there, and can be read again."""
NO_NUMBER = -1
"""What a Content-Length that is no number counts as."""
DIGITS = 18
"""A Content-Length has no more: no disk has as many bytes, and int() refuses some thousands."""


def reads_lines(source: object) -> bool:
    """Whether `source` has a `readline` known to work.

    cheroot's never returns for chunks, granian's drops the newline and what follows it.
    """
    kind = type(source)
    return isinstance(source, io.IOBase) or f"{kind.__module__}.{kind.__name__}" in _LINE_READERS


def read_raw(source: io.RawIOBase, size: int, *, line: bool) -> bytes:
    """Read from what has only `readinto`, such as the chunks of Werkzeug's server.

    That one shrinks the buffer it is given when a chunk is cut off, and its inherited `read` then
    returns memory beyond it. This buffer cannot shrink: it raises `ValueError` instead.
    """
    buffer = bytearray(1 if line else size)
    with memoryview(buffer) as target:
        if not line:
            count = source.readinto(target) or 0
            return bytes(target[:count])
        data = bytearray()
        while len(data) < size and source.readinto(target):
            data += target
            if target[0] == 10:  # a newline
                break
        return bytes(data)


def declared_length(environ: WSGIEnvironment) -> int | None:
    """Content-Length in bytes; None if absent or overruled by chunks (RFC 9112 6.3)."""
    text = environ.get("CONTENT_LENGTH")
    if not text or "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
        return None
    return int(text[:DIGITS]) if text.isdigit() and text.isascii() else NO_NUMBER
