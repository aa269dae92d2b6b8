"""``python -m tests.fuzz 10000 [first seed]``: as many raw requests to each server, as a table.

Every difference from stock Flask is explained by a rule of `differences`, or printed.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.body.servers import missing
from tests.fuzz.differences import SERVERS, compare


def main(count: int, first: int = 0) -> int:
    """Print the table; the number of differences without an explanation."""
    unexplained = 0
    for name in SERVERS:
        if (reason := missing(name)) is not None:
            print(f"{name}: skipped, {reason}")
            continue
        reasons: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as folder:
            for each in compare(name, range(first, first + count), Path(folder)):
                if each.reason is None:
                    unexplained += 1
                    print(f"{name}{each}", flush=True)
                reasons[each.reason or "NOT EXPLAINED"] += 1
        for reason, times in reasons.most_common():
            print(f"{name}: {times} {reason}", flush=True)
    return unexplained


if __name__ == "__main__":
    sys.exit(min(1, main(*map(int, sys.argv[1:]))))
