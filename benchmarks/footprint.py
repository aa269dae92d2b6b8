"""What importing and holding each tracer costs: CPU time of the import, resident memory after."""

from __future__ import annotations

import os
import subprocess
import sys

IMPORTS = {
    "Flask": "import flask",
    "Flask, OpenTelemetry SDK": (
        "import flask, opentelemetry.sdk.trace, opentelemetry.sdk.trace.export, "
        "opentelemetry.sdk.metrics"
    ),
    "flask_bodytrace": "import flask_bodytrace",
    "OpenTelemetry Flask instrumentation and SDK": (
        "import flask, opentelemetry.instrumentation.flask, opentelemetry.sdk.trace.export, "
        "opentelemetry.sdk.metrics"
    ),
    "elastic-apm": "import flask, elasticapm.contrib.flask",
    "sentry-sdk": "import flask, sentry_sdk.integrations.flask",
    "ddtrace": "import ddtrace; ddtrace.patch(flask=True); import flask",
}
_PROBE = """
import time, psutil
start = time.process_time()
{}
print((time.process_time() - start) * 1000, psutil.Process().memory_info().rss / 2**20)
"""


def measure(*, rounds: int) -> dict[str, tuple[float, float]]:
    """CPU milliseconds and resident MiB after it, of each import: minimum of interleaved rounds."""
    best = dict.fromkeys(IMPORTS, (float("inf"), float("inf")))
    environ = {**os.environ, "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false"}
    for _ in range(rounds):
        for name, statement in IMPORTS.items():
            output = subprocess.run(
                [sys.executable, "-c", _PROBE.format(statement)],
                capture_output=True,
                text=True,
                check=True,
                env=environ,
            ).stdout
            took, resident = map(float, output.split())
            best[name] = (min(best[name][0], took), min(best[name][1], resident))
    return best
