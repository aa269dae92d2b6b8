"""The order system: without options it runs until Ctrl-C, for you to send orders."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from example_app.bootstrap import GATEWAY, ORDERS, SERVICES, VIEWER
from example_app.engines import Engines
from example_app.failures import TemporarilyUnavailable
from example_app.load.run import Load, drive
from example_app.orders.shards import DATABASES
from example_app.replaying import replay
from example_app.stopping import stop_signals
from example_app.system import ANY_PORTS, PORTS, NotStarted, System, running


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m example_app", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--demo", action="store_true", help="send orders, print and check the traces")
    mode.add_argument("--load", action="store_true", help="send many, print how fast it went")
    mode.add_argument("--service", choices=SERVICES, help="run one service alone")
    mode.add_argument("--move", metavar="USER", help="move a stopped system's user, to --key")
    mode.add_argument("--replay", metavar="TOPIC", help="publish its dead letters again")
    mode.add_argument(
        "--new-database",
        choices=DATABASES,
        metavar="DATABASE",
        help="let one that was dropped be made again, without its orders: with EXAMPLE_DATABASES",
    )
    parser.add_argument(
        "--with-parent", action="store_true", help="end with the standard input: with --service"
    )
    parser.add_argument(
        "--workers", type=int, default=0, help="gunicorn's, for each service; 0: without gunicorn"
    )
    parser.add_argument("--key", type=lambda text: int(text, 0), help="shard key, as in 0xE000")
    parser.add_argument("--any-ports", action="store_true", help="take any free ports")
    parser.add_argument("--data", type=Path, default=Path("var"), help="folder (%(default)s)")
    default = Load()
    load = parser.add_argument_group("with --load")
    load.add_argument("--orders", type=int, default=default.orders, help="(%(default)s)")
    load.add_argument("--seconds", type=float, default=default.seconds, help="(%(default)s)")
    load.add_argument("--customers", type=int, default=default.customers, help="(%(default)s)")
    load.add_argument(
        "--compare", action="store_true", help="with our tracing, OpenTelemetry's, and none"
    )
    load.add_argument("--rounds", type=int, default=1, help="of --compare, in turn (%(default)s)")
    load.add_argument("--kills", type=int, default=default.kills, help="kill -9 so many services")
    options = parser.parse_args(arguments)
    if options.service:
        from example_app.process import run

        return run(options.service, with_parent=options.with_parent, workers=options.workers)
    if options.move or options.replay or options.new_database:
        return mend(options)
    try:
        return run_system(options)
    except (OSError, NotStarted) as error:
        print(f"cannot run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def run_system(options: argparse.Namespace) -> int:
    """Run all services; for the demo and for load on files that are thrown away."""
    ports = ANY_PORTS if options.any_ports else PORTS
    load = Load(
        orders=options.orders,
        seconds=options.seconds,
        customers=options.customers,
        kills=options.kills,
    )
    if options.load and options.compare:
        return compare_and_check(load, options.workers, options.rounds)
    if options.demo or options.load:
        with (
            tempfile.TemporaryDirectory() as data,
            running(Path(data), ports, workers=options.workers) as system,
        ):
            if options.demo:
                return show(system)
            return drive_and_check(system, load)
    with (
        stop_signals() as stop_signal,
        running(options.data, ports, workers=options.workers) as system,
    ):
        print(invitation(system), flush=True)
        stop_signal()
    return 0


def mend(options: argparse.Namespace) -> int:
    """Do what somebody decides on, and the system never does by itself."""
    if options.move:
        return move_user(options.data, options.move, options.key)
    if options.replay:
        return replay_topic(options.data, options.replay)
    return let_database_be_new(options.new_database)


def move_user(data: Path, user_id: str, key: int | None) -> int:
    """Move a user's orders to another shard; 1 if there is no such shard."""
    from example_app.orders.moving import move

    try:
        count = move(data / "orders", user_id, -1 if key is None else key)
    except ValueError as error:
        print(f"cannot move {user_id}: {error}", file=sys.stderr)
        return 1
    print(f"{user_id} was moved, with {count} orders")
    return 0


def show(system: System) -> int:
    """Run the demo; to someone at a terminal leave the system to look at until Ctrl-C."""
    from example_app.demo.run import run

    print(urls(system), flush=True)
    with stop_signals() as stop_signal:
        status = run(system)
        if sys.stdin.isatty():
            print(f"\n{invitation(system)}", flush=True)
            stop_signal()
    return status


def replay_topic(data: Path, topic: str) -> int:
    """Publish the dead letters of a topic again; 1 if there is no such topic."""
    try:
        count = replay(data, topic)
    except (ValueError, TemporarilyUnavailable) as error:
        print(f"cannot replay: {error}", file=sys.stderr)
        return 1
    print(f"{count} events of {topic} were published again")
    return 0


def let_database_be_new(name: str) -> int:
    """Let a database of orders that was dropped be made again; 1 if that cannot be said."""
    try:
        Engines.from_environment().let_database_be_new(name)
    except (ValueError, TemporarilyUnavailable) as error:
        print(f"cannot let {name} be new: {error}", file=sys.stderr)
        return 1
    print(f"{name} is made at the next start of the order service, empty")
    return 0


def drive_and_check(system: System, wanted: Load) -> int:
    """Drive load, print how it went; 1 if an accepted order was lost or doubled."""
    from example_app.load.ledger import Ledger, NotSettled

    outcome = drive(system, wanted)
    print(outcome)
    with closing(Ledger(system)) as ledger:
        try:
            counted = ledger.settle()
            settled_s = time.perf_counter() - outcome.answered_at
            print(f"settled     {settled_s:.1f} s after the last answer")
            print(", ".join(f"{number} {what}" for what, number in counted.items()))
        except NotSettled as error:
            print(f"not settled: {error}", file=sys.stderr)
            return 1
        problems = list(ledger.problems(outcome.accepted))
    print(*problems[:20], f"{len(problems)} orders lost or doubled", sep="\n")
    return 1 if problems else 0


def compare_and_check(wanted: Load, workers: int, rounds: int) -> int:
    """Drive the same load on systems that differ in who traces them; 1 if an order was lost."""
    from example_app.load.compare import compare, events_table, table
    from example_app.load.ledger import NotSettled

    try:
        runs = compare(workers, wanted, rounds)
    except NotSettled as error:
        print(f"not settled: {error}", file=sys.stderr)
        return 1
    print(*table(runs), "", *events_table(runs), sep="\n")
    problems = [problem for run in runs for problem in run.problems]
    print(*problems[:20], f"{len(problems)} orders lost or doubled", sep="\n")
    return 1 if problems else 0


def urls(system: System) -> str:
    """Return where each service is."""
    return "\n".join(f"{name:<15}{it}" for name, it in system.around.services.items())


def invitation(system: System) -> str:
    """Return what to try, ready to be pasted into a shell."""
    gateway = system.url(GATEWAY)
    return f"""\
{urls(system)}

The order system is at {gateway}, its traces are at {system.url(VIEWER)}; Ctrl-C stops it. Try:

curl -i {gateway}/orders -H "X-Nonce: $(date +%s%N)" \\
     -d orderId=ORD1 -d userId=U1 -d sku=BOLT-M8 -d quantity=2
curl -i {gateway}/orders/ORD1
curl -i {gateway}/users/U1/orders
curl -i {gateway}/stock/BOLT-M8
curl -i {system.url(ORDERS)}/stats
"""


if __name__ == "__main__":
    sys.exit(main())
