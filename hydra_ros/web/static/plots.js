// SPDX-License-Identifier: Apache-2.0
// Figures over the last minutes, as small plots.

import { byId, color, drawer, fitted } from "./dom.js";

const SPAN = 120; // s

export class Plot {
  #canvas;
  #points = [];
  #options;
  #draw = drawer(() => this.#paint());

  /** `options`: paint (a CSS variable), unit, least (top of the scale, at least), mark (a line). */
  constructor(id, options) {
    this.#canvas = byId(id);
    this.#options = options;
    new ResizeObserver(this.#draw).observe(this.#canvas);
  }

  redraw() {
    this.#draw();
  }

  /** Replace all points: [seconds since 1970, value or null]. */
  set points(points) {
    this.#points = points;
    this.#draw();
  }

  add(wall, value) {
    this.#points.push([wall, value]);
    this.#points = this.#points.filter(([time]) => wall - time <= SPAN + 5);
    this.#draw();
  }

  #paint() {
    const { context, width, height } = fitted(this.#canvas);
    const { paint, unit, least, mark } = this.#options;
    const values = this.#points.map(([, value]) => value).filter((value) => value != null);
    const top = Math.max(least, ...values) * 1.15;
    const [left, right, low, high] = [34, width - 6, height - 16, 6];
    const end = Math.max(this.#points.at(-1)?.[0] ?? 0, Date.now() / 1000 - 5);
    const x = (wall) => right - ((end - wall) / SPAN) * (right - left);
    const y = (value) => low - (value / top) * (low - high);

    context.font = "10px system-ui, sans-serif";
    context.fillStyle = color("--dim");
    context.strokeStyle = color("--grid");
    context.lineWidth = 1;
    for (const value of [0, top / 2.3, top / 1.15]) {
      context.beginPath();
      context.moveTo(left, Math.round(y(value)) + 0.5);
      context.lineTo(right, Math.round(y(value)) + 0.5);
      context.stroke();
      context.textAlign = "right";
      context.fillText(value === 0 ? `0${unit}` : value.toFixed(value < 10 ? 1 : 0), left - 5, y(value) + 3);
    }
    context.textAlign = "left";
    context.fillText(`${SPAN / 60} min ago`, left, height - 3);
    context.textAlign = "right";
    context.fillText("now", right, height - 3);
    if (mark != null) {
      context.strokeStyle = color("--dim");
      context.setLineDash([3, 4]);
      context.beginPath();
      context.moveTo(left, y(mark));
      context.lineTo(right, y(mark));
      context.stroke();
      context.setLineDash([]);
    }
    this.#paintCurve(context, x, y, low, color(paint), left);
  }

  #paintCurve(context, x, y, low, paint, left) {
    const shown = this.#points.filter(([wall, value]) => value != null && x(wall) >= left);
    if (!shown.length) return;
    const trace = () => shown.forEach(([wall, value]) => context.lineTo(x(wall), y(value)));
    context.beginPath();
    context.moveTo(x(shown[0][0]), low);
    trace();
    context.lineTo(x(shown.at(-1)[0]), low);
    context.globalAlpha = 0.14;
    context.fillStyle = paint;
    context.fill();
    context.globalAlpha = 1;
    context.beginPath();
    trace();
    context.strokeStyle = paint;
    context.lineWidth = 1.8;
    context.lineJoin = "round";
    context.stroke();
    const [wall, value] = shown.at(-1);
    context.beginPath();
    context.arc(x(wall), y(value), 2.6, 0, 7);
    context.fillStyle = paint;
    context.fill();
  }
}
