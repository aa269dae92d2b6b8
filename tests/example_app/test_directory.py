"""The contract of every directory, on the fixed list and on a real Consul; then Consul alone."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from example_app.bootstrap import FULFILMENT, Surroundings
from example_app.discovery import consul_directory
from example_app.discovery.consul_directory import ConsulDirectory
from example_app.discovery.directory import Directory, UnknownService
from example_app.discovery.static_directory import StaticDirectory
from example_app.engines import Engines
from example_app.failures import CallFailed
from example_app.outbound import HttpService
from example_app.process import READY
from example_app.rpc import GrpcService, Method, serving_grpc
from example_app.serving import serving
from tests.body.servers import free_port
from tests.example_app.consul_agent import Consul
from tests.example_app.programs import slow, until
from tests.example_app.services import environment

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from opentelemetry.trace import Tracer

    from flask_bodytrace.testing import SpanRecorder

Found = Callable[[dict[str, str]], Directory]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consul]:
    consul = Consul(tmp_path_factory.mktemp("consul"))
    consul.start()
    yield consul
    consul.kill()


@pytest.fixture
def consul(tmp_path: Path) -> Iterator[Consul]:
    """One that the test may kill."""
    consul = Consul(tmp_path)
    consul.start()
    yield consul
    consul.kill()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life ten times a second."""
    monkeypatch.setattr(consul_directory, "_BEAT_EVERY_S", 0.1)
    monkeypatch.setattr(consul_directory, "_PAUSE_S", 0.05)


@pytest.fixture(autouse=True)
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consul itself does not ask: most addresses here are made up."""
    monkeypatch.setattr(consul_directory, "_ASKED_EVERY_S", 3600)


@pytest.fixture
def asked(unasked: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    """Consul asks every second, as it does."""
    monkeypatch.setattr(consul_directory, "_ASKED_EVERY_S", 1)


# The contract.


@pytest.fixture(params=["static", *slow("consul")])
def found(request: pytest.FixtureRequest) -> Iterator[Found]:
    """Makes a directory in which services are found."""
    with ExitStack() as parts:

        def make(services: dict[str, str]) -> Directory:
            if request.param == "static":
                return parts.enter_context(closing(StaticDirectory(services)))
            url = request.getfixturevalue("agent").url
            directory = parts.enter_context(closing(ConsulDirectory(url)))
            parts.enter_context(directory.announcing(services))
            return directory

        yield make


def test_a_service_is_where_it_says(found: Found) -> None:
    services = {"shop": "http://127.0.0.1:7001", "shop-grpc": "127.0.0.1:7002"}
    directory = found(services)
    for _ in range(3):
        assert {name: directory.locate(name) for name in services} == services


def test_nobody_knows_a_service_that_is_not_announced(found: Found) -> None:
    directory = found({"shop": "http://127.0.0.1:7001"})
    with pytest.raises(UnknownService, match="nobody knows where harbour is"):
        directory.locate("harbour")
    # To its caller that is a call that failed, and not one that could not be made.
    assert issubclass(UnknownService, CallFailed)


def test_there_is_no_other_than_the_only_one(found: Found) -> None:
    directory = found({"shop": "http://127.0.0.1:7001"})
    with pytest.raises(UnknownService, match="no other"):
        directory.locate("shop", avoid=["http://127.0.0.1:7001"])


def test_closing_twice_is_closing(found: Found) -> None:
    directory = found({"shop": "http://127.0.0.1:7001"})
    directory.locate("shop")
    directory.close()
    directory.close()


# What only Consul does.


def test_instances_come_in_turn_and_the_ones_to_avoid_do_not(agent: Consul) -> None:
    addresses = [f"http://127.0.0.1:{port}" for port in (7011, 7012, 7013)]
    with closing(ConsulDirectory(agent.url)) as directory, ExitStack() as instances:
        for address in addresses:
            instances.enter_context(directory.announcing({"turns": address}))
        assert sorted(directory.locate("turns") for _ in range(30)) == sorted(addresses * 10)
        others = {directory.locate("turns", avoid=addresses[:1]) for _ in range(10)}
        assert others == set(addresses[1:])


def test_a_change_is_known_at_once_by_a_blocking_query(agent: Consul) -> None:
    first, second = "http://127.0.0.1:7021", "http://127.0.0.1:7022"
    with closing(ConsulDirectory(agent.url)) as here, closing(ConsulDirectory(agent.url)) as there:
        with here.announcing({"moving": first}):
            assert there.locate("moving") == first
            with here.announcing({"moving": second}):
                until(lambda: there.locate("moving") == second, lambda: "it is not known")
            until(
                lambda: {there.locate("moving") for _ in range(4)} == {first}, lambda: "still known"
            )
        assert agent.healthy("moving") == set()


def test_closing_calls_off_the_question_under_way(agent: Consul) -> None:
    directory = ConsulDirectory(agent.url)
    with pytest.raises(UnknownService):
        directory.locate("nobody")
    watch = directory._watches["nobody"]
    until(lambda: watch._question.index > 0, lambda: "nothing was answered")
    directory.close()
    assert not watch._thread.is_alive()
    with closing(directory), pytest.raises(UnknownService):
        directory.locate("nobody")


def test_a_process_that_gives_no_sign_of_life_gets_no_calls(
    agent: Consul, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(ConsulDirectory(agent.url)) as directory, serving(_healthy) as address:
        port = int(address.rpartition(":")[2])
        # Long enough to be seen before it is over.
        monkeypatch.setattr(consul_directory, "TTL_S", 5.0)
        monkeypatch.setattr(consul_directory, "_BEAT_EVERY_S", 3600.0)
        with directory.announcing({"silent": address}):
            assert agent.healthy("silent") == {port}
            until(lambda: agent.healthy("silent") == set(), lambda: "it still gets calls")


def test_a_process_that_does_not_answer_gets_no_calls(agent: Consul, asked: None) -> None:  # noqa: ARG001
    with closing(ConsulDirectory(agent.url)) as directory, ExitStack() as answering:
        address = answering.enter_context(serving(_healthy))
        grpc = f"127.0.0.1:{answering.enter_context(serving_grpc({}, '127.0.0.1:0', None))}"  # type: ignore[arg-type]
        with directory.announcing({"hanging": address, "hanging-grpc": grpc}):
            for name in ("hanging", "hanging-grpc"):
                until(lambda name=name: _checks(agent, name) == {"passing"}, lambda: "not asked")  # type: ignore[misc]
            answering.close()
            for name in ("hanging", "hanging-grpc"):
                until(lambda name=name: not agent.healthy(name), lambda: "it still gets calls")  # type: ignore[misc]


def test_one_that_comes_back_after_kill_9_is_the_same_instance(
    agent: Consul, tmp_path: Path
) -> None:
    port = free_port()
    services = {FULFILMENT: f"http://127.0.0.1:{port}"}
    around = Surroundings(tmp_path, services, b"key", engines=Engines(directory=agent.url))
    environ = environment(around)
    command = [sys.executable, "-m", "example_app", "--service", FULFILMENT]

    @contextmanager
    def running() -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                assert process.stdout.readline().strip() == READY
                yield process
            finally:
                process.kill()

    with running():
        assert agent.healthy(FULFILMENT) == {port}
    until(lambda: agent.healthy(FULFILMENT) == set(), lambda: "it still gets calls")
    with running() as process:
        # Its checks are those of before: Consul asks it again within a second.
        until(lambda: agent.healthy(FULFILMENT) == {port}, lambda: "it gets no calls")
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    assert agent.ask(f"/catalog/service/{FULFILMENT}") == []


def test_of_gunicorns_workers_one_registers_and_another_goes_on(
    agent: Consul, tmp_path: Path
) -> None:
    port = free_port()
    services = {FULFILMENT: f"http://127.0.0.1:{port}"}
    around = Surroundings(tmp_path, services, b"key", engines=Engines(directory=agent.url))
    environ = environment(around)
    command = [sys.executable, "-m", "gunicorn", "-c", "python:example_app.gunicorn_config"]
    command += ["--workers=2", f"--bind=127.0.0.1:{port}", f"example_app.wsgi:{FULFILMENT}"]
    report = tmp_path / "locks" / f"announced-{FULFILMENT}-127.0.0.1-{port}.json"

    def registers() -> int:
        pid = json.loads(report.read_bytes())["pid"] if report.exists() else 0
        assert isinstance(pid, int)
        return pid

    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert [process.stdout.readline().strip() for _ in range(2)] == [READY] * 2
            until(lambda: agent.healthy(FULFILMENT) == {port}, lambda: "it gets no calls")
            first = registers()
            os.kill(first, signal.SIGKILL)
            until(lambda: registers() not in {0, first}, lambda: "nobody went on")
            until(lambda: agent.healthy(FULFILMENT) == {port}, lambda: "it gets no calls")
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0
        finally:
            process.kill()
    assert agent.ask(f"/catalog/service/{FULFILMENT}") == []


def test_what_is_known_stays_in_use_while_consul_is_down_and_when_it_comes_back_empty(
    consul: Consul, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(consul_directory, "_BEAT_EVERY_S", 3600.0)
    address = "http://127.0.0.1:7031"
    with (
        caplog.at_level(logging.WARNING),
        closing(ConsulDirectory(consul.url)) as directory,
        directory.announcing({"lasting": address}),
    ):
        assert directory.locate("lasting") == address
        watch = directory._watches["lasting"]
        consul.kill()
        until(lambda: watch._problem != "", lambda: "nothing was noticed")
        assert directory.locate("lasting") == address
        assert "lasting: as it was known last: Consul at 127.0.0.1:" in caplog.text
        with pytest.raises(UnknownService, match="does not answer"):
            directory.locate("other")

        consul.start()  # It keeps nothing.
        until(lambda: watch._problem == "" and watch._question.index > 0, lambda: "not asked again")
        assert consul.healthy("lasting") == set()
        assert directory.locate("lasting") == address


def test_who_was_forgotten_registers_again(consul: Consul, quick: None) -> None:  # noqa: ARG001
    with (
        closing(ConsulDirectory(consul.url)) as directory,
        directory.announcing({"lasting": "http://127.0.0.1:7031"}),
    ):
        consul.kill()
        consul.start()
        until(lambda: consul.healthy("lasting") == {7031}, lambda: "it was not registered again")


def test_a_service_that_starts_before_consul_is_registered_later(
    tmp_path: Path,
    quick: None,  # noqa: ARG001
    caplog: pytest.LogCaptureFixture,
) -> None:
    consul = Consul(tmp_path)
    with (
        caplog.at_level(logging.WARNING),
        closing(ConsulDirectory(consul.url)) as directory,
        directory.announcing({"early": "http://127.0.0.1:7041"}),
    ):
        assert "not registered: Consul at 127.0.0.1:" in caplog.text
        consul.start()
        until(lambda: consul.healthy("early") == {7041}, lambda: "it was not registered")
        consul.kill()
    assert "early-127.0.0.1-7041 stays registered" in caplog.text
    consul.kill()


# Callers.


def test_a_call_goes_to_another_instance_where_one_is_not_there(
    agent: Consul, tracer: Tracer, recorder: SpanRecorder
) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    with closing(ConsulDirectory(agent.url)) as directory, ExitStack() as instances:
        there = instances.enter_context(serving(_healthy))
        for address in (gone, there):
            instances.enter_context(directory.announcing({"two": address}))
        directory.locate("two")
        with closing(HttpService("two", directory, tracer, 10)) as service:
            for _ in range(4):
                assert service.send("POST", "/", content=b"x").status_code == 200
    # Each attempt is a span of its own, as the semantic conventions want it.
    attributes = [dict(span.attributes or {}) for span in recorder.finished]
    first = [it for it in attributes if it["url.full"] == f"{gone}/"]
    again = [it for it in attributes if it.get("http.request.resend_count") == 1]
    assert len(first) == len(again) > 0
    assert {it["url.full"] for it in again} == {f"{there}/"}


def test_where_no_instance_answers_the_call_has_failed(agent: Consul, tracer: Tracer) -> None:
    with closing(ConsulDirectory(agent.url)) as directory, ExitStack() as instances:
        for _ in range(2):
            address = f"http://127.0.0.1:{free_port()}"
            instances.enter_context(directory.announcing({"none": address}))
        with (
            closing(HttpService("none", directory, tracer, 10)) as service,
            pytest.raises(CallFailed, match="none: ConnectError"),
        ):
            service.send("POST", "/")


@pytest.mark.parametrize(("method", "calls"), [("POST", 1), ("GET", 2)])
def test_what_may_have_been_done_is_not_done_again(
    agent: Consul, tracer: Tracer, method: str, calls: int
) -> None:
    received: list[int] = []

    with closing(ConsulDirectory(agent.url)) as directory, ExitStack() as instances:
        for _ in range(2):
            address = instances.enter_context(_hanging_up(received))
            instances.enter_context(directory.announcing({f"rude-{method}": address}))
        with (
            closing(HttpService(f"rude-{method}", directory, tracer, 10)) as service,
            pytest.raises(CallFailed, match="rude"),
        ):
            service.send(method, "/")
    assert len(received) == calls


def test_grpc_goes_to_another_instance_too(agent: Consul, tracer: Tracer) -> None:
    echo = Method("example.Echo", "Say", str, str)
    gone = f"127.0.0.1:{free_port()}"
    with closing(ConsulDirectory(agent.url)) as directory, ExitStack() as instances:
        port = instances.enter_context(serving_grpc({echo: str.upper}, "127.0.0.1:0", tracer))
        for address in (gone, f"127.0.0.1:{port}"):
            instances.enter_context(directory.announcing({"echo": address}))
        directory.locate("echo")
        with closing(GrpcService("echo", directory, tracer, 10)) as service:
            assert [service.call(echo, "a") for _ in range(4)] == ["A"] * 4


# Settings.


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("zookeeper://127.0.0.1:1", "zookeeper://127.0.0.1:1"),
        ("consul://", "consul:"),
        ("consul://:secret@a/b", "consul://a/b"),
    ],
)
def test_a_setting_that_is_none_is_refused_without_its_secret(url: str, shown: str) -> None:
    with pytest.raises(ValueError, match="write consul://host:port") as error:
        Engines(directory=url).find_services({})
    assert f"EXAMPLE_DIRECTORY: '{shown}" in str(error.value)
    assert "secret" not in str(error.value)


def test_the_list_is_the_default() -> None:
    engines = Engines.from_environment({})
    assert isinstance(engines.find_services({}), StaticDirectory)
    engines = Engines.from_environment({"EXAMPLE_DIRECTORY": "consul://127.0.0.1:8500"})
    with closing(engines.find_services({})) as directory:
        assert isinstance(directory, ConsulDirectory)
    assert Engines.from_environment(engines.environment()) == engines


def _healthy(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def _checks(agent: Consul, service: str) -> set[str]:
    """The states of the checks that Consul makes itself, once it has made them."""
    found = agent.ask("/agent/checks")
    assert isinstance(found, dict)
    return {
        check["Status"] if check["Output"] else "not made"
        for check in found.values()
        if check["ServiceName"] == service and check["CheckID"].endswith(":answers")
    }


@contextmanager
def _hanging_up(received: list[int]) -> Iterator[str]:
    """Serve requests by closing their connection."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    received.append(len(connection.recv(65536)))

        thread = threading.Thread(target=hang_up)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
