// SPDX-License-Identifier: Apache-2.0
// Scores -> colours, the same for the map and the strip.

const STOPS = [[70, 92, 148], [38, 166, 154], [246, 196, 64]]; // less to more relevant

/** A function that gives each of these frames its colour. */
export function relevance(frames) {
  const scores = frames.map((frame) => frame.score).filter((score) => score != null);
  const [least, most] = [Math.min(...scores), Math.max(...scores)];
  return ({ score }) => {
    if (score == null) return shade(0);
    return shade(most > least ? (score - least) / (most - least) : 1);
  };
}

function shade(part) {
  const at = Math.max(0, Math.min(0.9999, part)) * (STOPS.length - 1);
  const [low, high] = [STOPS[Math.floor(at)], STOPS[Math.floor(at) + 1]];
  const mixed = low.map((value, i) => Math.round(value + (high[i] - value) * (at % 1)));
  return `rgb(${mixed.join(" ")})`;
}
