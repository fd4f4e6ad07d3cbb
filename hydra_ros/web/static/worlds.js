// SPDX-License-Identifier: Apache-2.0
// Reset, and the named states: save, load, delete, branch.

import { byId, bytes, element, seconds, toast } from "./dom.js";

export class Worlds {
  #connection;
  #status;
  #states = [];
  #jumped;

  /** `jumped` is called when the live world has become another one. */
  constructor(connection, status, jumped) {
    this.#connection = connection;
    this.#status = status;
    this.#jumped = jumped;
    byId("reset-form").onsubmit = (event) => {
      event.preventDefault();
      this.#reset();
    };
    byId("dice").onclick = () => {
      byId("reset-seed").value = Math.floor(Math.random() * 100000);
    };
    byId("save-form").onsubmit = (event) => {
      event.preventDefault();
      this.#save(byId("state-name").value, true);
    };
    byId("branch").onclick = () => this.branch();
  }

  /** Keep this moment under a new name and go on. */
  branch() {
    if (!this.#status.available.save_state) return;
    const names = new Set(this.#states.map((state) => state.name));
    let number = 1;
    while (names.has(`branch-${number}`)) number += 1;
    this.#save(`branch-${number}`, false);
  }

  set states(states) {
    this.#states = states;
    const list = byId("states");
    if (!states.length) {
      list.replaceChildren(element("li", {
        className: "empty", textContent: "Nothing saved yet. Save or branch to come back to a moment.",
      }));
      return;
    }
    list.replaceChildren(...states.map((state) => this.#item(state)));
  }

  #item(state) {
    const facts = [
      `at ${seconds(state.time)}`,
      `${state.memory_frames} latent frames`,
      bytes(state.memory_bytes),
      state.persistent ? "on disk" : "",
      state.world,
    ];
    const load = element("button", {
      type: "button", textContent: "Load", "aria-label": `Load ${state.name}`,
      onclick: () => this.#do(load, "load_state", { name: state.name }, true),
    });
    const remove = element("button", {
      type: "button", className: "quiet", textContent: "Delete", "aria-label": `Delete ${state.name}`,
      onclick: () => this.#delete(remove, state),
    });
    return element("li", {},
      element("div", {}, element("b", { textContent: state.name }),
        element("small", { textContent: facts.filter(Boolean).join(" · ") })),
      load, remove);
  }

  async #delete(button, state) {
    if (state.persistent && !confirm(`Delete ${state.name}, also on disk?`)) return;
    await this.#do(button, "delete_state", { name: state.name });
  }

  async #reset() {
    const seed = Number(byId("reset-seed").value);
    if (!Number.isSafeInteger(seed) || seed < 0) return toast("The seed is a whole number from 0.", "bad");
    const fields = { source: byId("reset-source").value.trim(), seed };
    await this.#do(byId("reset"), "reset", fields, true);
  }

  #save(name, overwrite) {
    const persistent = byId("state-persistent").checked;
    return this.#do(byId("save"), "save_state", { name, overwrite, persistent });
  }

  async #do(button, call, fields, jumps = false) {
    button.classList.add("busy");
    try {
      const answer = await this.#connection.call(call, fields);
      if (jumps) this.#jumped();
      toast(answer.message || "done");
    } catch (error) {
      toast(error.message, "bad");
    } finally {
      button.classList.remove("busy");
    }
  }
}
