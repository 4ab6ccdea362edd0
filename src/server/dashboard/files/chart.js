// Small charts of the last minutes.

import { h } from "./dom.js";

const WIDTH = 240;
const HEIGHT = 48;
const TIME_SPAN_MS = 300_000;
// Points that are further apart are not connected.
const GAP_MS = 20_000;

// A line over the last five minutes; `valueOf` gives undefined where a point has no value.
function line(points, valueOf, max) {
  const now = Date.now();
  let path = "";
  let previousTime = null;
  for (const point of points) {
    const value = valueOf(point);
    if (value === undefined) continue;
    const x = WIDTH * (1 - (now - point.takenAt) / TIME_SPAN_MS);
    if (x < 0) continue;
    const isConnected = previousTime !== null && point.takenAt - previousTime < GAP_MS;
    // A point without neighbours is a dot.
    path += `${isConnected ? "L" : "M"}${x.toFixed(1)} ${(HEIGHT - 3 - (HEIGHT - 8) * value / max).toFixed(1)}${isConnected ? "" : "h1"}`;
    previousTime = point.takenAt;
  }
  return path;
}

// A tile with a title, the current value, and a chart.
export function tile({ title, points, series, format, note, tone }) {
  const values = series.flatMap(({ valueOf }) => points.map(valueOf)).filter((value) => value !== undefined);
  const max = Math.max(...values, 1e-9) * 1.05;
  const now = series.map(({ name, valueOf }) => {
    const latest = points.map(valueOf).filter((value) => value !== undefined).at(-1);
    return h("span", {}, name ? h("small", {}, name + " ") : "", latest === undefined ? "–" : format(latest));
  });
  const rangeText = values.length ? `, at most ${format(Math.max(...values))} in the last five minutes` : ", no values yet";
  return h("section", { class: `tile ${tone ? "tone-" + tone : ""}` }, h("h2", {}, title), h("p", { class: "value" }, now),
    h("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title + rangeText, preserveAspectRatio: "none" },
      h("line", { x1: 0, x2: WIDTH, y1: HEIGHT - 3, y2: HEIGHT - 3, class: "axis" }),
      series.map(({ valueOf }, index) => h("path", { d: line(points, valueOf, max), class: `line line-${index}` }))),
    h("p", { class: "mute small" }, note ?? (values.length ? `highest ${format(Math.max(...values))}` : "no values yet")));
}
