"""Bodies of requests and answers as span attributes, for audits: off by default.

Of a request's body, only what the application, or the search for ids, has read to its end is shown:
nothing is read from the client for this, and no reader's position moves. Of an answer the first
bytes are noted as they go out; files that the server sends itself, what is compressed, and ranges
of documents are told by their size.

The names are those of OpenTelemetry's semantic conventions for HTTP (``http.request.body.content``,
opt-in); what is cut or does not parse has attributes of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from flask_bodytrace.body.media_type import is_coded, media_type

from .text import LOOK_AHEAD

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from opentelemetry.trace import Span

    from flask_bodytrace.body.cached import CachedBody

    from .documents import BodyCapture

NEVER, ERRORS, SERVER_ERRORS, ALWAYS = WHEN = ("never", "errors", "server-errors", "always")
"""When bodies are captured. Errors are answers of 4xx and 5xx, and exceptions on the way, whatever
answered for them; server errors those without 4xx."""

# Outcomes from which on bodies are captured.
_FROM = {NEVER: 1000, ERRORS: 400, SERVER_ERRORS: 500, ALWAYS: 0}

_LARGEST = 1 << 20
"""Bytes; of larger bodies only size and type are said, since hiding takes the whole body parsed."""
_MAX_TYPE = 100


class Answer:
    """The first bytes of one answer, and what its headers say of it.

    :param headers: the answer's.
    :param limit: bytes to note.
    """

    __slots__ = ("_left", "content_type", "is_shown", "is_whole", "parts", "size")

    def __init__(self, headers: Iterable[tuple[str, str]], limit: int) -> None:
        self.content_type = ""
        self.is_shown = True
        """Whether it is neither compressed nor the middle of a document, without its names."""
        self.parts: list[bytes] = []
        self.size = 0
        self.is_whole = False
        self._left = limit
        for name, value in headers:
            lower = name.lower()
            if lower == "content-type":
                self.content_type = value
            elif lower == "content-encoding":
                self.is_shown = self.is_shown and not is_coded(value)
            elif lower == "content-range":
                self.is_shown = False

    def take(self, chunk: bytes) -> None:
        """Note a chunk that goes out."""
        size = len(chunk)
        self.size += size
        if self._left > 0:
            self.parts.append(chunk if size <= self._left else chunk[: self._left])
            self._left -= size

    def take_all(self, chunks: Sequence[bytes | str]) -> None:
        """Note a whole answer, which stays where it is.

        :param chunks: text among them is sent as UTF-8, as Werkzeug's responses do.
        """
        self.parts = [each.encode() if isinstance(each, str) else each for each in chunks]
        self.size = sum(map(len, self.parts))
        self.is_whole = True

    def end(self) -> None:
        """All of the answer went out."""
        self.is_whole = True

    @property
    def has_all(self) -> bool:
        """Whether the noted bytes are the whole answer."""
        return self.is_whole and sum(map(len, self.parts)) == self.size


class BodyRecorder:
    """Puts bodies on spans.

    :param capture: makes text of them.
    :param limit: bytes of an answer to note, besides what is looked through behind them.
    :param requests: when bodies of requests are captured, one of `WHEN`.
    :param responses: when those of answers are.
    """

    def __init__(self, capture: BodyCapture, limit: int, *, requests: str, responses: str) -> None:
        self._capture = capture
        self._noted = limit + LOOK_AHEAD
        self._requests_from = _FROM[requests]
        self._responses_from = _FROM[responses]
        self.takes_answers = responses != NEVER

    def answer(self, headers: Iterable[tuple[str, str]]) -> Answer:
        """For an answer that begins."""
        return Answer(headers, self._noted)

    def record(
        self,
        span: Span,
        body: CachedBody,
        environ: WSGIEnvironment,
        answer: Answer | None,
        outcome: int,
    ) -> None:
        """Put both bodies on the span, as far as the request's outcome asks for them.

        :param outcome: the answer's status; 500 if there was an exception, whatever answered for
            it, or no answer.
        """
        attributes: dict[str, Any] = {}
        if outcome >= self._requests_from and body.size != 0:
            self._add_request(attributes, body, environ)
        if answer is not None and outcome >= self._responses_from:
            self._add_answer(attributes, answer)
        if attributes:
            span.set_attributes(attributes)

    def _add_request(
        self, attributes: dict[str, Any], body: CachedBody, environ: WSGIEnvironment
    ) -> None:
        content_type: str = environ.get("CONTENT_TYPE", "")
        size = body.size
        _add_outline(attributes, _REQUEST, size, content_type)
        is_shown = "HTTP_CONTENT_RANGE" not in environ and not is_coded(
            environ.get("HTTP_CONTENT_ENCODING", "")
        )
        if body.complete and size is not None and size <= _LARGEST and is_shown:
            self._add_content(attributes, _REQUEST, body.peek_at(0, size), content_type)

    def _add_answer(self, attributes: dict[str, Any], answer: Answer) -> None:
        if answer.is_whole and not answer.size:
            return
        size = answer.size if answer.is_whole else None
        _add_outline(attributes, _RESPONSE, size, answer.content_type)
        if not answer.is_shown or not answer.parts:
            return
        has_all = answer.has_all
        if answer.size <= _LARGEST or not has_all:
            data = b"".join(answer.parts)
            self._add_content(attributes, _RESPONSE, data, answer.content_type, is_whole=has_all)

    def _add_content(
        self,
        attributes: dict[str, Any],
        names: _Names,
        data: bytes,
        content_type: str,
        *,
        is_whole: bool = True,
    ) -> None:
        shown = self._capture.shown(data, content_type, where=names.where, is_whole=is_whole)
        if shown is None:
            return
        attributes[names.content] = shown.text
        if shown.is_cut:
            attributes[names.truncated] = True
        if not shown.is_parsed:
            attributes[names.unparsed] = True


class _Names(NamedTuple):
    """The names of attributes, made once."""

    where: str
    size: str
    content_type: str
    content: str
    truncated: str
    unparsed: str


def _names(where: str) -> _Names:
    return _Names(
        where,
        size=f"http.{where}.body.size",
        content_type=f"http.{where}.header.content-type",
        content=f"http.{where}.body.content",
        truncated=f"bodytrace.{where}.body.truncated",
        unparsed=f"bodytrace.{where}.body.unparsed",
    )


_REQUEST, _RESPONSE = _names("request"), _names("response")


def _add_outline(
    attributes: dict[str, Any], names: _Names, size: int | None, content_type: str
) -> None:
    if size is not None:
        attributes[names.size] = size
    kind = _shown_type(content_type)
    if kind is not None:
        attributes[names.content_type] = kind


@lru_cache(maxsize=64)
def _shown_type(content_type: str) -> tuple[str] | None:
    kind = media_type(content_type)[:_MAX_TYPE]
    return (kind,) if kind and kind.isprintable() else None
