// What the script says, in the page's language, and durations as `display.duration` writes them.

const texts = JSON.parse(document.getElementById("texts").content.textContent);

export function t(english, values = {}) {
  return (texts[english] ?? english).replace(/{(\w+)}/g, (_, name) => values[name]);
}

export const language = document.documentElement.lang;

export function duration(nanos) {
  if (nanos <= 0) return nanos ? "-" + duration(-nanos) : "0";
  for (const [limit, divisor, unit] of [[1e3, 1, "ns"], [1e6, 1e3, "µs"], [1e9, 1e6, "ms"]]) {
    // What would round up to 1000 belongs to the next unit.
    if (nanos < limit - divisor / 2) return `${threeDigits(nanos / divisor)} ${unit}`;
  }
  if (nanos < 1e11) return `${threeDigits(nanos / 1e9)} s`;
  const seconds = Math.floor(nanos / 1e9);
  return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
}

function threeDigits(number) {
  if (Number.isInteger(number)) return String(number);
  return number.toFixed(number >= 99.95 ? 0 : number >= 9.995 ? 1 : 2);
}
