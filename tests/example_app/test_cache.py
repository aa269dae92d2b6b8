"""What every cache keeps to, embedded or a real one, and what each does alone."""

from __future__ import annotations

import re
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from werkzeug.test import Client

from example_app.bootstrap import GATEWAY, INVENTORY, ORDERS, SERVICES, Surroundings
from example_app.cache.missing_cache import MissingCache
from example_app.cache.sqlite_cache import SqliteCache
from example_app.engines import Engines
from example_app.failures import DatabaseUnavailable, TemporarilyUnavailable
from example_app.gateway import nonces
from tests.body.servers import free_port
from tests.example_app.programs import needed, slow, started, until
from tests.example_app.redis_cluster import Cluster, cluster, url_of

ADD = """
import sys
from pathlib import Path
from example_app.engines import Engines
cache = Engines(cache_server=sys.argv[2]).cache(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(sum(cache.add(f"nonce{number}", 1) for number in range(300)))
"""


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("redis")) as running:
        yield running


Where = tuple[Path, str]
"""The folder, and the cache's server if there is one."""


@pytest.fixture(params=["embedded", *slow("redis")])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Where:
    if request.param == "embedded":
        return tmp_path, ""
    url: str = request.getfixturevalue("redis").url
    return tmp_path, url


@pytest.fixture
def cache(where: Where) -> Iterator[Any]:
    made: Any = Engines(cache_server=where[1]).cache(where[0])
    with closing(made):
        made.clear()
        yield made


def test_values_come_back(cache: Any) -> None:
    assert cache.get("a") is None
    assert cache.set("a", {"x": [1, "é", None]})
    assert cache.get("a") == {"x": [1, "é", None]}
    assert cache.set("a", 2)
    assert cache.get("a") == 2
    assert cache.has("a")
    assert cache.delete("a")
    assert not cache.delete("a")
    assert not cache.has("a")


def test_a_value_is_added_where_there_is_none(cache: Any) -> None:
    assert cache.add("b", 1)
    assert not cache.add("b", 2)
    assert cache.get("b") == 1
    assert cache.get_many("a", "b") == [None, 1]


def test_a_value_is_kept_for_its_time(cache: Any) -> None:
    assert cache.add("c", 1, timeout=1)
    until(lambda: cache.get("c") is None, lambda: "it is still there")
    assert cache.add("c", 2)


def test_of_several_processes_that_add_a_key_one_succeeds(where: Where) -> None:
    command = [sys.executable, "-c", ADD, *map(str, where)]
    adding = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in adding:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    with ThreadPoolExecutor(4) as pool:
        added = [int(out) for out, _ in pool.map(lambda it: it.communicate("\n", 30), adding)]
    assert sum(added) == 300


def test_a_nonce_is_used_once(cache: Any) -> None:
    nonces.use(cache, "nonce-0001", b"body")
    with pytest.raises(nonces.Replayed, match="this very body"):
        nonces.use(cache, "nonce-0001", b"body")
    with pytest.raises(nonces.Replayed, match="another body"):
        nonces.use(cache, "nonce-0001", b"body ")
    nonces.use(cache, "nonce-0002", b"body")


def test_a_primary_that_is_killed_costs_time_and_no_nonce(redis: Cluster, tmp_path: Path) -> None:
    with closing(Engines(cache_server=redis.url).cache(tmp_path)) as made:
        cache: Any = made
        cache.clear()
        used: list[bool] = []
        enough, killed = threading.Event(), threading.Event()

        def customers() -> None:
            for number in range(2000):
                used.append(cache.add(f"nonce{number}", number))
                if number == 300:
                    enough.set()
                    assert killed.wait(30)

        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(customers)
            assert enough.wait(30)
            redis.kill_primary_of("nonce301")
            killed.set()
            done.result(60)
        assert all(used)
        assert not any(cache.add(f"nonce{number}", 0) for number in range(302, 2000))


def test_an_answer_that_is_lost_makes_nobody_a_replay(
    redis: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Engines(cache_server=redis.url).cache(tmp_path)) as made:
        cache: Any = made
        cache.clear()
        write: Callable[..., Any] = cache._cluster.set
        lost = [ConnectionError("lost")]

        def write_and_lose(*args: Any, **kwargs: Any) -> Any:
            written = write(*args, **kwargs)
            if lost:
                lost.pop()
                from redis.exceptions import ConnectionError as Lost

                raise Lost("the answer is lost")
            return written

        monkeypatch.setattr(cache._cluster, "set", write_and_lose)
        assert cache.add("nonce", 1)
        assert not cache.add("nonce", 1)


@pytest.mark.parametrize(
    "server", ["memcached://:secret@127.0.0.1", "redis://:secret@a:7000,", "redis://:secret@"]
)
def test_a_server_that_is_none_is_refused_without_its_password(tmp_path: Path, server: str) -> None:
    said = "^" + re.escape("EXAMPLE_CACHE_SERVER is no redis://host:port[,host:port]") + "$"
    with pytest.raises(ValueError, match=said):
        Engines(cache_server=server).cache(tmp_path)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[int]:
    """A server that is in no cluster yet, or not any more."""
    port = free_port()
    server = needed("redis-server", "apt-get install redis-server")
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    command += ["--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--save", ""]

    def answers() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"PING\r\n")
            return client.recv(100).startswith(b"+PONG")
        return False

    with started(command, tmp_path / "log", answers):
        yield port


def test_of_several_servers_the_first_that_is_up_and_in_the_cluster_is_used(
    redis: Cluster, alone: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    servers = redis.url.removeprefix("redis://")
    named = f"redis://127.0.0.1:{free_port()},127.0.0.1:{alone},{servers}"
    with closing(Engines(cache_server=named).cache(tmp_path)) as made:
        cache: Any = made
        cache.clear()
        assert cache.add("nonce", 1)
        assert not cache.add("nonce", 1)
    assert "there is no cache" not in caplog.text


def test_a_cluster_that_does_not_answer_at_the_start_is_used_once_it_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ports = [free_port() for _ in range(6)]
    services = {name: f"http://127.0.0.1:{free_port()}" for name in (GATEWAY, ORDERS, INVENTORY)}
    around = Surroundings(
        tmp_path / "data",
        services,
        b"key",
        TracerProvider(shutdown_on_exit=False),
        engines=Engines(cache_server=url_of(ports)),
    )
    with SERVICES[GATEWAY](around) as app:
        client: Any = Client(app)

        def order() -> Any:
            return client.post("/orders", json={}, headers={"X-Nonce": "a-nonce-of-a-test"})

        assert all(f"127.0.0.1:{port}" in caplog.text for port in ports)
        refused = order()
        assert refused.status_code == 503
        assert "Nobody can say now whether this was sent before" in refused.text
        assert client.get("/ready").get_json()["missing"] == ["cache"]
        assert client.get("/health").status_code == 200

        with cluster(tmp_path, ports):
            until(lambda: client.get("/ready").status_code == 200, lambda: caplog.text)
            # The one refused was never used; this one is, although there are no orders to take it.
            assert "It may have happened all the same" in order().text
            assert order().status_code == 409


def test_what_is_over_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.time", lambda: now)
    with closing(SqliteCache(tmp_path / "cache.db", default_timeout=10)) as cache:
        for number in range(999):
            cache.set(f"a{number}", 1)
        now = 2000.0
        cache.set("b", 1)
        count = cache._connection.execute("SELECT count(*) FROM cache").fetchone()
        assert count == (1,)


@pytest.mark.parametrize("nonce", [None, "", "short", "x" * 129, "white space", "é" * 9])
def test_what_is_no_nonce_is_refused(tmp_path: Path, nonce: str | None) -> None:
    with closing(SqliteCache(tmp_path / "cache.db")) as cache, pytest.raises(nonces.BadNonce):
        nonces.use(cache, nonce, b"body")


GARBAGE = b"garbage" * 9999


def test_services_start_without_a_cache_that_is_broken_and_say_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cache.db"
    path.write_bytes(GARBAGE)
    without = Engines().cache(tmp_path)

    assert not without.set("a", 1)
    for ask in (without.get, lambda key: without.add(key, 1)):
        # "There is none" would let a nonce be used twice.
        with pytest.raises(TemporarilyUnavailable, match=f"{path}: file is not a.*: move it away"):
            ask("a")
    (record,) = caplog.records
    assert f"{path}: file is not a database: move it away" in record.getMessage()
    assert path.read_bytes() == GARBAGE, "what is in it is for whoever looks into it"


def test_the_cache_is_there_once_it_can_be_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[str] = []

    def open_cache() -> Any:
        tried.append("")
        if len(tried) < 3:
            raise DatabaseUnavailable("locked")
        return SqliteCache(tmp_path / "cache.db")

    with closing(MissingCache(open_cache, DatabaseUnavailable("locked"), pause_s=0)) as cache:
        for _ in range(2):
            with pytest.raises(TemporarilyUnavailable, match="there is no cache: locked"):
                cache.add("a", 1)
        assert cache.add("a", 1)
        assert not cache.add("a", 1)
        assert cache.get("a") == 1
        assert cache.set("a", 2)
    assert len(tried) == 3
    assert [it.getMessage() for it in caplog.records] == [
        "there is no cache, and what needs it is refused: locked",
        "the cache is there",
    ]


def test_a_cache_that_is_missing_is_not_tried_again_at_once(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    path.write_bytes(GARBAGE)
    without = Engines().cache(tmp_path)
    path.unlink()
    with pytest.raises(TemporarilyUnavailable):
        without.get("a")
    assert not path.exists()


def test_a_cache_that_breaks_while_in_use_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    with closing(SqliteCache(path)) as cache:
        with closing(sqlite3.connect(path)) as other:
            other.execute("DROP TABLE cache")
        for ask in (cache.get, cache.has, cache.delete, lambda key: cache.add(key, 1)):
            with pytest.raises(DatabaseUnavailable, match=f"{path}: no such table"):
                ask("a")


def test_a_gateway_without_a_cache_starts_and_takes_no_order_twice(tmp_path: Path) -> None:
    (tmp_path / "cache.db").write_bytes(GARBAGE)
    nobody = {name: f"http://127.0.0.1:{free_port()}" for name in (GATEWAY, ORDERS, INVENTORY)}
    provider = TracerProvider(shutdown_on_exit=False)
    with SERVICES[GATEWAY](Surroundings(tmp_path, nobody, b"key", provider)) as app:
        client: Any = Client(app)
        refused = client.post("/orders", json={}, headers={"X-Nonce": "a-nonce-of-a-test"})
        ready = client.get("/ready")
        handed_on = client.get("/stock/BOLT")
    assert refused.status_code == 503
    assert "Nobody can say now whether this was sent before" in refused.text
    assert "cache.db" not in refused.text
    assert ready.json == {"status": "not ready", "missing": ["cache"]}
    assert "inventory" in handed_on.text, "what needs no cache goes on"
