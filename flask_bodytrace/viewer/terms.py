"""The words of a search: what people type, as what is looked for in an `Index`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from .index import Index, needle

# A name, perhaps "=" and a value; a quote only means something where a word or value begins.
_TERM = re.compile(
    r"""
    (?P<minus>-(?=\S))?
    (?:
        (?P<name>[^\s"'=][^\s"=]*)=
        (?:"(?P<quoted>(?:[^"\\]|\\.)*)(?:"|$)|(?P<value>\S*))
        |"(?P<phrase>(?:[^"\\]|\\.)*)(?:"|$)
        |(?P<word>\S+)
    )
    """,
    re.VERBOSE,
)
_ID = re.compile(r"[0-9a-f]{8,32}")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_BARE = re.compile(r"[^\s\"\\*]+")
_MAX_TERMS = 16


class Term(Struct, frozen=True):
    """One word.

    :param wanted: what has to be in an index's text.
    :param excluded: whether it must not be there.
    :param id: what may be part of an id instead; empty if it does not look like one.
    """

    wanted: bytes
    excluded: bool = False
    id: bytes = b""

    def matches(self, index: Index) -> bool:
        """Whether a trace, or a span, is what is looked for."""
        found = self.wanted in index.text or (bool(self.id) and self.id in index.ids)
        return found is not self.excluded


def terms_of(text: str) -> Sequence[Term]:
    """The words of a search, all of which have to match.

    ``name=value`` is a whole value, ``name=val*`` its beginning, ``name=`` or ``name=*`` any value;
    anything else is a part of a name or of a value. Quotes hold spaces together, and a ``-`` in
    front excludes.
    """
    return [_term(match) for match in list(_TERM.finditer(text))[:_MAX_TERMS]]


def _term(match: re.Match[str]) -> Term:
    excluded = match["minus"] is not None
    name = match["name"]
    if name is None:
        phrase = match["phrase"]
        word = match["word"] if phrase is None else _ESCAPED.sub(r"\1", phrase)
        lowered = word.lower()
        looks_like_id = phrase is None and _ID.fullmatch(lowered)
        return Term(needle(word), excluded, lowered.encode() if looks_like_id else b"")
    if match["quoted"] is not None:
        value, whole = _ESCAPED.sub(r"\1", match["quoted"]), True
    else:
        value = match["value"]
        whole = bool(value) and not value.endswith("*")
        value = value.removesuffix("*")
    return Term(needle(f"{name}={value}", begins=True, ends=whole), excluded)


def asking_for(name: str, value: str) -> str:
    """The search for one attribute, as `terms_of` reads it."""
    if _BARE.fullmatch(value):
        return f"{name}={value}"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}="{escaped}"'


def matches_all(terms: Sequence[Term], index: Index) -> bool:
    """Whether every word does."""
    return all(term.matches(index) for term in terms)
