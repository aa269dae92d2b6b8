"""The order system on real engines under load, while engines and services are killed.

    python -m tests.example_app.drill --seconds 600 --kills 60

Orders go through Envoy to two versions of the order service, services are found in Consul, orders
are in MariaDB, events in Kafka, nonces in a Redis Cluster. Each of them is killed with SIGKILL and
started again: first one at a time, each within a load of its own that has to settle before the next
one; then any of them at any time. It ends with 1 where an order was lost or doubled.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from example_app.bootstrap import ORDERS, VIEWER
from example_app.deploy.canary.files import Places, write_routes
from example_app.load.ledger import Ledger, NotSettled
from example_app.load.run import KILLED, Load, drive
from example_app.system import System, running
from tests.body.servers import free_port
from tests.example_app.brokers import Kafka
from tests.example_app.consul_agent import Consul
from tests.example_app.envoy_proxy import Envoy
from tests.example_app.mariadb_servers import servers
from tests.example_app.programs import until
from tests.example_app.redis_cluster import cluster
from tests.example_app.services import one_more

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from example_app.load.run import Outcome

CANARY_SHARE = 25
"""How many of a hundred requests go to the canary."""

BEFORE_S, DOWN_S, AFTER_S = 2.0, 4.0, 4.0
QUIET_AT_END_S = 5.0
"""At random, nobody is killed any more so long before the last order is sent."""


@dataclass(frozen=True)
class Victim:
    """Who is killed, and started again.

    :ivar start: returns once it does its work again.
    """

    name: str
    kill: Callable[[], object]
    start: Callable[[], object]


def one_at_a_time(victim: Victim) -> Counter[str]:
    """Kill one, and start it again."""
    time.sleep(BEFORE_S)
    victim.kill()
    time.sleep(DOWN_S)
    victim.start()
    time.sleep(AFTER_S)
    return Counter([victim.name])


def at_random(victims: Sequence[Victim], kills: int, seconds: float) -> Counter[str]:
    """Kill any at any time; one that is down is left alone, and others may be killed meanwhile."""
    chosen = random.Random()  # noqa: S311 - no secret
    moments = sorted(chosen.uniform(0, seconds - QUIET_AT_END_S) for _ in range(kills))
    up, lock = {victim.name: victim for victim in victims}, threading.Lock()
    killed: Counter[str] = Counter()
    began = time.monotonic()

    def kill(victim: Victim, down_s: float) -> None:
        victim.kill()
        time.sleep(down_s)
        victim.start()
        with lock:
            up[victim.name] = victim

    with ThreadPoolExecutor(len(victims)) as pool:
        killing = []
        for moment in moments:
            time.sleep(max(0.0, began + moment - time.monotonic()))
            with lock:
                if not up:
                    continue
                victim = up.pop(chosen.choice([*up]))
            killed[victim.name] += 1
            _say(f"{victim.name} is killed")
            killing.append(pool.submit(kill, victim, chosen.uniform(0, DOWN_S)))
        for each in killing:
            each.result()
    return killed


@contextmanager
def engines(folder: Path) -> Iterator[tuple[dict[str, str], list[Victim]]]:
    """Run all engines; yields what tells the services of them, and whom to kill."""
    with ExitStack() as parts:
        databases = parts.enter_context(servers(_made(folder / "mariadb")))
        caches = parts.enter_context(cluster(_made(folder / "redis")))
        kafka, broker = Kafka(folder / "kafka"), parts.enter_context(ExitStack())
        broker.enter_context(kafka.running())
        consul = Consul(_made(folder / "consul"))
        consul.start()
        parts.callback(consul.kill)
        environ = {
            "EXAMPLE_BUS": kafka.url,
            "EXAMPLE_CACHE_SERVER": caches.url,
            "EXAMPLE_DATABASES": ",".join(server.url for server in databases),
            "EXAMPLE_DIRECTORY": consul.url,
        }
        down: list[int] = []

        def kill_redis() -> None:
            down.append(caches.kill_primary_of("nonce:0"))

        def start_redis() -> None:
            port = down.pop()
            until(lambda: caches.primary_of("nonce:0") != port, lambda: "no replica takes over")
            caches.start(port)
            until(caches.is_ready, lambda: "the cluster is not whole again")

        yield (
            environ,
            [
                Victim("Kafka", broker.close, lambda: broker.enter_context(kafka.running())),
                *(
                    Victim(f"MariaDB {number}", server.kill, server.start)
                    for number, server in enumerate(databases, 1)
                ),
                Victim("Redis primary", kill_redis, start_redis),
                Victim("Consul", consul.kill, consul.start),
            ],
        )


@contextmanager
def behind_envoy(folder: Path, port: int, system: System) -> Iterator[list[Victim]]:
    """Run Envoy on `port` and a canary of the order service; yields whom to kill."""
    places = Places(
        port=port,
        admin_port=free_port(),
        stable=system.url(ORDERS),
        canary=f"127.0.0.1:{free_port()}",
        traces=f"{system.url(VIEWER)}/v1/traces",
    )
    with ExitStack() as parts:
        canary = parts.enter_context(ExitStack())

        def start_canary() -> None:
            canary.enter_context(one_more(system, ORDERS, {ORDERS: f"http://{places.canary}"}))

        start_canary()
        envoy = Envoy(folder / "envoy", places)
        write_routes(envoy.folder, CANARY_SHARE)
        envoy.start()
        parts.callback(envoy.kill)
        yield [
            Victim("Envoy", envoy.kill, envoy.start),
            Victim("orders, canary", canary.close, start_canary),
        ]


@dataclass
class Drill:
    """What drives orders, and says what came of them."""

    system: System
    ledger: Ledger
    problems: int = 0

    def run(self, what: str, load: Load, harm: Callable[[], Counter[str]]) -> None:
        """Drive load while harm is done; wait until all is settled, and print a row of it.

        :raises NotSettled: orders are stuck.
        """
        outcome = drive(self.system, load, harm)
        counted = self.ledger.settle()
        settled_s = time.perf_counter() - outcome.answered_at
        problems = list(self.ledger.problems(outcome.accepted))
        if counted["orders"] != counted["shipments"]:
            problems.append(f"{counted}")
        for problem in problems[:20]:
            _say(problem)
        self.problems += len(problems)
        if len(outcome.killed) > 1:
            _say(", ".join(f"{number} x {name}" for name, number in outcome.killed.items()))
        _show(_row(what, outcome, settled_s, len(problems)))


HEADER = """\
| killed | accepted | orders/s | P50 ms | P99 ms | tried again | settled after s | lost or doubled |
| --- | --: | --: | --: | --: | --: | --: | --: |"""


def _row(what: str, outcome: Outcome, settled_s: float, problems: int) -> str:
    return (
        f"| {what} | {len(outcome.accepted)} | {len(outcome.accepted) / outcome.seconds:.1f}"
        f" | {outcome.percentile_ms(0.5):.0f} | {outcome.percentile_ms(0.99):.0f}"
        f" | {outcome.failures.total()} | {settled_s:.1f} | {problems} |"
    )


def drill(folder: Path, options: argparse.Namespace) -> int:
    """Run it all; return the exit status."""
    port = free_port()
    with ExitStack() as parts:
        environ, victims = parts.enter_context(engines(folder))
        # Read by the system, and by its services.
        os.environ.update(environ, EXAMPLE_PROXIES=f"{ORDERS}=http://127.0.0.1:{port}")
        system = parts.enter_context(running(folder / "data"))
        victims += parts.enter_context(behind_envoy(folder, port, system))
        victims += [
            Victim(name, partial(system.kill, name), system.wait_until_ready) for name in KILLED
        ]
        done = Drill(system, parts.enter_context(closing(Ledger(system))))
        _show(HEADER)
        try:
            if options.one_at_a_time:
                for victim in victims:
                    # As many orders as come while it is killed and started again.
                    load = Load(orders=0, seconds=300, customers=options.customers)
                    done.run(victim.name, load, partial(one_at_a_time, victim))
            if options.seconds:
                load = Load(
                    orders=sys.maxsize, seconds=options.seconds, customers=options.customers
                )
                harm = partial(at_random, victims, options.kills, options.seconds)
                done.run(f"any, {options.kills} times", load, harm)
        except NotSettled as error:
            _say(f"not settled: {error}")
            return 1
    return 1 if done.problems else 0


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _show(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


_BEGAN = time.monotonic()


def _say(what: str) -> None:
    sys.stderr.write(f"{time.monotonic() - _BEGAN:4.0f} s  {what}\n")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.example_app.drill")
    parser.add_argument(
        "--one-at-a-time",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="kill each of them once, before any of them at random",
    )
    parser.add_argument(
        "--seconds", type=float, default=60, help="that any are killed at random (%(default)s)"
    )
    parser.add_argument("--kills", type=int, default=10, help="in that time (%(default)s)")
    parser.add_argument("--customers", type=int, default=8, help="(%(default)s)")
    with TemporaryDirectory() as made:
        return drill(Path(made), parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
