"""Business ids: rules compiled once, then pure (bytes, content type) -> dict.

A source is a body path (``orderId``, ``order.items.0.sku``), ``path:name``, ``query:name`` or
``header:Name``; the first that yields wins. Extraction never raises, and decodes nothing that no
rule names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from .forms import _MAX_PARTS, _from_pairs, _is_utf8, _pairs_pattern, _text
from .hash import _hasher
from .json_scan import _json_scanner
from .rules import Rules, check_rules
from .value import clean

_FORMS = {
    "application/json": "json",
    "application/x-www-form-urlencoded": "urlencoded",
    "multipart/form-data": "multipart",
}


@dataclass(frozen=True, slots=True)
class IdExtractor:
    """What `compile_rules` makes: per attribute its sources, and what finds them.

    :param order: attribute -> sources, in the order they are tried.
    :param body: the body paths among them.
    :param reads_path: whether any source is a ``path:`` one, known only once the URL is matched.
    """

    order: Mapping[str, tuple[str, ...]]
    body: frozenset[str]
    reads_path: bool
    hashed: frozenset[str]
    from_json: Callable[[bytes], dict[str, str]] = field(repr=False)
    form_pattern: re.Pattern[bytes] | None = field(repr=False)
    query_pattern: re.Pattern[bytes] | None = field(repr=False)
    steps: tuple[tuple[str, tuple[tuple[str, str], ...], bool], ...] = field(repr=False)
    """Per attribute its sources as (kind, name), "" for the body, and whether it is hashed."""
    paths: tuple[tuple[str, str, bool], ...] | None = field(repr=False)
    """The same where each has one source, in the body; else None. The usual case, in few steps."""
    hash: Callable[[str], str] = field(repr=False)
    """A keyed 128-bit BLAKE2b of a value, in hex."""

    @property
    def attributes(self) -> Collection[str]:
        """The names of the ids."""
        return self.order.keys()

    def from_body(self, data: bytes, content_type: str) -> dict[str, str]:
        """The ids in a body, by source path.

        :param data: the whole raw body.
        :param content_type: the Content-Type header; other than JSON, ``+json``, urlencoded and
            multipart forms hold no ids.
        """
        form = _form_of(content_type)
        try:
            if form == "json":
                return self.from_json(data)
            if form == "urlencoded":
                return _from_pairs(self.form_pattern, data)
            if form == "multipart":
                return self._from_multipart(data, content_type)
        except Exception:  # noqa: BLE001 - whatever is wrong with a body, it has no ids
            return {}
        return {}

    def from_query(self, query: bytes) -> dict[str, str]:
        """The values of the ``query:`` sources, by name.

        :param query: the raw query string.
        """
        return _from_pairs(self.query_pattern, query)

    def holds_ids(self, content_type: str) -> bool:
        """Whether a body of this type is worth reading for ids."""
        return _form_of(content_type) is not None

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
                value = clean(lookup(kind, name)) if kind else found.get(name)
                if value is not None:
                    if hashed:
                        value = self.hash(value)
                    ids[attribute] = value
                    break
        return ids

    def choose_found(self, found: Mapping[str, str]) -> dict[str, str]:
        """As `choose`, where `paths` says that the body is all there is to look at."""
        ids: dict[str, str] = {}
        for attribute, path, hashed in self.paths or ():
            value = found.get(path)
            if value is not None:
                ids[attribute] = self.hash(value) if hashed else value
        return ids

    def _from_multipart(self, data: bytes, content_type: str) -> dict[str, str]:
        boundary = parse_options_header(content_type)[1].get("boundary", "").encode("ascii")
        if not boundary:
            return {}
        found: dict[str, str] = {}
        missing = set(self.body)
        decoder = MultipartDecoder(boundary, max_parts=_MAX_PARTS)
        decoder.receive_data(data)
        decoder.receive_data(None)
        wanted: str | None = None
        while missing or wanted:
            event = decoder.next_event()
            if isinstance(event, Epilogue | NeedData):
                break
            if isinstance(event, Field):
                wanted = event.name if event.name in missing and _is_utf8(event) else None
                missing.discard(event.name)
            elif isinstance(event, File):
                wanted = None
            elif isinstance(event, Data) and wanted is not None:
                value = _text(event.data)
                if value is not None:
                    found[wanted] = value
                wanted = None
        return found


def compile_rules(rules: Rules, *, hashed: Sequence[str] = (), key: str = "") -> IdExtractor:
    """Compile `rules` once, at start-up.

    :param hashed: attributes whose values are stored as `keyed_hash`.
    :param key: the secret of that hash.
    :raises ConfigError: as `check_rules`.
    """
    check_rules(rules)
    split = [source.partition(":") for sources in rules.values() for source in sources]
    paths = {kind for kind, colon, _ in split if not colon}
    steps = tuple(
        (attribute, tuple(map(_split, sources)), attribute in hashed)
        for attribute, sources in rules.items()
    )
    return IdExtractor(
        order={attribute: tuple(sources) for attribute, sources in rules.items()},
        body=frozenset(paths),
        reads_path=any(kind == "path" for kind, colon, _ in split if colon),
        hashed=frozenset(hashed),
        from_json=_json_scanner({path: tuple(path.split(".")) for path in sorted(paths)}),
        form_pattern=_pairs_pattern(paths),
        query_pattern=_pairs_pattern(name for kind, _, name in split if kind == "query"),
        steps=steps,
        paths=None
        if any(len(sources) > 1 or sources[0][0] for _, sources, _ in steps)
        else tuple((attribute, sources[0][1], hides) for attribute, sources, hides in steps),
        hash=_hasher(key.encode()),
    )


def _split(source: str) -> tuple[str, str]:
    kind, colon, name = source.partition(":")
    return (kind, name) if colon else ("", source)


@lru_cache(maxsize=64)
def _form_of(content_type: str) -> str | None:
    """How a body of this Content-Type is to be searched; None if it is not."""
    mimetype = content_type.partition(";")[0].strip().lower()
    if mimetype.endswith("+json"):
        return "json"
    return _FORMS.get(mimetype)
