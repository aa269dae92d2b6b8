"""``python -m tests.fuzz 10000 [first seed]``: as many raw requests to each server, as a table.

Every difference from stock Flask is explained by a rule of `differences`, or printed.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.body.servers import missing, serving
from tests.fuzz.differences import MOUNTS, SERVERS, explanation, outcome
from tests.fuzz.raw import raw_request


def main(count: int, first: int = 0) -> int:
    """Print the table; the number of differences without an explanation."""
    unexplained = 0
    for name in SERVERS:
        if (reason := missing(name)) is not None:
            print(f"{name}: skipped, {reason}")
            continue
        reasons: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as folder, serving(name, Path(folder)) as server:
            for seed in range(first, first + count):
                raw = raw_request(seed)
                stock = outcome(server, raw, "/stock")
                # One of ours for each: seeds are many.
                mount = MOUNTS[seed % len(MOUNTS)]
                ours = outcome(server, raw, mount)
                reason = explanation(name, raw, stock, ours)
                if reason is None:
                    unexplained += 1
                    print(f"{name}{mount} {raw}\n    stock {stock}\n    ours  {ours}", flush=True)
                reasons[reason or "NOT EXPLAINED"] += 1
        for reason, times in reasons.most_common():
            print(f"{name}: {times} {reason}", flush=True)
    return unexplained


if __name__ == "__main__":
    sys.exit(min(1, main(*map(int, sys.argv[1:]))))
