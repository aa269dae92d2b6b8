"""Which requests get no span: ``BODYTRACE_EXCLUDED_URLS``, and OpenTelemetry's own variables."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .patterns import patterns_in


class Exclusions:
    """Regular expressions, searched for in a request's path.

    One that names a scheme (``https://…``) is searched for in the whole URL. Others are not: the
    Host header is the client's, who could switch tracing off by it.
    """

    def __init__(self, patterns: list[str]) -> None:
        self._paths = _any_of(each for each in patterns if "://" not in each)
        self._urls = _any_of(each for each in patterns if "://" in each)

    def match(self, environ: Mapping[str, Any]) -> bool:
        """Whether this request gets no span."""
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        if self._paths is not None and self._paths.search(path):
            return True
        if self._urls is None:
            return False
        host = environ.get("HTTP_HOST") or environ.get("SERVER_NAME", "")
        url = f"{environ.get('wsgi.url_scheme', 'http')}://{host}{path}"
        return self._urls.search(url) is not None


def exclusions(patterns: Iterable[str]) -> Exclusions | None:
    """What these patterns, and those of the standard variables, exclude; None for nothing.

    :raises ConfigError: a variable has what is no regular expression.
    """
    every = [*patterns, *_standard()]
    return Exclusions(every) if every else None


def _standard() -> list[str]:
    # OpenTelemetry's variable for its own Flask instrumentation, else its general one.
    flasks = "OTEL_PYTHON_FLASK_EXCLUDED_URLS"
    return patterns_in(flasks if os.environ.get(flasks) else "OTEL_PYTHON_EXCLUDED_URLS")


def _any_of(patterns: Iterable[str]) -> re.Pattern[str] | None:
    joined = "|".join(f"(?:{pattern})" for pattern in patterns)
    return re.compile(joined) if joined else None
