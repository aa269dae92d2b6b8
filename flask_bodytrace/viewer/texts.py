"""What the pages say, by language. A text's key is its English."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from . import texts_zh

LANGUAGES: Mapping[str, str] = {"en": "English", "zh": "中文"}
"""The languages there are, each by its own name."""

_CATALOGUES: Mapping[str, Mapping[str, str]] = {"en": {}, "zh": texts_zh.TEXTS}
SCRIPT = (
    "copy",
    "copied",
    "{at} of {all}",
    "no match",
    "expand {name}",
    "collapse {name}",
    "error",
    "on the critical path",
    "began {time} after the answer",
    "(no name)",
    "Live",
    "Viewer gone",
    "Reading {name}",
    "{name}: {problem}",
)
"""What the script says."""


def texts_of(language: str) -> Callable[..., str]:
    """What gives a text in a language, with values put in by their names."""
    catalogue = _CATALOGUES[language]

    def text(english: str, /, **values: object) -> str:
        found = catalogue.get(english, english)
        return found.format(**values) if values else found

    return text


def for_script(language: str) -> str:
    """What the script says, as JSON."""
    text = texts_of(language)
    return json.dumps({english: text(english) for english in SCRIPT})
