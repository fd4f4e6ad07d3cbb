// SPDX-License-Identifier: Apache-2.0
// Small helpers around the document.

/** The element of this id. */
export const byId = (id) => document.getElementById(id);

/** A new element with properties and children. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "dataset") Object.assign(made.dataset, value);
    else if (key.includes("-") || key === "role") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

/** A line that comes up and goes away; `kind` is "good" or "bad". */
export function toast(text, kind = "good") {
  const line = element("div", { className: `toast ${kind}`, textContent: text });
  byId("toasts").append(line);
  setTimeout(() => line.remove(), kind === "bad" ? 9000 : 4000);
}

/** A canvas' 2D context, the canvas being as large as its box in device pixels; and that box. */
export function fitted(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** The value of a CSS variable. */
export const color = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Calls `draw` once before the next paint, however often it is asked to. */
export function drawer(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
}

export function bytes(count) {
  for (const unit of ["B", "kB", "MB"]) {
    if (count < 1000) return `${count < 10 && unit !== "B" ? count.toFixed(1) : Math.round(count)} ${unit}`;
    count /= 1000;
  }
  return `${count.toFixed(1)} GB`;
}

export const seconds = (value) =>
  value == null ? "–" : value < 10 ? `${value.toFixed(2)} s` : `${value.toFixed(1)} s`;
