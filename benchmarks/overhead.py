"""CPU time a request costs behind each tracer, over bare Flask: direct WSGI calls.

One process for each subject and scenario, all of them alive at once and asked in turn: whatever
the machine does meanwhile hits all alike. CPU time of the whole process, so that what a tracer
leaves to threads of its own counts too.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from statistics import quantiles

from . import agents, subjects

WARM_UP = 300


@dataclass
class Worker:
    """One subject in one scenario, in a process of its own."""

    subject: str
    sampler: str = "always"
    flags: str = "01"
    metered: bool = False
    export: str = ""
    size: int = 1024
    path: str = "/orders/17"
    rounds: list[float] = field(default_factory=list)
    _process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the process; its first answer says that it is warm."""
        self._process = subprocess.Popen(
            [
                *(agents.python_of(self.subject), "-m", __spec__.name),
                *(self.subject, self.sampler, self.flags, "metered" if self.metered else ""),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "BENCH_EXPORT": self.export,
                "BENCH_BODY": str(self.size),
                "BENCH_PATH": self.path,
            },
        )

    def ask(self, requests: int) -> float:
        """CPU microseconds of one request, over that many."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{requests}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.subject} ended with {self._process.wait()}")
        return float(line)

    def stop(self) -> None:
        """End the process, if it was started."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@dataclass(frozen=True)
class Cost:
    """Microseconds over bare Flask: minimum over minimum, and round by round."""

    minimum: float
    rounds: list[float]


def quartiles(values: list[float]) -> tuple[float, float]:
    """The lower and the upper one."""
    lower, _, upper = quantiles(values, n=4)
    return lower, upper


SAMPLED = "sampled"
METERED = "sampled, metrics on"
UNSAMPLED = "unsampled (incoming flags 00)"
DROPPED = "unsampled (by the sampler)"
UNSAMPLED_METERED = "unsampled (incoming flags 00), metrics on"

SCENARIOS: dict[str, dict[str, str | bool]] = {
    SAMPLED: {},
    UNSAMPLED: {"flags": "00"},
    DROPPED: {"sampler": "never"},
    METERED: {"metered": True},
    UNSAMPLED_METERED: {"flags": "00", "metered": True},
}
_ALL = [name for name in subjects.SUBJECTS if name not in {"bare", "hooks", "ours_capturing"}]
_METERED = ["otel_wsgi", "otel_flask", "ours", "ours_full", "ours_everything"]
WHO = {
    SAMPLED: _ALL,
    # Sentry and ddtrace do not take the decision from the flags alone: see "by the sampler".
    UNSAMPLED: [name for name in _ALL if name not in {"sentry", "span_only"}],
    DROPPED: _ALL,
    METERED: _METERED,
    UNSAMPLED_METERED: _METERED,
}


def measure(
    *, rounds: int, requests: int, generations: int, only: set[str] | None = None
) -> tuple[float, dict[str, dict[str, Cost]]]:
    """Bare Flask's microseconds, and every scenario's costs by subject.

    :param generations: how many times all processes are started anew: hash seeds and memory
        layouts differ between them.
    :param only: names of subjects, None for all.
    """
    bare = Worker("bare")
    workers = {
        (scenario, name): Worker(name, **options)  # type: ignore[arg-type]
        for scenario, options in SCENARIOS.items()
        for name in WHO[scenario]
        if only is None or name in only
    }
    in_turn([bare, *workers.values()], rounds, requests, generations)
    costs: dict[str, dict[str, Cost]] = {}
    for (scenario, name), worker in workers.items():
        over = [mine - base for mine, base in zip(worker.rounds, bare.rounds, strict=True)]
        cost = Cost(min(worker.rounds) - min(bare.rounds), over)
        costs.setdefault(scenario, {})[name] = cost
    return min(bare.rounds), costs


EXPORTED = {
    "OTel Flask, otlp over HTTP": ("otel_flask", "official"),
    "OTel Flask, otlp over gRPC": ("otel_flask", "grpc"),
    "OTel Flask, fastotel": ("otel_flask", "fastotel"),
    "OTel Flask, otlp as JSON": ("otel_flask", "json"),
    "elastic-apm, bodies captured": ("elastic", "own"),
    "sentry-sdk": ("sentry", "own"),
    "ddtrace": ("datadog", "own"),
    "flask_bodytrace, official otlp over HTTP": ("ours", "official"),
    "flask_bodytrace, fastotel": ("ours", "fastotel"),
    "flask_bodytrace": ("ours", "own"),
    "flask_bodytrace, every feature on but captured bodies": ("ours_full", "own"),
    "flask_bodytrace, every feature on": ("ours_everything", "own"),
}
"""Who makes the spans, and who exports them."""


def measure_exported(*, rounds: int, requests: int, generations: int) -> dict[str, float]:
    """Microseconds over bare Flask with spans exported to a sink in another process, by label."""
    from . import sink

    with sink.running() as variables:
        os.environ |= variables
        bare = Worker("bare")
        workers = {
            label: Worker(subject, export=export) for label, (subject, export) in EXPORTED.items()
        }
        in_turn([bare, *workers.values()], rounds, requests, generations)
    return {label: min(worker.rounds) - min(bare.rounds) for label, worker in workers.items()}


CAPTURED = {
    "1 KiB": (1024, "/orders/17"),
    "8 KiB": (8192, "/orders/17"),
    "8 KiB, echoed": (8192, "/echo/17"),
}
"""What bodies are captured of: the request's size, and whether the answer is as long."""


def measure_capturing(
    *, rounds: int, requests: int, generations: int
) -> dict[str, dict[str, float]]:
    """Microseconds over bare Flask, capturing bodies and not, by size and subject."""
    from . import arrivals, sink

    for name in agents.AGENTS:
        arrivals.check(name)
    names = ["bare", "ours", "ours_capturing", *agents.AGENTS]
    found: dict[str, dict[str, float]] = {}
    with sink.running() as variables:
        os.environ |= variables
        for label, (size, path) in CAPTURED.items():
            workers = {name: Worker(name, size=size, path=path, export="own") for name in names}
            in_turn(list(workers.values()), rounds, requests, generations)
            least = min(workers["bare"].rounds)
            found[label] = {name: min(workers[name].rounds) - least for name in names[1:]}
    return found


def in_turn(everyone: list[Worker], rounds: int, requests: int, generations: int) -> None:
    """Start all workers, and ask each in turn, as often as there are rounds."""
    for _ in range(generations):
        try:
            for worker in everyone:
                worker.start()
                worker.ask(WARM_UP)
            for _ in range(rounds):
                for worker in everyone:
                    worker.rounds.append(worker.ask(requests))
        finally:
            for worker in everyone:
                worker.stop()


def serve(subject: str, sampler: str, flags: str, metered: str) -> None:
    """The worker's side: for every number read, that many requests, and their CPU time."""
    # Some peers print; what they say goes where errors go.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    body = subjects.document(int(os.environ.get("BENCH_BODY", "1024")))
    application = subjects.make(subject, sampler, metered=bool(metered))
    environ = subjects.environ(body, flags)
    environ["PATH_INFO"] = os.environ.get("BENCH_PATH", environ["PATH_INFO"])
    call = subjects.caller(application, environ, body)
    call()
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        requests = int(line)
        start = time.process_time_ns()
        for _ in range(requests):
            call()
        # What its threads have still to do belongs to the requests.
        for send in subjects.unsent:
            send()
        print((time.process_time_ns() - start) / requests / 1000, file=answers, flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
