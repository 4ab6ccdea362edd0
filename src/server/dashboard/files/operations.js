// The state of the node: rates, health with its root causes, circuit breakers, and the nodes of its cluster.

import { breakers } from "./admin.js";
import { load } from "./api.js";
import { tile } from "./chart.js";
import { badge, countdown, emptyState, h, replaceContent, table, time } from "./dom.js";
import { history, sample, sum } from "./metrics.js";
import { linkTo } from "./router.js";
import { count, duration, label, sentence, visible } from "./text.js";

// The components that each component depends on: one that fails because of another is not a root cause.
const DEPENDENCIES = {
  circuit_breakers: ["store", "transport"], ids: ["store"], outbox: ["store", "transport"], projections: ["store"],
  subscriptions: ["transport", "store", "outbox"],
};
// The states of a circuit breaker, by their numbers in the API.
const STATES = ["", "closed", "half-open", "open"];
// The components of /health and the backends behind the circuit breakers.
const TITLES = {
  store: "Event store", transport: "Message bus", cache: "Shared cache", circuit_breakers: "Circuit breakers", ids: "Order ids", outbox: "Outbox",
  projections: "Read model", subscriptions: "Event handlers", cluster: "Cluster", worker_number: "Worker number", identities: "Identities",
  tls: "Certificates",
};
const SHOWN_TAKEOVERS = 10;
const isHealthy = (check) => check.status === "Healthy";

// The failing components whose dependencies are all healthy.
export function causes(checks) {
  const isFailing = (name) => checks[name] !== undefined && !isHealthy(checks[name]);
  return Object.keys(checks).filter((name) => isFailing(name) && !(DEPENDENCIES[name] ?? []).some(isFailing));
}

const titleOf = (name) => Object.hasOwn(TITLES, name) ? TITLES[name] : label(name.replaceAll("_", " "));

// The number of dead letters of the handlers that run on this node, as a text; undefined where other nodes run them, and know it.
export function deadLetterCount(check) {
  const found = [...(check?.detail ?? "").matchAll(/dead letters: (more than )?(\d+)/g)];
  if (found.length === 0) return undefined;
  const total = found.reduce((sum, [, , number]) => sum + Number(number), 0);
  return (found.some(([, more]) => more) ? "more than " : "") + count(total);
}

const letters = (number) => `${number} dead ${number === "1" ? "letter" : "letters"}`;

function causeOf(name, check) {
  const number = name === "subscriptions" ? deadLetterCount(check) : undefined;
  if (number && number !== "0") return [`${titleOf(name)}: `, h("a", { href: linkTo(["dead-letters"]) }, letters(number))];
  return [titleOf(name) + (check.detail ? `: ${visible(check.detail)}` : "")];
}

function summary(health) {
  const failing = Object.keys(health.checks).filter((name) => !isHealthy(health.checks[name]));
  if (failing.length === 0) return h("p", { class: "banner good" }, "✓ All components are healthy.", health.draining ? " The node is shutting down." : "");
  const roots = causes(health.checks);
  const affected = failing.filter((name) => !roots.includes(name)).map(titleOf);
  const cause = roots.flatMap((name, index) => [index ? "; " : "", ...causeOf(name, health.checks[name])]);
  return h("p", { class: `banner ${health.status === "Unhealthy" ? "bad" : "warn"}`, role: "status" }, h("strong", {}, `${health.status}. Cause: `, cause, "."),
    affected.length ? ` Affected by it: ${affected.join(", ")}.` : "");
}

function healthTable(health) {
  const columns = [{ title: "Component" }, { title: "Status" }, { title: "Checked in", number: true }, { title: "Detail", long: true }];
  const rows = Object.entries(health.checks).map(([name, check]) => [h("span", { title: name }, titleOf(name)),
    badge(check.status), duration(check.latencyMs / 1000), check.detail ? visible(check.detail) : "–"]);
  return h("section", { class: "card" }, h("h2", {}, "Health"), table("Health by component", columns, rows, { kind: "health" }));
}

const rate = (value) => value >= 100 ? count(Math.round(value)) : value.toFixed(1);

function tiles() {
  const { points } = history;
  const single = (valueOf) => [{ valueOf }];
  return h("div", { class: "tiles" },
    tile({ title: "Orders placed per second", points, series: single((point) => point.orders), format: rate }),
    tile({
      title: "Duration of commands", points, format: duration, none: "no commands yet",
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
  return h("section", { class: "card" }, h("h2", {}, "Circuit breakers and dead letters"),
    table("Circuit breakers", columns, breakerList.map((breaker) =>
      [titleOf(breaker.name), badge(STATES[breaker.state] ?? "unknown"), h("span", {}, nextTransition(breaker)), refused(breaker)])),
    deadLettersLine(health.checks.subscriptions));
}

function deadLettersLine(check) {
  const number = deadLetterCount(check);
  const link = (text) => h("a", { href: linkTo(["dead-letters"]) }, text);
  if (number === undefined) return h("p", { class: "below" }, link("Dead letters"), " are counted by the node that runs the event handlers.");
  return h("p", { class: "below" }, link(letters(number)), number === "0" ? "." : " to replay or discard.");
}

// "subscription-NAME" is the role of the node that runs an event handler.
const roleName = (role) => role.startsWith("subscription-") ? `handler ${role.slice("subscription-".length)}` : role;

function clusterTable(cluster) {
  const columns = [{ title: "Node" }, { title: "Address" }, { title: "Worker", number: true }, { title: "Leads" }, { title: "Behind", number: true }];
  const rows = cluster.nodes.map((node) => [
    h("div", {}, visible(node.node), node.isThisNode ? [" ", h("span", { class: "badge tone-info" }, "this node")] : ""), visible(node.address),
    `${node.datacenterId} / ${node.workerId}`, node.roles.length ? node.roles.map(roleName).join(", ") : "–",
    node.lag === 0 ? "up to date" : node.lag === 1 ? "1 event" : `${count(node.lag)} events`]);
  return h("section", { class: "card" }, h("h2", {}, "Nodes"), h("p", { class: "mute" }, cluster.mode === "Cluster"
    ? "They share one log. A role has one leader; another node takes it over when the leader's lease ends."
    : "A single node."), table("Nodes of the cluster", columns, rows), cluster.mode === "Cluster" ? takeovers(cluster.takeovers) : "");
}

function takeovers(all) {
  if (all.length === 0) return h("p", { class: "mute" }, "No role has changed its leader since this node started.");
  const columns = [{ title: "Taken over" }, { title: "Role" }, { title: "From" }, { title: "To" }];
  const rows = all.slice(0, SHOWN_TAKEOVERS).map(({ noticedAt, role, fromNode, toNode }) =>
    [time(noticedAt), roleName(role), visible(fromNode), visible(toNode)]);
  return [h("h3", {}, "Takeovers"), h("p", { class: "mute small" }, all.length > rows.length
    ? `The latest ${rows.length} of ${all.length} that this node has seen since it started.`
    : "What this node has seen since it started."), table("Takeovers", columns, rows)];
}

const REFUSED = { 401: "Log in to see this.", 403: "This is for operators." };
const errorCard = (error) => h("section", { class: "card" }, emptyState(REFUSED[error.status] ?? "This cannot be shown now.", sentence(error.message)));

export function operations() {
  const body = h("div");

  async function update() {
    await sample();
    const health = await load("/health");
    const card = (request, render) => history.refusal ? "" : request().then(render, (error) => error.status ? errorCard(error) : Promise.reject(error));
    const [guarded, cluster] = await Promise.all([
      card(breakers, (breakerList) => breakersCard(health, breakerList)), card(() => load("/cluster"), clusterTable),
    ]);
    replaceContent(body, summary(health), history.refusal ? errorCard(history.refusal) : tiles(),
      h("div", { class: "columns tables" }, healthTable(health), h("div", {}, guarded, cluster)));
  }

  return { title: "Operations", content: [h("h1", {}, "Operations"), body], update, polls: true };
}
