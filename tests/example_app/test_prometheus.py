"""The files for Prometheus, on a real Prometheus that scrapes the services under load."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

import example_app
from example_app.bootstrap import GATEWAY, ORDERS, PAYMENTS, SERVICES
from example_app.load.customer import Customer, order
from example_app.load.ledger import Ledger
from example_app.load.run import Load, drive
from example_app.system import System, running
from tests.body.servers import free_port
from tests.example_app import patient
from tests.example_app.programs import needed, started, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

FILES = Path(example_app.__file__).parent / "deploy" / "prometheus"
PAGE = Path(example_app.__file__).parents[1] / "docs" / "engines" / "prometheus.md"
RULES: list[dict[str, str]] = [
    rule
    for group in msgspec.yaml.decode((FILES / "rules.yml").read_bytes())["groups"]
    for rule in group["rules"]
]
PANELS: list[dict[str, Any]] = json.loads((FILES / "dashboard.json").read_text())["panels"]
SHOWN = [target["expr"] for panel in PANELS for target in panel["targets"]]
RECORDED = [rule["record"] for rule in RULES if "record" in rule]
ALERTS = {rule["alert"]: rule["expr"] for rule in RULES if "alert" in rule}
PROMETHEUS = "apt-get install prometheus"
ALERTMANAGER = "apt-get install prometheus-alertmanager"


@dataclass
class Watched:
    """A system, and the Prometheus and the Alertmanager that watch it."""

    system: System
    prometheus: str
    alertmanager: str

    def ask(self, expression: str) -> list[dict[str, Any]]:
        answer = httpx.get(
            f"{self.prometheus}/api/v1/query",
            params={"query": expression},
            trust_env=False,
            timeout=30,
        ).json()
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def value(self, expression: str) -> float:
        found = self.ask(expression)
        return float(found[0]["value"][1]) if found else float("nan")

    def fired(self) -> set[tuple[str, str]]:
        """The alerts that Alertmanager has, with their jobs."""
        answer = httpx.get(f"{self.alertmanager}/api/v2/alerts", trust_env=False, timeout=30).json()
        return {(it["labels"]["alertname"], it["labels"].get("job", "")) for it in answer}


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=5).is_success
    except httpx.TransportError:
        return False


@contextmanager
def under_load(system: System) -> Iterator[None]:
    """Let two customers order for as long as the block lasts."""
    over, numbers = threading.Event(), itertools.count()

    def shop() -> None:
        with closing(Customer(system.url(GATEWAY))) as customer:
            while not over.is_set():
                number = next(numbers)
                body = order(f"LOAD-{number}", f"U{number % 10}")
                assert patient.send(customer, body).is_success

    with ThreadPoolExecutor(2) as pool:
        shopping = [pool.submit(shop) for _ in range(2)]
        try:
            yield
        finally:
            over.set()
        for customer in shopping:
            customer.result()


def adapted(system: System, alertmanager: str, folder: Path) -> Path:
    """The files as shipped, but for addresses, and for how long they look back and wait."""
    text = re.sub(r"for: \w+", "for: 0s", (FILES / "rules.yml").read_text())
    (folder / "rules.yml").write_text(re.sub(r"\[\d+m\]", "[10s]", text))
    config = msgspec.yaml.decode((FILES / "prometheus.yml").read_bytes())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (alerting,) = config["alerting"]["alertmanagers"]
    alerting["static_configs"] = [{"targets": [alertmanager.removeprefix("http://")]}]
    for job in config["scrape_configs"]:
        address = system.url(job["job_name"]).removeprefix("http://")
        job["static_configs"] = [{"targets": [address]}]
    path = folder / "prometheus.yml"
    path.write_bytes(msgspec.yaml.encode(config))
    return path


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    prometheus = needed("prometheus", PROMETHEUS)
    alertmanager = needed("prometheus-alertmanager", ALERTMANAGER)
    folder = tmp_path_factory.mktemp("watched")
    at, alerts_at = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    with (
        running(folder / "data", workers=2) as system,
        started(
            [
                alertmanager,
                f"--config.file={FILES / 'alertmanager.yml'}",
                f"--storage.path={folder / 'alerts'}",
                f"--web.listen-address={alerts_at.removeprefix('http://')}",
                "--cluster.listen-address=",
            ],
            folder / "alertmanager.log",
            lambda: answers(f"{alerts_at}/-/ready"),
        ),
        started(
            [
                prometheus,
                f"--config.file={adapted(system, alerts_at, folder)}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address={at.removeprefix('http://')}",
            ],
            folder / "prometheus.log",
            lambda: answers(f"{at}/-/ready"),
        ),
    ):
        yield Watched(system, at, alerts_at)


def test_the_files_are_valid(tmp_path: Path) -> None:
    promtool, amtool = needed("promtool", PROMETHEUS), needed("amtool", ALERTMANAGER)
    for command in (
        [promtool, "check", "rules", "--lint-fatal", str(FILES / "rules.yml")],
        [promtool, "check", "config", str(FILES / "prometheus.yml")],
        [amtool, "check-config", str(FILES / "alertmanager.yml")],
    ):
        run = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert run.returncode == 0, run.stdout + run.stderr


def test_every_service_is_scraped() -> None:
    config = msgspec.yaml.decode((FILES / "prometheus.yml").read_bytes())
    assert {job["job_name"] for job in config["scrape_configs"]} == set(SERVICES)


def test_the_page_has_the_seventeen_classes_of_the_dashboard_with_their_queries() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 18))
    for (number, queries), panel in zip(rows, PANELS, strict=True):
        assert panel["title"].startswith(f"{number}. ")
        assert re.findall(r"`([^`]+)`", queries) == [it["expr"] for it in panel["targets"]]


def test_each_alert_compares_one_figure_that_can_be_looked_at() -> None:
    for name, expression in ALERTS.items():
        figure, comparison, _ = expression.split(" ")
        assert figure in {*RECORDED, "up"}, name
        assert comparison in {"==", "!=", ">"}, name
        assert f"`{name}`" in PAGE.read_text()


def test_every_expression_has_data_under_load(watched: Watched) -> None:
    missing = [*SHOWN, *RECORDED, "up"]

    def all_have_data() -> bool:
        missing[:] = [each for each in missing if not watched.ask(each)]
        return not missing

    with under_load(watched.system):
        until(all_have_data, lambda: f"no data: {missing}")
    problems = httpx.get(f"{watched.prometheus}/api/v1/rules", trust_env=False, timeout=30).json()
    assert not [
        rule["name"]
        for group in problems["data"]["groups"]
        for rule in group["rules"]
        if rule["health"] != "ok"
    ]


def test_figures_are_those_of_all_workers_and_of_the_dead(watched: Watched) -> None:
    system = watched.system
    expression = 'example_orders_total{job="orders",order_status="placed"}'
    before = drive(system, Load(orders=20, seconds=300, customers=4))
    assert len(before.accepted) == 20
    with closing(Ledger(system)) as ledger:
        counted = ledger.settle()["orders"]
        until(
            lambda: watched.value(expression) == counted,
            lambda: f"{watched.ask(expression)} is not {counted}",
        )
        pids = {it["metric"]["pid"] for it in watched.ask('process_threads{job="orders"}')}
        assert len(pids) == 2
        health = httpx.get(f"{system.url(ORDERS)}/health", trust_env=False, timeout=30)
        killed = health.json()["loopsRunIn"]
        subprocess.run(["kill", "-9", str(killed)], check=True)  # noqa: S607 - wherever it is
        drive(system, Load(orders=20, seconds=300, customers=4))
        counted = ledger.settle()["orders"]

    def shown() -> set[str]:
        return {it["metric"]["pid"] for it in watched.ask('process_threads{job="orders"}')}

    # What it had at the moment is gone, what it had counted is not.
    until(lambda: str(killed) not in shown() and len(shown()) == 2, lambda: f"{killed}: {shown()}")
    until(
        lambda: watched.value(expression) == counted,
        lambda: f"{watched.ask(expression)} is not {counted}",
    )
    until(
        lambda: watched.value('example:loops_here:processes{job="orders"}') == 1,
        lambda: "the loops run in one worker",
    )


def test_alerts_reach_alertmanager_and_end_there(watched: Watched) -> None:
    system = watched.system
    wanted = {("ServiceDown", PAYMENTS), ("BreakerOpen", ORDERS)}
    # Of the load before, on a busy machine.
    until(lambda: not watched.fired() & wanted, lambda: f"{watched.fired()}")
    with closing(Customer(system.url(GATEWAY))) as customer, closing(Ledger(system)) as ledger:
        assert patient.send(customer, order("BEFORE", "U1")).status_code == 201
        system.hold(PAYMENTS)
        orders = (order(f"DOWN-{number}", "U1") for number in range(10_000))

        def fired() -> bool:
            # Each worker has a breaker of its own.
            assert patient.all_taken([patient.send(customer, next(orders)).status_code])
            return wanted <= watched.fired()

        until(fired, lambda: f"only {watched.fired()}")
        system.resume(PAYMENTS)
        more = (order(f"UP-{number}", "U1") for number in range(10_000))

        def calm() -> bool:
            customer.send(next(more))
            alerts = watched.ask('ALERTS{alertname=~"ServiceDown|BreakerOpen"}')
            return not alerts

        until(calm, lambda: f"{watched.ask('ALERTS')}")
        counted = ledger.settle()
        assert counted["paid"] == counted["orders"]
