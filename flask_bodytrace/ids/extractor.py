"""Rules compiled once, then pure: (bytes, content type) -> ids.

Extraction never raises, and decodes nothing that no rule names unless it has to: what the quick
scan of JSON refuses is parsed as Flask would, so that nobody hides an id from the trace by an
encoding or a NaN that the application reads all the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import msgspec

from flask_bodytrace.body.media_type import is_json, media_type
from flask_bodytrace.body.multipart import Malformed, parts_of

from .forms import from_pairs, pairs_pattern, part_text
from .hash import id_hasher
from .json_scan import from_document, json_scanner
from .rules import Rules, Source, check_rules, is_late
from .value import id_text

UNPARSED = "unparsed"
"""Why ids were not found: the body is not what its Content-Type says."""

Hasher = Callable[[str], str]

# A cache by what clients send must not keep what they send at length.
MAX_TYPE = 256

_FORMS = {
    "application/x-www-form-urlencoded": "urlencoded",
    "multipart/form-data": "multipart",
}


@dataclass(frozen=True, slots=True)
class IdExtractor:
    """What `compile_rules` makes: per attribute its sources, and what finds them.

    :param body: the body paths among them.
    :param reads_path: whether any source is a ``path:`` one, known only once the URL is matched.
    """

    attributes: Collection[str]
    """The names of the ids."""
    body: frozenset[str]
    reads_path: bool
    hashers: Mapping[str, Hasher] = field(repr=False)
    """By attribute, for ids that are stored as a keyed hash."""
    late: tuple[tuple[str, tuple[Source, ...]], ...]
    """Per attribute the sources that have their value only when the answer is made."""
    from_json: Callable[[bytes], dict[str, str]] = field(repr=False)
    form_pattern: re.Pattern[bytes] | None = field(repr=False)
    query_pattern: re.Pattern[bytes] | None = field(repr=False)
    steps: tuple[tuple[str, tuple[tuple[str, str], ...], Hasher | None], ...] = field(repr=False)
    """Per attribute its sources as (kind, name), "" for the body, and its hash if it has one."""
    paths: tuple[tuple[str, str, Hasher | None], ...] | None = field(repr=False)
    """The same where each has one source, in the body; else None. The usual case, in few steps."""

    def from_body(self, data: bytes, content_type: str) -> tuple[dict[str, str], str | None]:
        """The ids in a body, by source path; and `UNPARSED` if it is not what it says it is.

        :param data: the whole raw body.
        :param content_type: the Content-Type header; one that `form_of` knows no form of holds no
            ids.
        """
        form = form_of(content_type[:MAX_TYPE])
        try:
            if form == "json":
                try:
                    return self.from_json(data), None
                except (msgspec.DecodeError, UnicodeError):
                    # What Flask's parser reads all the same: NaN, lone surrogates, UTF-16.
                    return from_document(json.loads(data), self.body), None
            if form == "urlencoded":
                if not data.isascii():
                    data.decode()  # Flask reads nothing of what is no UTF-8
                return from_pairs(self.form_pattern, data), None
            if form == "multipart":
                return self._from_multipart(data, content_type)
        except Exception:  # noqa: BLE001 - whatever is wrong with a body, it has no ids
            return {}, UNPARSED
        return {}, None

    def from_query(self, query: bytes) -> dict[str, str]:
        """The values of the ``query:`` sources, by name.

        :param query: the raw query string.
        """
        return from_pairs(self.query_pattern, query)

    def choose(
        self, found: Mapping[str, str], lookup: Callable[[str, str], object]
    ) -> dict[str, str]:
        """The ids by attribute: for each the first source that yields.

        :param found: what `from_body` gave.
        :param lookup: (kind, name) -> value or None for path, query and header sources.
        """
        ids: dict[str, str] = {}
        for attribute, sources, hashed in self.steps:
            for kind, name in sources:
                value = id_text(lookup(kind, name)) if kind else found.get(name)
                if value is not None:
                    ids[attribute] = value if hashed is None else hashed(value)
                    break
        return ids

    def choose_found(self, found: Mapping[str, str]) -> dict[str, str]:
        """As `choose`, where `paths` says that the body is all there is to look at."""
        ids: dict[str, str] = {}
        for attribute, path, hashed in self.paths or ():
            value = found.get(path)
            if value is not None:
                ids[attribute] = value if hashed is None else hashed(value)
        return ids

    def _from_multipart(self, data: bytes, content_type: str) -> tuple[dict[str, str], str | None]:
        found: dict[str, str] = {}
        missing = set(self.body)
        try:
            for part in parts_of(data, content_type):
                if part.filename is None and part.name in missing:
                    missing.discard(part.name)
                    value = part_text(part.data, part.headers)
                    if value is not None:
                        found[part.name] = value
                    if not missing:
                        break
        except Malformed:
            return found, UNPARSED
        return found, None


def compile_rules(rules: Rules, *, hashed: Sequence[str] = (), key: str = "") -> IdExtractor:
    """Compile `rules` once, at start-up.

    :param hashed: attributes whose values are stored as a keyed hash.
    :param key: the secret of that hash.
    :raises ConfigError: as `check_rules`.
    """
    check_rules(rules)
    secret = key.encode()
    hashers = {attribute: id_hasher(attribute, secret) for attribute in hashed}
    early = {
        attribute: [source for source in sources if isinstance(source, str) and not is_late(source)]
        for attribute, sources in rules.items()
    }
    split = [source.partition(":") for sources in early.values() for source in sources]
    paths = {kind for kind, colon, _ in split if not colon}
    steps = tuple(
        (attribute, tuple(map(_split, sources)), hashers.get(attribute))
        for attribute, sources in early.items()
        if sources
    )
    late = {
        attribute: tuple(source for source in sources if is_late(source))
        for attribute, sources in rules.items()
    }
    return IdExtractor(
        attributes=tuple(rules),
        body=frozenset(paths),
        reads_path=any(kind == "path" for kind, colon, _ in split if colon),
        hashers=hashers,
        late=tuple((attribute, sources) for attribute, sources in late.items() if sources),
        from_json=json_scanner({path: tuple(path.split(".")) for path in sorted(paths)}),
        form_pattern=pairs_pattern(paths),
        query_pattern=pairs_pattern(name for kind, _, name in split if kind == "query"),
        steps=steps,
        paths=None
        if any(len(sources) > 1 or sources[0][0] for _, sources, _ in steps)
        else tuple((attribute, sources[0][1], hides) for attribute, sources, hides in steps),
    )


def _split(source: str) -> tuple[str, str]:
    kind, colon, name = source.partition(":")
    return (kind, name) if colon else ("", source)


@lru_cache(maxsize=64)
def form_of(content_type: str) -> str | None:
    """How a body of this Content-Type is to be searched; None if it is not.

    :param content_type: at most `MAX_TYPE` characters of it, since they are kept.
    """
    kind = media_type(content_type)
    return "json" if is_json(kind) else _FORMS.get(kind)
