"""``flask bodytrace show`` and ``search``: a viewer's traces in the terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TextIO

from . import commands, display
from .columns import cut, pad
from .replay import replay_of_trace
from .search import COLUMNS, Filter
from .tail import CannotFollow, FoundTrace, Source, printer

_ID = re.compile(r"[0-9a-f]{32}")
_IDS = 3


def query_of(words: Sequence[str]) -> str:
    """What a shell made several arguments of, as one search: what has spaces is quoted again."""
    return " ".join(_quoted(word) if re.search(r"\s", word) else word for word in words)


def _quoted(word: str) -> str:
    # One argument that is several words already was quoted as a whole: '-a "b c"'.
    if '"' in word:
        return word
    name, is_pair, value = word.partition("=")
    if is_pair and not re.search(r"\s", name):
        return f'{name}="{value}"'
    return f'"{word}"'


def show(source: Source, trace_id: str, out: TextIO, form: str = "tree") -> None:
    """Print one trace.

    :param form: ``tree``, or what repeats its request: one of `commands.FORMS`.
    :raises CannotFollow: there is no such trace, or no viewer, or it starts with no HTTP request.
    """
    wanted = trace_id.strip().lower()
    if not _ID.fullmatch(wanted):
        raise CannotFollow(f"{trace_id[:40]!r} is no trace id: 32 hex digits are")
    spans = source.spans(wanted)
    if not spans:
        # Whether the viewer is there at all.
        source.changed(0)
        raise CannotFollow(f"the viewer has no trace {wanted}")
    if form == "tree":
        printer(out)(spans)
        return
    replay = replay_of_trace(spans)
    if replay is None:
        raise CannotFollow("this trace does not start with an HTTP request")
    out.write(commands.FORMS[form](replay))


class NoSuchFilter(Exception):
    """An argument of a search that the viewer would leave out."""


_FORMS = {
    "min": "a duration such as 10ms or 1.5s",
    "status": "ok, error, a status such as 404, or 4xx",
    "sort": f"one of {', '.join(COLUMNS)}, or that with a - in front",
}


def check(query: Mapping[str, str]) -> None:
    """Refuse what the list of traces, forgiving as a page is, would show everything for.

    :param query: the list's arguments.
    :raises NoSuchFilter: one of them makes no sense.
    """
    read = Filter.read(query)
    is_known = {
        "min": bool(read.given_minimum),
        "status": bool(read.status),
        "sort": query.get("sort", "").removeprefix("-") in COLUMNS,
    }
    for name, form in _FORMS.items():
        if query.get(name) and not is_known[name]:
            raise NoSuchFilter(f"--{name} {query[name][:40]!r} is not accepted: use {form}")


def search(source: Source, query: Mapping[str, str], limit: int, out: TextIO) -> int:
    """Print a line for each trace that matches, the latest first; gives how many match.

    :param query: the list's arguments, such as ``q`` and ``status``.
    :raises CannotFollow: there is no viewer, or it does not let us look.
    """
    answer = source.traces({**query, "limit": str(limit)})
    out.writelines(_line(trace) + "\n" for trace in answer["traces"])
    return answer["found"]


def _line(trace: FoundTrace) -> str:
    ids = "  ".join(f"{name}={value}" for name, value in trace["ids"][:_IDS])
    status = trace["status"] or ("error" if trace["errors"] else "ok")
    line = (
        f"{display.clock(trace['start'])}  {pad(str(status), 5)}  "
        f"{display.duration(trace['duration']):>9}  {pad(_plain(trace['name']), 36)}  "
        f"{pad(_plain(trace['service']), 16)}  {_plain(trace['traceId'])}  {cut(_plain(ids), 80)}"
    )
    return line.rstrip()


def _plain(text: str) -> str:
    return " ".join(display.plain(text).split()) or "(no name)" if text else ""
