"use strict";

// Everything that comes from the service is put in place as text: no order can bring markup or script into this page.

const SHOWN_ORDERS = 10;
const SHOWN_EVENTS = 20;
const REFRESH_MS = 5000;

const byId = (id) => document.getElementById(id);
const toneOf = { Healthy: "good", Degraded: "warn", Unhealthy: "bad", Cancelled: "warn" };

function cell(value, className) {
  const td = document.createElement("td");
  td.textContent = value === undefined || value === null ? "" : String(value);
  if (className) td.className = className;
  return td;
}

function row(cells) {
  const tr = document.createElement("tr");
  tr.append(...cells);
  return tr;
}

// With all the decimals that the currency has, which a number alone does not show.
function money(amount, currency) {
  const { maximumFractionDigits } = new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions();
  return Number(amount).toFixed(maximumFractionDigits);
}

function setText(id, text, tone) {
  const element = byId(id);
  element.textContent = text;
  element.classList.remove("good", "warn", "bad");
  if (tone) element.classList.add(tone);
}

async function load(path) {
  const response = await fetch(path, { headers: { accept: "application/json" } });
  // An unhealthy node answers 503 with the same body.
  const type = response.headers.get("content-type") || "";
  if (!type.startsWith("application/json")) throw new Error(path + ": " + response.status);
  return response.json();
}

async function showNode() {
  const node = await load("/");
  setText("node", `${node.node} · ${node.mode} · ${node.persistence} / ${node.transport} · durability: ${node.durability} · ` +
    `version ${node.version} · ${node.status}`);
}

async function showHealth() {
  const health = await load("/health");
  setText("health", health.status, toneOf[health.status]);
  byId("checks").replaceChildren(...Object.entries(health.checks).map(([name, check]) =>
    row([cell(name), cell(check.status, toneOf[check.status]), cell(check.latencyMs, "number"), cell(check.detail)])));
}

async function showStats() {
  const stats = await load("/stats");
  setText("total", stats.totalOrders);
  byId("counts").replaceChildren(...Object.entries(stats.byStatus).map(([status, count]) =>
    row([cell(status), cell(count, "number")])));
  byId("revenue").replaceChildren(...Object.entries(stats.revenueByCurrency).map(([currency, sum]) =>
    row([cell(currency), cell(money(sum, currency), "number")])));
}

async function showOrders() {
  const orders = await load("/orders?pageSize=" + SHOWN_ORDERS);
  byId("orders").replaceChildren(...orders.map((order) => row([
    cell(order.orderId), cell(order.customerId), cell(order.status, toneOf[order.status]),
    cell(`${money(order.total, order.currency)} ${order.currency}`, "number"), cell(order.createdAt)])));
}

let refreshing = false;

async function refresh() {
  if (refreshing) return;
  refreshing = true;
  await Promise.allSettled([showNode(), showHealth(), showStats(), showOrders()]);
  refreshing = false;
}

let refreshSoon = 0;

function showEvent(event) {
  const time = event.createdAt || event.paidAt || event.shippedAt || event.deliveredAt || event.cancelledAt;
  const events = byId("events");
  events.prepend(row([cell(event.eventId), cell(event.type), cell(event.customerId), cell(time)]));
  while (events.childElementCount > SHOWN_EVENTS) events.lastElementChild.remove();
  // Many events at once are one refresh.
  clearTimeout(refreshSoon);
  refreshSoon = setTimeout(refresh, 300);
}

// The browser reconnects on its own and resumes after the last event that it has seen.
const source = new EventSource("/events?cursor=latest");
source.onopen = () => setText("connection", "live", "good");
source.onerror = () => setText("connection", "reconnecting", "warn");
source.onmessage = (message) => showEvent(JSON.parse(message.data));

refresh();
setInterval(refresh, REFRESH_MS);
