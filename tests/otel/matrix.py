"""``make sdk-matrix``: the same requests on several releases of OpenTelemetry's SDK, as a table.

Each release gets an environment of its own below the folder given, kept for the next time.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from tests.otel.test_insides_renamed import RUN

ROOT = Path(__file__).parents[2]
# The instrumentations' versions go with the SDK's.
RELEASES = {"1.42": "0.63b0", "1.43": "0.64b0", "1.44": "0.65b0", "1.45": "0.66b0", "newest": ""}


def main(folder: str) -> None:
    """Print a row for each release; ends with 1 if any fails."""
    print("| SDK | answers, spans, ids | server spans made by |\n|---|---|---|")
    failed = False
    for release, contrib in RELEASES.items():
        python = _environment(Path(folder) / release, release, contrib)
        done = subprocess.run(
            [str(python), "-c", RUN, "nothing:_at_all"],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        version = _say(python, "from opentelemetry.sdk import version as v; print(v.__version__)")
        failed |= done.returncode != 0
        outcome = "right" if done.returncode == 0 else done.stderr.splitlines()[-1]
        print(f"| {version} | {outcome} | {done.stdout.strip()} |", flush=True)
    sys.exit(failed)


def _environment(folder: Path, release: str, contrib: str) -> Path:
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        packages = ["opentelemetry-sdk", "opentelemetry-instrumentation-wsgi"]
        if contrib:
            packages = [f"opentelemetry-sdk~={release}.0", f"{packages[1]}~={contrib}"]
        install = ["-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([str(python), *install, "flask", "msgspec", *packages], check=True)
        (folder / "ready").touch()
    return python


def _say(python: Path, code: str) -> str:
    return subprocess.run(
        [str(python), "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    main(sys.argv[1])
