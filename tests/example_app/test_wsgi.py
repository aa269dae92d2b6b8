"""The services on a real gunicorn with several workers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from example_app import wsgi
from example_app.bootstrap import FULFILMENT, INVENTORY, ORDERS, PAYMENTS, Surroundings
from example_app.events.event import PLACED, new_event
from example_app.load.customer import Attempts
from example_app.load.ledger import Ledger
from example_app.load.run import Load, drive
from example_app.process import READY
from example_app.system import System, running
from tests.body.servers import free_port
from tests.example_app.programs import until
from tests.example_app.services import environment, start_refused

if TYPE_CHECKING:
    from pathlib import Path

WORKERS = 3


def loops_run_in(system: System, service: str) -> int:
    health: dict[str, Any] = {}

    def all_run() -> bool:
        # A loop whose neighbour is slow backs off for a while.
        health.update(
            httpx.get(f"{system.url(service)}/health", trust_env=False, timeout=30).json()
        )
        return all(loop["state"] == "running" for loop in health["loops"].values())

    until(all_run, lambda: str(health))
    pid: int = health["loopsRunIn"]
    return pid


@pytest.mark.slow
def test_a_worker_that_is_killed_passes_the_loops_on_and_every_order_is_settled(
    tmp_path: Path,
) -> None:
    with running(tmp_path, workers=WORKERS) as system, closing(Ledger(system)) as ledger:
        accepted: list[Attempts] = []
        for killed in (ORDERS, PAYMENTS, FULFILMENT, INVENTORY):
            workers = {child.pid for child in psutil.Process(system.pid(killed)).children()}
            assert len(workers) == WORKERS
            pid = loops_run_in(system, killed)
            assert pid in workers
            accepted += drive(system, Load(orders=30, seconds=300, customers=4)).accepted
            # Nothing of it needs to be settled yet.
            os.kill(pid, signal.SIGKILL)
            accepted += drive(system, Load(orders=30, seconds=300, customers=4)).accepted
        counted = ledger.settle()
        assert list(ledger.problems(accepted)) == []
        assert len(accepted) == 8 * 30
        for kept in ("paid", "charges", "shipments", "reserved"):
            assert counted[kept] == counted["orders"], kept
        for killed in (ORDERS, PAYMENTS, FULFILMENT, INVENTORY):
            alive = {child.pid for child in psutil.Process(system.pid(killed)).children()}
            assert loops_run_in(system, killed) in alive


@pytest.mark.parametrize("workers", [0, WORKERS])
def test_it_does_not_wait_for_a_neighbour_that_hangs_before_it_stops(
    tmp_path: Path, workers: int
) -> None:
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as hung, log.open("wb") as complaints:
        services = {
            PAYMENTS: f"http://127.0.0.1:{free_port()}",
            ORDERS: f"http://127.0.0.1:{hung.getsockname()[1]}",
        }
        around = Surroundings(tmp_path, services, b"key")
        with closing(around.publisher()) as publisher:
            payload = {"orderId": "A1", "userId": "U1", "total": 1, "lines": []}
            publisher.publish([new_event(PLACED, "A1", payload)])
        with subprocess.Popen(
            [
                *(sys.executable, "-m", "example_app", "--service", PAYMENTS),
                *("--workers", str(workers)),
            ],
            env=environment(around),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        ) as process:
            assert process.stdout is not None
            for _ in range(workers):
                assert process.stdout.readline().strip() == READY
            # The handler of the event calls back, and gets no answer.
            hung.settimeout(120)
            calling, _ = hung.accept()
            with calling:
                children = psutil.Process(process.pid).children()
                assert len(children) == workers
                process.send_signal(signal.SIGTERM)
                process.wait(120)
                # The system may take a moment to clear away those that were killed.
                _, alive = psutil.wait_procs(children, timeout=120)
                assert alive == []
    assert "order.placed is tried again" not in log.read_text(), "the call ended before it did"


def test_a_service_that_cannot_be_put_together_ends_gunicorn_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "fulfilment.db").write_bytes(b"this is no database" * 1000)
    said = start_refused(tmp_path, FULFILMENT, "--workers", "2")
    assert "fulfilment.db: file is not a database" in said


def test_there_are_entries_for_five_services() -> None:
    assert sorted(wsgi.NAMES) == ["fulfilment", "gateway", "inventory", "orders", "payments"]
    with pytest.raises(AttributeError, match=r"no 'shop': there are fulfilment, gateway"):
        _ = wsgi.shop


def test_a_service_made_before_the_workers_were_says_so(tmp_path: Path) -> None:
    code = """
import os, sys
from example_app.wsgi import fulfilment
pid = os.fork()
if pid == 0:
    try:
        fulfilment({}, None)
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""
    around = Surroundings(tmp_path, {FULFILMENT: "127.0.0.1:0"}, b"key")
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment(around),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "without --preload" in run.stdout
    assert run.returncode == 0, "and the threads of the service have ended"
