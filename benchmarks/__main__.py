"""``python -m benchmarks [--quick] [part …]``: measure, print, and write RESULTS.md."""

from __future__ import annotations

import argparse
import os
import platform
import re
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from statistics import median

from . import agents, encode, extraction, footprint, growth, overhead, secrets, server
from .subjects import LABELS

RESULTS = Path(__file__).with_name("RESULTS.md")
PACKAGES = (
    "flask", "werkzeug", "opentelemetry-sdk", "opentelemetry-instrumentation-flask", "elastic-apm",
    "sentry-sdk", "ddtrace", "msgspec", "orjson", "pysimdjson", "gunicorn",
)  # fmt: skip
PARTS = (
    "overhead",
    "exported",
    "encode",
    "capturing",
    "secrets",
    "extraction",
    "server",
    "concurrency",
    "bodies",
    "footprint",
)
SERVED = [name for name in LABELS if name != "span_only"]


def main() -> None:
    """Measure the parts asked for and replace their sections of the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which parts; default all")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; writes no results")
    options = parser.parse_args()
    written = dict(_sections(RESULTS.read_text())) if RESULTS.exists() else {}
    for part in options.parts or PARTS:
        start = time.monotonic()
        section = "\n".join(globals()[f"_{part}"](quick=options.quick))
        took = time.monotonic() - start
        print(f"{section}\n\n({part}: {took:.0f} s)\n", flush=True)
        written[part] = section
    if not options.quick:
        body = [f"<!-- {part} -->\n{written[part]}" for part in PARTS if part in written]
        RESULTS.write_text("\n\n".join([_heading(), *body]) + "\n")


def _sections(text: str) -> Iterator[tuple[str, str]]:
    for part, section in re.findall(r"<!-- (\w+) -->\n(.*?)(?=\n*<!-- |\Z)", text, re.DOTALL):
        yield part, section.rstrip()


def _heading() -> str:
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    processor = model[1] if model else platform.processor()
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        "# What it costs\n\n"
        f"Written by `make bench` on {datetime.now(timezone.utc):%Y-%m-%d}: {processor}, "
        f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}.\n{packages}.\n\n"
        "Every comparison is within one run: processes side by side, asked in turn, so that what "
        "else the machine does hits all alike.\n"
        "What the figures mean and where the rest of the time goes: "
        "[docs/performance.md](../docs/performance.md)."
    )


def _table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---|" + "--:|" * (len(head) - 1)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _overhead(*, quick: bool) -> Iterator[str]:
    base, costs = overhead.measure(
        rounds=8 if quick else 10, requests=250, generations=1 if quick else 6
    )
    yield "## Per request, over bare Flask\n"
    yield "JSON POST of 1 KB, two business ids, incoming traceparent, BatchSpanProcessor with an "
    yield f"exporter that discards. CPU time; bare Flask takes {base:.0f} us. The ratio is to "
    yield "OpenTelemetry's Flask instrumentation, its spread the quartiles of the rounds' ratios."
    for scenario, by_name in costs.items():
        yield f"\n### {scenario[0].upper()}{scenario[1:]}\n"
        peer = by_name["otel_flask"]
        hand = by_name.get("span")
        head = ["", "us over bare", "of OTel Flask", "spread"]
        if hand is not None:
            head.append("of hand-written")
        rows = []
        for name, cost in by_name.items():
            ratios = [mine / theirs for mine, theirs in zip(cost.rounds, peer.rounds, strict=True)]
            row = [LABELS[name], f"{cost.minimum:+.1f}", f"{cost.minimum / peer.minimum:.2f}"]
            row.append("-".join(f"{ratio:.2f}" for ratio in overhead.quartiles(ratios)))
            if hand is not None:
                row.append(f"{cost.minimum / hand.minimum:.2f}")
            rows.append(row)
        yield from _table(head, rows)


def _exported(*, quick: bool) -> Iterator[str]:
    costs = overhead.measure_exported(
        rounds=8 if quick else 10, requests=500, generations=1 if quick else 4
    )
    yield "## Per request, exported\n"
    yield "The same requests, sampled, their spans exported to a sink in another process: by OTLP, "
    yield "and by Elastic's, Sentry's and Datadog's own protocols, nothing dropped. CPU time of "
    yield "the whole process over bare Flask, what its threads do included.\n"
    peer = costs["OTel Flask, otlp over HTTP"]
    fast = costs["flask_bodytrace, fastotel"]
    rows = [
        [label, f"{cost:+.1f}", f"{cost / peer:.2f}", f"{cost / fast:.2f}"]
        for label, cost in costs.items()
    ]
    yield from _table(["", "us over bare", "of OTel Flask", "of ours with fastotel"], rows)


def _capturing(*, quick: bool) -> Iterator[str]:
    found = overhead.measure_capturing(
        rounds=5 if quick else 10, requests=200, generations=1 if quick else 2
    )
    yield "## Bodies captured\n"
    yield "CPU microseconds a request over bare Flask, bodies of request and answer captured and "
    yield "sent to a sink in another process: a round ends when all of its requests are sent. Each "
    yield "agent was seen to send the bodies of all requests and answers "
    yield "(`python -m benchmarks.arrivals`).\n"
    names = list(dict.fromkeys(name for costs in found.values() for name in costs))
    rows = [
        [_CAPTURING[name], *(f"{costs[name]:.1f}" for costs in found.values())] for name in names
    ]
    capturing = [costs["ours_capturing"] - costs["ours"] for costs in found.values()]
    rows.append(["capturing, over the same without", *(f"{cost:.1f}" for cost in capturing)])
    whole = [costs["ours_capturing"] for costs in found.values()]
    for share, ours in (("the whole request", whole), ("capturing alone", capturing)):
        for name in agents.AGENTS:
            theirs = [costs[name] for costs in found.values()]
            ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
            rows.append([f"{share}, of {_CAPTURING[name]}", *(f"{ratio:.2f}" for ratio in ratios)])
    yield from _table(["", *found], rows)


_CAPTURING = {
    "ours": "flask_bodytrace, not capturing",
    "ours_capturing": "flask_bodytrace",
    "moesif": "Moesif",
    "apitally": "Apitally",
    "monoscope": "Monoscope",
    "readme": "ReadMe",
    "readme_batches": "ReadMe, in batches of 100",
    "hypertrace": "Hypertrace",
}


def _secrets(*, quick: bool) -> Iterator[str]:  # noqa: ARG001 - every part has it
    yield "## Secrets in captured bodies\n"
    yield "Kinds of secrets, by name and by form, that leave the process when each is posted in 18 "
    yield "kinds of bodies, one of them a JSON object; every agent as it comes, bodies captured.\n"
    kinds = len(secrets.cases())
    rows = [
        [
            _CAPTURING[agent],
            *(f"{len(sent[part])} of {kinds}" for part in (secrets.JSON, secrets.ANY)),
        ]
        for agent, sent in secrets.measure().items()
    ]
    yield from _table(["", "of JSON objects", "of any of the 18"], rows)


def _encode(*, quick: bool) -> Iterator[str]:
    results = encode.measure(rounds=4 if quick else 12)
    yield "## Encoding a span for OTLP\n"
    yield f"CPU us of one span in batches of {encode.BATCH}, minimum of interleaved rounds. Every "
    yield "span has ids of its own; every batch is new.\n"
    rows = []
    for shape, by in results.items():
        ratio = by[encode.OURS] / by[encode.OFFICIAL]
        rows.append([shape, *(f"{took:.1f}" for took in by.values()), f"{ratio:.3f}"])
    yield from _table(["", *by, "ratio to protobuf"], rows)


def _extraction(*, quick: bool) -> Iterator[str]:
    results = extraction.measure(rounds=5 if quick else 25, seconds=0.02)
    yield "## Two ids out of a JSON body\n"
    yield "CPU us, minimum of interleaved rounds."
    yield ""
    names = list(next(iter(results.values())))
    head = ["body", *names, "ours / msgspec's two fields", "ours / json.loads"]
    rows = []
    for size, by_name in results.items():
        mine = by_name[extraction.OURS]
        floor = by_name[extraction.FLOOR]
        row = [_size(size), *(f"{by_name[name]:.2f}" for name in names)]
        rows.append([*row, f"{mine / floor:.2f}", f"{mine / by_name['json.loads']:.3f}"])
    yield from _table(head, rows)


def _server(*, quick: bool) -> Iterator[str]:
    yield "## A server at saturation\n"
    yield f"gunicorn, one gthread worker of {server.THREADS} threads on one core, wrk with "
    yield f"{server.CONNECTIONS} connections on another. Medians of interleaved rounds."
    for sampler, title in (("always", "100 % sampled"), ("1%", "1 % sampled")):
        loads = server.measure(
            SERVED, sampler=sampler, rounds=1 if quick else 3, seconds=2 if quick else 3
        )
        yield f"\n### {title}\n"
        yield from _loads(loads, LABELS)
    yield "\n### 100 % sampled and exported, to a sink on the core of wrk\n"
    loads = server.measure_exported(rounds=1 if quick else 3, seconds=2 if quick else 3)
    ways = {
        "otel_flask": "OpenTelemetry Flask instrumentation, otlp over HTTP",
        "ours_official": "flask_bodytrace, official otlp over HTTP",
        "ours_fastotel": "flask_bodytrace, fastotel",
    }
    yield from _loads(loads, {**LABELS, **ways})


def _loads(loads: dict[str, server.Load], labels: dict[str, str]) -> Iterator[str]:
    base = loads["bare"].throughput
    peer = loads["otel_flask"].throughput
    rows = []
    for name, load in loads.items():
        ratios = [mine / bare for mine, bare in zip(load.throughput, base, strict=True)]
        rows.append(
            [
                labels[name],
                f"{median(load.throughput):.0f}",
                f"{median(load.throughput) / median(base):.3f}",
                f"{min(ratios):.2f}-{max(ratios):.2f}",
                f"{median(load.throughput) / median(peer):.2f}",
                f"{median(load.p99):.1f}",
            ]
        )
    yield from _table(["", "requests/s", "of bare", "spread", "times OTel Flask", "P99 ms"], rows)


def _concurrency(*, quick: bool) -> Iterator[str]:
    names = ["bare", "ours"]
    levels = [1, 16, 256] if quick else [1, 4, 16, 64, 128, 256]
    loads = server.concurrency(names, levels, rounds=1 if quick else 3, seconds=1 if quick else 2)
    yield "## Connections: 1 to 256\n"
    yield "The same server, 100 % sampled.\n"
    head = ["connections", "bare requests/s", "ours", "ratio", "bare P99 ms", "ours P99 ms"]
    rows = []
    for level, by_name in loads.items():
        bare, ours = (median(by_name[name].throughput) for name in names)
        tails = [f"{median(by_name[name].p99):.1f}" for name in names]
        rows.append([str(level), f"{bare:.0f}", f"{ours:.0f}", f"{ours / bare:.3f}", *tails])
    yield from _table(head, rows)


def _bodies(*, quick: bool) -> Iterator[str]:
    results = growth.measure(rounds=5 if quick else 25, seconds=0.02)
    yield "## Bodies: 0 to 1 MB\n"
    yield "CPU us of a sampled request whose view parses the body; direct WSGI calls.\n"
    rows = []
    for size, by_name in results.items():
        bare, ours = by_name["bare"], by_name["ours"]
        row = [_size(size), f"{bare:.0f}", f"{ours:.0f}", f"{ours - bare:+.0f}"]
        rows.append([*row, f"{ours / bare:.3f}"])
    yield from _table(["body", "bare", "ours", "over", "ratio"], rows)


def _footprint(*, quick: bool) -> Iterator[str]:
    results = footprint.measure(rounds=2 if quick else 7)
    yield "## Import and memory\n"
    yield "CPU ms of the import in a fresh interpreter, bytecode warm, and MiB resident after.\n"
    base = results["Flask"]
    rows = []
    for name, (took, resident) in results.items():
        row = [name, f"{took:.0f}", f"{took - base[0]:+.0f}"]
        rows.append([*row, f"{resident:.1f}", f"{resident - base[1]:+.1f}"])
    yield from _table(["", "import ms", "over Flask", "RSS MiB", "over Flask"], rows)


def _size(size: int) -> str:
    for unit, name in ((1_000_000, "MB"), (1_000, "KB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"


if __name__ == "__main__":
    main()
