// SPDX-License-Identifier: Apache-2.0
// Puts the page together.

import { Connection } from "./connection.js";
import { byId, toast } from "./dom.js";
import { Drive, isTyping } from "./drive.js";
import { Futures } from "./futures.js";
import { LiveImage } from "./live.js";
import { WorldMap } from "./map.js";
import { Status } from "./status.js";
import { Strip } from "./strip.js";
import { Worlds } from "./worlds.js";

// The token is in a cookie now; it must not stay where it is seen, bookmarked and shared.
if (location.search) history.replaceState(null, "", location.pathname);

const connection = new Connection();
const live = new LiveImage();
const map = new WorldMap();
const strip = new Strip(() =>
  connection.call("show_thumbnails").then(
    (answer) => toast(answer.message),
    (error) => toast(error.message, "bad"),
  ));
const status = new Status();
const drive = new Drive((linear, angular) => connection.send({ type: "drive", linear, angular }));
const futures = new Futures(connection, status, map, jumped);
const worlds = new Worlds(connection, status, jumped);

function jumped() {
  map.clear();
  futures.clear();
}

connection.on("hello", (hello) => {
  drive.limits = hello.limits;
  status.history = hello.figures;
});
connection.on("status", (news) => status.show(news));
connection.on("states", (news) => (worlds.states = news.states));
connection.on("memory", (memory, thumbnails) => {
  map.memory = memory;
  strip.show(memory, thumbnails);
});
connection.on("frame", async (header, blobs) => {
  map.camera = header.camera;
  await live.show(header, blobs);
});
connection.addEventListener("lost", ({ detail }) => {
  drive.stop();
  status.connectionLost(detail.code, detail.reason);
});
worlds.states = [];
strip.empty("The simulator has not said yet what it remembers.");
connection.connect();

byId("help-button").onclick = () => byId("help").showModal();
byId("theme-button").onclick = () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  try { localStorage.setItem("theme", next); } catch { /* storage may be switched off */ }
  redraw();
};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
function redraw() {
  map.redraw();
  status.redraw();
}

window.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || isTyping(event.target)) return;
  if (event.key === "?") byId("help").showModal();
  else if (event.code === "KeyB" && !event.repeat) worlds.branch();
  else if (event.code === "KeyI" && !event.repeat) futures.imagine();
});
