"""The canary of the order service: write Envoy's files, promote the canary, take it back."""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import closing
from pathlib import Path

from example_app.deploy.canary.files import Places, write_envoy, write_routes
from example_app.deploy.canary.measured import Prometheus
from example_app.deploy.canary.rollout import RolledBack, Rules, promote


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 1 if the canary was rolled back."""
    logging.basicConfig(format="%(levelname)s %(message)s")
    options = _parser().parse_args(arguments)
    if options.command == "files":
        try:
            print(write_envoy(options.folder, _places(options)))
        except ValueError as error:
            print(f"cannot write the files: {error}", file=sys.stderr)
            return 2
        return 0
    if not (options.folder / "routes.yaml").exists():
        print(f"{options.folder} has no routes: begin with `files`", file=sys.stderr)
        return 2
    if options.command == "back":
        write_routes(options.folder, None)
        print("nobody gets the canary")
        return 0
    return _promote(options)


def _promote(options: argparse.Namespace) -> int:
    rules = Rules(
        shares=tuple(int(share) for share in options.shares.split(",")),
        step_s=options.step,
        least=options.least,
        most_failed=options.most_failed,
        patience_s=options.patience,
    )
    with closing(Prometheus(options.prometheus)) as prometheus:
        try:
            promote(options.folder, prometheus, rules)
        except RolledBack as error:
            print(f"rolled back, nobody gets the canary: {error}")
            return 1
        except KeyboardInterrupt:
            print("interrupted: nobody gets the canary")
            return 130
    print("promoted: run the new version as the stable one, then `back`")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m example_app.deploy.canary", description=__doc__
    )
    commands = parser.add_subparsers(dest="command", required=True)
    files = commands.add_parser("files", help="write Envoy's files, without a canary")
    promoting = commands.add_parser(
        "promote", help="give the canary to more and more, or take it out"
    )
    back = commands.add_parser("back", help="take the canary out")
    for command in (files, promoting, back):
        command.add_argument(
            "--folder", type=Path, default=Path("var/canary"), help="(%(default)s)"
        )
    files.add_argument("--port", type=int, default=8081, help="Envoy's (%(default)s)")
    files.add_argument("--admin-port", type=int, default=9901, help="(%(default)s)")
    files.add_argument("--stable", default="127.0.0.1:8001", help="(%(default)s)")
    files.add_argument("--canary", default="127.0.0.1:8011", help="(%(default)s)")
    files.add_argument(
        "--traces", default="http://127.0.0.1:4318/v1/traces", help="takes spans (%(default)s)"
    )
    rules = Rules()
    promoting.add_argument("--prometheus", default="http://127.0.0.1:9090", help="(%(default)s)")
    promoting.add_argument(
        "--shares", default=",".join(map(str, rules.shares)), help="in per cent (%(default)s)"
    )
    promoting.add_argument("--step", type=float, default=rules.step_s, help="seconds (%(default)s)")
    promoting.add_argument("--least", type=int, default=rules.least, help="requests (%(default)s)")
    promoting.add_argument(
        "--most-failed", type=float, default=rules.most_failed, help="share (%(default)s)"
    )
    promoting.add_argument(
        "--patience", type=float, default=rules.patience_s, help="seconds (%(default)s)"
    )
    return parser


def _places(options: argparse.Namespace) -> Places:
    return Places(
        port=options.port,
        admin_port=options.admin_port,
        stable=options.stable,
        canary=options.canary,
        traces=options.traces,
    )


if __name__ == "__main__":
    sys.exit(main())
