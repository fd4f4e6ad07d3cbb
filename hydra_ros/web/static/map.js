// SPDX-License-Identifier: Apache-2.0
// The world from above: x to the right, y up, metres.

import { byId, color, drawer, fitted, seconds } from "./dom.js";
import { relevance } from "./relevance.js";

const TRAIL = 3000; // positions
const JUMP = 1; // m between two frames: another world, not a way
const FRUSTUM = 22; // px
const LIMITS = [2, 600]; // px per metre
const NEAR = 18; // px from a camera to the pointer that asks about it

export class WorldMap {
  #canvas = byId("map");
  #camera = null;
  #trail = [];
  #memory = null;
  #futures = [];
  #view = { x: 0, y: 0, scale: 60 };
  #mode = "follow"; // fit, follow, free
  #pointers = new Map();
  #draw = drawer(() => this.#paint());

  constructor() {
    this.#listen();
    this.#setMode("fit");
    new ResizeObserver(this.#draw).observe(this.#canvas);
  }

  redraw() {
    this.#draw();
  }

  set camera(camera) {
    if (!camera) return;
    const [x, y] = camera.position;
    const last = this.#trail.at(-1);
    if (!last || Math.hypot(x - last[0], y - last[1]) > 1e-3) {
      const jumped = last && Math.hypot(x - last[0], y - last[1]) > JUMP;
      this.#trail.push([x, y, Boolean(jumped)]);
      if (this.#trail.length > TRAIL) this.#trail.shift();
    }
    this.#camera = camera;
    this.#draw();
  }

  set memory(memory) {
    this.#memory = memory;
    this.#draw();
  }

  /** Camera paths of imagined futures: lists of cameras. */
  set futures(paths) {
    this.#futures = paths;
    this.#draw();
  }

  /** Forget the way so far. */
  clear() {
    this.#trail = [];
    this.#futures = [];
    this.#draw();
  }

  // --- looking around ---

  #setMode(mode) {
    this.#mode = mode;
    byId("map-follow").setAttribute("aria-pressed", mode === "follow");
    byId("map-fit").setAttribute("aria-pressed", mode === "fit");
    this.#draw();
  }

  #zoom(factor, at = null) {
    if (this.#mode === "fit") this.#setMode("free");
    const view = this.#view;
    const scale = Math.max(LIMITS[0], Math.min(LIMITS[1], view.scale * factor));
    if (at && this.#mode !== "follow") {
      const [x, y] = this.#toWorld(at);
      view.x = x - (x - view.x) * (view.scale / scale);
      view.y = y - (y - view.y) * (view.scale / scale);
    }
    view.scale = scale;
    this.#draw();
  }

  #pan(dx, dy) {
    if (this.#mode !== "free") this.#setMode("free");
    this.#view.x -= dx / this.#view.scale;
    this.#view.y += dy / this.#view.scale;
    this.#draw();
  }

  #listen() {
    const canvas = this.#canvas;
    byId("map-in").onclick = () => this.#zoom(1.4);
    byId("map-out").onclick = () => this.#zoom(1 / 1.4);
    byId("map-fit").onclick = () => this.#setMode("fit");
    byId("map-follow").onclick = () => this.#setMode(this.#mode === "follow" ? "free" : "follow");
    canvas.addEventListener("keydown", ({ key }) => {
      if (key === "+" || key === "=") this.#zoom(1.4);
      else if (key === "-") this.#zoom(1 / 1.4);
      else if (key === "0") this.#setMode("fit");
    });
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && document.activeElement !== canvas) return; // the page scrolls
      event.preventDefault();
      this.#zoom(Math.exp(-event.deltaY / 300), [event.offsetX, event.offsetY]);
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.#pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    });
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const type of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(type, (event) => this.#pointers.delete(event.pointerId));
    }
    canvas.addEventListener("pointerleave", () => (byId("map-tip").hidden = true));
  }

  #move(event) {
    const at = [event.offsetX, event.offsetY];
    const before = this.#pointers.get(event.pointerId);
    if (!before) return this.#tip(at);
    const others = [...this.#pointers].filter(([id]) => id !== event.pointerId);
    if (others.length === 1) {
      const [, other] = others[0];
      const way = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
      this.#zoom(way(at) / Math.max(way(before), 1), other);
    } else if (others.length === 0) this.#pan(at[0] - before[0], at[1] - before[1]);
    this.#pointers.set(event.pointerId, at);
  }

  #tip(at) {
    const tip = byId("map-tip");
    const near = (this.#memory?.frames ?? [])
      .map((frame) => {
        const [x, y] = this.#toScreen(this.#middle(frame.camera));
        return { frame, way: Math.hypot(x - at[0], y - at[1]) };
      })
      .filter(({ way }) => way < NEAR)
      .sort((a, b) => b.frame.selected - a.frame.selected || a.way - b.way)[0];
    tip.hidden = !near;
    if (near) {
      tip.textContent = describe(near.frame);
      tip.style.left = `${Math.min(at[0] + 14, this.#canvas.clientWidth - 170)}px`;
      tip.style.top = `${at[1] + 14}px`;
    }
  }

  // --- painting ---

  #toScreen([x, y]) {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const { x: cx, y: cy, scale } = this.#view;
    return [width / 2 + (x - cx) * scale, height / 2 - (y - cy) * scale];
  }

  #toWorld([x, y]) {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const { x: cx, y: cy, scale } = this.#view;
    return [cx + (x - width / 2) / scale, cy - (y - height / 2) / scale];
  }

  /** A point in the middle of the drawn frustum. */
  #middle({ position, forward }) {
    const reach = (FRUSTUM * 0.6) / this.#view.scale;
    const flat = Math.hypot(forward[0], forward[1]) || 1;
    return [position[0] + (forward[0] / flat) * reach, position[1] + (forward[1] / flat) * reach];
  }

  #place() {
    const view = this.#view;
    if (this.#mode === "follow" && this.#camera) [view.x, view.y] = this.#camera.position;
    if (this.#mode !== "fit") return;
    const points = [
      ...this.#trail,
      ...(this.#memory?.frames ?? []).map((frame) => frame.camera.position),
      ...this.#futures.flat().map((camera) => camera.position),
    ];
    if (this.#camera) points.push(this.#camera.position);
    if (!points.length) return;
    const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const room = (length, pixels) => (pixels - 110) / Math.max(length, 0.8);
    view.x = (left + right) / 2;
    view.y = (low + high) / 2;
    view.scale = Math.max(LIMITS[0], Math.min(140, room(right - left, width), room(high - low, height)));
  }

  #paint() {
    if (!this.#canvas.clientWidth) return;
    this.#place();
    const { context, width, height } = fitted(this.#canvas);
    this.#paintGrid(context, width, height);
    this.#paintTrail(context);
    const half = Math.min(Math.max((this.#memory?.fov_x ?? 1.2) / 2, 0.15), 1.3);
    const frames = [...(this.#memory?.frames ?? [])];
    const shade = relevance(frames);
    // The chosen ones last, on top.
    frames.sort((a, b) => a.selected - b.selected || a.score - b.score);
    for (const frame of frames) {
      this.#paintFrustum(context, frame.camera, half, {
        fill: shade(frame),
        alpha: frame.selected ? 0.85 : 0.42,
        stroke: frame.selected ? color("--ink") : shade(frame),
        line: frame.selected ? 1.4 : 0.8,
        size: frame.selected ? FRUSTUM : FRUSTUM * 0.8,
      });
    }
    this.#futures.forEach((cameras, index) => {
      const paint = color(index ? "--future-b" : "--future-a");
      this.#paintLine(context, cameras.map((camera) => camera.position), paint, 2.5);
      if (cameras.length) {
        const end = { fill: paint, alpha: 0.6, stroke: paint, line: 1.5, size: FRUSTUM };
        this.#paintFrustum(context, cameras.at(-1), half, end);
      }
    });
    if (this.#camera) {
      const now = { fill: color("--accent"), alpha: 0.9, stroke: color("--card"), line: 2, size: FRUSTUM * 1.45 };
      this.#paintFrustum(context, this.#camera, half, now);
    }
    this.#paintScale(context, width, height);
  }

  #paintGrid(context, width, height) {
    const step = niceStep(48 / this.#view.scale);
    const [left, top] = this.#toWorld([0, 0]);
    const [right, bottom] = this.#toWorld([width, height]);
    context.lineWidth = 1;
    context.strokeStyle = color("--grid");
    context.beginPath();
    for (let x = Math.ceil(left / step) * step; x <= right; x += step) {
      const [sx] = this.#toScreen([x, 0]);
      context.moveTo(Math.round(sx) + 0.5, 0);
      context.lineTo(Math.round(sx) + 0.5, height);
    }
    for (let y = Math.ceil(bottom / step) * step; y <= top; y += step) {
      const [, sy] = this.#toScreen([0, y]);
      context.moveTo(0, Math.round(sy) + 0.5);
      context.lineTo(width, Math.round(sy) + 0.5);
    }
    context.stroke();
  }

  #paintTrail(context) {
    let part = [];
    for (const point of this.#trail) {
      if (point[2]) {
        this.#paintLine(context, part, color("--trail"), 1.5);
        part = [];
      }
      part.push(point);
    }
    this.#paintLine(context, part, color("--trail"), 2);
  }

  #paintLine(context, points, paint, line) {
    context.strokeStyle = paint;
    context.lineWidth = line;
    context.lineJoin = "round";
    context.beginPath();
    for (const point of points) context.lineTo(...this.#toScreen(point));
    context.stroke();
  }

  #paintFrustum(context, { position, forward }, half, { fill, alpha, stroke, line, size }) {
    const [x, y] = this.#toScreen(position);
    const heading = Math.atan2(-forward[1], forward[0]);
    const edge = size / Math.cos(half) ** 0.5;
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x + edge * Math.cos(heading - half), y + edge * Math.sin(heading - half));
    context.lineTo(x + edge * Math.cos(heading + half), y + edge * Math.sin(heading + half));
    context.closePath();
    context.globalAlpha = alpha;
    context.fillStyle = fill;
    context.fill();
    context.globalAlpha = Math.min(alpha + 0.2, 1);
    context.strokeStyle = stroke;
    context.lineWidth = line;
    context.stroke();
    context.globalAlpha = 1;
  }

  #paintScale(context, width, height) {
    const metres = niceStep(60 / this.#view.scale);
    const length = metres * this.#view.scale;
    context.strokeStyle = context.fillStyle = color("--dim");
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(12, height - 12);
    context.lineTo(12 + length, height - 12);
    context.stroke();
    context.font = "11px system-ui, sans-serif";
    context.fillText(`${metres} m`, 12, height - 18);
  }
}

/** A remembered frame in words. */
export function describe(frame) {
  const terms = Object.entries(frame.terms).map(([term, score]) => `${term} ${score?.toFixed(2)}`);
  return [
    `#${frame.index} · ${seconds(frame.age)} old · ${frame.observed ? "observed" : "imagined"}`,
    `relevance ${frame.score?.toFixed(2) ?? "–"}${terms.length ? ` (${terms.join(", ")})` : ""}`,
  ].join("\n");
}

/** The nearest of 1, 2, 5, 10, ... from `least` up. */
function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].find((step) => step * power >= least) * power;
}
