// SPDX-License-Identifier: Apache-2.0
// What state the simulator is in: the pills, the banner, the figures and what can be used.

import { byId, element, seconds } from "./dom.js";
import { Plot } from "./plots.js";

const LEVELS = ["ok", "warn", "error", "off"];
const FIGURES = {
  simulated_time_s: ["simulated", (text) => seconds(Number(text))],
  chunk_s: ["last chunk took", (text) => seconds(Number(text))],
  memory_latent_frames: ["latent frames", (text) => text],
  memory_megabytes: ["memory", (text) => `${text} MB`],
  frames_published: ["frames", (text) => text],
  device: ["device", (text) => text],
};
const MISSING = "This simulator does not offer it.";

// What each control needs of the simulator.
const NEEDS = {
  reset: ["#reset-form"],
  save_state: ["#save-form"],
  list_states: ["#states"],
  rollout: ["#futures-form"],
};

export class Status {
  #factor = new Plot("plot-factor", { paint: "--good", unit: "", least: 1.1, mark: 1 });
  #latency = new Plot("plot-latency", { paint: "--accent", unit: " s", least: 0.5 });
  #last = null;
  lost = true;

  get lockstep() {
    return this.#last?.parameters?.mode === "lockstep";
  }

  get available() {
    return this.#last?.available ?? {};
  }

  redraw() {
    this.#factor.redraw();
    this.#latency.redraw();
  }

  set history(figures) {
    this.#factor.points = figures.map((at) => [at.wall, at.real_time_factor]);
    this.#latency.points = figures.map((at) => [at.wall, at.latency_s]);
  }

  connectionLost(code, reason) {
    this.lost = true;
    const why = reason ? ` The server said: ${reason}.` : code === 1001 ? " The server ended." : "";
    this.#banner(`The connection to the page's server is lost.${why} Trying again …`, "error");
    this.#pill("pill-state", "not connected", "off");
    this.#enable({});
  }

  show(status) {
    this.lost = false;
    const fresh = status.figures && status.figures.wall !== this.#last?.figures?.wall;
    this.#last = status;
    const { alive, values = {}, level = 3, message = "" } = status;
    const mode = status.parameters?.mode || values.mode;
    if (!alive) {
      this.#banner("The simulator is gone, or has not started yet. The page waits for it.", "error");
      this.#pill("pill-state", "no simulator", "off");
    } else {
      if (level >= 2) this.#banner(`The simulator reports a problem: ${message}`, "error");
      else if (values.state === "no world") this.#banner("No world was started: reset it below.", "warn");
      else this.#banner("");
      this.#pill("pill-state", values.state ?? "running", LEVELS[level] ?? "off");
    }
    this.#pill("pill-mode", alive ? mode : "");
    this.#pill("pill-world", alive ? values.world : "");
    const others = status.browsers > 1 ? `${status.browsers} pages` : "";
    const driver = { you: "you drive", other: "another page drives" }[status.driver] ?? others;
    this.#pill("pill-driver", driver, status.driver === "you" ? "ok" : "");
    this.#hint(status, mode);
    this.#numbers(values);
    if (fresh) {
      this.#factor.add(status.figures.wall, status.figures.real_time_factor);
      this.#latency.add(status.figures.wall, status.figures.latency_s);
    }
    byId("now-factor").textContent = values.real_time_factor ?? "";
    byId("now-latency").textContent = values.latency_s ? seconds(Number(values.latency_s)) : "";
    this.#enable(alive ? status.available : {});
  }

  #banner(text, kind = "") {
    const banner = byId("banner");
    if (banner.textContent !== text) banner.textContent = text;
    banner.hidden = !text;
    banner.className = `banner ${kind}`;
    document.body.classList.toggle("dead", kind === "error");
  }

  #pill(id, text, level = "") {
    const pill = byId(id);
    pill.hidden = !text;
    pill.dataset.level = level;
    (pill.querySelector("b") ?? pill).textContent = text ?? "";
    pill.title = text ?? "";
  }

  #hint({ driver }, mode) {
    const hint = byId("drive-hint");
    const text =
      driver === "other" ? "Another page holds the wheel; it is free when that one lets go."
      : mode === "lockstep"
        ? "Lockstep: time stands still. Each 1/15 s of holding is one frame; frames come when a chunk is full, or half a second after you let go."
        : "Hold a key, or drag on the image. The picture follows with the next chunk.";
    if (hint.textContent !== text) hint.textContent = text;
    byId("screen-empty").firstElementChild.textContent =
      mode === "lockstep" ? "Time stands still. Drive to see the first frame." : "Waiting for the first frame …";
  }

  #numbers(values) {
    const shown = Object.entries(FIGURES).filter(([key]) => values[key]);
    byId("numbers").replaceChildren(
      ...shown.map(([key, [name, format]]) =>
        element("div", {}, element("dt", { textContent: name }),
          element("dd", { textContent: format(values[key]) }))),
    );
  }

  #enable(available) {
    for (const [need, selectors] of Object.entries(NEEDS)) {
      for (const box of selectors.map((selector) => document.querySelector(selector))) {
        const missing = !available[need];
        box.classList.toggle("unavailable", missing);
        box.title = missing && !this.lost ? MISSING : "";
        for (const control of box.querySelectorAll("button, input, select")) {
          if (control.disabled !== missing) control.disabled = missing;
        }
      }
    }
    byId("states-note").textContent =
      this.lost || available.save_state || !available.reset ? "" : `States: ${MISSING.toLowerCase()}`;
  }
}
