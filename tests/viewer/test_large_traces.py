"""Reading a trace, in real Chromium: large ones, deep ones, long names, work after the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
import requests

from flask_bodytrace.viewer import display
from flask_bodytrace.viewer.model import Link, LogRecord, Span
from tests.viewer.running import RunningViewer as Viewer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

SIZE = 10_000
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}
TRACE = f"{0xAA:032x}"


@pytest.fixture
def large(viewer: Viewer, make_span: Callable[..., Span]) -> Viewer:
    """A trace of 10,000 spans, nested by threes, one in a thousand an error."""
    spans = [make_span(0, SIZE, id=1, trace=0xAA, name="POST /import", attributes={"n": 1})]
    spans += [
        make_span(
            n, n + 5, id=n, parent=max(n // 3, 1), trace=0xAA, name=f"step {n}",
            status=2 if n % 1000 == 0 else 0, attributes={"item.number": n, "note": f"piece {n}"},
        )
        for n in range(2, SIZE + 1)
    ]  # fmt: skip
    viewer.store.add(spans)
    return viewer


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def sized(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """A page in one of the two sizes."""
    context = browser.new_context(viewport=request.param)
    page = context.new_page()
    page.set_default_timeout(20_000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    context.close()
    assert problems == []


def focused(page: Page) -> str:
    name: str = page.evaluate("document.activeElement.querySelector('.name > bdi').textContent")
    return name


def is_in_sight(page: Page) -> bool:
    box = page.evaluate("document.activeElement.getBoundingClientRect().toJSON()")
    top: float = page.evaluate("document.querySelector('.axis').getBoundingClientRect().bottom")
    height: int = page.evaluate("innerHeight")
    return bool(top - 1 <= box["top"] < box["bottom"] <= height)


def test_ten_thousand_rows_are_few_elements_and_reach_to_the_last(
    large: Viewer, sized: Page
) -> None:
    sized.goto(f"{large.url}/trace/{TRACE}")
    rows = sized.locator(".rows li")
    assert 10 < rows.count() < 100
    assert rows.first.get_attribute("aria-setsize") == str(SIZE)
    each = 28 if sized.viewport_size == DESKTOP else 56
    assert sized.evaluate("document.querySelector('.rows').offsetHeight") == SIZE * each
    sized.keyboard.press("k")
    assert rows.last.get_attribute("aria-posinset") == str(SIZE)
    assert is_in_sight(sized)
    sized.keyboard.press("k")
    assert is_in_sight(sized)
    # Wherever it is scrolled to, what is in sight is filled with rows.
    for share in (0.1, 0.5, 0.93):
        sized.evaluate(f"scrollTo(0, document.documentElement.scrollHeight * {share})")
        sized.wait_for_function(
            """() => {
              const rows = [...document.querySelectorAll(".rows li")];
              const boxes = rows.map((row) => row.getBoundingClientRect());
              const gaps = boxes.slice(1).some((box, n) => Math.abs(box.top - boxes[n].bottom) > 1);
              return !gaps && boxes[0].top < 60 && boxes.at(-1).bottom >= innerHeight;
            }"""
        )
        assert rows.count() < 100
    # Frames while it scrolls: printed, as a busy machine's say nothing about this page.
    took = sized.evaluate(
        """() => new Promise((done) => {
             const took = [];
             let last = performance.now();
             const frame = (now) => {
               took.push(now - last); last = now;
               scrollBy(0, 400);
               if (took.length < 60) requestAnimationFrame(frame);
               else done(took.sort((a, b) => a - b));
             };
             requestAnimationFrame(frame);
           })"""
    )
    print(f"frames: median {took[30]:.1f} ms, worst {took[-1]:.1f} ms")  # noqa: T201 - a figure to look at, not to fail by


def test_without_the_script_every_row_is_in_a_page(large: Viewer, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{large.url}/trace/{TRACE}")
    seen = [page.locator(".rows .name > bdi").all_inner_texts()]
    assert len(seen[0]) == 200
    assert not page.locator(".fold").first.is_visible()
    page.click("nav.pages a:has-text('Later')")
    seen.append(page.locator(".rows .name > bdi").all_inner_texts())
    assert not set(seen[0]) & set(seen[1])
    page.goto(f"{large.url}/trace/{TRACE}?from={SIZE}")
    assert page.locator(".rows li").count() == 1
    context.close()


def test_subtrees_collapse_and_expand(large: Viewer, sized: Page) -> None:
    sized.goto(f"{large.url}/trace/{TRACE}")
    rows = sized.locator(".rows li")
    total = f"{SIZE}"
    rows.nth(1).locator(".fold").click()
    assert rows.nth(1).locator(".fold").get_attribute("aria-expanded") == "false"
    inside = int(rows.nth(1).locator(".hidden").inner_text().removeprefix("+"))
    assert rows.first.get_attribute("aria-setsize") == str(SIZE - inside)
    # That there is an error within is said.
    assert "bad" in (rows.nth(1).locator(".hidden").get_attribute("class") or "")
    rows.nth(1).locator(".fold").click()
    assert rows.first.get_attribute("aria-setsize") == total
    sized.click("[data-act=collapseAll]")
    kept = [int(text) for text in rows.locator(".hidden").all_inner_texts()]
    assert sum(kept) + rows.count() == SIZE
    sized.keyboard.press("x")
    assert rows.first.get_attribute("aria-setsize") == total
    # By keyboard: to the second row, closed, to its parent, and back in.
    sized.reload()
    sized.keyboard.press("j")
    sized.keyboard.press("j")
    at = focused(sized)
    sized.keyboard.press("ArrowLeft")
    assert rows.first.get_attribute("aria-setsize") != total
    assert focused(sized) == at
    sized.keyboard.press("ArrowLeft")
    assert focused(sized) == "POST /import"
    sized.keyboard.press("ArrowRight")
    assert focused(sized) == at
    sized.keyboard.press("ArrowRight")
    assert rows.first.get_attribute("aria-setsize") == total


def test_search_within_goes_to_what_is_collapsed(large: Viewer, sized: Page) -> None:
    log = LogRecord(TRACE, f"{7000:016x}", 5, "WARN", 13, "quite low", "svc", "", {})
    large.store.add((), [log])
    sized.goto(f"{large.url}/trace/{TRACE}")
    sized.click("[data-act=collapseAll]")
    sized.keyboard.press("/")
    for text, found in (
        ("item.number=7000", ["step 7000"]),
        ('note="piece 9999"', ["step 9999"]),
        ('"quite low"', ["step 7000"]),
        ("status=error", [f"step {n}000" for n in range(1, 11)]),
    ):
        sized.fill("[data-search]", text)
        expected = f"0 of {len(found)}"
        sized.wait_for_function(
            "text => document.querySelector('[data-matches]').textContent === text", arg=expected
        )
        seen = set()
        for number in range(len(found)):
            sized.keyboard.press("Enter")
            assert sized.inner_text("[data-matches]") == f"{number + 1} of {len(found)}"
            seen |= set(sized.locator(".rows .match .name > bdi").all_inner_texts())
        assert seen >= set(found)
    sized.fill("[data-search]", "nothing-like-it")
    sized.wait_for_selector("[data-matches]:text('no match')")
    # It is in the address, and found again by it.
    sized.fill("[data-search]", "item.number=7000")
    sized.wait_for_url("**?find=item.number%3D7000")
    sized.reload()
    sized.wait_for_selector("[data-matches]:text('0 of 1')")
    sized.click("[data-act=nextMatch]")
    assert focused(sized) == "step 7000"
    assert is_in_sight(sized)


def test_the_next_error_is_found_in_what_is_collapsed(large: Viewer, page: Page) -> None:
    page.goto(f"{large.url}/trace/{TRACE}")
    page.click("[data-act=collapseAll]")
    found = []
    for _ in range(3):
        page.keyboard.press("e")
        assert is_in_sight(page)
        found.append(focused(page))
    assert len(set(found)) == 3
    assert all(name.endswith("000") for name in found)


def test_time_zooms_and_pans(large: Viewer, sized: Page) -> None:
    sized.goto(f"{large.url}/trace/{TRACE}")

    def ticks() -> list[str]:
        return sized.locator(".axis text").all_text_contents()

    whole = ticks()
    assert whole == ["0", "2.50 s", "5.00 s", "7.50 s", "10.0 s"]
    sized.click("[data-act=zoomIn]")
    assert ticks()[0] == "2.50 s"
    sized.click("[data-act=later]")
    assert ticks()[0] == "5.00 s"
    sized.keyboard.press("0")
    assert ticks() == whole
    box = sized.locator("[data-minimap]").bounding_box()
    assert box is not None
    y = box["y"] + 20
    sized.mouse.move(box["x"] + box["width"] * 0.2, y)
    sized.mouse.down()
    sized.mouse.move(box["x"] + box["width"] * 0.4, y, steps=4)
    sized.mouse.up()
    assert [text[:1] for text in ticks()] == ["2", "2", "3", "3", "4"]
    # A bar outside of what is in sight is not drawn, one that reaches into it is cut.
    bars = sized.locator(".rows li").first.locator("rect.span")
    assert (bars.get_attribute("x"), bars.get_attribute("width")) == ("0%", "100%")
    assert sized.locator(".rows li").nth(1).locator("rect.span").count() == 0
    sized.mouse.dblclick(box["x"] + 9, y)
    assert ticks() == whole


def test_names_are_seen_however_deep_and_however_long_their_services_are(
    viewer: Viewer, sized: Page, make_span: Callable[..., Span]
) -> None:
    viewer.store.add(
        make_span(
            n, 200 - n, id=n + 1, parent=n or None, trace=0xAA, name=f"level {n}",
            service="s" * 540, status=2, attributes={},
        )
        for n in range(70)
    )  # fmt: skip
    sized.goto(f"{viewer.url}/trace/{TRACE}")
    for _ in range(2):
        # The whole of a name that fits, in the first rows and in the last.
        for row in sized.locator(".rows li").all():
            name = row.locator(".name > bdi")
            assert name.evaluate("e => e.scrollWidth <= e.clientWidth + 1"), name.inner_text()
            assert name.evaluate(
                """e => {
                     const right = (element) => element.getBoundingClientRect().right;
                     return right(e) <= right(e.closest(".name"));
                   }"""
            )
            assert "s" * 540 in (row.locator("a").get_attribute("title") or "")
        sized.keyboard.press("k")
    assert sized.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_names_can_be_made_wider(large: Viewer, page: Page) -> None:
    page.goto(f"{large.url}/trace/{TRACE}")
    width = "document.querySelector('.rows .name').offsetWidth"
    before = page.evaluate(width)
    page.focus("[data-split]")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(width) > before
    box = page.locator("[data-split]").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(700, box["y"] + 5)
    page.mouse.up()
    wide = page.evaluate(width)
    assert wide > 600
    page.reload()
    assert page.evaluate(width) == wide


def test_the_answer_is_told_apart_from_what_follows(
    viewer: Viewer, sized: Page, make_span: Callable[..., Span]
) -> None:
    viewer.store.add(
        [
            make_span(0, 100, id=1, trace=0xAA, name="POST /orders"),
            make_span(50, 130, id=2, parent=1, trace=0xAA, name="publish"),
            make_span(300, 400, id=3, parent=2, trace=0xAA, name="consume"),
        ]
    )
    sized.goto(viewer.url)
    assert "100 ms" in sized.inner_text("tr[data-row]")
    assert "400 ms" not in sized.inner_text("tr[data-row]")
    sized.click("tr[data-row] .what a")
    facts = sized.inner_text(".facts")
    assert "100 ms until the answer, 400 ms with what followed (1 span began after it)" in facts
    rows = sized.locator(".rows li")
    late = rows.evaluate_all("rows => rows.map((row) => row.classList.contains('after-answer'))")
    assert late == [False, False, True]
    shade = rows.first.locator("rect.late")
    from playwright.sync_api import expect

    # The server's drawing says 25.0%; the script's takes its place.
    expect(shade).to_have_attribute("x", "25%")
    expect(shade).to_have_attribute("width", "75%")
    label = rows.nth(2).locator(".bar").get_attribute("aria-label") or ""
    assert "began 200 ms after the answer" in label


def test_a_trace_leads_to_those_it_links_to_and_back(
    viewer: Viewer, sized: Page, make_span: Callable[..., Span]
) -> None:
    viewer.store.add([make_span(id=1, trace=0xBB, name="POST /orders")])
    link = Link(f"{0xBB:032x}", f"{1:016x}", {})
    viewer.store.add([make_span(id=2, trace=0xAA, name="ship later", links=[link])])
    sized.goto(f"{viewer.url}/trace/{TRACE}")
    sized.click(".linked a:has-text('POST /orders')")
    sized.wait_for_url(f"**/trace/{0xBB:032x}")
    sized.click(".linked a:has-text('ship later')")
    sized.wait_for_url(f"**/trace/{TRACE}")


def test_it_grows_without_losing_what_is_collapsed_or_typed(
    large: Viewer, page: Page, make_span: Callable[..., Span]
) -> None:
    page.goto(f"{large.url}/trace/{TRACE}")
    page.click("[data-act=collapseAll]")
    count = page.locator(".rows li").count()
    page.focus("[data-search]")
    page.keyboard.type("late")
    large.store.add([make_span(9, 12, id=SIZE + 5, parent=1, trace=0xAA, name="late one")])
    page.wait_for_selector(".rows li.match:has-text('late one')")
    assert page.locator(".rows li").count() == count + 1
    assert page.evaluate("document.activeElement.value") == "late"


def test_the_script_writes_durations_as_the_server_does(large: Viewer, page: Page) -> None:
    page.goto(f"{large.url}/trace/{TRACE}")
    numbers = [0, 1, 999, 1000, 1500, 12_345, 999_499, 999_500, 9_994_999, 10**7, 123_456_789]
    numbers += [999_499_999, 999_500_000, 10**9, 12_345_678_901, 99_999_999_999, 754 * 10**9]
    told = page.evaluate(
        """async (numbers) => {
             const { duration } = await import("/static/words.js");
             return numbers.map(duration);
           }""",
        numbers,
    )
    assert told == [display.duration(number) for number in numbers]


def test_the_search_within_answers_what_is_no_search(large: Viewer) -> None:
    for query in ("", " ", "=", '"', "-"):
        answer = requests.get(
            f"{large.url}/trace/{TRACE}/find.json", params={"q": query}, timeout=30
        )
        assert answer.status_code == 200
        assert isinstance(answer.json(), list)
