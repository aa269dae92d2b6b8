// The latency chart: drag over a stretch of time to see only its traces.

let start = null, mark = null;

const chartOf = (event) => event.target.closest?.(".chart svg[data-first]");

function share(chart, event) {
  const area = chart.getBoundingClientRect();
  return Math.min(Math.max((event.clientX - area.left) / area.width, 0), 1);
}

function time(chart, at) {
  const { first, last } = chart.dataset;
  // Dots are drawn between 1 and 99 percent.
  return Math.round(Number(first) + (Number(last) - Number(first)) * (at - 0.01) / 0.98);
}

document.addEventListener("pointerdown", (event) => {
  const chart = chartOf(event);
  if (!chart || event.button || event.target.closest("a")) return;
  event.preventDefault();
  start = { chart, at: share(chart, event) };
  mark = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  mark.setAttribute("class", "mark");
  mark.setAttribute("height", "100%");
  chart.append(mark);
});

document.addEventListener("pointermove", (event) => {
  if (!start) return;
  const at = share(start.chart, event);
  mark.setAttribute("x", `${100 * Math.min(at, start.at)}%`);
  mark.setAttribute("width", `${100 * Math.abs(at - start.at)}%`);
});

document.addEventListener("pointerup", (event) => {
  if (!start) return;
  const { chart, at: from } = start;
  const to = share(chart, event);
  start = null;
  mark.remove();
  if (Math.abs(to - from) < 0.01) return;
  const url = new URL(location.href);
  url.searchParams.set("since", time(chart, Math.min(from, to)));
  url.searchParams.set("until", time(chart, Math.max(from, to)) + 1);
  url.searchParams.delete("page");
  location.assign(url);
});
