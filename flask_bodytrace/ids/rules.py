"""Rules: which attribute is found where, as settings say it.

A source is a body path (``orderId``, ``order.items.0.sku``), ``path:name``, ``query:name`` or
``header:Name``; of several the first that yields wins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from flask_bodytrace.exceptions import ConfigError

Rules = Mapping[str, Sequence[str]]
"""Attribute name -> sources, in the order they are tried."""
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


def check_rules(rules: Rules) -> None:
    """Refuse rules that could never work.

    :raises ConfigError: a bad attribute name or an unknown kind of source, saying which.
    """
    for attribute, sources in rules.items():
        if not _NAME.fullmatch(attribute):
            raise ConfigError(f"{attribute!r} is no attribute name (letters, digits, '_', '.')")
        if not sources:
            raise ConfigError(f"{attribute!r} has no source: name at least one")
        for source in sources:
            if "[" in source:
                fix = source.replace("[", ".").replace("]", "")
                raise ConfigError(f"{source!r} is no path: write an array's index as in {fix!r}")
            kind, colon, name = source.partition(":")
            if colon and kind not in {"path", "query", "header"}:
                raise ConfigError(
                    f"{source!r} has an unknown kind {kind!r}: use path:, query:, header: or a "
                    "plain body path"
                )
            named = name if colon else source
            if not named or "" in source.split("."):
                raise ConfigError(f"{source!r} names nothing")
            if not named.isprintable() or {'"', "\\"} & set(named):
                raise ConfigError(f"{source!r} has characters no name of a field should have")
