"""The command line: `python -m example_app` serves, `--demo` runs the demo."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from pathlib import Path

from example_app.payments import signature
from example_app.serving import serving
from example_app.stopping import stop_signals


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m example_app", description=__doc__)
    parser.add_argument(
        "--demo", action="store_true", help="send real requests, check and print their traces"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port, 0: any (%(default)s)")
    parser.add_argument(
        "--database", type=Path, default=Path("var/orders.db"), help="SQLite file (%(default)s)"
    )
    parser.add_argument("--service")
    options = parser.parse_args(arguments)
    if options.service:
        from example_app.process import run as run_service

        return run_service(options.service)
    if options.demo:
        return run()
    return serve(options.host, options.port, options.database)


def serve(host: str, port: int, database: Path) -> int:
    """Serve until Ctrl-C or SIGTERM; return the exit status."""
    # Without an exporter named, a newcomer sees the spans right here.
    os.environ.setdefault("OTEL_TRACES_EXPORTER", "console")
    key = os.environ.get("EXAMPLE_PAYMENT_KEY", secrets.token_urlsafe()).encode()
    try:
        with (
            stop_signals() as stop_signal,
            order_service(database, key) as app,
            serving(app, host, port) as url,
        ):
            print(invitation(url, key), flush=True)
            stop_signal()
    except OSError as error:
        print(f"cannot serve {database} on {host}:{port}: {error}", file=sys.stderr)
        return 1
    return 0


def invitation(url: str, key: bytes) -> str:
    """Return what to try, ready to be pasted into a shell."""
    payment = '{"orderId": "ORD123456", "outcome": "paid"}'
    signed = signature.sign(key, payment.encode())
    return f"""\
The order service is at {url}; Ctrl-C stops it. Try:

curl -i {url}/orders -d orderId=ORD123456 -d userId=U987654 -d sku=BOLT-M8 -d quantity=2
curl -i {url}/orders/ORD123456
curl -i {url}/payments/callback --json '{payment}' -H '{signature.HEADER}: {signed}'
"""


if __name__ == "__main__":
    sys.exit(main())
