// Small charts of the last minutes.

import { h } from "./dom.js";
import { clock } from "./text.js";

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

// The area below a line.
const area = (path) => path.startsWith("M") && !path.includes("M", 1) ? `${path}V${HEIGHT - 3}H${path.slice(1, path.indexOf(" "))}Z` : "";

// Shows the values of the point below the pointer, and its time.
function inspect(svg, note, { points, series, format }) {
  const shown = note.textContent;
  svg.addEventListener("pointermove", ({ clientX }) => {
    const { left, width } = svg.getBoundingClientRect();
    const takenAt = Date.now() - TIME_SPAN_MS * (1 - (clientX - left) / width);
    const nearest = points.toSorted((one, other) => Math.abs(one.takenAt - takenAt) - Math.abs(other.takenAt - takenAt))[0];
    if (!nearest || Math.abs(nearest.takenAt - takenAt) > GAP_MS) return;
    const values = series.map(({ name, valueOf }) => `${name ? name + " " : ""}${valueOf(nearest) === undefined ? "–" : format(valueOf(nearest))}`);
    note.textContent = `${values.join(", ")} at ${clock(nearest.takenAt)}`;
  });
  svg.addEventListener("pointerleave", () => (note.textContent = shown));
}

// A tile with a title, the current value, and a chart.
export function tile({ title, points, series, format, note, none = "no values yet" }) {
  const values = series.flatMap(({ valueOf }) => points.map(valueOf)).filter((value) => value !== undefined);
  const max = Math.max(...values, 1e-9) * 1.05;
  const now = series.map(({ name, valueOf }, index) => {
    const latest = points.map(valueOf).filter((value) => value !== undefined).at(-1);
    return h("span", {}, name ? h("small", { class: `key key-${index}` }, name + " ") : "", latest === undefined ? "–" : format(latest));
  });
  const lines = series.map(({ valueOf }) => line(points, valueOf, max));
  const noteElement = h("span", { class: "highest" }, note ?? (values.length ? `highest ${format(Math.max(...values))}` : none));
  const chart = h("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title + (values.length
    ? `, at most ${format(Math.max(...values))} in the last five minutes` : `, ${none}`), preserveAspectRatio: "none" },
  h("line", { x1: 0, x2: WIDTH, y1: HEIGHT - 3, y2: HEIGHT - 3, class: "axis" }),
  lines.length === 1 ? h("path", { d: area(lines[0]), class: "area" }) : null,
  lines.map((path, index) => h("path", { d: path, class: `line line-${index}` })));
  inspect(chart, noteElement, { points, series, format });
  return h("section", { class: "tile" }, h("h2", {}, title), h("p", { class: "value" }, now), chart,
    h("p", { class: "mute small scale" }, h("span", { "aria-hidden": "true" }, "5 min ago"), noteElement, h("span", { "aria-hidden": "true" }, "now")));
}
