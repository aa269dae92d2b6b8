import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests


@pytest.mark.parametrize(
    "stop", [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGINT, signal.SIGTERM)]
)
def test_it_serves_until_it_is_stopped(tmp_path: Path, stop: tuple[signal.Signals, ...]) -> None:
    command = [sys.executable, "-W", "error", "-m", "example_app", "--port", "0"]
    with subprocess.Popen(
        [*command, "--database", str(tmp_path / "orders.db")],
        env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as service:
        try:
            assert service.stdout is not None
            found = re.search(r"at (http://\S+);", service.stdout.readline())
            assert found is not None
            assert requests.get(f"{found[1]}/orders/A1", timeout=10).status_code == 404
            for number in stop:
                service.send_signal(number)
            _, complaints = service.communicate(timeout=20)
            assert complaints == ""
            assert service.returncode == 0
        finally:
            service.kill()


def test_a_port_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "example_app", "--host", "203.0.113.1"]
    service = subprocess.run(
        [*command, "--database", str(tmp_path / "orders.db")],
        env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert service.returncode == 1
    assert "203.0.113.1:8000" in service.stderr
    assert "Traceback" not in service.stderr
