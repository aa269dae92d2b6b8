"""The application behind each agent that captures bodies of requests and answers.

Each as its own documentation sets it up, with the bodies switched on, and sending to a server on
loopback that takes everything. `arrivals` checks that all of them arrive there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, Response
from opentelemetry import trace

from .subjects import Wsgi, shop, unsent

_SECONDS = 60
"""Until an agent that has not sent everything is said to have failed."""


def moesif() -> Flask:
    """Moesif's WSGI middleware."""
    from moesifwsgi import MoesifMiddleware

    app = shop()
    middleware = MoesifMiddleware(
        app.wsgi_app, {"APPLICATION_ID": "benchmark", "LOG_BODY": True, "BASE_URI": _service()}
    )
    app.wsgi_app = middleware  # type: ignore[method-assign]
    changed = threading.Condition()
    send = middleware.api_client.create_events_batch
    counts = {"sent": 0, "asked": 0}

    def counting(events: list[object]) -> Any:
        answer = send(events)
        with changed:
            counts["sent"] += len(events)
            changed.notify_all()
        return answer

    def flush() -> None:
        # It has no flush; its counter of requests says how many there were.
        made = middleware.request_counter() - counts["asked"]
        counts["asked"] += 1
        with changed:
            if not changed.wait_for(lambda: counts["sent"] >= made, _SECONDS):
                raise RuntimeError(f"Moesif has sent {counts['sent']} of {made}")

    middleware.api_client.create_events_batch = counting
    unsent.append(flush)
    return app


def apitally() -> Flask:
    """Apitally, headers captured too."""
    from apitally.flask import init
    from apitally.shared import activation

    app = shop()
    init(
        app,
        write_token="apt_" + "a" * 24,
        capture_request_headers=True,
        capture_request_body=True,
        capture_response_body=True,
        otlp_endpoint=_service(),
    )

    activation.activate()
    worker = activation.export_worker
    cycle, lock = worker.run_cycle, threading.Lock()

    def one_at_a_time(*arguments: Any, **options: Any) -> None:
        # Its own thread runs this, too: both would send the same files.
        with lock:
            cycle(*arguments, **options)

    worker.run_cycle = one_at_a_time

    def flush() -> None:
        # What it does when the process ends, without the end.
        worker.run_cycle(None, final=True)

    unsent.append(flush)
    return app


def monoscope() -> Flask:
    """Monoscope (once APIToolkit), with OpenTelemetry's SDK and exporter, which it asks for."""
    from monoscope_flask import Monoscope
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    exporter = OTLPSpanExporter(endpoint=_service() + "/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    unsent.append(provider.force_flush)
    app = shop()
    agent = Monoscope(service_name="shop", capture_request_body=True, capture_response_body=True)
    app.before_request(agent.beforeRequest)

    @app.after_request
    def after(response: Response) -> Response:
        agent.afterRequest(response)
        return response

    return app


def readme() -> Flask:
    """ReadMe's metrics, as it comes: each request is sent alone, by a thread of its own."""
    return _readme()


def readme_batches() -> Flask:
    """ReadMe's metrics, sending a hundred requests at a time."""
    return _readme(buffer_length=100)


def _readme(**options: int) -> Flask:
    from readme_metrics import MetricsApiConfig
    from readme_metrics.flask_readme import ReadMeMetrics

    os.environ["README_METRICS_SERVER"] = _service()
    failures: list[object] = []
    config = MetricsApiConfig(
        api_key="benchmark",
        grouping_function=lambda _request: {"api_key": "one", "label": "One", "email": "a@b.c"},
        base_log_url="http://docs.example.com",
        **options,
    )
    config.LOGGER.exception = failures.append
    app = shop()
    agent = ReadMeMetrics(config, app)

    def flush() -> None:
        # What it does when the process ends.
        agent.metrics_core.exit_handler()
        if failures:
            raise RuntimeError(f"ReadMe could not send: {failures[0]}")

    unsent.append(flush)
    return app


def hypertrace() -> Flask:
    """Hypertrace's agent, exporting by gRPC as it comes."""
    os.environ["HT_REPORTING_ENDPOINT"] = os.environ.get("BENCH_GRPC", "")
    from hypertrace.agent import Agent

    app = shop()
    Agent().instrument(app)
    provider: Any = trace.get_tracer_provider()
    unsent.append(provider.force_flush)
    return app


AGENTS: dict[str, Callable[[], Wsgi]] = {
    "moesif": moesif,
    "apitally": apitally,
    "monoscope": monoscope,
    "readme": readme,
    "readme_batches": readme_batches,
    "hypertrace": hypertrace,
}

_HYPERTRACE = Path(__file__).parents[1] / ".hypertrace-venv/bin/python"
_OWN_ENVIRONMENT = {"hypertrace": _HYPERTRACE}
"""What cannot share one: Hypertrace pins OpenTelemetry's releases of 2023."""


def python_of(subject: str) -> str:
    """The interpreter that has what a subject needs."""
    return str(_OWN_ENVIRONMENT.get(subject, sys.executable))


def output_of(module: str, agent: str) -> Any:
    """What a module of the benchmarks prints last, as JSON, run for an agent in its own process."""
    output = subprocess.run(
        [python_of(agent), "-m", module, agent], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return json.loads(output.splitlines()[-1])


def _service() -> str:
    return os.environ.get("BENCH_HTTP", "")
