"""The whole system with Apache Kafka as its bus: the same traces, and a broker that is killed."""

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest

from example_app.bootstrap import GATEWAY
from example_app.demo.expected import good_order
from example_app.demo.run import Demo
from example_app.demo.spans import SpanReader, differences, edges, label
from example_app.load.customer import Attempts, Customer
from example_app.load.ledger import Ledger
from example_app.system import System, running
from tests.example_app import patient
from tests.example_app.brokers import Kafka
from tests.example_app.programs import until

pytestmark = pytest.mark.slow

_MORE, _CUSTOMERS = 40, 4


class Restarted:
    """A broker that runs until it is killed, and then again."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._process = ExitStack()
        self.start()

    def start(self) -> None:
        self._process.enter_context(self._kafka.running())

    def kill(self) -> None:
        self._process.close()


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Kafka:
    return Kafka(tmp_path_factory.mktemp("kafka"))


@pytest.fixture(scope="module")
def broker(kafka: Kafka) -> Iterator[Restarted]:
    broker = Restarted(kafka)
    yield broker
    broker.kill()


@pytest.fixture(scope="module")
def system(
    kafka: Kafka,
    broker: Restarted,  # noqa: ARG001 - it runs before the system and after it
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[System]:
    data = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXAMPLE_BUS", kafka.url)
        with running(data) as system:
            yield system
    assert not (data / "bus.db").exists(), "the embedded bus was not used"


def test_an_order_leads_to_the_same_spans(system: System) -> None:
    with (
        closing(Customer(system.url(GATEWAY))) as customer,
        closing(SpanReader(system)) as spans,
    ):
        _, answer = patient.send_until_whole(customer, "TRACED", "U1")
        expected = good_order("U1")
        trace = spans.wait_for(answer.headers["X-Trace-ID"], lambda it: edges(it) == expected)
    assert list(differences(expected, edges(trace))) == []
    messages = [it for it in trace if label(it).split()[1] in {"consumer", "producer"}]
    assert len(messages) == 5
    for span in messages:
        assert span.attributes["messaging.system"] == "kafka"
        assert span.attributes["messaging.destination.name"] == "order"
        assert {"messaging.destination.partition.id", "messaging.kafka.offset"} <= {
            *span.attributes
        }


def test_the_demo_finds_nothing_wrong(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    demo = Demo(system)
    demo.order()
    assert demo.problems == []
    assert f"one trace of {good_order('U987654').total()} spans" in capsys.readouterr().out


def test_kill_9_of_the_broker_loses_and_doubles_no_order(system: System, broker: Restarted) -> None:
    sent: list[Attempts] = []
    enough, open_ = threading.Event(), threading.Event()
    open_.set()

    def shop(customer_number: int) -> None:
        with closing(Customer(system.url(GATEWAY))) as customer:
            for number in itertools.count():
                open_.wait()
                if enough.is_set():
                    return
                order_id = f"K{customer_number}-{number}"
                sent.append(customer.insist(order_id, f"U{number % 20}", lambda: False))

    def more() -> None:
        """Return once so many more orders were answered."""
        wanted = len(sent) + _MORE
        until(lambda: len(sent) >= wanted, lambda: f"{len(sent)} orders, not {wanted}")

    with (
        closing(Ledger(system)) as ledger,
        ThreadPoolExecutor(_CUSTOMERS, thread_name_prefix="customer") as pool,
    ):
        try:
            shopping = [pool.submit(shop, number) for number in range(_CUSTOMERS)]
            more()
            broker.kill()
            # Orders are taken all the same: their events wait in the outboxes.
            more()
            assert ledger.counted()["unpublished"] > 0
            # A broker that starts on a busy machine takes its time: let it have the machine.
            open_.clear()
            broker.start()
            open_.set()
            more()
        finally:
            enough.set()
            open_.set()
        for customer in shopping:
            customer.result()
        counted = ledger.settle()
        assert all(attempts.accepted for attempts in sent)
        assert list(ledger.problems(sent)) == []
    for kept in ("paid", "charges", "shipments", "reserved"):
        assert counted[kept] == counted["orders"], kept
