"""Reading a body from the server, and keeping or passing on what was read.

Functions of `BodyState`. All but `fill` and `pass_on` run with its lock held.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from flask_bodytrace.exceptions import BodyNotReplayable

from .input import COMPLETE, is_framing_error, read_some
from .store import OVER, BodyStore, BorrowedFile, NoRoom

if TYPE_CHECKING:
    from .state import BodyState

SMALL = 64 * 1024
"""Form parsers get bodies up to this many bytes in one piece; see ``make bench-body``."""
STEP = 1024 * 1024
"""At most this many bytes are asked of the server at once."""


def fill(body: BodyState, position: int, end: int | None, *, line: bool = False) -> bytes | None:
    """Read until `end` bytes, or all (None), are in store, or the body ends.

    Returns what was read if that is exactly what is wanted from `position` on.
    """
    if body.closed:
        raise ValueError(OVER)
    if body.complete or (end is not None and end <= body.kept):
        return None
    with body.lock:
        begin(body)
        wanted = body.kept == position
        parts = []
        while body.replayable and not body.complete and (end is None or body.kept < end):
            want = STEP if end is None else min(end - body.kept, STEP)
            piece = take(body, want, line=line)
            keep(body, piece)
            if wanted:
                parts.append(piece)
            if line:
                break
        if wanted and parts and body.replayable:
            return parts[0] if len(parts) == 1 else b"".join(parts)
        return None


def begin(body: BodyState) -> None:
    """Start reading: check the declared size, and whether the server has all of it already."""
    if body.error is not None:
        raise body.error
    if body.begun:
        return
    body.begun = True
    body.waiting = 0
    source = body.source
    size = body.declared
    there = type(source) in COMPLETE
    start = 0
    if there:
        start = source.tell()
        available = source.seek(0, io.SEEK_END) - start
        source.seek(start)
        if size is None:
            size = max(available, 0)
        elif available < size:
            raise fail(body, ClientDisconnected)
    if size is not None and size > limit_of(body):
        over_limit(body, size)
    elif there and size is not None:
        body.kept = size
        if type(source) is io.BytesIO:
            # Shared, not copied, if the body is all there is in the buffer.
            data = source.getvalue()
            whole = start == 0 and len(data) == size
            body.data = data if whole else data[start : start + size]
        else:
            body.store = BorrowedFile(source)
        completed(body)


def take_whole(body: BodyState) -> bytes | None:
    """All of it as one bytes object; None if it can be read only once."""
    if body.closed:
        raise ValueError(OVER)
    begin(body)
    if body.data is not None or not body.replayable:
        return body.data
    parts = [stored(body, 0, body.kept)] if body.kept else []
    if not body.complete:
        declared = body.declared
        if declared is None:
            if not _take_to_end(body, parts):
                return None
        else:
            _take_declared(body, parts, declared - sum(map(len, parts)))
    # Nothing from here on can fail, and `complete` is said last.
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    body.data = data
    body.kept = len(data)
    store, body.store = body.store, None
    completed(body)
    if store is not None:
        store.close()
    return data


def _take_declared(body: BodyState, parts: list[bytes], missing: int) -> None:
    # In one call where the server has that much: it saves a copy.
    while missing:
        try:
            piece = take(body, missing)
        except BaseException:
            _put_back(body, parts)
            raise
        parts.append(piece)
        missing -= len(piece)


def _take_to_end(body: BodyState, parts: list[bytes]) -> bool:
    size = taken = body.kept
    limit = limit_of(body)
    buffer = io.BytesIO()
    try:
        # One byte over the limit tells a body that is too large from one that just fits.
        while size <= limit and (
            piece := read(body, min(max(size, SMALL), STEP, limit + 1 - size))
        ):
            buffer.write(piece)
            size += len(piece)
    except BaseException:
        _put_back(body, [*parts, buffer.getvalue()])
        raise
    parts.append(buffer.getvalue())
    if size > limit:
        over_limit(body, size)
        _put_back(body, parts)
        return False
    if size == taken:
        parts.pop()
    return True


def _put_back(body: BodyState, parts: list[bytes]) -> None:
    """Store what `take_whole` took, for the readers after one that was interrupted."""
    if body.error is None:
        for piece in parts[1:] if body.kept else parts:
            if piece:
                keep(body, piece)


def take(body: BodyState, want: int, *, line: bool = False) -> bytes:
    """At most `want` bytes from the server; empty only at the end of an unknown length."""
    known = body.declared
    size = body.kept + body.passed
    if known is not None:
        piece = read(body, min(want, known - size), line=line)
        if not piece:
            raise fail(body, ClientDisconnected)
        return piece
    if body.replayable:
        want = min(want, limit_of(body) + 1 - size)
    return read(body, want, line=line)


def read(body: BodyState, size: int, *, line: bool = False) -> bytes:
    """One read from the server. Sizes are always positive: servers differ on -1 and None."""
    source = body.source
    if source is None:
        raise ValueError(OVER)
    if body.ahead_at < len(body.ahead):
        data, at = body.ahead, body.ahead_at
    else:
        try:
            data = read_some(source, size, line=line, ends_itself=body.declared is None)
        except Exception as error:
            lost(body, error)
            raise
        if body.closed:
            raise ValueError(OVER)
        at = 0
    end = min(at + size, len(data))
    if line:
        end = data.find(b"\n", at, end) + 1 or end
    # What is beyond this line, or beyond what was asked for, is not copied, only pointed at.
    body.ahead, body.ahead_at = (data, end) if end < len(data) else (b"", 0)
    return data if at == 0 and end == len(data) else data[at:end]


def keep(body: BodyState, piece: bytes) -> None:
    """Store `piece`, which was just read; an empty one means the end of the body."""
    if not piece:
        completed(body)
        return
    store = body.store
    if store is None:
        rules = body.rules
        store = body.store = BodyStore(
            rules.pool, rules.memory_limit, body.declared, rules.on_event, rules.spill_quota
        )
    assert isinstance(store, BodyStore)
    try:
        store.append(piece)
    except NoRoom:
        # Kept once more so that its reader gets it; whoever comes later is told.
        store.append(piece, over_quota=True)
        body.kept += len(piece)
        body.replayable = False
        body.rules.on_event("passed")
        return
    except Exception as error:
        # The piece is lost, so nobody may read on behind it.
        body.error = error
        raise
    body.kept += len(piece)
    if body.declared is None:
        if body.replayable and body.kept > limit_of(body):
            over_limit(body, body.kept)
    elif body.kept == body.declared:
        completed(body)


def limit_of(body: BodyState) -> int:
    """Bytes that are kept at most."""
    limit = body.rules.body_limit
    return limit if body.max_length is None else min(limit, body.max_length)


def completed(body: BodyState) -> None:
    """All of it was read."""
    store = body.store
    if body.data is None:
        if store is None:
            body.data = b""
        elif isinstance(store, BodyStore):
            body.data = store.only
    body.complete = True
    environ = body.environ
    if body.rules.sets_length and body.declared is None and environ is not None:
        environ["CONTENT_LENGTH"] = str(body.kept)
        environ.pop("HTTP_TRANSFER_ENCODING", None)


def lost(body: BodyState, error: Exception) -> None:
    """Turn the errors by which servers report broken chunks and lost clients into one.

    :raises ClientDisconnected: (400) `error` is one of these.
    """
    if is_framing_error(error, body.source):
        raise fail(body, ClientDisconnected) from error


def fail(body: BodyState, error: type[Exception]) -> type[Exception]:
    """Remember the error that every reader gets from now on."""
    body.error = error
    return error


def over_limit(body: BodyState, size: int) -> None:
    """The body is over the limit: reject it, or pass it on, readable once.

    :raises RequestEntityTooLarge: (413) it is rejected.
    """
    if body.rules.reject or (body.max_length is not None and size > body.max_length):
        body.rules.on_event("rejected")
        raise fail(body, RequestEntityTooLarge)
    body.replayable = False
    body.rules.on_event("passed")


def stored(body: BodyState, start: int, end: int) -> bytes:
    """The bytes from `start` to `end`, as far as they were read; takes no lock."""
    store = body.store
    if store is not None:
        try:
            return store.read(start, min(end, body.kept))
        except ValueError:
            if body.closed:
                raise
    # Between the store and one piece, the change may have come in between.
    data = body.data
    if data is None:
        if body.closed:
            raise ValueError(OVER)
        return b""
    return data[start:end]


def pass_on(body: BodyState, position: int, size: int | None, *, line: bool) -> bytes:
    """Read a body that is over the limit: first what is stored of it, then the server's stream.

    Only the reader that is exactly where the server's stream stands may go on.
    """
    parts = []
    with body.lock:
        stands = body.kept + body.passed
        if position != stands and (body.passed or position > body.kept):
            limit = body.rules.body_limit
            raise BodyNotReplayable(
                f"this request's body is larger than BODYTRACE_BODY_LIMIT ({limit} bytes), so "
                "it was passed on to its first reader and cannot be read again: raise "
                "BODYTRACE_BODY_LIMIT, read the body once, or set BODYTRACE_OVER_LIMIT=reject"
            )
        if body.error is not None:
            raise body.error
        if position < body.kept:
            parts.append(stored(body, position, body.kept if size is None else position + size))
        missing = None if size is None else size - sum(map(len, parts))
        while missing is None or missing > 0:
            if body.declared is not None and body.kept + body.passed == body.declared:
                break
            piece = take(body, STEP if missing is None else min(missing, STEP), line=line)
            if not piece:
                break
            body.passed += len(piece)
            if body.max_length is not None and body.kept + body.passed > body.max_length:
                over_limit(body, body.kept + body.passed)
            parts.append(piece)
            if line:
                break
            if missing is not None:
                missing -= len(piece)
    return parts[0] if len(parts) == 1 else b"".join(parts)
