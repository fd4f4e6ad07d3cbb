// SPDX-License-Identifier: Apache-2.0
// The frames that the last chunk was conditioned on, as a strip of pictures.

import { byId, element, seconds } from "./dom.js";
import { describe } from "./map.js";
import { relevance } from "./relevance.js";

export class Strip {
  #list = byId("frames");
  #addresses = [];

  /** `ask` is called when pictures are wanted of a simulator that does not send them. */
  constructor(ask) {
    byId("thumbnails").onclick = ask;
  }

  show(memory, thumbnails) {
    for (const address of this.#addresses) URL.revokeObjectURL(address);
    this.#addresses = thumbnails.map((jpeg) => URL.createObjectURL(jpeg));
    const chosen = memory.frames.filter((frame) => frame.selected).reverse(); // newest first
    byId("thumbnails").hidden = !chosen.length || thumbnails.length > 0;
    const shade = relevance(memory.frames);
    const left = this.#list.scrollLeft;
    this.#list.replaceChildren(...chosen.map((frame) => this.#item(frame, shade(frame))));
    this.#list.scrollLeft = left;
    byId("strip-note").textContent = chosen.length
      ? `${chosen.length} of ${memory.memory_frames} remembered · policy ${memory.policy}`
      : "none was chosen yet";
  }

  empty(why) {
    this.#list.replaceChildren();
    byId("strip-note").textContent = why;
  }

  #item(frame, shade) {
    const text = describe(frame);
    const address = this.#addresses[frame.thumbnail];
    const picture = address
      ? element("img", { src: address, alt: "", decoding: "async" })
      : element("div", { className: "no-picture", textContent: `#${frame.index}` });
    const badge = element("span", {
      className: "badge", textContent: frame.observed ? "observed" : "",
    });
    const line = element("span", { className: "age", textContent: seconds(frame.age) });
    const bar = element("i", { className: "relevance" });
    bar.style.background = shade;
    return element(
      "li", { tabIndex: 0, title: text, "aria-label": text, role: "listitem" },
      picture, badge, bar, line,
    );
  }
}
