// The state of the node: rates, health with its root causes, circuit breakers, and the nodes of its cluster.

import { breakers } from "./admin.js";
import { load } from "./api.js";
import { tile } from "./chart.js";
import { badge, countdown, emptyState, h, table, time } from "./dom.js";
import { history, sample, sum } from "./metrics.js";
import { linkTo } from "./router.js";
import { count, duration, visible } from "./text.js";

// The components that each component depends on: one that fails because of another is not a root cause.
const DEPENDENCIES = {
  circuit_breakers: ["store", "transport"], ids: ["store"], outbox: ["store", "transport"], projections: ["store"],
  subscriptions: ["transport", "store", "outbox"],
};
// The states of a circuit breaker, by their numbers in the API.
const STATES = ["", "closed", "half-open", "open"];
// The names of the backends behind the circuit breakers.
const BACKEND_NAMES = { store: "Event store", transport: "Message bus", cache: "Shared cache" };
const SHOWN_TAKEOVERS = 10;
const isHealthy = (check) => check.status === "Healthy";

// The failing components whose dependencies are all healthy.
export function causes(checks) {
  const isFailing = (name) => checks[name] !== undefined && !isHealthy(checks[name]);
  return Object.keys(checks).filter((name) => isFailing(name) && !(DEPENDENCIES[name] ?? []).some(isFailing));
}

const titleOf = (name) => name.replaceAll("_", " ");

function summary(health) {
  const failing = Object.keys(health.checks).filter((name) => !isHealthy(health.checks[name]));
  if (failing.length === 0) return h("p", { class: "banner good" }, "✓ All components are healthy.", health.draining ? " The node is shutting down." : "");
  const roots = causes(health.checks);
  const affected = failing.filter((name) => !roots.includes(name)).map(titleOf);
  const causeText = roots.map((name) => `${titleOf(name)}${health.checks[name].detail ? `: ${visible(health.checks[name].detail)}` : ""}`).join("; ");
  return h("p", { class: `banner ${health.status === "Unhealthy" ? "bad" : "warn"}`, role: "status" }, h("strong", {}, `${health.status}. Cause: ${causeText}.`),
    affected.length ? ` Affected by it: ${affected.join(", ")}.` : "");
}

function healthTable(health) {
  const columns = [{ title: "Component" }, { title: "Status" }, { title: "Check", number: true }, { title: "Detail" }];
  const rows = Object.entries(health.checks).map(([name, check]) =>
    [titleOf(name), badge(check.status), duration(check.latencyMs / 1000), check.detail ? visible(check.detail) : "–"]);
  return h("section", { class: "card" }, h("h2", {}, "Health"), table("Health by component", columns, rows));
}

const rate = (value) => value >= 100 ? count(Math.round(value)) : value.toFixed(1);

function tiles() {
  const { points } = history;
  const single = (valueOf) => [{ valueOf }];
  return h("div", { class: "tiles" },
    tile({ title: "Orders placed per second", points, series: single((point) => point.orders), format: rate }),
    tile({
      title: "Time of commands", points, format: duration,
      series: [{ name: "p50", valueOf: (point) => point.p50 }, { name: "p99", valueOf: (point) => point.p99 }],
    }),
    tile({ title: "Requests per second", points, series: single((point) => point.requests), format: rate }),
    tile({ title: "Refusals per second", points, series: single((point) => point.refusals), format: rate }),
    tile({ title: "Events not yet published", points, series: single((point) => point.lag), format: count }),
    tile({ title: "Requests in flight", points, series: single((point) => point.inFlight), format: count }));
}

function nextTransition({ state, retryAfter, failures, failuresToOpen, successesToClose }) {
  if (STATES[state] === "open") return retryAfter > 0 ? ["tries again in ", countdown(retryAfter)] : "the next call is a trial";
  if (STATES[state] === "half-open") return `closes after ${successesToClose} successful trials`;
  return failures ? `${failures} of ${failuresToOpen} failures that open it` : `opens after ${failuresToOpen} failures in a row`;
}

function breakersCard(health, breakerList) {
  const metrics = history.latest;
  const refused = ({ name }) => metrics ? count(sum(metrics, "ordersystem_circuit_breaker_refused_total", (labels) => labels.breaker === name)) : "–";
  const columns = [{ title: "Circuit breaker" }, { title: "State" }, { title: "Next" }, { title: "Calls refused", number: true }];
  const pattern = /dead letters: (\d+)/g;
  const deadLetterCount = [...(health.checks.subscriptions?.detail ?? "").matchAll(pattern)].reduce((total, [, number]) => total + Number(number), 0);
  return h("section", { class: "card" }, h("h2", {}, "Circuit breakers and dead letters"),
    table("Circuit breakers", columns, breakerList.map((breaker) =>
      [BACKEND_NAMES[breaker.name] ?? breaker.name, badge(STATES[breaker.state] ?? "unknown"), nextTransition(breaker), refused(breaker)])),
    h("p", {}, h("a", { href: linkTo(["dead-letters"]) }, deadLetterCount === 1 ? "1 dead letter" : `${count(deadLetterCount)} dead letters`),
      deadLetterCount ? " to replay or discard." : "."));
}

function clusterTable(cluster) {
  const columns = [{ title: "Node" }, { title: "Address" }, { title: "Worker", number: true }, { title: "Leads" }, { title: "Behind", number: true }];
  const rows = cluster.nodes.map((node) => [
    [visible(node.node), node.isThisNode ? h("span", { class: "badge tone-info" }, "this node") : ""], visible(node.address),
    `${node.datacenterId} / ${node.workerId}`, node.roles.length ? node.roles.join(", ") : "nothing",
    node.lag === 1 ? "1 event" : `${count(node.lag)} events`]);
  return h("section", { class: "card" }, h("h2", {}, "Nodes"), h("p", { class: "mute" }, cluster.mode === "Cluster"
    ? "They share one log. A role has one leader; another node takes it over when the leader's lease ends."
    : "A single node."), table("Nodes of the cluster", columns, rows), cluster.mode === "Cluster" ? takeovers(cluster.takeovers) : "");
}

function takeovers(all) {
  if (all.length === 0) return h("p", { class: "mute" }, "No role has changed its leader since this node started.");
  const columns = [{ title: "Taken over" }, { title: "Role" }, { title: "From" }, { title: "To" }];
  const rows = all.slice(0, SHOWN_TAKEOVERS).map(({ noticedAt, role, fromNode, toNode }) =>
    [time(noticedAt), role, visible(fromNode), visible(toNode)]);
  return [h("h3", {}, "Takeovers"), h("p", { class: "mute small" }, all.length > rows.length
    ? `The latest ${rows.length} of ${all.length} that this node has seen since it started.`
    : "What this node has seen since it started."), table("Takeovers", columns, rows)];
}

const REFUSED = { 401: "Log in to see this.", 403: "This is for operators." };
const errorCard = (error) => h("section", { class: "card" }, emptyState(REFUSED[error.status] ?? "This cannot be shown now.", visible(error.message), "."));

export function operations() {
  const body = h("div");

  async function update() {
    await sample();
    const health = await load("/health");
    const card = (request, render) => history.refusal ? "" : request().then(render, (error) => error.status ? errorCard(error) : Promise.reject(error));
    const [guarded, cluster] = await Promise.all([
      card(breakers, (breakerList) => breakersCard(health, breakerList)), card(() => load("/cluster"), clusterTable),
    ]);
    body.replaceChildren(summary(health), history.refusal ? errorCard(history.refusal) : tiles(),
      h("div", { class: "columns" }, healthTable(health), h("div", {}, guarded, cluster)));
  }

  return { title: "Operations", content: [h("h1", {}, "Operations"), body], update, polls: true };
}
