// The waterfall: collapsing, searching, and only those rows in the page that are in sight.
//
// Rows come as data, in <template id="rows">; what one looks like is <template id="row">. The rows
// that came as markup are what is seen until this runs, and all there is where it does not.

import { Timeline } from "./timeline.js";
import { duration, t } from "./words.js";

const FAILED = 1, ORPHAN = 2, AFTER = 4;
const SPARE = 12;  // rows above and below what is in sight

const box = document.querySelector("[data-waterfall]");
export const waterfall = box ? start(box) : null;

function start(box) {
  const list = box.querySelector(".rows");
  const bar = document.querySelector("[data-reading]");
  const find = bar.querySelector("[data-find]");
  const told = bar.querySelector("[data-matches]");
  const model = document.getElementById("row").content.firstElementChild;
  const ticks = box.querySelectorAll(".axis text");
  const map = document.querySelector("[data-minimap]");
  const folded = new Set();  // span ids
  const drawn = new Map();   // span id: its <li>
  let data, rows, ends, places, seen = [], matches = [], matching = new Set();
  let current = null;        // span id of the row the keys are at
  let asked = 0, matched = -1;

  map.hidden = bar.hidden = false;
  document.querySelector("[data-without-script]")?.remove();
  const timeline = new Timeline(map, () => { forget(); draw(); });

  // Data

  function take() {
    data = JSON.parse(document.getElementById("rows").content.textContent);
    rows = data.rows;
    places = new Map(rows.map((row, index) => [row[0], index]));
    // Where what is below a row ends.
    ends = new Array(rows.length);
    const open = [];
    rows.forEach((row, index) => {
      while (open.length && rows[open.at(-1)][1] >= row[1]) ends[open.pop()] = index;
      open.push(index);
    });
    for (const index of open) ends[index] = rows.length;
    layOut();
    timeline.take(data);
  }

  const isParent = (index) => ends[index] > index + 1;

  function layOut() {
    seen = [];
    for (let index = 0; index < rows.length;) {
      seen.push(index);
      index = folded.has(rows[index][0]) ? ends[index] : index + 1;
    }
    forget();
  }

  function forget() {
    for (const row of drawn.values()) row.dataset.stale = "";
  }

  // Drawing

  const height = () => parseFloat(getComputedStyle(list).getPropertyValue("--row")) || 28;

  function draw() {
    if (!rows) return;
    const each = height();
    const top = list.getBoundingClientRect().top;
    const last = Math.min(Math.ceil((innerHeight - top) / each) + SPARE, seen.length);
    const first = Math.max(Math.min(Math.floor(-top / each) - SPARE, last), 0);
    list.style.paddingTop = `${first * each}px`;
    list.style.paddingBottom = `${Math.max(seen.length - last, 0) * each}px`;
    const wanted = seen.slice(first, last);
    const ids = new Set(wanted.map((index) => rows[index][0]));
    for (const [id, row] of drawn) {
      if (!ids.has(id)) { row.remove(); drawn.delete(id); }
    }
    let before = null;
    wanted.forEach((index, offset) => {
      const id = rows[index][0];
      let row = drawn.get(id);
      // Empty: `fill` puts everything in.
      if (!row) drawn.set(id, row = model.cloneNode(false));
      if (!row.parentNode || "stale" in row.dataset) fill(row, index, first + offset);
      const next = before ? before.nextElementSibling : list.firstElementChild;
      if (next !== row) list.insertBefore(row, next);
      before = row;
    });
    const labels = timeline.ticks();
    ticks.forEach((tick, number) => { tick.textContent = labels[number]; });
  }

  function fill(row, index, place) {
    const [id, depth, name, service, begin, took, bits, skew, logs, critical, marks] = rows[index];
    const [of, colour] = data.services[service];
    const fresh = model.cloneNode(true);
    const focused = row.contains(document.activeElement) && document.activeElement.className;
    const one = (selector) => fresh.querySelector(selector);
    const keep = (selector, is, text) => {
      if (!is) one(selector).remove();
      else if (text !== undefined) one(selector).textContent = text;
    };
    const isFolded = folded.has(id);
    row.className = [
      colour,
      bits & FAILED && "failed",
      bits & AFTER && "after-answer",
      matching.has(id) && "match",
    ].filter(Boolean).join(" ");
    row.toggleAttribute("data-error", Boolean(bits & FAILED));
    row.setAttribute("aria-setsize", seen.length);
    row.setAttribute("aria-posinset", place + 1);
    row.style.setProperty("--depth", depth);
    const link = one("a");
    link.href = `${box.dataset.base}/span/${id}`;
    link.id = `s-${id}`;
    link.title = `${name} · ${of}`;
    const label = name || t("(no name)");
    one(".name").className = "name";
    keep(".depth", depth >= 20, depth);
    one(".name > bdi").textContent = label;
    one(".of bdi").textContent = of;
    keep(".hidden", isFolded);
    if (isFolded) {
      one(".hidden").textContent = `+${ends[index] - index - 1}`;
      one(".hidden").classList.toggle("bad", hides(index));
    }
    keep(".skew span", skew, duration(skew));
    if (!skew) one(".skew").remove();
    keep(".orphan", bits & ORPHAN);
    keep(".logs span", logs, logs);
    if (!logs) one(".logs").remove();
    if (isParent(index)) {
      const fold = one(".fold");
      fold.setAttribute("aria-expanded", String(!isFolded));
      fold.setAttribute("aria-label", t(isFolded ? "expand {name}" : "collapse {name}", { name: label }));
    } else one(".fold").remove();
    drawBar(one(".bar"), begin, took, critical, marks);
    one(".bar").setAttribute("aria-label", [
      duration(took), bits & FAILED && t("error"), critical.length && t("on the critical path"),
      bits & AFTER && t("began {time} after the answer", { time: duration(begin - data.answered) }),
    ].filter(Boolean).join(", "));
    row.replaceChildren(...fresh.childNodes);
    delete row.dataset.stale;
    // Only where it was: a row that is drawn anew must not lose the keyboard.
    if (focused !== false) row.querySelector(focused === "fold" ? ".fold" : "a")?.focus({ preventScroll: true });
  }

  const hides = (index) => rows.slice(index + 1, ends[index]).some((row) => row[6] & FAILED);

  function drawBar(bar, begin, took, critical, marks) {
    const scale = 100 / (timeline.to - timeline.from);
    const x = (nanos) => Math.min(Math.max((nanos - timeline.from) * scale, 0), 100);
    const left = x(begin), right = x(begin + took);
    const [late, span, text] = bar.children;
    if (data.answered === null) late.remove();
    else {
      late.setAttribute("x", `${x(data.answered)}%`);
      late.setAttribute("width", `${100 - x(data.answered)}%`);
    }
    const isOut = begin + took < timeline.from || begin > timeline.to;
    if (isOut) span.remove();
    else {
      span.setAttribute("x", `${left}%`);
      span.setAttribute("width", `${right - left}%`);
    }
    for (let at = 0; at < critical.length; at += 2) {
      const from = x(critical[at]), to = x(critical[at] + critical[at + 1]);
      if (to <= from) continue;
      bar.insertBefore(svg("rect", { class: "crit", x: `${from}%`, y: 14, width: `${to - from}%`, height: 3 }), text);
    }
    for (const [time, level, message] of marks) {
      if (time < timeline.from || time > timeline.to) continue;
      const mark = svg("circle", { class: `log ${level}`, cx: `${x(time)}%`, cy: 4, r: 3 });
      mark.append(svg("title", {}));
      mark.firstChild.textContent = message;
      bar.append(mark);
    }
    const where = right <= 84 ? "after" : left >= 16 ? "before" : "inside";
    text.setAttribute("class", isOut ? `${where} out` : where);
    text.setAttribute("x", `${where === "before" ? left : right}%`);
    text.textContent = duration(took);
  }

  function svg(name, values) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(values)) made.setAttribute(key, value);
    return made;
  }

  // Rows

  function reveal(id, { focus = true } = {}) {
    const index = places.get(id);
    if (index === undefined) return;
    let opened = false;
    for (let above = index - 1; above >= 0; above--) {
      if (ends[above] > index && folded.delete(rows[above][0])) opened = true;
    }
    if (opened) layOut();
    current = id;
    const each = height(), place = seen.indexOf(index);
    const top = list.getBoundingClientRect().top + place * each;
    const room = 52 + box.querySelector(".axis").offsetHeight;
    // The list's height depends on all rows, not on those that are drawn: draw, then scroll.
    draw();
    if (top < room) scrollBy(0, top - room);
    else if (top + each > innerHeight - 16) scrollBy(0, top + each - innerHeight + 16);
    draw();
    if (focus) drawn.get(id)?.querySelector("a").focus({ preventScroll: true });
  }

  const at = () => {
    const focused = document.activeElement?.closest?.("[data-row] a")?.id.slice(2) ?? current;
    return seen.indexOf(places.get(focused) ?? -1);
  };

  function step(by) {
    const from = at();
    const to = from < 0 ? (by > 0 ? 0 : seen.length - 1) : from + by;
    reveal(rows[seen[Math.max(0, Math.min(to, seen.length - 1))]][0]);
  }

  function fold(id, close) {
    const index = places.get(id);
    if (index === undefined || !isParent(index) || folded.has(id) === close) return false;
    if (close) folded.add(id); else folded.delete(id);
    layOut();
    draw();
    return true;
  }

  function left() {
    const index = seen[at()];
    if (index === undefined || fold(rows[index][0], true)) return;
    for (let above = index - 1; above >= 0; above--) {
      if (ends[above] > index) return reveal(rows[above][0]);
    }
  }

  function right() {
    const index = seen[at()];
    if (index !== undefined && !fold(rows[index][0], false) && isParent(index)) step(1);
  }

  function foldAll(close) {
    folded.clear();
    if (close) rows.forEach((row, index) => { if (row[1] && isParent(index)) folded.add(row[0]); });
    layOut();
    draw();
  }

  function nextError() {
    const from = places.get(rows[seen[at()]]?.[0]) ?? -1;
    const failed = rows.flatMap((row, index) => (row[6] & FAILED ? [index] : []));
    if (failed.length) reveal(rows[failed.find((index) => index > from) ?? failed[0]][0]);
  }

  // Searching

  async function search() {
    const number = ++asked;
    const text = find.value.trim();
    const url = new URL(location.href);
    if (text) url.searchParams.set("find", text); else url.searchParams.delete("find");
    history.replaceState(history.state, "", url);
    const answer = text ? await fetch(`${find.dataset.find}?q=${encodeURIComponent(text)}`) : null;
    const found = answer?.ok ? await answer.json() : [];
    if (number !== asked) return;
    matching = new Set(found);
    matches = found.filter((id) => places.has(id)).sort((a, b) => places.get(a) - places.get(b));
    tell(matched = -1);
    forget();
    draw();
  }

  function tell(at) {
    const text = matches.length ? t("{at} of {all}", { at: at + 1, all: matches.length }) : t("no match");
    told.textContent = find.value.trim() ? text : "";
  }

  function match(by) {
    if (!matches.length) return;
    const from = matched < 0 && by < 0 ? 0 : matched;
    matched = (from + by + matches.length) % matches.length;
    reveal(matches[matched], { focus: document.activeElement !== find });
    tell(matched);
  }

  // Events

  let waiting = 0;
  find.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(search, 150);
  });
  find.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    match(event.shiftKey ? -1 : 1);
  });
  list.addEventListener("click", (event) => {
    const button = event.target.closest(".fold");
    if (!button) return;
    const id = button.nextElementSibling.id.slice(2);
    current = id;
    fold(id, !folded.has(id));
  });
  const acts = {
    previousMatch: () => match(-1), nextMatch: () => match(1),
    collapseAll: () => foldAll(true), expandAll: () => foldAll(false),
    earlier: () => timeline.pan(-0.5), later: () => timeline.pan(0.5),
    zoomIn: () => timeline.zoom(0.5), zoomOut: () => timeline.zoom(2),
    zoomWhole: () => timeline.show(0, data.duration),
  };
  bar.addEventListener("click", (event) => {
    acts[event.target.closest("[data-act]")?.dataset.act]?.();
  });
  let asks = 0;
  const later = () => { asks ||= requestAnimationFrame(() => { asks = 0; draw(); }); };
  addEventListener("scroll", later, { passive: true });
  addEventListener("resize", () => { forget(); later(); timeline.draw(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => timeline.draw());
  document.addEventListener("bodytrace:fresh", () => { take(); draw(); if (find.value) search(); });

  // The width of the names.

  const split = box.querySelector("[data-split]");
  split.hidden = false;
  const widen = (share) => {
    const percent = Math.min(Math.max(Math.round(share), 15), 75);
    box.style.setProperty("--names", `${percent}%`);
    split.setAttribute("aria-valuenow", percent);
    localStorage.setItem("bodytrace-names", percent);
  };
  const kept = Number(localStorage.getItem("bodytrace-names"));
  if (kept) widen(kept);
  split.addEventListener("pointerdown", (event) => split.setPointerCapture(event.pointerId));
  split.addEventListener("pointermove", (event) => {
    if (!split.hasPointerCapture(event.pointerId)) return;
    const area = box.getBoundingClientRect();
    widen(100 * (event.clientX - area.left) / area.width);
  });
  split.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -2, ArrowRight: 2 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    widen(Number(split.getAttribute("aria-valuenow")) + by);
  });

  list.replaceChildren();
  take();
  if (location.hash.startsWith("#s-")) reveal(location.hash.slice(3));
  if (find.value) search();
  return { step, nextError, keys: {
    ArrowLeft: left, ArrowRight: right,
    c: acts.collapseAll, x: acts.expandAll,
    "+": acts.zoomIn, "-": acts.zoomOut, 0: acts.zoomWhole,
  } };
}
