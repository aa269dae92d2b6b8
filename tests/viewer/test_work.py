"""What a request did: the templates it rendered, and its SQL, told by spans or without any."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from flask import Flask, render_template, render_template_string, stream_template
from jinja2 import DictLoader
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from flask_bodytrace import BodyTrace
from flask_bodytrace.viewer import mount, otlp, otlp_writer
from flask_bodytrace.viewer.model import Attributes, Event, Span
from flask_bodytrace.viewer.notes import MOST, notes
from flask_bodytrace.viewer.queries import queries_of
from flask_bodytrace.viewer.renderings import templates_of
from flask_bodytrace.viewer.store import TraceStore
from tests.viewer.running import RunningViewer as Viewer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TRACE = f"{0xAA:032x}"
TEMPLATES = {
    "cart.html": "{% extends 'base.html' %}{% block main %}{{ lines|length }}{% endblock %}",
    "base.html": "<main>{% block main %}{% endblock %}</main>",
    "row.html": "{{ line }}",
    "rows.html": "{{ row(1) }}{{ row(2) }}",
    "broken.html": "{{ 1 / nothing }}",
}


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made


@pytest.fixture
def engine() -> Iterator[sa.Engine]:
    made = sa.create_engine(
        "sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False}
    )
    with made.begin() as connection:
        connection.execute(sa.text("CREATE TABLE line (id INTEGER PRIMARY KEY, sku TEXT)"))
    yield made
    made.dispose()


@pytest.fixture
def app(provider: TracerProvider) -> Flask:
    made = Flask("shop")
    made.debug = True
    made.config["PROPAGATE_EXCEPTIONS"] = False
    made.jinja_loader = DictLoader(TEMPLATES)
    BodyTrace(made, tracer_provider=provider, viewer="on")
    return made


@pytest.fixture
def store(app: Flask, provider: TracerProvider) -> TraceStore:
    assert app.debug
    found = mount._stores.get(provider)
    assert found is not None
    return found


def spans_of(store: TraceStore) -> list[Span]:
    """The only trace's."""
    (summary,) = store.summaries()
    trace = store.trace(summary.trace_id)
    assert trace is not None
    return list(trace.spans)


# Templates


def test_templates_are_named_with_the_names_of_their_variables(
    app: Flask, store: TraceStore, exporter: InMemorySpanExporter
) -> None:
    @app.get("/cart")
    def cart() -> str:
        rows = "".join(render_template("row.html", line="secret", n=n) for n in range(3))
        return rows + render_template("cart.html", lines=["secret"], user={"name": "secret"})

    assert app.test_client().get("/cart").status_code == 200
    spans = spans_of(store)
    found = [(one.name, one.times, list(one.variables)) for one in templates_of(spans)]
    assert found == [("row.html", 3, ["line", "n"]), ("cart.html", 1, ["lines", "user"])]
    assert all(one.total > 0 and not one.failed for one in templates_of(spans))
    assert "secret" not in repr(spans)
    # Nothing of it is exported.
    (exported,) = exporter.get_finished_spans()
    assert exported.events == ()


def test_one_that_fails_says_so_and_takes_no_other_s_end(app: Flask, store: TraceStore) -> None:
    @app.get("/")
    def index() -> str:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                render_template("broken.html", nothing=0)
        return render_template_string("{{ x }}", x=1)

    app.test_client().get("/")
    broken, string = templates_of(spans_of(store))
    assert (broken.name, broken.times, broken.failed, broken.total) == ("broken.html", 3, 3, 0)
    assert (string.name, string.times, string.failed) == ("", 1, 0)


def test_templates_within_templates_each_have_their_time(app: Flask, store: TraceStore) -> None:
    @app.get("/")
    def index() -> str:
        return render_template("rows.html", row=lambda n: render_template("row.html", line=n))

    app.test_client().get("/")
    rows, row = templates_of(spans_of(store))
    assert (rows.name, row.name, row.times, row.failed) == ("rows.html", "row.html", 2, 0)
    assert rows.total > row.total > 0


def test_one_that_fails_within_another_does_not_end_it(app: Flask, store: TraceStore) -> None:
    def row(_: int) -> str:
        with pytest.raises(ZeroDivisionError):
            render_template("broken.html", nothing=0)
        return ""

    app.add_url_rule("/", view_func=lambda: render_template("rows.html", row=row))
    app.test_client().get("/")
    rows, broken = templates_of(spans_of(store))
    assert (rows.name, rows.failed, broken.failed) == ("rows.html", 0, 2)


def test_a_streamed_template_is_there(app: Flask, store: TraceStore) -> None:
    @app.get("/")
    def index() -> Any:
        return stream_template("row.html", line=1)

    assert app.test_client().get("/").text == "1"
    (row,) = templates_of(spans_of(store))
    assert (row.name, row.failed) == ("row.html", 0)


def test_the_file_of_a_template_is_named(app: Flask, store: TraceStore, tmp_path: Any) -> None:
    from jinja2 import FileSystemLoader

    (tmp_path / "hello.html").write_text("hello")
    app.jinja_loader = FileSystemLoader(tmp_path)
    app.add_url_rule("/", view_func=lambda: render_template("hello.html"))
    app.test_client().get("/")
    (hello,) = templates_of(spans_of(store))
    assert hello.file == str(tmp_path / "hello.html")


def test_without_a_request_nothing_is_kept(app: Flask) -> None:
    before = len(notes._notes)
    with app.app_context():
        assert render_template("row.html", line=1) == "1"
    assert len(notes._notes) == before


# SQL of this process


def shop(app: Flask, engine: sa.Engine, times: int = 7) -> None:
    @app.get("/lines")
    def lines() -> str:
        with engine.begin() as connection:
            insert = sa.text("INSERT INTO line (sku) VALUES (:sku)")
            connection.execute(insert, [{"sku": "secret-1"}, {"sku": "secret-2"}])
            for number in range(times):
                statement = sa.text("SELECT sku, 'secret' /* secret */ FROM line WHERE id = :id")
                connection.execute(statement, {"id": 4_000_000_000_000 + number})
            with pytest.raises(sa.exc.OperationalError):
                connection.execute(sa.text("SELECT 'secret' FROM missing"))
        return ""


def test_statements_are_there_without_any_instrumentation(
    app: Flask, store: TraceStore, engine: sa.Engine, exporter: InMemorySpanExporter
) -> None:
    shop(app, engine)
    assert app.test_client().get("/lines").status_code == 200
    spans = spans_of(store)
    root = next(span for span in spans if span.parent_id is None)
    found = {query.text: query for query in queries_of(spans)}
    insert = found["INSERT INTO line (sku) VALUES (?)"]
    select = found["SELECT sku, ? FROM line WHERE id = ?"]
    failed = found["SELECT ? FROM missing"]
    assert len(found) == 3
    assert [len(query.spans) for query in (insert, select, failed)] == [1, 7, 1]
    assert [query.is_repeated for query in (insert, select, failed)] == [False, True, False]
    assert [query.errors for query in (insert, select, failed)] == [0, 0, 1]
    assert insert.spans[0].attributes["db.operation.batch.size"] == 2
    assert failed.spans[0].attributes["error.type"] == "OperationalError"
    assert {span.name for span in select.spans} == {"SELECT line"}
    assert all(span.parent_id == root.span_id and span.duration > 0 for span in select.spans)
    assert all(query.request == root for query in found.values())
    # Neither parameters nor literals are anywhere, and none of it is exported.
    assert not re.search(r"secret|400000000000\d", repr(spans))
    assert len(exporter.get_finished_spans()) == 1


def test_where_spans_of_statements_are_made_there_are_no_others(
    app: Flask, store: TraceStore, engine: sa.Engine, provider: TracerProvider
) -> None:
    instrumentor = SQLAlchemyInstrumentor()
    instrumentor.instrument(engine=engine, tracer_provider=provider, skip_dep_check=True)
    try:
        shop(app, engine)
        app.test_client().get("/lines")
    finally:
        instrumentor.uninstrument()
    found = {query.text: query for query in queries_of(spans_of(store))}
    assert len(found["SELECT sku, ? FROM line WHERE id = ?"].spans) == 7
    assert sum(len(query.spans) for query in found.values()) == 9
    scopes = {span.scope.split()[0] for span in spans_of(store)}
    assert scopes == {"flask_bodytrace", "opentelemetry.instrumentation.sqlalchemy"}


def test_a_driver_s_span_stands_for_its_statement_only(
    app: Flask, store: TraceStore, engine: sa.Engine, provider: TracerProvider
) -> None:
    """Somebody who makes spans of some statements, as drivers' instrumentations do."""
    tracer = provider.get_tracer("driver")

    @sa.event.listens_for(engine, "before_cursor_execute")
    def before(*given: Any) -> None:
        if "INSERT" in given[2]:
            attributes = {"db.system.name": "sqlite", "db.query.text": given[2]}
            tracer.start_span("driver", kind=SpanKind.CLIENT, attributes=attributes).end()

    shop(app, engine)
    app.test_client().get("/lines")
    spans = spans_of(store)
    assert [span.name for span in spans if "INSERT" in span.name or span.name == "driver"] == [
        "driver"
    ]
    assert len([span for span in spans if span.name == "SELECT line"]) == 7


def test_what_a_request_may_have_noted_is_bounded(
    app: Flask, store: TraceStore, engine: sa.Engine
) -> None:
    shop(app, engine, times=MOST + 10)
    app.test_client().get("/lines")
    spans = spans_of(store)
    assert len(spans) == 1 + MOST
    # The insert took a place, and the failure found none.
    assert next(span for span in spans if span.parent_id is None).dropped == 12


def test_spans_that_never_end_do_not_fill_the_memory(provider: TracerProvider) -> None:
    tracer = provider.get_tracer("t")
    for _ in range(1_200):
        assert notes.of(tracer.start_span("lost")) is not None
    assert len(notes._notes) <= 1_000
    notes._notes.clear()


PROGRAM = """
import sys
from flask import Flask, before_render_template, render_template_string
from flask_bodytrace import BodyTrace
app = Flask("late")
app.debug = True
BodyTrace(app, viewer=sys.argv[1])
print("sqlalchemy" in sys.modules, len(before_render_template.receivers))
import sqlalchemy as sa
engine = sa.create_engine("sqlite://")

@app.get("/")
def index():
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
    return render_template_string("x")

client = app.test_client()
client.get("/")
print("SELECT" in client.get("/_bodytrace/otlp.json").text)
"""


@pytest.mark.parametrize(("viewer", "said"), [("on", "False 1 True"), ("off", "False 0 False")])
def test_nothing_is_loaded_or_listened_to_where_it_is_off(viewer: str, said: str) -> None:
    """And where it is on, SQLAlchemy may be loaded later."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, viewer], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == said.split()


# SQL of spans


def test_a_statement_counts_per_request_and_database_system(make_span: Callable[..., Span]) -> None:
    def sql(id: int, parent: int, text: str, **more: Any) -> Span:  # noqa: A002 - as make_span
        attributes = {"db.system": "sqlite", "db.statement": text, **more}
        return make_span(id, id + 2, id=id, parent=parent, kind=3, attributes=attributes)

    spans = [
        make_span(0, 90, id=1, kind=2),
        make_span(0, 90, id=2, parent=1),
        make_span(0, 90, id=3, parent=1, kind=2, service="other"),
        sql(10, 2, "SELECT a FROM t WHERE b = 1", **{"db.name": "d1"}),
        sql(11, 1, "SELECT a  FROM t WHERE b = 2 -- x", **{"db.name": "d2"}),
        sql(12, 3, "SELECT a FROM t WHERE b = 3"),
        # The driver's span within SQLAlchemy's.
        sql(13, 12, "SELECT a FROM t WHERE b = 3"),
        sql(14, 1, "SELECT a FROM t WHERE b = 4", **{"db.system": "postgresql"}),
        sql(15, 1, "GET key", **{"db.system": "redis"}),
        make_span(id=16, parent=1, kind=3, attributes={"db.system": "sqlite"}),
        # A cycle, and no request above.
        sql(17, 18, "SELECT 1"),
        make_span(id=18, parent=17),
    ]
    found = [
        (query.request and int(query.request.span_id, 16), query.system, len(query.spans))
        for query in queries_of(spans)
    ]
    assert found == [(1, "sqlite", 2), (3, "sqlite", 1), (1, "postgresql", 1), (None, "sqlite", 1)]
    first = queries_of(spans)[0]
    assert (first.total, first.longest, list(first.databases)) == (
        4 * 10**6,
        2 * 10**6,
        ["d1", "d2"],
    )


def test_templates_of_one_viewer_are_taken_by_another(make_span: Callable[..., Span]) -> None:
    attributes: Attributes = {
        "template.name": "a.html",
        "template.variables": ["x"],
        "template.duration": 0.5,
    }
    event = Event("template", 5, attributes)
    (again,) = otlp.spans_from_json(otlp_writer.to_json([make_span(events=[event])]).encode())
    (found,) = templates_of([again])
    assert (found.name, list(found.variables), found.total) == ("a.html", ["x"], 500_000_000)


@pytest.fixture
def filled(viewer: Viewer, make_span: Callable[..., Span]) -> Viewer:
    """A request with a query for each of twelve rows, and one that has done nothing."""
    event = Event("template", 5, {"template.name": "cart.html", "template.variables": ["lines"]})
    spans = [make_span(0, 100, id=1, trace=0xAA, name="GET /cart", kind=2, events=[event])]
    for number in range(12):
        text = f"SELECT sku FROM line WHERE name = '<b>secret' AND id = {number}"  # noqa: S608
        spans.append(
            make_span(number, number + 1, id=2 + number, trace=0xAA, parent=1, kind=3,
                      attributes={"db.system.name": "sqlite", "db.query.text": text})
        )  # fmt: skip
    viewer.store.add([*spans, make_span(id=1, trace=0xBB, name="GET /idle", kind=2)])
    return viewer


def test_the_page_leads_from_the_trace_to_each_execution(filled: Viewer, page: Page) -> None:
    page.goto(f"{filled.url}/trace/{TRACE}")
    assert "One request executed the same statement 12 times:" in page.inner_text(".warning")
    assert "secret" not in page.inner_text(".warning")
    page.keyboard.press("s")
    page.wait_for_url(f"**/trace/{TRACE}/work#sql")
    assert page.inner_text(".facts").startswith("12 statements 12 ms")
    assert page.inner_text(".statements pre") == "SELECT sku FROM line WHERE name = ? AND id = ?"
    assert page.inner_text(".times em") == "12\N{MULTIPLICATION SIGN}"
    assert "secret" not in page.content()
    # By keyboard: the row, what it opens, the next row, and back.
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    assert page.locator(".runs a").count() == 12
    assert page.locator(".runs a").first.is_visible()
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.textContent") == "cart.html"
    page.click(".runs a >> nth=3")
    page.wait_for_url(f"**/span/{5:016x}")
    page.go_back()
    page.keyboard.press("Escape")
    page.wait_for_url(f"**/trace/{TRACE}")


def test_a_trace_without_either_has_no_link_to_them(filled: Viewer, page: Page) -> None:
    page.goto(f"{filled.url}/trace/{0xBB:032x}")
    assert page.locator("[data-page=work], .warning").count() == 0
    page.keyboard.press("s")
    page.goto(f"{filled.url}/trace/{0xBB:032x}/work")
    assert page.inner_text(".facts").split() == ["0", "statements", "0", "templates"]


def test_it_fits_a_phone(filled: Viewer, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = context.new_page()
    for path in ("", "/work"):
        page.goto(f"{filled.url}/trace/{TRACE}{path}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".statements td.times").first.is_visible()
    context.close()


def test_it_is_complete_without_the_script(filled: Viewer, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{filled.url}/trace/{TRACE}")
    page.click("text=Templates 1")
    assert page.url.endswith("/work#templates")
    assert "cart.html" in unescape(page.content())
    context.close()
