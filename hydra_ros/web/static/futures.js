// SPDX-License-Identifier: Apache-2.0
// Two imagined futures side by side, played in a loop; one can be made real.

import { byId, element, seconds, toast } from "./dom.js";

// Linear and angular velocity in the body's axes (x forward, y left, z up).
const WAYS = {
  "turn left": [[0, 0, 0], [0, 0, 0.6]],
  "turn right": [[0, 0, 0], [0, 0, -0.6]],
  forward: [[0.6, 0, 0], [0, 0, 0]],
  backward: [[-0.6, 0, 0], [0, 0, 0]],
  "go left": [[0, 0.5, 0], [0, 0, 0]],
  "go right": [[0, -0.5, 0], [0, 0, 0]],
  "curve left": [[0.5, 0, 0], [0, 0, 0.5]],
  "curve right": [[0.5, 0, 0], [0, 0, -0.5]],
  stay: [[0, 0, 0], [0, 0, 0]],
};
const PAUSE = 600; // ms at the end of the loop

export class Futures {
  #connection;
  #status;
  #map;
  #jumped;
  #running = null; // the number of the call that imagines
  #films = [];
  #began = 0;
  #playing = false;

  constructor(connection, status, map, jumped) {
    this.#connection = connection;
    this.#status = status;
    this.#map = map;
    this.#jumped = jumped;
    for (const [id, way] of [["future-a", "turn left"], ["future-b", "turn right"]]) {
      byId(id).append(...Object.keys(WAYS).map((name) => element("option", { textContent: name })));
      byId(id).value = way;
    }
    byId("futures-form").onsubmit = (event) => {
      event.preventDefault();
      this.imagine();
    };
    this.#figures.forEach((figure, index) => {
      figure.querySelector("button").onclick = () => this.#commit(index);
    });
    connection.on("progress", (progress) => this.#progress(progress));
  }

  get #figures() {
    return [...document.querySelectorAll("#pair figure")];
  }

  /** Ask for the two futures that are chosen; while they are on their way, give them up. */
  async imagine() {
    if (!this.#status.available.rollout) return;
    if (this.#running !== null) {
      // Where it is just answered, there is nothing to give up.
      this.#connection.call("cancel", { imagining: this.#running }).catch(() => {});
      return;
    }
    const names = [byId("future-a").value, byId("future-b").value];
    const time = Number(byId("future-seconds").value) || 2;
    const velocities = names.map((name) => ({ linear: WAYS[name][0], angular: WAYS[name][1] }));
    const call = this.#connection.begin("imagine", { velocities, seconds: time });
    this.#run(call.id);
    const told = byId("futures-note").textContent;
    byId("futures-note").textContent = this.#status.lockstep
      ? "Waiting for the first frames …"
      : "Waiting for a turn: in realtime the live frames come first …";
    try {
      const answer = await call.answer;
      await this.#show(answer, names);
      byId("futures-note").textContent = `Imagined in ${seconds(answer.took)}; the live world stays as it is.`;
    } catch (error) {
      byId("futures-note").textContent = told; // what is shown is what was
      toast(error.message, error.message === "cancelled" ? "good" : "bad");
    } finally {
      this.#run(null);
    }
  }

  /** Forget them: the live world has become another one. */
  clear() {
    this.#films = [];
    byId("pair").hidden = true;
    byId("futures-empty").hidden = false;
    this.#map.futures = [];
  }

  #run(call) {
    const running = call !== null;
    this.#running = call;
    byId("imagine").textContent = running ? "Cancel" : "Imagine";
    byId("imagine").classList.toggle("busy", running);
    const progress = byId("futures-progress");
    progress.hidden = !running;
    progress.removeAttribute("value");
  }

  #progress({ id, done, total, left }) {
    if (id !== this.#running || !total) return;
    byId("futures-progress").value = done / total;
    byId("futures-note").textContent = `${done} of ${total} frames, ${seconds(left)} left`;
  }

  async #show({ futures, blobs, seconds: length }, names) {
    this.#films = await Promise.all(futures.slice(0, 2).map(async (future) => ({
      id: future.id,
      name: names[future.candidate],
      cameras: future.cameras,
      frames: await Promise.all(
        blobs.slice(future.first, future.first + future.count).map((jpeg) => createImageBitmap(jpeg)),
      ),
      length,
    })));
    this.#figures.forEach((figure, index) => {
      const film = this.#films[index];
      figure.hidden = !film;
      if (!film) return;
      const canvas = figure.querySelector("canvas");
      canvas.width = film.frames[0]?.width ?? 160;
      canvas.height = film.frames[0]?.height ?? 96;
      canvas.dataset.frames = film.frames.length;
      canvas.setAttribute("aria-label", `Imagined future: ${film.name}`);
      figure.querySelector("span").textContent = film.name;
      const button = figure.querySelector("button");
      button.disabled = !film.id || !this.#status.available.commit;
      button.setAttribute("aria-label", `Make this real: ${film.name}`);
    });
    byId("pair").hidden = false;
    byId("futures-empty").hidden = true;
    this.#map.futures = this.#films.map((film) => film.cameras);
    this.#began = performance.now();
    if (!this.#playing) requestAnimationFrame(() => this.#play());
  }

  #play() {
    this.#playing = this.#films.length > 0;
    if (!this.#playing) return;
    const at = performance.now() - this.#began;
    this.#figures.forEach((figure, index) => {
      const film = this.#films[index];
      if (!film?.frames.length) return;
      const length = film.length * 1000;
      const part = Math.min((at % (length + PAUSE)) / length, 1);
      const number = Math.min(Math.floor(part * film.frames.length), film.frames.length - 1);
      const canvas = figure.querySelector("canvas");
      if (canvas.dataset.shown !== String(number)) {
        canvas.dataset.shown = number;
        canvas.getContext("2d").drawImage(film.frames[number], 0, 0);
      }
    });
    requestAnimationFrame(() => this.#play());
  }

  async #commit(index) {
    const film = this.#films[index];
    const button = this.#figures[index].querySelector("button");
    button.classList.add("busy");
    try {
      const answer = await this.#connection.call("commit", { future: film.id });
      toast(answer.message);
      this.#jumped();
    } catch (error) {
      toast(error.message, "bad");
    } finally {
      button.classList.remove("busy");
    }
  }
}
