"""``make traceloop``: Traceloop's SDK, as its newest release is, with BodyTrace, as a table.

Each row is a process of its own: Traceloop can be initialised once in each. It runs in an
environment of its own, too: what Traceloop's SDK pulls in is nothing that the package needs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIRST = ("traceloop", "bodytrace")
PATHS = {"fast": "false", "sdk": "true"}
"""What makes server spans, and whether the SDK counts them, for which it has to make them."""
WAYS = ("exporter", "processor", "processors", "socket")


def main() -> None:
    """Print a row for each combination; ends with 1 if any fails."""
    print(f"traceloop-sdk {version('traceloop-sdk')}, OpenTelemetry {version('opentelemetry-sdk')}")
    print("| set up first | server spans made by | spans leave by | outcome |\n|---|---|---|---|")
    failed, combinations = 0, list(product(FIRST, PATHS, WAYS))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for combination, wrong in zip(combinations, pool.map(_wrong, combinations), strict=True):
            failed += bool(wrong)
            print("|", " | ".join((*combination, "WRONG" if wrong else "right")), "|", flush=True)
            if wrong:
                print(wrong, file=sys.stderr)
    print(f"{len(combinations) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


def _wrong(combination: tuple[str, str, str]) -> str:
    """What a process of this combination complains of; empty if of nothing."""
    _, path, _ = combination
    settings = ("BODYTRACE_", "OTEL_", "TRACELOOP_")
    done = subprocess.run(
        [sys.executable, "-m", "tests.traceloop.checks", *combination],
        cwd=ROOT,
        env={
            **{key: value for key, value in os.environ.items() if not key.startswith(settings)},
            "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": PATHS[path],
            # Batches leave at once.
            "OTEL_BSP_SCHEDULE_DELAY": "20",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return "" if done.returncode == 0 else done.stderr or f"it ended with {done.returncode}"


if __name__ == "__main__":
    main()
