"""The circuit breaker, configured as the article has it."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import NoOpTracer

from example_app.breaker import rules
from example_app.breaker.breaker import Breaker
from example_app.breaker.guard import Answer, Guard, Unavailable
from example_app.breaker.rules import BreakerRules
from example_app.cache.sqlite_cache import SqliteCache
from example_app.discovery.static_directory import StaticDirectory
from example_app.failures import CallFailed
from example_app.outbound import HttpService
from example_app.rpc import GrpcService, Method

RULES = BreakerRules(failure_threshold=5, timeout_ms=50, fallback_strategy="cache_last_known_value")
LONG = BreakerRules(5, 600_000, "cache_last_known_value")
"""Open for longer than any test takes."""


class Service:
    """Answers with its number of calls, or fails."""

    def __init__(self) -> None:
        self.calls = 0
        self.fails = False

    def __call__(self) -> Mapping[str, object]:
        self.calls += 1
        if self.fails:
            raise CallFailed("refused")
        return {"U1": self.calls}


class Guarded:
    """A guard around calls through a breaker, as services are put together."""

    def __init__(self, service: str, rules: BreakerRules, cache: SqliteCache) -> None:
        self._guard = Guard(service, rules, cache)
        self.breaker = Breaker(service, rules)

    def call(self, keys: Sequence[str], function: Callable[[], Mapping[str, object]]) -> Answer:
        def through() -> Mapping[str, object]:
            with self.breaker.attempt():
                return function()

        return self._guard.call(keys, through)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[SqliteCache]:
    cache = SqliteCache(tmp_path / "cache.db")
    yield cache
    cache.close()


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    yield reader
    provider.shutdown()


def counted(reader: InMemoryMetricReader, name: str) -> list[tuple[int | float, dict[str, object]]]:
    data = reader.get_metrics_data()
    assert data is not None
    return [
        (point.value, dict(point.attributes or {}))  # type: ignore[union-attr] # a counter's points
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    ]


def until_closed(guard: Guarded, service: Callable[[], Mapping[str, object]]) -> object:
    """Call until an answer is fresh; the breaker lets one try after 50 ms."""
    waiting = threading.Event()
    for _ in range(400):
        answer = guard.call(["U1"], service)
        if answer.age_s is None:
            return answer.values["U1"]
        waiting.wait(0.01)
    raise AssertionError("the breaker stays open")


def test_the_rules_are_the_articles() -> None:
    common = BreakerRules(
        failure_threshold=5, timeout_ms=1000, fallback_strategy="cache_last_known_value"
    )
    assert rules.read()["payments"] == rules.read()["inventory"] == common
    assert (common.timeout_s, common.open_s) == (1.0, 1.0)


def test_a_neighbour_may_have_rules_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("""\
circuit_breaker:
  failure_threshold: 5
  timeout_ms: 1000
  fallback_strategy: none
  neighbours:
    payments: {timeout_ms: 3000, open_ms: 200}
""")

    read = rules.read(path)
    assert read["inventory"] == BreakerRules(5, 1000, "none")
    assert read["payments"] == BreakerRules(5, 3000, "none", 200)
    assert (read["payments"].timeout_s, read["payments"].open_s) == (3.0, 0.2)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "circuit_breaker: {failure_threshold: 0, timeout_ms: 1, fallback_strategy: none}",
        "circuit_breaker: {failure_threshold: 5, timeout_ms: 1, fallback_strategy: guess}",
        "circuit_breaker: {failure_treshold: 5, timeout_ms: 1, fallback_strategy: none}",
        "circuit_breaker: [",
        "circuit_breaker: {failure_threshold: 5, timeout_ms: 1}",
        "circuit_braker: {failure_threshold: 5, timeout_ms: 1, fallback_strategy: none}",
    ],
)
def test_other_rules_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)

    with pytest.raises(ValueError, match=r"rules\.yaml"):
        rules.read(path)


@pytest.mark.parametrize(
    ("neighbours", "says"),
    [
        ("{paymnets: {timeout_ms: 1}}", "'paymnets' is none of inventory, orders, payments"),
        ("{payments: {timeout_ms: 0}}", "neighbours: payments: .*timeout_ms"),
        ("{payments: {timeout: 1}}", "neighbours: payments: .*timeout"),
        ("[payments]", "array"),
    ],
)
def test_what_is_wrong_with_a_neighbours_rules_is_said(
    tmp_path: Path, neighbours: str, says: str
) -> None:
    path = tmp_path / "rules.yaml"
    common = "failure_threshold: 5, timeout_ms: 1, fallback_strategy: none"
    path.write_text(f"circuit_breaker: {{{common}, neighbours: {neighbours}}}")

    with pytest.raises(ValueError, match=says):
        rules.read(path)


def test_it_opens_after_exactly_five_failures_and_recovers_by_itself(cache: SqliteCache) -> None:
    guard, service = Guarded("payments", LONG, cache), Service()
    assert guard.call(["U1"], service).age_s is None
    service.fails = True

    answers = [guard.call(["U1"], service) for _ in range(8)]

    assert service.calls == 1 + 5
    assert [answer.values for answer in answers] == [{"U1": 1}] * 8
    ages = [answer.age_s or 0.0 for answer in answers]
    assert ages == sorted(ages)

    short = Guarded("payments", RULES, cache)
    for _ in range(5):
        short.call(["U1"], service)
    service.fails = False
    before = service.calls
    assert until_closed(short, service) == before + 1
    assert service.calls == before + 1


def test_a_success_in_between_starts_the_count_again(cache: SqliteCache) -> None:
    guard, service = Guarded("payments", RULES, cache), Service()
    for fails in (False, *[True] * 4, False, *[True] * 4, False):
        service.fails = fails
        guard.call(["U1"], service)

    assert service.calls == 11


def test_an_answer_that_is_no_value_counts_as_one(cache: SqliteCache) -> None:
    guard, service = Guarded("inventory", RULES, cache), Service()

    def refuse() -> Mapping[str, object]:
        raise LookupError

    guard.call(["U1"], service)
    service.fails = True
    for _ in range(4):
        guard.call(["U1"], service)
    with pytest.raises(LookupError):
        guard.call(["U1"], refuse)
    for _ in range(4):
        guard.call(["U1"], service)
    assert service.calls == 9


def test_without_a_last_known_value_it_is_unavailable(cache: SqliteCache) -> None:
    guard, service = Guarded("payments", LONG, cache), Service()
    service.fails = True
    with pytest.raises(Unavailable, match="payments: refused"):
        guard.call(["U1"], service)
    for _ in range(4):
        with pytest.raises(Unavailable):
            guard.call(["U1"], service)
    with pytest.raises(Unavailable, match="breaker is open"):
        guard.call(["U1"], service)


def test_values_are_not_taken_from_the_cache_unless_the_rules_say_so(cache: SqliteCache) -> None:
    guard, service = Guarded("payments", BreakerRules(5, 50, "none"), cache), Service()
    guard.call(["U1"], service)
    service.fails = True
    with pytest.raises(Unavailable):
        guard.call(["U1"], service)


def test_all_keys_must_be_known(cache: SqliteCache) -> None:
    guard, service = Guarded("payments", RULES, cache), Service()
    guard.call(["U1"], service)
    service.fails = True
    with pytest.raises(Unavailable):
        guard.call(["U1", "U2"], service)


def test_a_service_that_nobody_knows_is_a_failed_call(cache: SqliteCache) -> None:
    guard = Guarded("payments", LONG, cache)
    guard.call(["U1"], Service())
    asked = list[str]()

    class Nowhere(StaticDirectory):
        def locate(self, service: str, avoid: Collection[str] = ()) -> str:
            asked.append(service)
            return super().locate(service, avoid)

    tracer = NoOpTracer()
    with closing(HttpService("payments", Nowhere({}), tracer, 1)) as http:
        answers = [guard.call(["U1"], lambda: {"U1": http.send("GET", "/")}) for _ in range(8)]
    assert [answer.values for answer in answers] == [{"U1": 1}] * 8
    assert len(asked) == 5, "then the breaker is open"
    with (
        closing(GrpcService("inventory", Nowhere({}), tracer, 1)) as rpc,
        pytest.raises(CallFailed),
    ):
        rpc.call(Method("a", "b", dict, dict), {})


def test_a_cache_that_fails_costs_no_answer(cache: SqliteCache) -> None:
    guard, service = Guarded("payments", RULES, cache), Service()
    cache.close()
    assert guard.call(["U1"], service).values == {"U1": 1}
    service.fails = True
    with pytest.raises(Unavailable, match="no last known value"):
        guard.call(["U1"], service)


def test_slow_calls_do_not_wait_for_each_other(cache: SqliteCache) -> None:
    guard = Guarded("payments", RULES, cache)
    meeting = threading.Barrier(4, timeout=20)

    def slow() -> Mapping[str, object]:
        meeting.wait()
        return {"U1": 1}

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(guard.call, ["U1"], slow) for _ in range(4)]
        assert [answer.result().age_s for answer in answers] == [None] * 4


def test_while_one_call_tries_the_others_do_not_wait(cache: SqliteCache) -> None:
    guard, service = Guarded("payments", RULES, cache), Service()
    guard.call(["U1"], service)
    service.fails = True
    for _ in range(5):
        guard.call(["U1"], service)
    trying, go_on = threading.Event(), threading.Event()

    def slow() -> Mapping[str, object]:
        trying.set()
        assert go_on.wait(20)
        return {"U1": "slow"}

    with ThreadPoolExecutor(1) as pool:
        trial = pool.submit(until_closed, guard, slow)
        assert trying.wait(20)
        assert guard.call(["U1"], service).age_s is not None
        assert service.calls == 6
        go_on.set()
        assert trial.result() == "slow"


def test_changes_of_state_and_fallbacks_are_told(
    cache: SqliteCache, reader: InMemoryMetricReader
) -> None:
    guard, service = Guarded("payments", RULES, cache), Service()
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with tracer.start_as_current_span("orders") as span:
        guard.call(["U1"], service)
        service.fails = True
        for _ in range(5):
            guard.call(["U1"], service)
        service.fails = False
        until_closed(guard, service)

    assert isinstance(span, ReadableSpan)
    changes = [event for event in span.events if event.name == "breaker.state_change"]
    states = [
        tuple((event.attributes or {})[key] for key in ("breaker.from", "breaker.to"))
        for event in changes
    ]
    assert states == [("closed", "open"), ("open", "half-open"), ("half-open", "closed")]
    told = counted(reader, "example.breaker.state_changes")
    assert sorted((it[1]["breaker.from"], it[1]["breaker.to"], it[0]) for it in told) == [
        ("closed", "open", 1),
        ("half-open", "closed", 1),
        ("open", "half-open", 1),
    ]
    fallbacks = [event for event in span.events if event.name == "fallback"]
    assert len(fallbacks) >= 5
    assert (fallbacks[0].attributes or {})["fallback.strategy"] == "cache_last_known_value"
    assert counted(reader, "example.breaker.fallbacks") == [
        (len(fallbacks), {"breaker.name": "payments"})
    ]
