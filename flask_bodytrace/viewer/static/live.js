// Live: told by the server that something changed, fetch the page and put its parts in place.
//
// Where the server cannot tell (it says so by 204), the page asks once a second. Only a page in
// sight is told: a browser opens few connections to one server, and each holds a thread there.

import { t } from "./words.js";

const SILENT = 15_000;  // ms without a word, after which the viewer counts as gone

// fresh: called with the document that was fetched.
export function startLive(button, version, fresh) {
  let source = null, heard = 0, asks = false, busy = false, again = false;

  const shown = () => button.getAttribute("aria-pressed") === "true" && !document.hidden;
  const label = button.querySelector("span");

  function tell(isThere) {
    if (isThere) heard = performance.now();
    button.classList.toggle("lost", !isThere);
    const text = t(isThere ? "Live" : "Viewer gone");
    if (label.textContent !== text) label.textContent = text;
  }

  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href.split("#")[0]);
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        version = page.getElementById("main").dataset.version;
        fresh(page);
      }
    } catch {
      tell(false);
    }
    busy = false;
    if (again) { again = false; refresh(); }
  }

  function listen() {
    if (!shown()) {
      source?.close();
      source = null;
      return;
    }
    if (source || asks) return;
    heard = performance.now();
    source = new EventSource(button.dataset.events);
    source.onmessage = (event) => {
      tell(true);
      if (event.data !== version) refresh();
    };
    source.addEventListener("alive", () => tell(true));
    source.onerror = () => {
      if (source?.readyState !== EventSource.CLOSED) return tell(false);
      source = null;
      // 204, or a proxy that does not pass the stream on: asking shows whether the viewer is there.
      asks = true;
    };
  }

  async function ask() {
    try {
      const answer = await fetch(button.dataset.live);
      tell(answer.ok);
      if (answer.ok && (await answer.text()) !== version) await refresh();
    } catch {
      tell(false);
    }
  }

  setInterval(() => {
    if (!shown()) return;
    if (asks) ask();
    else if (!source) listen();
    else if (performance.now() - heard > SILENT) {
      tell(false);
      source.close();
      source = null;
    }
  }, 1000);
  document.addEventListener("visibilitychange", listen);
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    listen();
  });
  listen();
}
