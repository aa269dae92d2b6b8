"""The whole system: real processes, real sockets, killed for real."""

import itertools
import json
import os
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path

import httpx
import pytest

from example_app import labels
from example_app.__main__ import main
from example_app.bootstrap import FULFILMENT, GATEWAY, INVENTORY, ORDERS, PAYMENTS
from example_app.breaker import rules
from example_app.demo.expected import good_order
from example_app.demo.run import STEPS, Demo
from example_app.demo.spans import SpanReader, differences, edges, label
from example_app.gateway import nonces
from example_app.load.customer import Customer, order
from example_app.load.ledger import Ledger
from example_app.load.run import KILLED, Load, drive
from example_app.system import System, running
from flask_bodytrace.viewer.model import Span
from tests.example_app import patient
from tests.example_app.programs import until

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SERVED = "orders server POST /orders"
CALL = "orders client POST /authorisations"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def system(data: Path) -> Iterator[System]:
    with running(data) as system:
        yield system


@pytest.fixture
def customer(system: System) -> Iterator[Customer]:
    with closing(Customer(system.url(GATEWAY))) as customer:
        yield customer


@pytest.fixture
def spans(system: System) -> Iterator[SpanReader]:
    with closing(SpanReader(system)) as spans:
        yield spans


@pytest.fixture
def ledger(system: System) -> Iterator[Ledger]:
    with closing(Ledger(system)) as ledger:
        yield ledger


def get(system: System, service: str, path: str) -> dict[str, object]:
    answer: dict[str, object] = httpx.get(system.url(service) + path, trust_env=False).json()
    return answer


def test_one_order_is_one_trace_through_five_processes(
    system: System, customer: Customer, spans: SpanReader
) -> None:
    sent, answer = patient.send_until_whole(
        customer, "TRACED", "U1", **{"traceparent": CALLER, labels.HEADER: "canary"}
    )

    assert answer.status_code == 201
    expected = good_order("U1")
    trace = spans.wait_for(answer.headers["X-Trace-ID"], lambda it: edges(it) == expected)
    assert list(differences(expected, edges(trace))) == []
    assert {span.service for span in trace} == {
        GATEWAY, ORDERS, INVENTORY, PAYMENTS, FULFILMENT
    }  # fmt: skip
    (root,) = (span for span in trace if span.parent_id is None)
    assert [link.trace_id for link in root.links] == [CALLER[3:35]], "linked, not continued"
    for span in trace:
        if label(span).split()[1] in {"server", "consumer", "producer"}:
            ids = (span.attributes.get("order.id"), span.attributes.get("user.id"))
            assert ids == (sent, "U1"), label(span)
        if label(span).split()[1] == "server":
            assert span.attributes["user.label"] == "canary", label(span)
    assert not [label(span) for span in trace if span.failed]
    assert get(system, FULFILMENT, f"/shipments/{sent}")["shippedTo"] == ["U1"]


def test_the_same_body_with_the_same_nonce_is_refused(customer: Customer, ledger: Ledger) -> None:
    before = ledger.settle()["orders"]
    once = {nonces.HEADER: "nonce-of-test"}

    first, *others = [customer.send(order("ONCE", "U1"), **once) for _ in range(3)]

    # 503 where it took too long: it may be there all the same, and is sent again by whoever asks.
    assert first.status_code in {201, 503}
    assert [answer.status_code for answer in others] == [409, 409]
    assert "this very body" in others[0].text
    assert patient.all_taken([patient.send(customer, order("ONCE", "U1")).status_code])
    assert ledger.settle()["orders"] == before + 1


def test_what_cannot_be_taken_is_refused_and_leaves_nothing(
    customer: Customer, ledger: Ledger
) -> None:
    before = ledger.settle()
    json_type = {"Content-Type": "application/json"}
    for body, headers, status in (
        (order("ANVIL", "U1", "ANVIL", 1), {}, 409),
        (order("BROKE", "BROKE-1"), {}, 402),
        (b'{"orderId": "BROKEN", ', json_type, 400),
        (b" " * 2_000_000, json_type, 413),
    ):
        answer = patient.send(customer, body, **headers)
        assert answer.status_code == status
        assert answer.json()["traceId"] == answer.headers["X-Trace-ID"]
    assert ledger.settle() == before


def trace_of(spans: SpanReader, answer: httpx.Response) -> dict[str, Span]:
    """What the order service did for an answer, by label, once its server span has arrived."""

    def is_whole(trace: Sequence[Span]) -> bool:
        return any(label(span) == SERVED for span in trace)

    return {label(span): span for span in spans.wait_for(answer.headers["X-Trace-ID"], is_whole)}


def test_payments_down_five_failures_open_the_breaker_and_it_recovers_by_itself(
    system: System, customer: Customer, spans: SpanReader, ledger: Ledger
) -> None:
    patient.send_until_whole(customer, "BEFORE", "U2")
    system.hold(PAYMENTS)
    answers = [customer.send(order(f"DOWN-{number}", "U2")) for number in range(8)]

    assert [answer.status_code for answer in answers] == [201] * 8
    for answer in answers:
        # On a busy machine there may be one of the stock, too.
        strategies = {it["of"]: it["strategy"] for it in answer.json()["fallbacks"]}
        assert strategies["standing"] == "cache_last_known_value"
    rule = rules.read()[PAYMENTS]
    traces = [trace_of(spans, answer) for answer in answers]
    failed = [trace[CALL] for trace in traces if CALL in trace]
    assert all(call.failed for call in failed)
    assert [CALL in trace for trace in traces[: rule.failure_threshold]] == [True] * 5
    fifth = failed[rule.failure_threshold - 1]
    for call in failed[rule.failure_threshold :]:
        assert call.start - fifth.end >= rule.timeout_ms * 1_000_000, "only to try"
    changes = [
        [event.attributes["breaker.to"] for event in trace[SERVED].events if "state" in event.name]
        for trace in traces[: rule.failure_threshold]
    ]
    assert changes == [[], [], [], [], ["open"]]

    # Somebody never seen before has no standing known last.
    assert customer.send(order("STRANGER", "U-STRANGER")).status_code == 503

    system.resume(PAYMENTS)
    numbers = itertools.count()

    def is_back() -> bool:
        answer = customer.send(order(f"UP-{next(numbers)}", "U2"))
        return answer.status_code == 201 and not answer.json()["fallbacks"]

    until(is_back, lambda: "payments are not asked again")
    counted = ledger.settle()
    assert counted["paid"] == counted["orders"], "also those taken meanwhile"


def test_payments_that_hang_cost_no_order(
    system: System, customer: Customer, spans: SpanReader
) -> None:
    patient.send_until_whole(customer, "AWAKE", "U3")
    hung = system.pid(PAYMENTS)
    os.kill(hung, signal.SIGSTOP)
    try:
        answer = customer.send(order("HUNG", "U3"))
    finally:
        os.kill(hung, signal.SIGCONT)

    assert answer.status_code == 201
    assert "standing" in {it["of"] for it in answer.json()["fallbacks"]}
    assert trace_of(spans, answer)[CALL].failed


def test_the_demo_finds_nothing_wrong(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    demo = Demo(system)
    demo.order()

    assert demo.problems == []
    printed = capsys.readouterr().out
    assert f"one trace of {good_order('U987654').total()} spans in 5 processes" in printed
    assert printed.count("└─ gateway  POST /orders") == 2 * len(STEPS) - 2, "two were not sent on"


def test_load_says_how_fast_it_went_and_that_nothing_was_lost(
    system: System, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("example_app.__main__.running", lambda *_, **__: nullcontext(system))

    assert main(["--load", "--orders", "20", "--customers", "2"]) == 0

    printed = capsys.readouterr().out
    assert "20 accepted of 20 sent" in printed
    assert re.search(r"throughput +\d+\.\d orders/s", printed)
    assert re.search(r"P50 \d+ ms, P99 \d+ ms", printed)
    assert "0 orders lost or doubled" in printed


@pytest.mark.slow
def test_kill_9_of_any_process_loses_and_doubles_no_order(
    system: System, ledger: Ledger, data: Path
) -> None:
    outcome = drive(system, Load(orders=50, seconds=120, customers=4, kills=len(KILLED)))

    assert set(outcome.killed) == set(KILLED), f"each was killed: {outcome}"
    assert outcome.failures, "and was missed"
    assert outcome.accepted
    assert len(outcome.accepted) == len(outcome.sent), str(outcome)
    counted = ledger.settle()
    assert list(ledger.problems(outcome.accepted)) == []
    for kept in ("paid", "charges", "shipments", "reserved"):
        assert counted[kept] == counted["orders"], kept
    level = get(system, INVENTORY, "/stock/BOLT-M8")["available"]
    assert level == 10_000_000 - 2 * counted["orders"], "each piece was taken once"
    log = (data / "audit" / "orders.jsonl").read_text().splitlines()
    audited = {json.loads(line)["orderId"] for line in log}
    assert {attempts.order_id for attempts in outcome.accepted} <= audited
