// SPDX-License-Identifier: Apache-2.0
// Keys, mouse and touch -> velocities, sent at a bounded rate while something is held.

import { byId } from "./dom.js";

const PERIOD = 100; // ms between messages while driving
const SOONEST = 30; // ms between two messages in any case

// [forward, left, turn left], in parts of the highest speed.
const KEYS = {
  KeyW: [1, 0, 0], ArrowUp: [1, 0, 0],
  KeyS: [-1, 0, 0], ArrowDown: [-1, 0, 0],
  KeyA: [0, 1, 0], KeyD: [0, -1, 0],
  KeyQ: [0, 0, 1], ArrowLeft: [0, 0, 1],
  KeyE: [0, 0, -1], ArrowRight: [0, 0, -1],
};
const DEAD = 0.08; // of the stick's way
const REACH = 90; // px from where the stick was put down to full speed

export class Drive {
  #send;
  #limits = { linear: 1, angular: 1 };
  #held = new Set();
  #buttons = new Map(); // pointer -> key
  #stick = null;
  #slow = false;
  #moving = false;
  #timer = null;
  #last = 0;

  /** `send(linear, angular)` gets velocities in m/s and rad/s. */
  constructor(send) {
    this.#send = send;
    window.addEventListener("keydown", (event) => this.#key(event, true));
    window.addEventListener("keyup", (event) => this.#key(event, false));
    window.addEventListener("blur", () => this.stop());
    window.addEventListener("pagehide", () => this.stop());
    document.addEventListener("visibilitychange", () => document.hidden && this.stop());
    this.#listenToButtons();
    this.#listenToScreen();
    const speed = byId("speed");
    speed.addEventListener("input", () => this.#showSpeed());
    this.#showSpeed();
  }

  set limits(limits) {
    this.#limits = limits;
    this.#showSpeed();
  }

  /** Let go of everything. */
  stop() {
    this.#held.clear();
    this.#buttons.clear();
    this.#stick = null;
    this.#changed();
  }

  #key(event, down) {
    this.#slow = event.shiftKey;
    if (!(event.code in KEYS)) {
      if (this.#moving) this.#changed();
      return;
    }
    if (!down) this.#held.delete(event.code);
    else if (event.ctrlKey || event.altKey || event.metaKey || isTaken(event)) return;
    else {
      event.preventDefault(); // arrows would scroll
      if (event.repeat) return;
      this.#held.add(event.code);
    }
    this.#changed();
  }

  #listenToButtons() {
    for (const button of document.querySelectorAll(".pad button")) {
      const release = (event) => {
        if (this.#buttons.delete(event.pointerId)) this.#changed();
      };
      button.addEventListener("pointerdown", (event) => {
        button.setPointerCapture(event.pointerId);
        this.#buttons.set(event.pointerId, button.dataset.key);
        this.#changed();
      });
      for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) {
        button.addEventListener(type, release);
      }
      button.addEventListener("contextmenu", (event) => event.preventDefault());
      // With the keyboard: held while Space or Enter is.
      button.addEventListener("keydown", (event) => {
        if (event.code !== "Space" && event.code !== "Enter") return;
        event.preventDefault();
        this.#buttons.set("keyboard", button.dataset.key);
        this.#changed();
      });
      for (const type of ["keyup", "blur"]) {
        button.addEventListener(type, () => {
          if (this.#buttons.delete("keyboard")) this.#changed();
        });
      }
    }
  }

  #listenToScreen() {
    const image = byId("image");
    image.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || this.#stick) return;
      image.setPointerCapture(event.pointerId);
      this.#stick = { pointer: event.pointerId, x: event.clientX, y: event.clientY, dx: 0, dy: 0 };
      this.#changed();
    });
    image.addEventListener("pointermove", (event) => {
      if (event.pointerId !== this.#stick?.pointer) return;
      const reach = (way) => Math.max(-1, Math.min(1, way / REACH));
      this.#stick.dx = reach(event.clientX - this.#stick.x);
      this.#stick.dy = reach(event.clientY - this.#stick.y);
      this.#changed();
    });
    for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) {
      image.addEventListener(type, (event) => {
        if (event.pointerId !== this.#stick?.pointer) return;
        this.#stick = null;
        this.#changed();
      });
    }
  }

  /** What is held, in parts of the highest speed. */
  #wanted() {
    const sum = [0, 0, 0];
    for (const key of new Set([...this.#held, ...this.#buttons.values()])) {
      KEYS[key].forEach((part, i) => (sum[i] += part));
    }
    if (this.#stick) {
      const { dx, dy } = this.#stick;
      if (Math.abs(dy) > DEAD) sum[0] -= dy;
      if (Math.abs(dx) > DEAD) sum[2] -= dx;
    }
    return sum.map((part) => Math.max(-1, Math.min(1, part)) * (this.#slow ? 0.5 : 1));
  }

  #changed() {
    this.#showHeld();
    const wait = SOONEST - (performance.now() - this.#last);
    clearTimeout(this.#timer);
    if (wait > 0) this.#timer = setTimeout(() => this.#tell(), wait);
    else this.#tell();
  }

  #tell() {
    clearTimeout(this.#timer);
    const [forward, left, turn] = this.#wanted();
    const moves = forward !== 0 || left !== 0 || turn !== 0;
    if (moves || this.#moving) {
      const speed = byId("speed").value / 100;
      const linear = this.#limits.linear * speed;
      this.#last = performance.now();
      this.#send([forward * linear, left * linear, 0], [0, 0, turn * this.#limits.angular * speed]);
    }
    this.#moving = moves;
    if (moves) this.#timer = setTimeout(() => this.#tell(), PERIOD);
  }

  #showHeld() {
    const held = new Set([...this.#held, ...this.#buttons.values()]);
    const same = { ArrowUp: "KeyW", ArrowDown: "KeyS", ArrowLeft: "KeyQ", ArrowRight: "KeyE" };
    for (const key of [...held]) if (key in same) held.add(same[key]);
    for (const button of document.querySelectorAll(".pad button")) {
      button.classList.toggle("held", held.has(button.dataset.key));
    }
    const stick = byId("stick");
    stick.hidden = !this.#stick;
    if (this.#stick) {
      const box = byId("screen").getBoundingClientRect();
      stick.style.left = `${this.#stick.x - box.left}px`;
      stick.style.top = `${this.#stick.y - box.top}px`;
      stick.firstElementChild.style.translate =
        `${this.#stick.dx * REACH * 0.5}px ${this.#stick.dy * REACH * 0.5}px`;
    }
  }

  #showSpeed() {
    const speed = byId("speed").value / 100;
    const linear = (this.#limits.linear * speed).toFixed(2);
    const angular = ((this.#limits.angular * speed * 180) / Math.PI).toFixed(0);
    byId("speed-text").textContent = `${linear} m/s · ${angular}°/s`;
  }
}

/** Whether keys typed into this element are text. */
export const isTyping = (target) =>
  Boolean(target.closest?.("input:not([type=range], [type=checkbox]), select, textarea, dialog"));

const isTaken = ({ target, code }) =>
  isTyping(target) || (target.type === "range" && code.startsWith("Arrow"));
