// The frame of the console: the current view, the connection to the node, and the login.

import { markReachable, markUnreachable, key, load, node } from "./api.js";
import { refreshTimes, announce, byId, refreshCountdowns, emptyState, h, time } from "./dom.js";
import { feed, follow } from "./feed.js";
import { initKeyboard } from "./keyboard.js";
import { currentRoute, linkTo } from "./router.js";
import { sentence, visible } from "./text.js";
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

const BUILDERS = new Map(Object.entries({ orders, new: create, operations, "dead-letters": deadLettersView, server }));

function viewOf(parts) {
  if (parts[0] === "orders" && parts.length > 1) return order(parts);
  return BUILDERS.get(parts[0] ?? "orders")?.(parts);
}

let view = null;
let hasFailed = false;
// Whether the current view has shown something that the node has sent.
let isLoaded = false;
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
  if (node.isUnreachable && isLoaded) return;
  const explanation = error.status === 401 ? emptyState("Log in to see this.", "This node identifies its callers by an API key or a token.")
    : error.status === 403 ? emptyState("You may not see this.", sentence(error.message))
      : node.isUnreachable ? emptyState("There is nothing to show yet.", "This view is loaded as soon as the server answers.")
        : emptyState("This cannot be shown now.", `${sentence(error.message)} The console tries again every few seconds.`);
  byId("main").replaceChildren(h("h1", {}, view.title), explanation);
  hasFailed = true;
}

// Each entry of the history of the browser has an id. On the way back to it the view is where it was left, and so is the focus.
const positions = new Map();
let entry = "";
let entryCount = 0;
history.scrollRestoration = "manual";

function enterEntry() {
  if (entry) positions.set(entry, { scroll: scrollY, row: document.activeElement?.closest("[data-row]")?.dataset.row });
  entry = history.state?.entry ?? `${performance.timeOrigin}-${entryCount++}`;
  history.replaceState({ entry }, "");
}

function restorePosition() {
  const { scroll, row } = positions.get(entry) ?? {};
  if (scroll) scrollTo(0, scroll);
  if (row) document.querySelector(`[data-row="${CSS.escape(row)}"] a`)?.focus({ preventScroll: true });
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
    if (!isLoaded && updatedView === view) {
      isLoaded = true;
      restorePosition();
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
  const isFirst = view === null;
  enterEntry();
  view = viewOf(currentRoute().parts) ?? {
    title: "Not found", content: [h("h1", {}, "Not found"), emptyState("There is no such view.", h("a", { href: linkTo(["orders"]) }, "Show the orders"))],
    update: async () => {},
  };
  hasFailed = false;
  isLoaded = false;
  byId("main").replaceChildren(...view.content);
  showNavigation();
  showTitle();
  announce(visible(view.title));
  scrollTo(0, 0);
  // What had the focus is gone: the next Tab leads into the new view.
  if (!isFirst) byId("main").focus({ preventScroll: true });
  update();
}

function showReachability() {
  byId("unreachable").hidden = !node.isUnreachable;
  document.body.classList.toggle("is-unreachable", node.isUnreachable);
  if (node.isUnreachable) {
    const lastResponse = node.lastResponseAt ? new Date(node.lastResponseAt).toISOString() : null;
    byId("unreachable").replaceChildren(h("strong", {}, "The server does not answer."), " ", lastResponse
      ? h("span", {}, isLoaded ? "What you see is from its last answer, " : "Its last answer was ", time(lastResponse), ". ")
      : "It has not answered yet. ", "The console tries again by itself.");
  }
  showConnection();
  showTitle();
}

function showConnection() {
  const { type, message } = feed.state;
  const [icon, text, tone] = node.isUnreachable ? ["✕", "no answer", "bad"] : isKeyMissing() ? ["○", "logged out", "mute"] : {
    live: ["●", "live", "good"], connecting: ["◌", "connecting", "warn"], reconnecting: ["◌", "reconnecting", "warn"], refused: ["○", "not live", "warn"],
  }[type];
  const pill = byId("connection");
  // It is a live region: a text that has not changed must not be announced again.
  if (pill.dataset.text !== text) pill.replaceChildren(h("span", { "aria-hidden": "true" }, icon), " ", text);
  pill.dataset.text = text;
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
  requiresKey = true;
  if ([document.body, byId("main")].includes(document.activeElement)) byId("key").focus();
  // Several requests may be refused at once: only the first one still has a key, and its message is shown. The key is not accepted, so it is forgotten.
  if (key.get()) byId("refused").textContent = sentence(detail);
  key.clear();
  showConnection();
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
let isOutdated = false;

feed.addEventListener("events", ({ detail }) => {
  clearTimeout(updateTimer);
  const wait = Math.max(0, lastUpdate + UPDATE_MS - Date.now());
  updateTimer = setTimeout(() => {
    lastUpdate = Date.now();
    if (!view.isAffectedBy?.(detail) || hasFailed) return;
    // A tab that nobody sees asks for nothing; it is updated when it is shown.
    if (document.hidden) isOutdated = true;
    else update();
  }, wait);
});

async function poll() {
  await showNode().catch(() => {});
  if (isKeyMissing() && !node.isUnreachable) return;
  if (!document.hidden) await sample();
  if (node.isUnreachable) showReachability();
  // A selection would be lost.
  else if (hasFailed || (view.polls && !document.hidden && getSelection().isCollapsed)) update();
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
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  if (isOutdated) update();
  isOutdated = false;
  poll();
});
initTheme(byId("theme"));
initKeyboard(byId("help"));
show();
follow();
poll();
setInterval(poll, POLL_MS);
setInterval(refreshTimes, 5000);
setInterval(refreshCountdowns, 1000);
