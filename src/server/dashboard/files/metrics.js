// The metrics of the node over the last minutes, sampled from /metrics while the page is open.

import { key, text } from "./api.js";

const SAMPLE_INTERVAL_MS = 5000;
const MAX_POINTS = 60;
const COMMANDS = ["CreateOrder", "PayOrder", "ShipOrder", "DeliverOrder", "CancelOrder"];
// Shown for values in the last bucket, which has no upper bound.
const OVERFLOW_SECONDS = 5;

const LINE = /^(\w+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

// Parses the Prometheus text format: for each name, a list of labels and value.
export function parseMetrics(body) {
  const found = new Map();
  for (const line of body.split("\n")) {
    const match = LINE.exec(line);
    if (!match) continue;
    const labels = Object.fromEntries([...(match[2] ?? "").matchAll(LABEL)].map(([, name, value]) => [name, value]));
    if (!found.has(match[1])) found.set(match[1], []);
    found.get(match[1]).push({ labels, value: Number(match[3]) });
  }
  return found;
}

export const sum = (metrics, name, matches = () => true) =>
  (metrics.get(name) ?? []).filter(({ labels }) => matches(labels)).reduce((total, { value }) => total + value, 0);

// A quantile of the durations of commands between two samples, in seconds; undefined without commands. Interpolates linearly within a bucket.
export function quantile(before, after, share) {
  const name = "ordersystem_request_duration_seconds_bucket";
  const isCommand = (bound) => (labels) => COMMANDS.includes(labels.operation) && labels.le === bound;
  const bounds = [...new Set((after.get(name) ?? []).map(({ labels }) => labels.le))]
    .sort((left, right) => (left === "+Inf" ? Infinity : Number(left)) - (right === "+Inf" ? Infinity : Number(right)));
  const counts = bounds.map((bound) => sum(after, name, isCommand(bound)) - sum(before, name, isCommand(bound)));
  const commandCount = counts.at(-1);
  if (!commandCount) return undefined;
  const index = counts.findIndex((value) => value >= commandCount * share);
  const lower = index > 0 ? Number(bounds[index - 1]) : 0;
  if (bounds[index] === "+Inf") return OVERFLOW_SECONDS;
  const countBelow = index > 0 ? counts[index - 1] : 0;
  return lower + (Number(bounds[index]) - lower) * (commandCount * share - countBelow) / (counts[index] - countBelow);
}

const isRefused = ({ outcome }) => outcome === "refused";

// The charted values, from two samples.
function pointOf(before, after, seconds) {
  const rate = (name, matches) => Math.max(0, sum(after, name, matches) - sum(before, name, matches)) / seconds;
  return {
    orders: rate("ordersystem_requests_total", (labels) => labels.operation === "CreateOrder" && labels.outcome === "success"),
    requests: rate("ordersystem_requests_total"),
    p50: quantile(before, after, 0.5),
    p99: quantile(before, after, 0.99),
    refusals: rate("ordersystem_requests_total", isRefused) + rate("ordersystem_requests_shed_total") + rate("ordersystem_circuit_breaker_refused_total"),
    lag: sum(after, "ordersystem_outbox_lag_positions"),
    inFlight: sum(after, "ordersystem_requests_in_flight"),
  };
}

// The points, oldest first. `latest` is the last sample; `refusal` is the error if the caller may not read metrics.
export const history = { points: [], latest: null, refusal: null };
let previous = null;
// A key that may not read metrics is not tried again: the node records every refusal in its audit log.
let refusedKey = null;

export async function sample() {
  const takenAt = Date.now();
  if ((previous && takenAt - previous.takenAt < SAMPLE_INTERVAL_MS / 2) || key.get() === refusedKey) return;
  try {
    const metrics = parseMetrics(await text("/metrics"));
    // The counters of a restarted node begin at 0.
    const isSameProcess = previous && sum(metrics, "ordersystem_requests_total") >= sum(previous.metrics, "ordersystem_requests_total");
    if (isSameProcess) history.points.push({ takenAt, ...pointOf(previous.metrics, metrics, (takenAt - previous.takenAt) / 1000) });
    if (history.points.length > MAX_POINTS) history.points.shift();
    previous = { takenAt, metrics };
    history.latest = metrics;
    history.refusal = null;
  } catch (error) {
    // Leaves a gap in the chart: rates over a time without responses would be wrong.
    previous = null;
    history.refusal = error.status === 401 || error.status === 403 ? error : null;
    refusedKey = history.refusal ? key.get() : null;
  }
}
