"""Regular expressions from the standard variables."""

from __future__ import annotations

import os
import re

from flask_bodytrace.exceptions import ConfigError


def patterns_in(variable: str) -> list[str]:
    """The patterns that an environment variable lists, separated by commas; none if it is unset.

    :raises ConfigError: one of them is no regular expression.
    """
    patterns = [each.strip() for each in os.environ.get(variable, "").split(",") if each.strip()]
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(
                f"{variable} has {pattern[:60]!r}, which is no regular expression ({error}): "
                "separate patterns by commas, and write '.*' for anything"
            ) from None
    return patterns
