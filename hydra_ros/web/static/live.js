// SPDX-License-Identifier: Apache-2.0
// The live image and what stands over it.

import { byId } from "./dom.js";

export class LiveImage {
  #canvas = byId("image");
  #times = [];
  frames = 0;

  /** Draw a frame; resolves when it is on the canvas. */
  async show(header, [jpeg]) {
    const picture = await createImageBitmap(jpeg);
    const canvas = this.#canvas;
    if (canvas.width !== picture.width || canvas.height !== picture.height) {
      canvas.width = picture.width;
      canvas.height = picture.height;
      byId("screen").style.setProperty("--aspect", picture.width / picture.height);
    }
    canvas.getContext("2d").drawImage(picture, 0, 0);
    picture.close();
    byId("screen-empty").hidden = true;
    this.frames += 1;
    canvas.dataset.frames = this.frames;
    canvas.dataset.stamp = header.stamp;
    this.#count();
    if (header.camera) {
      const [x, y, z] = header.camera.position;
      byId("hud-pose").textContent = `x ${x.toFixed(2)}  y ${y.toFixed(2)}  z ${z.toFixed(2)} m`;
      canvas.dataset.position = header.camera.position.join(" ");
    }
  }

  #count() {
    const now = performance.now();
    this.#times.push(now);
    this.#times = this.#times.filter((time) => now - time < 3000);
    const span = now - this.#times[0];
    if (span > 500) {
      const rate = ((this.#times.length - 1) * 1000) / span;
      byId("hud-rate").textContent = `${rate.toFixed(1)} fps`;
    }
  }
}
