// Which part of a trace's time is in sight: the picture of the whole, dragging and zooming in it.

import { duration } from "./words.js";

const NARROWEST = 1000;  // ns

export class Timeline {
  // changed: called after the part in sight changed.
  constructor(box, changed) {
    this.box = box;
    this.changed = changed;
    this.whole = 1;
    this.from = 0;
    this.to = 1;
    let start = null;
    const at = (event) => {
      const area = box.getBoundingClientRect();
      return Math.min(Math.max((event.clientX - area.left) / area.width, 0), 1) * this.whole;
    };
    box.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      start = at(event);
      box.setPointerCapture(event.pointerId);
    });
    box.addEventListener("pointermove", (event) => {
      if (start !== null && Math.abs(at(event) - start) > this.whole / 200) {
        this.show(Math.min(start, at(event)), Math.max(start, at(event)));
      }
    });
    box.addEventListener("pointerup", () => { start = null; });
    box.addEventListener("pointercancel", () => { start = null; });
    box.addEventListener("dblclick", () => this.show(0, this.whole));
  }

  get zoomed() { return this.from > 0 || this.to < this.whole; }

  take(data, colours) {
    const kept = this.zoomed;
    this.data = data;
    this.colours = colours;
    this.whole = data.duration;
    if (kept) this.show(this.from, this.to);
    else this.show(0, this.whole);
    this.draw();
  }

  show(from, to) {
    const width = Math.min(Math.max(to - from, NARROWEST), this.whole);
    this.from = Math.min(Math.max(from, 0), this.whole - width);
    this.to = this.from + width;
    const mark = this.box.querySelector("i");
    mark.style.left = `${100 * this.from / this.whole}%`;
    mark.style.width = `${100 * width / this.whole}%`;
    mark.hidden = !this.zoomed;
    this.changed();
  }

  zoom(by) {
    const middle = (this.from + this.to) / 2, half = (this.to - this.from) * by / 2;
    this.show(middle - half, middle + half);
  }

  pan(by) {
    const width = this.to - this.from;
    const from = Math.min(Math.max(this.from + by * width, 0), this.whole - width);
    this.show(from, from + width);
  }

  ticks() {
    const step = (this.to - this.from) / 4;
    return [0, 1, 2, 3, 4].map((n) => duration(Math.round(this.from + n * step)));
  }

  // One line a row, as high as there is room for.
  draw() {
    const canvas = this.box.querySelector("canvas");
    canvas.width = Math.max(this.box.clientWidth * devicePixelRatio, 1);
    canvas.height = 56 * devicePixelRatio;
    const pen = canvas.getContext("2d");
    const { rows, services, answered } = this.data;
    const probe = this.box.querySelector("i");
    const tone = (name) => {
      probe.style.color = `var(--${name})`;
      return getComputedStyle(probe).color;
    };
    const tones = services.map(([, name]) => tone(name));
    const red = tone("red");
    const x = canvas.width / this.whole, y = canvas.height / Math.max(rows.length, 12);
    if (answered !== null) {
      pen.fillStyle = tone("line-2");
      pen.fillRect(answered * x, 0, canvas.width, canvas.height);
    }
    rows.forEach(([, , , service, start, took, bits], index) => {
      pen.fillStyle = bits & 1 ? red : tones[service];
      pen.fillRect(start * x, index * y, Math.max(took * x, devicePixelRatio), Math.max(y * 0.8, 1));
    });
  }
}
