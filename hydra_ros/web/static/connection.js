// SPDX-License-Identifier: Apache-2.0
// The WebSocket: reconnects, unpacks, acknowledges, and turns calls into promises.

const RETRY = [500, 1000, 2000, 4000]; // ms
const REFUSED = new Set([1003, 1007, 1008, 1009]); // we sent something wrong: wait longer
const DROPPED = new Error("the connection was lost");

export class Connection extends EventTarget {
  #socket = null;
  #shown = 0;
  #calls = new Map();
  #nextCall = 1;
  #failures = 0;
  #handlers = new Map();

  get open() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Let `handle(header, blobs)` take messages of a type; a pack counts as shown when it is done. */
  on(type, handle) {
    this.#handlers.set(type, handle);
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/socket`);
    this.#socket = socket;
    this.#shown = 0;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.#failures = 0;
      this.dispatchEvent(new Event("open"));
    };
    socket.onmessage = ({ data }) => this.#take(socket, data);
    socket.onclose = ({ code, reason }) => this.#lost(code, reason);
  }

  /** Send a message; it is dropped while there is no connection. */
  send(message) {
    if (this.open) this.#socket.send(JSON.stringify(message));
  }

  /** Call the simulator; resolves with the answer, rejects with its reason. */
  call(call, fields = {}) {
    return this.begin(call, fields).answer;
  }

  /** Call the simulator; returns the call's number, by which it can be cancelled, and its answer. */
  begin(call, fields = {}) {
    const id = this.#nextCall++;
    if (!this.open) return { id, answer: Promise.reject(DROPPED) };
    const answer = new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject });
      this.send({ type: "call", call, id, ...fields });
    });
    return { id, answer };
  }

  async #take(socket, data) {
    const packed = data instanceof ArrayBuffer;
    const [header, blobs] = packed ? unpack(data) : [JSON.parse(data), []];
    try {
      if (header.type === "answer") this.#answer(header, blobs);
      else await this.#handlers.get(header.type)?.(header, blobs);
    } finally {
      // Only now: the server sends as many frames as are drawn, not as many as arrive.
      if (packed && socket === this.#socket && this.open) {
        this.send({ type: "acknowledge", sequence: ++this.#shown });
      }
    }
  }

  #answer(header, blobs) {
    const call = this.#calls.get(header.id);
    this.#calls.delete(header.id);
    if (header.ok) call?.resolve({ ...header, blobs });
    else call?.reject(new Error(header.message));
  }

  #lost(code, reason) {
    for (const { reject } of this.#calls.values()) reject(DROPPED);
    this.#calls.clear();
    const detail = { code, reason };
    this.dispatchEvent(new CustomEvent("lost", { detail }));
    const wait = REFUSED.has(code) ? 10000 : RETRY[Math.min(this.#failures++, RETRY.length - 1)];
    setTimeout(() => this.connect(), wait);
  }
}

/** The header and the blobs (JPEGs) of a pack; see protocol.py. */
function unpack(data) {
  const length = new DataView(data).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  let start = 4 + length;
  const blobs = header.sizes.map((size) => {
    const blob = new Blob([new Uint8Array(data, start, size)], { type: "image/jpeg" });
    start += size;
    return blob;
  });
  return [header, blobs];
}
