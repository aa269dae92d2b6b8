// Keys, copying, and live updates. Every page works without this file.

import "./chart.js";
import "./drop.js";
import { startLive } from "./live.js";
import { t } from "./words.js";
import { waterfall } from "./waterfall.js";

document.documentElement.classList.add("scripted");
const main = document.getElementById("main");
const help = document.getElementById("help");

// Rows

const rows = () => [
  ...document.querySelectorAll("[data-row] a:not(.pick, .id, .find), [data-row] .what > details > summary"),
];

function step(by) {
  const found = rows();
  if (!found.length) return;
  const at = found.indexOf(document.activeElement);
  const next = at < 0 ? (by > 0 ? 0 : found.length - 1) : at + by;
  focusRow(found[Math.max(0, Math.min(next, found.length - 1))]);
}

function focusRow(link) {
  link.focus({ preventScroll: true });
  link.scrollIntoView({ block: "nearest" });
}

function nextError() {
  const found = rows();
  const failed = found.filter((link) => link.closest("[data-error]"));
  if (!failed.length) return;
  const at = found.indexOf(document.activeElement);
  focusRow(failed.find((link) => found.indexOf(link) > at) ?? failed[0]);
}

// The filter of the list is kept for this tab: links back to the list, and Esc, bring it along.

const list = main.dataset.list;

function bringFilter() {
  if (location.pathname === list) {
    sessionStorage.setItem("bodytrace-filter", location.search);
    return;
  }
  const kept = sessionStorage.getItem("bodytrace-filter") ?? "";
  if (main.dataset.up === list) main.dataset.up = list + kept;
  for (const link of document.querySelectorAll(".crumbs a")) {
    if (link.getAttribute("href") === list) link.href = list + kept;
  }
}

bringFilter();

// Keys

const walk = waterfall?.step ?? step;
const go = (url) => { if (url) location.assign(url); };
const keys = {
  j: () => walk(1),
  ArrowDown: () => walk(1),
  k: () => walk(-1),
  ArrowUp: () => walk(-1),
  e: waterfall?.nextError ?? nextError,
  n: () => go(main.dataset.next),
  p: () => go(main.dataset.previous),
  t: () => go(document.querySelector(".brand").href),
  r: () => go(document.querySelector("[data-page=routes]")?.href),
  m: () => go(document.querySelector("[data-page=map]")?.href),
  g: () => go(document.querySelector("[data-page=logs]")?.href),
  h: () => go(document.querySelector("[data-page=metrics]")?.href),
  s: () => go(document.querySelector("[data-page=work]")?.href),
  l: () => document.querySelector("[data-live]")?.click(),
  "/": () => {
    const search = document.querySelector("[data-search]");
    if (search) search.select();
    else go(document.querySelector(".brand").href + "#search");
  },
  "?": () => help.showModal(),
  Escape: () => go(main.dataset.up),
  ...waterfall?.keys,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  if (event.target.closest("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const act = keys[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

// Clicks

document.addEventListener("click", (event) => {
  const copy = event.target.closest("[data-copy], [data-copy-from]");
  if (copy) {
    const from = copy.dataset.copyFrom;
    const text = from ? document.getElementById(from).textContent : copy.dataset.copy;
    navigator.clipboard?.writeText(text).then(() => {
      copy.textContent = t("copied");
      setTimeout(() => { copy.textContent = t("copy"); }, 1200);
    });
  }
  if (event.target.closest("[data-help]")) help.showModal();
});

document.querySelector("[data-filter]")?.addEventListener("change", (event) => {
  if (event.target.matches("select")) event.currentTarget.requestSubmit();
});

// Empty fields make long addresses.
document.querySelector("[data-filter]")?.addEventListener("submit", (event) => {
  for (const field of event.currentTarget.querySelectorAll("[name]")) field.disabled = !field.value;
});
addEventListener("pageshow", () => {
  for (const field of document.querySelectorAll("[data-filter] [name]")) field.disabled = false;
});

if (location.hash === "#search") document.querySelector("[data-search]")?.focus();
if (!waterfall && location.hash.startsWith("#s-")) document.getElementById(location.hash.slice(1))?.focus();

// Times, in the browser's zone; as they are in UTC, when pointed at.

const two = (number) => String(number).padStart(2, "0");

function writeTimes() {
  for (const element of document.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime);
    const clock = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":");
    const day = [at.getFullYear(), at.getMonth() + 1, at.getDate()].map(two).join("-");
    const text = `${clock}.${String(at.getMilliseconds()).padStart(3, "0")}`;
    element.textContent = "day" in element.dataset ? `${day} ${text}` : text;
  }
}

writeTimes();
document.addEventListener("bodytrace:fresh", writeTimes);

// Live

const live = document.querySelector("[data-live]");
const key = (row) => row.id || row.querySelector("a")?.getAttribute("href");

function putIn(page) {
  const focused = document.activeElement?.getAttribute("href");
  const at = document.activeElement?.matches("summary") && document.activeElement.closest("[data-row]")?.id;
  const opened = [...document.querySelectorAll("[data-row] details[open]")].map((one) => one.closest("[data-row]").id);
  const before = new Set([...document.querySelectorAll("tr[data-row]")].map(key));
  for (const part of document.querySelectorAll("[data-part]")) {
    const other = page.querySelector(`[data-part="${part.dataset.part}"]`);
    if (other) part.replaceWith(document.adoptNode(other));
  }
  bringFilter();
  document.dispatchEvent(new Event("bodytrace:fresh"));
  for (const row of document.querySelectorAll("tr[data-row]")) {
    if (!before.has(key(row))) row.classList.add("new");
  }
  for (const id of opened) document.getElementById(id)?.querySelector("details").setAttribute("open", "");
  if (at) document.getElementById(at)?.querySelector("summary").focus({ preventScroll: true });
  if (focused) {
    const again = rows().find((link) => link.getAttribute("href") === focused);
    again?.focus({ preventScroll: true });
  }
}

if (live) startLive(live, main.dataset.version, putIn);
