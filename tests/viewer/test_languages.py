"""Languages and looks: every text is in the catalogue, and chosen by the browser or the switch."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING

import pytest
import requests

import flask_bodytrace.viewer
from flask_bodytrace.viewer import texts
from flask_bodytrace.viewer.metrics import Origin, Point
from flask_bodytrace.viewer.model import Attributes, Event, Link, LogRecord, Span
from flask_bodytrace.viewer.texts_zh import TEXTS
from tests.viewer.running import RunningViewer as Viewer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FOLDER = Path(flask_bodytrace.viewer.__file__).parent
TRACE = f"{0xAA:032x}"
_T = re.compile(r"\bt\('((?:[^'\\]|\\.)*)'")
_COUNT = re.compile(r"parts\.count\(t, [^,]+(?:\([^)]*\))?, '([^']*)', '([^']*)'\)")
_SCRIPT = re.compile(r"""\bt\((?:[\w.]+ \? )?"([^"]*)"(?: : "([^"]*)")?""")


def texts_of_templates() -> set[str]:
    found: set[str] = set()
    for path in (FOLDER / "templates").glob("*.html"):
        source = path.read_text("utf-8")
        found |= {text.replace("\\'", "'") for text in _T.findall(source)}
        for pair in _COUNT.findall(source):
            found |= set(pair)
    return found


def texts_of_errors() -> set[str]:
    """What pages raise `NotFound` with."""
    found: set[str] = set()
    for path in (FOLDER / "pages").glob("*.py"):
        source = path.read_text("utf-8")
        for raised in re.findall(r"raise NotFound\(\s*((?:\"[^\"]*\"\s*)+)\)", source):
            found.add("".join(re.findall(r'"([^"]*)"', raised)))
    return found


def test_every_text_is_in_the_catalogue_and_none_too_many() -> None:
    used = texts_of_templates() | texts_of_errors() | set(texts.SCRIPT)
    assert len(used) > 200
    assert used - TEXTS.keys() == set()
    of_werkzeug = {"Not Found", *(text for text in TEXTS if text.startswith("The requested URL"))}
    assert TEXTS.keys() - used - of_werkzeug == set()


def test_what_the_script_says_is_given_to_it() -> None:
    used = {
        text
        for path in (FOLDER / "static").glob("*.js")
        for found in _SCRIPT.findall(path.read_text("utf-8"))
        for text in found
        if text
    }
    assert used == set(texts.SCRIPT)


@pytest.mark.parametrize("english", sorted(TEXTS))
def test_a_translation_takes_the_same_values(english: str) -> None:
    def values(text: str) -> set[str | None]:
        return {name for _, name, _, _ in Formatter().parse(text) if name is not None}

    assert values(TEXTS[english]) == values(english)
    assert TEXTS[english].strip()


@pytest.fixture
def filled(viewer: Viewer, make_span: Callable[..., Span]) -> Viewer:
    """Whatever a page may have to say."""
    failure = {"exception.type": "Lost", "exception.message": "none left"}
    for trace in (0xAA, 0xBB):
        base = trace * 16
        viewer.store.add(
            [
                make_span(0, 100, id=base + 1, trace=trace, name="POST /o", kind=2, status=2,
                          attributes={"order.id": "ORD1", "http.response.status_code": 500}),
                make_span(-5, 40, id=base + 2, parent=base + 1, trace=trace, name="SEL", kind=3,
                          attributes={"db.system.name": "pg", "db.namespace": f"d{trace}"}),
                make_span(150, 190, id=base + 3, parent=base + 2, trace=trace, name="late",
                          status=2, status_message="msg", events=[Event("exception", 5, failure)],
                          links=[Link(f"{0xBB if trace == 0xAA else 0xAA:032x}", f"{1:016x}", {})]),
                make_span(1, 2, id=base + 4, parent=0x9999, trace=trace, name="orphan", dropped=2),
            ]
        )  # fmt: skip
    log = LogRecord(TRACE, f"{0xAA3:016x}", 5, "WARN", 13, "low", "", "log", {"x": 1})
    viewer.store.add((), [log])
    rendered: Attributes = {"template.name": "order", "template.variables": ["user"]}
    for number in range(30):
        viewer.store.add(
            [make_span(1, 2, id=0x8000 + number, parent=0xAA1, trace=0xAA, kind=3, name="SEL",
                       attributes={"db.system.name": "pg", "db.query.text": "SEL 1"},
                       events=[Event("template", 5, rendered)])]
        )  # fmt: skip
    viewer.store.add([make_span(id=0x7777, parent=0x6666, trace=0xCC, name="piece")])
    origin = Origin("svc", "order", "s", "histogram", False, False, 1, (), "")
    viewer.store.add_metrics([(origin, Point(1, 9 * 10**9, 7, (0.5,), (3, 4)))])
    return viewer


PATHS = [
    "/",
    "/?q=nothing",
    "/?since=1&status=error&min=1",
    "/routes",
    "/routes/flame?service=svc&name=POST+/o",
    "/map",
    "/map?open=pg",
    "/logs",
    "/logs?q=nothing&severity=warn",
    "/metrics",
    "/metrics?q=nothing&window=5m",
    f"/trace/{TRACE}",
    f"/trace/{0xCC:032x}",
    f"/trace/{TRACE}/flame",
    f"/trace/{TRACE}/export",
    f"/trace/{TRACE}/work",
    f"/trace/{0xCC:032x}/work",
    f"/trace/{TRACE}/span/{0xAA1:016x}",
    f"/trace/{TRACE}/span/{0xAA3:016x}",
    f"/trace/{TRACE}/span/{0xAA4:016x}",
    f"/compare?a={TRACE}",
    f"/compare?a={TRACE}&b={0xBB:032x}",
    "/trace/none",
    "/nowhere",
]
# Of the data, or the same in every language.
SAME = {
    "bodytrace", "POST", "SEL", "late", "orphan", "piece", "svc", "msg", "Lost", "none", "left",
    "flask",
    "low", "log", "WARN", "exception", "shop", "english", "span", "spans", "mermaid", "json",
    "curl", "otlp", "markdown", "issue", "enter", "esc", "http", "order", "ord", "url", "nothing",
    "server", "client", "internal", "tracestate", "event", "route", "database", "status", "code",
    "response", "system", "name", "type", "message", "db", "namespace", "unknown",
    "bodytrace_viewer_token", "status_code", "pgpg", "debug", "info", "error", "fatal", "logger",
    "user",
}  # fmt: skip
SPOKEN = """() => {
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const isData = node.parentElement.closest("pre, script, template, .mono, dd .value");
    if (!isData) found.push(node.data);
  }
  for (const element of document.querySelectorAll("*")) {
    for (const name of ["title", "aria-label", "placeholder", "data-label"]) {
      if (element.hasAttribute(name)) found.push(element.getAttribute(name));
    }
  }
  return found;
}"""


@pytest.mark.parametrize("path", PATHS)
def test_no_page_speaks_english_in_chinese(filled: Viewer, browser: Browser, path: str) -> None:
    context = browser.new_context(locale="zh-CN")
    page = context.new_page()
    page.goto(filled.url + path)
    assert page.get_attribute("html", "lang") == "zh"
    spoken: list[str] = page.evaluate(SPOKEN)
    context.close()
    known = {word.lower() for word in SAME}
    foreign = {
        text.strip()
        for text in spoken
        for word in re.findall(r"(?<![/\w])[A-Za-z_]{4,}", text)
        if word.lower() not in known
    }
    assert foreign == set()


def test_the_language_is_the_browser_s_until_one_is_chosen(filled: Viewer, page: Page) -> None:
    page.goto(f"{filled.url}/routes?by=p95")
    assert page.inner_text("h1") == "Routes"
    page.click(".menu summary")
    page.click(".menu a:has-text('中文')")
    page.wait_for_url("**/routes?by=p95")
    assert page.inner_text("h1") == "路由"
    page.goto(filled.url)
    assert page.get_attribute("html", "lang") == "zh"
    page.click(".menu summary")
    page.click(".menu a:has-text('English')")
    page.wait_for_selector("html[lang=en]")
    for accepted, language in (("zh-TW,zh;q=0.9,en;q=0.5", "zh"), ("fr", "en"), ("", "en")):
        headers = {"Accept-Language": accepted}
        text = requests.get(filled.url, headers=headers, timeout=10).text
        assert f'<html lang="{language}"' in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_is_the_browser_s_until_one_is_chosen(
    filled: Viewer, browser: Browser, scheme: str
) -> None:
    context = browser.new_context(color_scheme="dark" if scheme == "dark" else "light")
    page = context.new_page()
    page.goto(f"{filled.url}/trace/{TRACE}")
    paper = "getComputedStyle(document.body).backgroundColor"
    by_browser = page.evaluate(paper)
    other = "light" if scheme == "dark" else "dark"
    page.click(".menu summary")
    page.click(f".menu a:text-is('{other.capitalize()}')")
    page.wait_for_selector(f"html[data-theme={other}]")
    # The page is there before its style sheet is.
    page.wait_for_load_state("load")
    assert page.evaluate(paper) != by_browser
    page.click(".menu summary")
    page.click(".menu a:text-is('Auto')")
    page.wait_for_selector("html:not([data-theme])")
    page.wait_for_load_state("load")
    assert page.evaluate(paper) == by_browser
    context.close()


@pytest.mark.parametrize(
    "back", ["//evil.example/", "https://evil.example/", "/\\evil.example", "/a\r\nX: y", "", "x"]
)
def test_the_switch_leads_nowhere_else(filled: Viewer, back: str) -> None:
    answer = requests.get(
        f"{filled.url}/look", params={"theme": "dark", "back": back}, timeout=10,
        allow_redirects=False,
    )  # fmt: skip
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/"
    nonsense = requests.get(
        f"{filled.url}/look?theme=pink&language=xx", timeout=10, allow_redirects=False
    )
    assert "Set-Cookie" not in nonsense.headers


def test_times_are_in_the_browser_s_zone_and_as_iso_when_pointed_at(
    filled: Viewer, browser: Browser
) -> None:
    context = browser.new_context(timezone_id="Asia/Shanghai")
    page = context.new_page()
    page.goto(f"{filled.url}/trace/{TRACE}")
    time = page.locator(".facts time")
    # The first span started at 22:13:20 UTC, and one of a clock that is slow 5 ms earlier.
    assert time.inner_text() == "2023-11-15 06:13:19.995"
    assert time.get_attribute("title") == "2023-11-14T22:13:19.995Z"
    context.close()
