"""The demo itself: serve, send, wait for the last span, compare, print."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import requests
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from example_app.bootstrap import order_service
from example_app.demo.expectation import IDS, Answer, differences
from example_app.demo.steps import steps
from example_app.demo.tree import render
from example_app.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from example_app.demo.steps import Step

TIMEOUT_S = 30


def run() -> int:
    """Run the demo and print it; return 0 if everything was as it must be, else 1."""
    payment_key = secrets.token_bytes(32)
    program = steps(payment_key)
    answers, spans = perform(program, payment_key)
    problems = [*strays(answers, spans)]
    for number, (step, answer) in enumerate(zip(program, answers, strict=True), start=1):
        wrong = list(differences(step.expected, answer, spans))
        problems += [f"{number}. {step.title}: {problem}" for problem in wrong]
        print(
            *describe(number, step, answer, spans), *(f"   WRONG: {it}" for it in wrong), sep="\n"
        )
    print("\nThe spans:\n", *render(spans), sep="\n")
    print("", *problems, sep="\n")
    print(f"{len(program)} requests, {len(spans)} spans, {len(problems)} problems")
    return 1 if problems else 0


def perform(
    program: Sequence[Step], payment_key: bytes
) -> tuple[list[Answer], tuple[ReadableSpan, ...]]:
    """Send each request to a service made for this run; return the answers and all spans."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": "orders"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with (
        tempfile.TemporaryDirectory() as folder,
        order_service(Path(folder) / "orders.db", payment_key, provider) as app,
        serving(app) as url,
        requests.Session() as session,
    ):
        # A proxy set in the environment is for elsewhere.
        session.trust_env = False
        answers = [send(session, url, step) for step in program]
    provider.shutdown()
    return answers, exporter.get_finished_spans()


def send(session: requests.Session, url: str, step: Step) -> Answer:
    """Send one request and read its answer whole."""
    response = session.request(
        step.method,
        url + step.path,
        data=step.body,
        headers=dict(step.headers),
        timeout=TIMEOUT_S,
    )
    return Answer(
        status=response.status_code,
        headers={name.lower(): value for name, value in response.headers.items()},
        reply=response.json(),
    )


def describe(
    number: int, step: Step, answer: Answer, spans: Sequence[ReadableSpan]
) -> Iterator[str]:
    """Yield the lines that tell of one request: status, trace headers, ids found."""
    yield f"\n{number}. {step.title}: {step.method} {step.path}, {len(step.body)} bytes"
    yield f"   status            {answer.status}"
    for name in ("X-Trace-ID", "X-Span-ID", "X-Parent-Span-ID"):
        yield f"   {name:<17} {answer.headers.get(name.lower(), '-')}"
    ids = {
        key: (span.attributes or {})[key]
        for span in spans
        for key in IDS
        if f"{span.context.span_id:016x}" == answer.headers.get("x-span-id")
        and key in (span.attributes or {})
    }
    yield f"   ids               {' '.join(f'{key}={ids[key]}' for key in ids) or '-'}"


def strays(answers: Sequence[Answer], spans: Sequence[ReadableSpan]) -> Iterator[str]:
    """Yield a sentence for each span that belongs to none of the answers."""
    known = {answer.headers.get("x-trace-id") for answer in answers}
    for span in spans:
        if f"{span.context.trace_id:032x}" not in known:
            yield f"span {span.name} belongs to no request of this run"
