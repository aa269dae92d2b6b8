"""Calls of Python functions a request makes: ``python -m benchmarks.calls SUBJECT [FLAGS]``.

Counted, not timed: the same in every run and on every machine with the same packages.
"""

from __future__ import annotations

import sys
from collections import Counter
from types import FrameType
from typing import Any

from . import subjects

WARM_UP = 5
REQUESTS = 4


def per_request(subject: str, *, sampler: str = "always", flags: str = "01") -> Counter[str]:
    """How often which function is called for one reference request."""
    body = subjects.document(1024)
    application = subjects.make(subject, sampler)
    call = subjects.caller(application, subjects.environ(body, flags), body)
    for _ in range(WARM_UP):
        call()
    seen: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            code = frame.f_code
            module = frame.f_globals.get("__name__", code.co_filename)
            seen[f"{module}:{code.co_name}:{code.co_firstlineno}"] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for _ in range(REQUESTS):
            call()
    finally:
        sys.setprofile(before)
    return Counter({name: times // REQUESTS for name, times in seen.items()})


def main(subject: str, flags: str = "01") -> None:
    """Print what `subject` calls, and how often, beyond what bare Flask does."""
    over = per_request(subject, flags=flags)
    over.subtract(per_request("bare"))
    for name, times in sorted(over.items(), key=lambda item: -item[1]):
        if times:
            print(f"{times:5} {name}")
    print(f"{over.total():5} in all")


if __name__ == "__main__":
    main(*sys.argv[1:])
