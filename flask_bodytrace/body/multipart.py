"""The parts of a multipart body. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from werkzeug.datastructures import Headers
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import (
    Data,
    Epilogue,
    Field,
    File,
    MultipartDecoder,
    NeedData,
)

MAX_PARTS = 1000
"""As many as Flask's own parser takes (``MAX_FORM_PARTS``)."""


class Malformed(ValueError):
    """A body is not the multipart body it says it is, or has too many parts."""


@dataclass(slots=True)
class Part:
    """One part.

    :param name: None where the part does not say, which no form field may.
    :param filename: None where it is no file.
    """

    name: str | None
    filename: str | None
    headers: Headers
    data: bytes


def parts_of(data: bytes, content_type: str) -> Iterator[Part]:
    """The parts of a whole body, in order.

    :raises Malformed: from wherever the body stops making sense.
    """
    boundary = parse_options_header(content_type)[1].get("boundary", "")
    if not boundary or not boundary.isascii():
        raise Malformed("no boundary")
    decoder = MultipartDecoder(boundary.encode("ascii"), max_parts=MAX_PARTS)
    decoder.receive_data(data)
    decoder.receive_data(None)
    part: Part | None = None
    pieces: list[bytes] = []
    while True:
        try:
            event = decoder.next_event()
        except (ValueError, KeyError, RequestEntityTooLarge) as error:
            raise Malformed(str(error)) from error
        if isinstance(event, Field | File):
            filename = event.filename if isinstance(event, File) else None
            part, pieces = Part(event.name, filename, event.headers, b""), []
        elif isinstance(event, Data) and part is not None:
            pieces.append(event.data)
            if not event.more_data:
                part.data = b"".join(pieces)
                yield part
                part = None
        elif isinstance(event, Epilogue):
            return
        elif isinstance(event, NeedData):
            raise Malformed("it ends before its last boundary")
