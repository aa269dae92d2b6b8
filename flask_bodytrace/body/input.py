"""What WSGI servers hand over as ``wsgi.input``, and how each of them has to be read."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

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

_DIGITS = 18
"""A Content-Length has no more: no disk has as many bytes, and int() refuses some thousands."""
_SERVERS = frozenset(
    {"_io", "bjoern", "cheroot", "gevent", "granian", "gunicorn", "socket", "ssl", "uwsgi"}
    | {"waitress", "werkzeug", "wsgiref", __package__.partition(".")[0]}
)
"""Packages whose input ends where Content-Length says, and whose exceptions mean broken framing."""


def declared_length(environ: WSGIEnvironment) -> int | None:
    """The body's length in bytes; None if it is known only when its end is reached.

    `NO_NUMBER` for a Content-Length that is none. Chunks overrule Content-Length (RFC 9112, 6.3)
    where the server reads them to their end; where it does not say so (``wsgi.input_terminated``),
    it has taken the chunks apart, and Content-Length is what it counted.
    """
    is_terminated = bool(environ.get("wsgi.input_terminated"))
    text = environ.get("CONTENT_LENGTH")
    if not text:
        return None
    if is_terminated and (
        ("HTTP_TRANSFER_ENCODING" in environ and is_chunked(environ["HTTP_TRANSFER_ENCODING"]))
        or type(environ["wsgi.input"]).__module__.partition(".")[0] not in _SERVERS
    ):
        # Something in front of us, such as mod_wsgi below a filter that inflates, has changed how
        # long the body is. It still ends it.
        return None
    if type(text) is int:
        # Against PEP 3333, but some test clients (requests-wsgi-adapter) say it so.
        text = str(text)
    if text.isdigit() and text.isascii() and len(text) <= _DIGITS:
        return int(text)
    # The same value repeated counts once (RFC 9110, 8.6).
    values = {value.strip(" \t") for value in text.split(",")}
    value = values.pop()
    if values or not (value.isdigit() and value.isascii()):
        return NO_NUMBER
    return int(value[:_DIGITS])


def is_chunked(transfer_encoding: str) -> bool:
    """Whether the last transfer coding is ``chunked`` (RFC 9112, 6.1)."""
    return transfer_encoding.rpartition(",")[2].strip(" \t").lower() == "chunked"


def is_framing_error(error: Exception, source: object) -> bool:
    """Whether a server says by `error` that the client is lost, or its framing broken.

    Anything else comes from whatever wraps the server's input, and is its own to tell.

    :param source: what raised it.
    """
    kind = type(error)
    if kind.__module__ != "builtins":
        return kind.__module__.partition(".")[0] in _SERVERS
    if isinstance(error, OSError | EOFError):
        return True
    # A chunk's size that is none, or that no memory has.
    is_servers = type(source).__module__.partition(".")[0] in _SERVERS
    return is_servers and isinstance(error, ValueError | OverflowError)


def reads_lines(source: object) -> bool:
    """Whether `source` has a `readline` known to work.

    cheroot's never returns for chunks, granian's drops the newline and what follows it.
    """
    kind = type(source)
    return isinstance(source, io.IOBase) or f"{kind.__module__}.{kind.__name__}" in _LINE_READERS


def read_some(source: Any, size: int, *, line: bool, ends_itself: bool) -> bytes:
    """One read of at most `size` bytes; with `line`, at most one line where the server can tell.

    :param ends_itself: whether the end is known only when it is reached.
    """
    if ends_itself and isinstance(source, io.RawIOBase):
        return _read_raw(source, size, line=line)
    takes_line = line and reads_lines(source)
    # A wrapper may give a bytearray, which others could change afterwards.
    return bytes(source.readline(size) if takes_line else source.read(size))


def _read_raw(source: io.RawIOBase, size: int, *, line: bool) -> bytes:
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
