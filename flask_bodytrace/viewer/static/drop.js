// Files of traces, dropped on any page: OTLP, Jaeger or Zipkin JSON.

import { t } from "./words.js";

const where = document.body.dataset.import;

function tell(text) {
  let box = document.querySelector(".told");
  if (!box) {
    box = document.createElement("p");
    box.className = "told";
    box.setAttribute("role", "alert");
    document.body.append(box);
  }
  box.textContent = text;
}

async function send(files) {
  let to = "";
  for (const file of files) {
    tell(t("Reading {name}", { name: file.name }));
    try {
      const headers = { "Content-Type": "application/json" };
      const answer = await fetch(where, { method: "POST", headers, body: file });
      const said = await answer.json();
      if (!answer.ok) return tell(t("{name}: {problem}", { name: file.name, problem: said.error }));
      to = to ? document.querySelector(".brand").href : said.url;
    } catch {
      return tell(t("Viewer gone"));
    }
  }
  if (to) location.assign(to);
}

const brings = (event) => event.dataTransfer?.types.includes("Files");

document.addEventListener("dragover", (event) => {
  if (!brings(event)) return;
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  if (!brings(event)) return;
  event.preventDefault();
  document.body.classList.remove("dropping");
  send([...event.dataTransfer.files]);
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-import-file]")) send([...event.target.files]);
});
