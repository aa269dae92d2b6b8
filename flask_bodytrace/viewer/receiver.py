"""OTLP/HTTP: ``POST /v1/traces``, ``/v1/logs`` and ``/v1/metrics`` into the store.

A request is read within bounds and kept as a whole or not at all.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from time import monotonic
from typing import IO

from werkzeug.exceptions import ClientDisconnected
from werkzeug.wrappers import Request, Response

from . import otlp, otlp_metrics
from .otlp import BadRequest, ProtobufMissing
from .store import TraceStore

MAX_BODY = 8 << 20
"""Bytes of one request, inflated."""

_STEP = 64 << 10
# Spans deflate to a tenth or a fiftieth. What deflates much better is made to, and would fill
# memory with millions of empty messages even below MAX_BODY.
_MAX_RATIO = 100
_RATIO_MATTERS = 1 << 20
_MAX_MESSAGES = 400_000
_MAX_SECONDS = 60.0
"""For the whole of a body: a peer that sends a byte now and then must not keep its thread."""
_PROTOBUF = "application/x-protobuf"
_JSON = "application/json"
_FORMS = {_PROTOBUF: "protobuf", _JSON: "json"}
_INVALID_ARGUMENT = 3


class Refused(Exception):
    """A request that is not read; `status` and message are the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def receive(store: TraceStore, signal: str, request: Request) -> Response:
    """Answer one export request.

    :param signal: ``traces``, ``logs`` or ``metrics``.
    """
    if request.method != "POST":
        return Response("POST only\n", 405, {"Allow": "POST"}, content_type="text/plain")
    mimetype = request.mimetype
    if mimetype not in _FORMS:
        return _answer(mimetype, 415, f"Content-Type must be {_PROTOBUF} or {_JSON}")
    try:
        body = read(request)
        keep(store, signal, _FORMS[mimetype], body)
    except Refused as refused:
        return _answer(mimetype, refused.status, str(refused))
    except (BadRequest, ClientDisconnected) as error:
        return _answer(mimetype, 400, str(error))
    except ProtobufMissing as error:
        return _answer(mimetype, 415, str(error))
    # Every response message of OTLP is empty when everything was accepted.
    return Response(b"{}" if mimetype == _JSON else b"", 200, content_type=mimetype)


def keep(store: TraceStore, signal: str, form: str, body: bytes) -> None:
    """Read one export request, and keep what is in it.

    :param signal: ``traces``, ``logs`` or ``metrics``.
    :param form: ``json`` or ``protobuf``.
    :raises BadRequest: anything in it is malformed; then nothing is kept.
    :raises ProtobufMissing: it is protobuf, and opentelemetry-proto is not installed.
    :raises Refused: it would take far more memory than bytes.
    """
    _check_count(form, body)
    is_json = form == "json"
    if signal == "traces":
        store.add((otlp.spans_from_json if is_json else otlp.spans_from_protobuf)(body))
    elif signal == "logs":
        store.add((), (otlp.logs_from_json if is_json else otlp.logs_from_protobuf)(body))
    else:
        read_metrics = (
            otlp_metrics.metrics_from_json if is_json else otlp_metrics.metrics_from_protobuf
        )
        store.add_metrics(read_metrics(body))


def _check_count(form: str, body: bytes) -> None:
    """Refuse what is small on the wire and large in memory: empty messages by the million."""
    if form == "json":
        count = body.count(b"{")
    else:
        count = max(body.count(bytes((number << 3 | 2, 0))) for number in range(1, 14))
    if count > _MAX_MESSAGES:
        raise Refused(413, f"at most {_MAX_MESSAGES} messages a request: export smaller batches")


def read(request: Request, limit: int = MAX_BODY) -> bytes:
    """The body, inflated; never more than `limit` and one step of it in memory.

    :raises Refused: it is too large, too slow, or packed in a way that is not known.
    :raises BadRequest: it is packed and malformed.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", "deflate", ""}:
        raise Refused(415, "Content-Encoding must be gzip, deflate or identity")
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    if encoding in {"identity", ""}:
        return _read_plain(request.stream, limit)
    return _inflate(request.stream, 47 if encoding == "gzip" else 15, limit)


def _read_plain(stream: IO[bytes], limit: int) -> bytes:
    parts = []
    size = 0
    late = monotonic() + _MAX_SECONDS
    while chunk := _some(stream, late):
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        parts.append(chunk)
    return b"".join(parts)


def _inflate(stream: IO[bytes], window: int, limit: int) -> bytes:
    inflater = zlib.decompressobj(window)
    parts = []
    size = packed = 0
    late = monotonic() + _MAX_SECONDS
    try:
        while chunk := _some(stream, late):
            packed += len(chunk)
            while chunk:
                part = inflater.decompress(chunk, _STEP)
                size += len(part)
                if size > limit or size > max(packed * _MAX_RATIO, _RATIO_MATTERS):
                    raise _too_large(limit)
                parts.append(part)
                chunk = inflater.unconsumed_tail
            if inflater.unused_data:
                raise BadRequest("data after the end of the compressed body")
    except zlib.error as error:
        raise BadRequest(f"malformed compressed body: {error}") from None
    if not inflater.eof:
        raise BadRequest("the compressed body is cut short")
    return b"".join(parts)


def _some(stream: IO[bytes], late: float) -> bytes:
    """The next bytes; what there is, where the server can tell, so that time can be looked at."""
    if monotonic() > late:
        raise Refused(408, f"a request's body has to arrive within {_MAX_SECONDS:.0f} s")
    take: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    return take(_STEP)


def _too_large(limit: int) -> Refused:
    return Refused(413, f"at most {limit} bytes a request: export smaller batches")


def _answer(mimetype: str, status: int, message: str) -> Response:
    """An error as OTLP wants it: a google.rpc.Status in the request's encoding."""
    if mimetype == _PROTOBUF:
        text = message.encode(errors="replace")[:1000]
        body = b"\x08" + bytes([_INVALID_ARGUMENT]) + b"\x12" + _varint(len(text)) + text
        return Response(body, status, content_type=_PROTOBUF)
    body = json.dumps({"code": _INVALID_ARGUMENT, "message": message}).encode()
    return Response(body, status, content_type=_JSON)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
