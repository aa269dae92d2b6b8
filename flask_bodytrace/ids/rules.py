"""Rules: which attribute is found where, as settings say it.

A source is a body path (``orderId``, ``order.items.0.sku``), ``path:name``, ``query:name`` or
``header:Name``; of several the first that yields wins. What exists only at the end of a request is
``session:key``, ``g:name``, or a function without arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from flask_bodytrace.exceptions import ConfigError

Source = str | Callable[[], object]
Rules = Mapping[str, Sequence[Source]]
"""Attribute name -> sources, in the order they are tried."""
_LATE = ("session:", "g:")
_KINDS = frozenset({"path", "query", "header", "session", "g"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")


def parse_rules(text: str) -> dict[str, list[str]]:
    """``"orderId,user.id=customer.id"`` as rules; one attribute may be named more than once.

    :raises ConfigError: an empty or malformed item, saying which.
    """
    if ";" in text:
        raise ConfigError(f"{text[:60]!r} has a ';': separate ids by commas")
    rules: dict[str, list[str]] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        attribute, equals, source = (part.strip() for part in item.partition("="))
        if equals and not (attribute and source):
            raise ConfigError(f"{item!r} needs a name on both sides of '='")
        source = source or attribute
        rules.setdefault(attribute if equals else source.rpartition(":")[2], []).append(source)
    return rules


def is_late(source: Source) -> bool:
    """Whether a source has its value only when the answer is made."""
    return callable(source) or source.startswith(_LATE)


def source_name(source: Source) -> str:
    """A source as people read it."""
    return f"{getattr(source, '__name__', 'function')}()" if callable(source) else source


def check_name(attribute: str) -> None:
    """Refuse what is no name of an attribute.

    :raises ConfigError: it has other characters than letters, digits, ``_``, ``-`` and ``.``.
    """
    if not _NAME.fullmatch(attribute):
        raise ConfigError(f"{attribute!r} is no attribute name (letters, digits, '_', '-', '.')")


def check_rules(rules: Rules) -> None:
    """Refuse rules that could never work.

    :raises ConfigError: a bad attribute name or an unknown kind of source, saying which.
    """
    for attribute, sources in rules.items():
        check_name(attribute)
        if not sources:
            raise ConfigError(f"{attribute!r} has no source: name at least one")
        for source in sources:
            if callable(source):
                continue
            if "[" in source:
                fix = source.replace("[", ".").replace("]", "")
                raise ConfigError(f"{source!r} is no path: write an array's index as in {fix!r}")
            kind, colon, name = source.partition(":")
            if colon and kind not in _KINDS:
                raise ConfigError(
                    f"{source!r} has an unknown kind {kind!r}: use path:, query:, header:, "
                    "session:, g: or a plain body path"
                )
            named = name if colon else source
            if not named or "" in source.split("."):
                raise ConfigError(f"{source!r} names nothing")
            if not named.isprintable() or {'"', "\\"} & set(named):
                raise ConfigError(f"{source!r} has characters no name of a field should have")
