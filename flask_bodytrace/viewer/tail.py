"""``flask bodytrace tail``: finished traces as trees in the terminal.

It asks a viewer which traces changed, once a second, and fetches those that have gone quiet. A
trace that grows after it was printed is printed again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from http.client import HTTPException
from threading import Event
from time import monotonic
from typing import Any, TextIO, TypedDict, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import msgspec

from . import display, otlp, server
from .columns import cut
from .model import Span
from .summary import http_status, summarize
from .waterfall import Row, waterfall

_POLL = 0.5
_TIMEOUT = 10
_INCOMPLETE_FACTOR = 5
DEFAULT_URL = f"http://127.0.0.1:{server.PORT}"


class _NoRedirect(HTTPRedirectHandler):
    """The token is for the viewer at the URL given, and for nobody it may point to."""

    def redirect_request(self, *_: Any) -> None:
        return None


# Nor for a proxy that some variable names.
_OPENER = build_opener(ProxyHandler({}), _NoRedirect)


class CannotFollow(Exception):
    """There is no viewer, or it does not let us look."""


class ChangedTrace(TypedDict):
    """A trace that grew."""

    traceId: str
    complete: bool
    quietSeconds: float


class Changed(TypedDict):
    """What changed after a version."""

    version: int
    traces: list[ChangedTrace]


class FoundTrace(TypedDict):
    """A line of the list of traces."""

    traceId: str
    name: str
    service: str
    start: int
    duration: int
    errors: int
    status: int | None
    ids: list[tuple[str, str]]


class Found(TypedDict):
    """The traces that match, as many as were asked for, and how many there are."""

    found: int
    traces: list[FoundTrace]


AnswerT = TypeVar("AnswerT")


class Source:
    """A viewer, over HTTP.

    :param url: where its list of traces is.
    :param token: what it asks for, if it does.
    :raises CannotFollow: the URL is none of HTTP's.
    """

    def __init__(self, url: str, token: str = "") -> None:
        if not url.lower().startswith(("http://", "https://")):
            raise CannotFollow(f"{url} is no http:// or https:// URL")
        try:
            host = urlsplit(url).hostname or ""
            host.encode("idna")
        except ValueError:
            host = ""
        if not host:
            raise CannotFollow(f"{url} names no host")
        if not token.isascii() or not token.isprintable():
            raise CannotFollow(
                f"{server.TOKEN_VARIABLE} cannot be sent: use printable ASCII characters only"
            )
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def _get(self, path: str) -> bytes:
        request = Request(self._url + path, headers=self._headers)  # noqa: S310 - checked above
        with _OPENER.open(request, timeout=_TIMEOUT) as answer:
            found: bytes = answer.read()
            return found

    def changed(self, after: int) -> Changed:
        """The traces that changed after a version.

        :raises CannotFollow: the viewer is not there, or does not let us look.
        """
        return self._json(f"/changed.json?after={after}", Changed)

    def traces(self, query: Mapping[str, str]) -> Found:
        """The traces that match, as the list's arguments say.

        :raises CannotFollow: the viewer is not there, or does not let us look.
        """
        found = self._json(f"/traces.json?{urlencode(query, errors='replace')}", Found)
        # What no clock has is no time of a trace viewer's.
        if not all(0 <= trace["start"] < 1 << 64 for trace in found["traces"]):
            raise CannotFollow(f"{self._url} is something else than a trace viewer")
        return found

    def _json(self, path: str, kind: type[AnswerT]) -> AnswerT:
        try:
            return msgspec.json.decode(self._get(path), type=kind)
        except HTTPError as error:
            with error:
                hint = f": set {server.TOKEN_VARIABLE}" if error.code == 401 else ""
            raise CannotFollow(f"{self._url} answers {error.code} {error.reason}{hint}") from None
        except (URLError, OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise CannotFollow(f"no viewer at {self._url}: {reason}") from None
        except (ValueError, RecursionError, msgspec.MsgspecError):
            raise CannotFollow(f"{self._url} is something else than a trace viewer") from None

    def spans(self, trace_id: str) -> Sequence[Span]:
        """The spans of a trace; none if it has gone."""
        try:
            return otlp.spans_from_json(self._get(f"/trace/{trace_id}/otlp.json"))
        except (OSError, HTTPException, otlp.BadRequest):
            return []


def finished(source: Source, wait: float, stop: Event) -> Iterator[Sequence[Span]]:
    """Traces, each once it has its first span and nothing came for `wait` seconds.

    One whose first span does not come is shown as it is, some time later.

    :raises CannotFollow: the viewer went away.
    """
    # What was there before is not news.
    version = source.changed(0)["version"]
    due: dict[str, float] = {}
    while not stop.is_set():
        answer = source.changed(version)
        # A viewer that was started anew counts from zero.
        version = answer["version"] if answer["version"] >= version else 0
        now = monotonic()
        for trace in answer["traces"]:
            patience = wait if trace["complete"] else wait * _INCOMPLETE_FACTOR
            due[trace["traceId"]] = now - trace["quietSeconds"] + patience
        for trace_id in [trace_id for trace_id, at in due.items() if at <= now]:
            del due[trace_id]
            if spans := source.spans(trace_id):
                yield spans
        stop.wait(_POLL)


Line = Sequence[tuple[str, str]]
"""Pieces of text, each with a style of rich, or none."""


def tree(spans: Sequence[Span]) -> Iterator[Line]:
    """A trace, line by line; nothing in a name can steer the terminal."""
    summary = summarize(spans[0].trace_id, {s.span_id: s for s in spans}, frozenset(), 0)
    heading = [("trace ", "dim"), (summary.trace_id, "bold")]
    heading.append((f"  {display.duration(summary.duration)}", ""))
    heading += [(f"  {_word(name)}={_word(value)}", "cyan") for name, value in summary.ids[:4]]
    yield heading
    rows = waterfall(spans).rows
    for row, branches in zip(rows, _branches(rows), strict=True):
        yield [(branches, "dim"), *_pieces(row)]


def _pieces(row: Row) -> Iterator[tuple[str, str]]:
    span = row.span
    yield _word(span.name) or "(no name)", "bold red" if span.failed else "bold"
    yield f"  {_word(span.service)}", "cyan"
    status = http_status(span)
    if status is not None:
        yield f"  {status}", "red" if status >= 500 else "yellow" if status >= 400 else "green"
    yield f"  {display.duration(span.duration)}", ""
    if span.failed:
        yield f"  error {_word(span.status_message)}".rstrip(), "red"
    if row.orphan:
        yield "  (its parent was not received)", "yellow"
    if row.skew:
        yield f"  (starts {display.duration(row.skew)} before its parent)", "yellow"


def _branches(rows: Sequence[Row]) -> list[str]:
    """The lines that lead to each row, from the last row to the first: only then is it known
    whether a sibling follows.
    """  # noqa: D205 - one sentence
    found = []
    follows: list[bool] = []
    for row in reversed(rows):
        depth = row.depth
        follows = (follows + [False] * (depth + 1))[: depth + 1]
        stems = "".join("│  " if more else "   " for more in follows[:-1])
        found.append(stems + ("├─ " if follows[-1] else "└─ "))
        follows[-1] = True
    return found[::-1]


def _word(text: str) -> str:
    return cut(" ".join(display.plain(text[:400]).split()), 200)


def printer(out: TextIO) -> Callable[[Sequence[Span]], None]:
    """What prints a trace: in colour to a terminal, if rich is installed; plain otherwise."""
    if out.isatty():
        try:
            from rich.console import Console
            from rich.text import Text
        except ImportError:
            pass
        else:
            console = Console(file=out, highlight=False)

            def print_coloured(spans: Sequence[Span]) -> None:
                for line in tree(spans):
                    console.print(Text.assemble(*line), soft_wrap=True)
                console.print()

            return print_coloured

    def print_plain(spans: Sequence[Span]) -> None:
        out.writelines("".join(text for text, _ in line) + "\n" for line in tree(spans))
        out.write("\n")
        out.flush()

    return print_plain


def follow_or_serve(url: str, wait: float, out: TextIO) -> None:
    """Print what finishes at `url` until interrupted.

    :raises CannotFollow: there is no viewer, and none can be started, or it went away.
    """
    token = server.token_from_environment()
    started = None
    try:
        Source(url, token).changed(0)
    except CannotFollow:
        if url.rstrip("/") != DEFAULT_URL:
            raise
        try:
            started = server.make(token=token)
        except server.CannotServe as error:
            raise CannotFollow(str(error)) from None
    with server.running(started) if started is not None else nullcontext(url) as where:
        what = "Receiving OTLP/HTTP, traces also at" if started is not None else "Following"
        sys.stderr.write(f"{what} {where.rstrip('/')}/\n")
        show = printer(out)
        for spans in finished(Source(where, token), wait, Event()):
            show(spans)
