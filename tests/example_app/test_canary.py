"""Two versions of the order service behind a real Envoy, judged by a real Prometheus."""

from __future__ import annotations

import itertools
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from example_app import labels
from example_app.bootstrap import GATEWAY, ORDERS, PAYMENTS, VIEWER
from example_app.demo.expected import good_order
from example_app.demo.spans import SpanReader, edges
from example_app.deploy.canary import __main__ as command_line
from example_app.deploy.canary.files import Places, write_routes
from example_app.deploy.canary.measured import Counts, NotMeasured, Prometheus
from example_app.deploy.canary.rollout import RolledBack, Rules, promote
from example_app.load.customer import Customer, order
from example_app.load.ledger import Ledger
from example_app.system import System, running
from tests.body.servers import free_port
from tests.example_app import patient
from tests.example_app.envoy_proxy import INSTALL, Envoy, answers
from tests.example_app.programs import needed, started, until
from tests.example_app.services import one_more

pytestmark = pytest.mark.slow

PROMETHEUS = "apt-get install prometheus"
# A good canary may be slow here, when the machine is busy; a bad one fails always.
QUICK = Rules(
    shares=(0, 20, 60, 100), step_s=1.0, least=10, most_failed=0.4, patience_s=60, every_s=0.2
)
_numbers = itertools.count()


@dataclass
class Shop:
    """A system whose gateway finds orders behind Envoy, and a place for a canary of it."""

    system: System
    gateway: str
    envoy: Envoy
    prometheus: Prometheus
    places: Places

    @contextmanager
    def canary(self, **elsewhere: str) -> Iterator[subprocess.Popen[str]]:
        """Run the canary.

        :param elsewhere: addresses of services that it takes for others than they are.
        """
        ours = {**elsewhere, ORDERS: f"http://{self.places.canary}"}
        with one_more(self.system, ORDERS, ours) as process:
            until(lambda: self.active("ejections_active") == 0, lambda: "it stays ejected")
            yield process

    def active(self, name: str) -> int:
        return self.envoy.stat(f"cluster.canary.outlier_detection.{name}")

    def answered(self) -> Counter[str]:
        """Requests answered so far, by version."""
        return Counter({it: self.envoy.stat(f"cluster.{it}.upstream_rq_total") for it in VERSIONS})

    def route(self, share: int | None) -> None:
        """Say who gets the canary; return once Envoy knows."""
        name = "http.orders.rds.orders.update_success"
        before = self.envoy.stat(name)
        write_routes(self.envoy.folder, share)
        until(lambda: self.envoy.stat(name) > before, lambda: "Envoy did not read its routes")


VERSIONS = ("stable", "canary")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    prometheus = needed("prometheus", PROMETHEUS)
    data = tmp_path_factory.mktemp("canary")
    with ExitStack() as parts:
        system = parts.enter_context(running(data / "data"))
        places = Places(
            port=free_port(),
            admin_port=free_port(),
            stable=system.url(ORDERS),
            canary=f"127.0.0.1:{free_port()}",
            traces=f"{system.url(VIEWER)}/v1/traces",
            scrape_every="200ms",
        )
        envoy = Envoy(data / "envoy", places)
        envoy.start()
        parts.callback(envoy.kill)
        url = f"http://127.0.0.1:{free_port()}"
        command = [
            prometheus,
            f"--config.file={envoy.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={data / 'prometheus'}",
            f"--web.listen-address={url.removeprefix('http://')}",
        ]
        parts.enter_context(
            started(command, data / "prometheus.log", lambda: answers(f"{url}/-/ready"))
        )
        gateway = f"http://127.0.0.1:{free_port()}"
        parts.enter_context(one_more(system, GATEWAY, {GATEWAY: gateway, ORDERS: envoy.url}))
        measure = parts.enter_context(closing(Prometheus(url)))
        yield Shop(system, gateway, envoy, measure, places)


@pytest.fixture
def customer(shop: Shop) -> Iterator[Customer]:
    with closing(Customer(shop.gateway)) as customer:
        yield customer


@contextmanager
def shopping(shop: Shop) -> Iterator[list[int]]:
    """Send orders as long as the block lasts, some with a label.

    :yields: of each order the status of its last answer.
    """
    answers: list[int] = []
    over = threading.Event()

    def shop_on(headers: dict[str, str]) -> None:
        with closing(Customer(shop.gateway)) as customer:
            while not over.is_set():
                number = next(_numbers)
                body = order(f"ORD-{number}", f"U-{number}")
                answers.append(patient.send(customer, body, **headers).status_code)

    with ThreadPoolExecutor(3) as pool:
        headers: tuple[dict[str, str], ...] = ({labels.HEADER: "canary"}, {}, {})
        customers = [pool.submit(shop_on, each) for each in headers]
        try:
            yield answers
        finally:
            over.set()
        for each in customers:
            each.result()


def send(customer: Customer, label: str = "", number: int = 1) -> set[int]:
    """Send orders; return the statuses of their last answers."""
    headers = {labels.HEADER: label} if label else {}
    bodies = [order(f"SENT-{each}", f"U-{each}") for each in itertools.islice(_numbers, number)]
    return {patient.send(customer, body, **headers).status_code for body in bodies}


# Who gets it.


def test_users_of_its_label_get_the_canary_and_others_by_weight(
    shop: Shop, customer: Customer
) -> None:
    with shop.canary():
        for share, label, got in [
            (None, "canary", "stable"),
            (0, "canary", "canary"),
            (0, "", "stable"),
            (100, "", "canary"),
            (100, "stable", "stable"),
        ]:
            shop.route(share)
            before = shop.answered()
            assert patient.all_taken(send(customer, label, 5))
            answered = shop.answered() - before
            assert set(answered) == {got}
            assert answered[got] >= 5

        shop.route(25)
        before = shop.answered()
        with httpx.Client(trust_env=False) as client:
            found = {
                client.get(f"{shop.envoy.url}/users/U1/orders").status_code for _ in range(400)
            }
        got_them = shop.answered() - before
        assert found == {200}
        assert got_them.total() == 400
        # Six standard deviations of chance.
        assert 48 <= got_them["canary"] <= 152


def test_one_trace_goes_through_envoy_with_its_own_spans(shop: Shop, customer: Customer) -> None:
    with shop.canary(), closing(SpanReader(shop.system)) as spans:
        shop.route(0)
        user = f"U-{next(_numbers)}"
        _, answer = patient.send_until_whole(
            customer, f"TRACED-{user}", user, **{labels.HEADER: "canary"}
        )
        assert answer.status_code == 201

        proxied = {
            ("envoy server POST orders", "gateway client POST /orders"): 1,
            ("envoy client POST canary-else-stable", "envoy server POST orders"): 1,
            ("orders server POST /orders", "envoy client POST canary-else-stable"): 1,
        }
        expected = good_order(user) + Counter(proxied)
        del expected["orders server POST /orders", "gateway client POST /orders"]
        trace = spans.wait_for(answer.headers["X-Trace-ID"], lambda it: edges(it) == expected)
        assert edges(trace) == expected
        (ingress,) = [span for span in trace if span.name == "POST orders"]
        assert ingress.attributes["user.label"] == "canary"
        (egress,) = [span for span in trace if span.name == "POST canary-else-stable"]
        assert egress.attributes["upstream_address"] == shop.places.canary


# A canary that dies.


def test_a_killed_canary_costs_nobody_an_order_and_is_ejected(shop: Shop) -> None:
    shop.route(50)
    with shop.canary() as process, shopping(shop) as answers:
        before = shop.answered()
        until(lambda: shop.answered()["canary"] > before["canary"] + 10, lambda: "it gets nothing")
        process.kill()
        until(lambda: shop.active("ejections_active") == 1, lambda: "it was not ejected")
        since = len(answers)
        until(lambda: len(answers) > since + 20, lambda: "nobody is served")
    assert patient.all_taken(answers)


# Promotion and rollback.


def test_a_good_canary_is_promoted_step_by_step(shop: Shop) -> None:
    said: list[str] = []
    with shop.canary(), shopping(shop) as answers:
        promote(shop.envoy.folder, shop.prometheus, QUICK, said.append)
        before = shop.answered()
        until(lambda: shop.answered()["canary"] >= before["canary"] + 20, lambda: "no requests")
        assert shop.answered()["stable"] - before["stable"] <= 3  # Under way at the last step.
    assert [line.split(" %")[0].strip() for line in said] == ["0", "20", "60", "100"]
    assert patient.all_taken(answers)
    with closing(Ledger(shop.system)) as ledger:
        counted = ledger.settle()
    assert counted["placed"] == 0


def test_a_bad_canary_is_rolled_back_by_what_prometheus_measured(
    shop: Shop, customer: Customer
) -> None:
    # A release with a mistake in its configuration: it looks for payments where nobody is.
    wrong = {PAYMENTS: f"http://127.0.0.1:{free_port()}"}
    said: list[str] = []
    with shop.canary(**wrong), shopping(shop):
        with pytest.raises(RolledBack, match=r"^[1-9]\d* of \d+ requests failed$"):
            promote(shop.envoy.folder, shop.prometheus, QUICK, said.append)
        assert said == [], "already in the first step, of users of its label"
        before = shop.answered()["canary"]
        until(lambda: patient.all_taken(send(customer, "canary", 10)), lambda: "users still get it")
        before = shop.answered()["canary"]
        assert patient.all_taken(send(customer, "canary", 10))
        assert shop.answered()["canary"] == before


def test_a_canary_that_nobody_asks_is_not_promoted(shop: Shop) -> None:
    rules = replace(QUICK, patience_s=1.0)
    with pytest.raises(RolledBack, match="0 of 0 requests failed, and 10 are needed to tell"):
        promote(shop.envoy.folder, shop.prometheus, rules)


def test_a_canary_that_is_not_measured_is_not_promoted(tmp_path: Path) -> None:
    rules = replace(QUICK, patience_s=0.5)
    (tmp_path / "routes.yaml").touch()
    with (
        closing(Prometheus(f"http://127.0.0.1:{free_port()}")) as nobody,
        pytest.raises(RolledBack, match=r"not measured for \d s: .*does not answer"),
    ):
        promote(tmp_path, nobody, rules)
    assert "canary-else-stable" not in (tmp_path / "routes.yaml").read_text()


def test_whatever_ends_a_promotion_takes_the_canary_out(tmp_path: Path) -> None:
    class Interrupted:
        def counts(self) -> Counts:
            assert "canary-else-stable" in (tmp_path / "routes.yaml").read_text()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        promote(tmp_path, Interrupted(), QUICK)
    assert "canary-else-stable" not in (tmp_path / "routes.yaml").read_text()


def test_an_envoy_started_anew_counts_from_zero() -> None:
    assert Counts(5, 1).since(Counts(100, 50)) == Counts(5, 1)
    assert Counts(105, 51).since(Counts(100, 50)) == Counts(5, 1)


def test_a_prometheus_without_envoy_says_so(shop: Shop, tmp_path: Path) -> None:
    del shop
    config = tmp_path / "prometheus.yml"
    config.write_text("scrape_configs: []\n")
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        needed("prometheus", PROMETHEUS),
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
    ]
    with (
        started(command, tmp_path / "log", lambda: answers(f"{url}/-/ready")),
        closing(Prometheus(url)) as prometheus,
        pytest.raises(NotMeasured, match="has nothing of Envoy's cluster canary"),
    ):
        prometheus.counts()


# The command line.


def test_the_command_line_writes_promotes_and_takes_back(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ["--folder", str(tmp_path)]
    assert command_line.main(["promote", *folder]) == 2
    assert "begin with `files`" in capsys.readouterr().err
    assert command_line.main(["files", *folder, "--stable", "nowhere"]) == 2
    assert "stable: 'nowhere' has no host and port" in capsys.readouterr().err
    assert command_line.main(["files", *folder]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "envoy.yaml")
    validated = [needed("envoy", INSTALL), "--mode", "validate", "-c", str(tmp_path / "envoy.yaml")]
    subprocess.run(validated, check=True, capture_output=True)

    quick = ["--step", "0", "--least", "0", "--shares", "0,50", "--prometheus"]
    assert command_line.main(["promote", *folder, *quick, shop.prometheus._url]) == 0
    assert "promoted" in capsys.readouterr().out
    assert '"weight": 50' in (tmp_path / "routes.yaml").read_text()
    assert command_line.main(["back", *folder]) == 0
    assert '"weight"' not in (tmp_path / "routes.yaml").read_text()
    assert command_line.main(["promote", *folder, "--patience", "0", *quick, "http://127.0.0.1:9"])
    assert "rolled back" in capsys.readouterr().out
