// The frame of the console: the current view, the connection to the node, and the login.

import { markReachable, markUnreachable, key, load, node } from "./api.js";
import { refreshTimes, announce, byId, refreshCountdowns, emptyState, h } from "./dom.js";
import { feed, follow } from "./feed.js";
import { initKeyboard } from "./keyboard.js";
import { currentRoute, linkTo } from "./router.js";
import { relativeTime, exactTime, visible } from "./text.js";
import { initTheme } from "./theme.js";
import { create } from "./create.js";
import { deadLettersView } from "./letters.js";
import { sample } from "./metrics.js";
import { operations } from "./operations.js";
import { order } from "./order.js";
import { orders } from "./orders.js";
import { server } from "./server.js";

const NAME = "Catga OrderSystem";
const POLL_MS = 5000;
// Events are coalesced: at most one update in this time.
const UPDATE_MS = 700;
const VIEWS = [["orders", "Orders"], ["operations", "Operations"], ["dead-letters", "Dead letters"], ["server", "Server"]];

function viewOf(parts) {
  if (parts[0] === "orders" && parts.length > 1) return order(parts);
  return { orders, new: create, operations, "dead-letters": deadLettersView, server }[parts[0] ?? "orders"]?.(parts);
}

let view = null;
let hasFailed = false;
// Whether the node requires a key from its callers.
let requiresKey = false;
// Without a key each call would be refused, and recorded in the audit log of the node.
const isKeyMissing = () => requiresKey && !key.get();

function showTitle() {
  document.title = node.isUnreachable ? `(no answer) ${NAME}`
    : view?.title ? `${visible(view.title)} · ${NAME}` : NAME;
  const colour = node.isUnreachable ? "%23b42318" : "%23187a3c";
  const shape = node.isUnreachable ? "%3Cpath d='M4 4l8 8m0-8l-8 8' stroke='%23fff' stroke-width='2.5'/%3E" : "%3Cpath d='M4 8.5l3 3 5-6' fill='none' stroke='%23fff' stroke-width='2'/%3E";
  byId("favicon").href = `data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect width='16' height='16' rx='4' fill='${colour}'/%3E${shape}%3C/svg%3E`;
}

function showNavigation() {
  const current = currentRoute().parts[0] ?? "orders";
  byId("nav").replaceChildren(...VIEWS.map(([name, title]) => h("a", {
    href: linkTo([name]), "aria-current": name === current || (name === "orders" && current === "new") ? "page" : undefined,
  }, title)));
}

// Shows an error in place of the current view.
function showFailure(error) {
  if (node.isUnreachable && !hasFailed) return;
  const explanation = error.status === 401 ? emptyState("Log in to see this.", "This node requires a key or token: log in to see this view.")
    : error.status === 403 ? emptyState("You may not see this.", `${visible(error.message)}.`)
      : emptyState("This cannot be shown now.", `${visible(error.message)}. The console tries again every few seconds.`);
  byId("main").replaceChildren(h("h1", {}, view.title), explanation);
  hasFailed = true;
}

let updating = false;
let updateAgain = false;

async function update() {
  if (updating) {
    updateAgain = true;
    return;
  }
  updating = true;
  const updatedView = view;
  try {
    await updatedView.update();
    if (hasFailed && updatedView === view) {
      hasFailed = false;
      byId("main").replaceChildren(...updatedView.content);
    }
  } catch (error) {
    if (updatedView === view) showFailure(error);
    if (!error.status && error.name !== "Error") console.error(error);
  }
  updating = false;
  if (updateAgain || updatedView !== view) {
    updateAgain = false;
    update();
  }
}

function show() {
  view?.leave?.();
  view = viewOf(currentRoute().parts) ?? {
    title: "Not found", content: [h("h1", {}, "Not found"), emptyState("There is no such view.", h("a", { href: linkTo(["orders"]) }, "Show the orders"))],
    update: async () => {},
  };
  hasFailed = false;
  byId("main").replaceChildren(...view.content);
  showNavigation();
  showTitle();
  announce(view.title);
  scrollTo(0, 0);
  update();
}

function showReachability() {
  byId("unreachable").hidden = !node.isUnreachable;
  document.body.classList.toggle("is-unreachable", node.isUnreachable);
  if (node.isUnreachable) {
    const lastResponse = node.lastResponseAt ? new Date(node.lastResponseAt).toISOString() : null;
    byId("unreachable").replaceChildren(h("strong", {}, "The server does not answer."), " ", lastResponse
      ? h("span", {}, "What you see is from its last answer, ", h("time", { datetime: lastResponse, title: exactTime(lastResponse) }, relativeTime(lastResponse)), ". ")
      : "It has not answered yet. ", "The console tries again by itself.");
  }
  showConnection();
  showTitle();
}

function showConnection() {
  const { type, message } = feed.state;
  const [text, tone] = node.isUnreachable ? ["no answer", "bad"] : {
    live: ["live", "good"], connecting: ["connecting", "warn"], reconnecting: ["reconnecting", "warn"], refused: ["no live events", "warn"],
  }[type];
  const pill = byId("connection");
  if (pill.textContent !== text) pill.textContent = text;
  pill.className = `pill tone-${tone}`;
  pill.title = message ?? "";
}

async function showNode() {
  const root = await load("/");
  byId("node").textContent = `${visible(root.node)} · ${root.mode} · ${root.persistence} / ${root.transport} · durability: ${root.durability} · ` +
    `version ${root.version} · ${root.status}`;
  byId("warning").textContent = root.securityWarning ?? "";
  byId("warning").hidden = !root.securityWarning;
  byId("logout").hidden = !key.get();
  requiresKey = root.authentication === "required";
  // A link cannot send the key.
  byId("metrics").hidden = requiresKey;
}

node.addEventListener("unreachable", showReachability);
node.addEventListener("reachable", () => {
  showReachability();
  announce("The server answers again.");
  update();
});
node.addEventListener("unauthenticated", ({ detail }) => {
  byId("login").hidden = false;
  byId("logout").hidden = true;
  // Several requests may be refused at once: only the first one still has a key, and its message is shown. The key is not accepted, so it is forgotten.
  if (key.get()) byId("refused").textContent = visible(detail);
  key.clear();
});
feed.addEventListener("state", () => {
  if (feed.state.type === "live") {
    markReachable();
    // The stream has only events after its start; the values on the page may be older.
    update();
  }
  // A lost stream is the first sign that the node may be unreachable.
  if (feed.state.type === "reconnecting") poll();
  showConnection();
});

let lastUpdate = 0;
let updateTimer = 0;

feed.addEventListener("events", ({ detail }) => {
  clearTimeout(updateTimer);
  const wait = Math.max(0, lastUpdate + UPDATE_MS - Date.now());
  updateTimer = setTimeout(() => {
    lastUpdate = Date.now();
    if (view.onEvents && !hasFailed) Promise.resolve(view.onEvents(detail)).catch(showFailure);
  }, wait);
});

async function poll() {
  await showNode().catch(() => {});
  if (isKeyMissing() && !node.isUnreachable) return;
  if (!document.hidden) await sample();
  if (node.isUnreachable) showReachability();
  else if (hasFailed || (view.polls && !document.hidden)) update();
}

byId("login").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  key.set(byId("key").value.trim());
  byId("key").value = "";
  byId("refused").textContent = "";
  byId("login").hidden = true;
  byId("logout").hidden = false;
  follow();
  show();
});
byId("logout").addEventListener("click", () => {
  key.clear();
  location.reload();
});
document.querySelector(".skip").addEventListener("click", (clicked) => {
  clicked.preventDefault();
  byId("main").focus();
});

addEventListener("hashchange", show);
addEventListener("offline", markUnreachable);
document.addEventListener("visibilitychange", () => document.hidden || poll());
initTheme(byId("theme"));
initKeyboard(byId("help"));
show();
follow();
poll();
setInterval(poll, POLL_MS);
setInterval(refreshTimes, 5000);
setInterval(refreshCountdowns, 1000);
