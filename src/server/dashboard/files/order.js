// One order: its current or a past state, and its history.

import { load, page, toJson } from "./api.js";
import { actionButtons } from "./actions.js";
import { amount, badge, emptyState, definitionList, fullTime, untrusted, h, replaceContent, table, time, toast } from "./dom.js";
import { replaceParameters, currentRoute, lastList, linkTo } from "./router.js";
import { count, dateTime, detailsOf, label, money, sentence, timeOf, totalOf, visible } from "./text.js";

const HISTORY_PAGE_SIZE = 500;
const EVENT_FORMATS = { compact: "Compact", full: "Full", json: "JSON" };
const STATUS_AFTER = {
  OrderCreated: "Pending", OrderPaid: "Paid", OrderShipped: "Shipped", OrderDelivered: "Delivered", OrderCancelled: "Cancelled",
};

const ITEM_COLUMNS = [{ title: "Product" }, { title: "Quantity", number: true }, { title: "Price", number: true }, { title: "Amount", number: true }];
// The items of an event that its full form lists.
const LISTED_ITEMS = 5;

const itemCount = (number) => number === 1 ? "1 item" : `${count(number)} items`;
const productOf = (item) => item.name === undefined ? untrusted(item.productId)
  : [untrusted(item.name), h("span", { class: "mute small product-id" }, untrusted(item.productId, { cut: true }))];

function itemsCard(order) {
  const rows = order.items.map((item) => [h("div", {}, productOf(item)), count(item.quantity), amount(item.price, order.currency),
    amount(totalOf([item]) ?? "–", order.currency)]);
  return h("section", { class: "card" }, h("h2", {}, `Items (${count(order.items.length)})`), table("Items of the order", ITEM_COLUMNS, rows, { kind: "items" }),
    h("p", { class: "total" }, "Total ", h("strong", {}, amount(order.total, order.currency))));
}

function detailsCard(order, history) {
  const actors = [...new Set(history.flatMap((event) => [event.actor, event.onBehalfOf]).filter(Boolean))];
  const text = (value) => value === undefined ? undefined : untrusted(value);
  return h("section", { class: "card" }, h("h2", {}, "Details"), definitionList([
    ["Customer", h("a", { href: linkTo(["orders"], { customer: order.customerId }) }, untrusted(order.customerId))],
    ["Shipping address", text(order.shippingAddress)],
    ["Payment method", text(order.paymentMethod)], ["Payment reference", text(order.paymentReference)],
    ["Carrier", text(order.carrier)], ["Tracking number", text(order.trackingNumber)],
    ["Cancellation reason", text(order.cancelReason)],
    ["Placed", fullTime(order.createdAt)], ["Last change", fullTime(order.updatedAt)],
    ["Changed by", actors.length ? actors.map((actor, index) => [index ? ", " : "", untrusted(actor)]).flat() : undefined],
    ["Revision", count(order.revision)],
  ]));
}

function detailValue(name, value, event) {
  if (name === "items") {
    const more = value.length - LISTED_ITEMS;
    return [value.slice(0, LISTED_ITEMS).map((item) => h("div", {}, `${count(item.quantity)} × `, untrusted(item.name ?? item.productId))),
      more > 0 ? h("div", { class: "mute" }, `and ${count(more)} more`) : ""].flat();
  }
  if (name === "total") return money(value, event.currency);
  return untrusted(value);
}

// What happened, in one line.
function summaryOf(event) {
  if (event.items) return `${itemCount(event.items.length)}, ${money(event.total, event.currency)}`;
  const values = detailsOf(event).map(([, value]) => untrusted(value));
  return values.flatMap((value, index) => [index ? " · " : "", value]);
}

function eventBody(event, format) {
  if (format === "json") return jsonBody(event);
  const by = [event.actor && ["by ", untrusted(event.actor)], event.onBehalfOf && [" on behalf of ", untrusted(event.onBehalfOf)]].filter(Boolean).flat();
  if (format === "compact") {
    return h("p", { class: "summary" }, summaryOf(event), by.length ? h("span", { class: "mute" }, summaryOf(event).length ? ", " : "", by) : "");
  }
  const details = detailsOf(event).filter(([name]) => name !== "currency").map(([name, value]) => [label(name), detailValue(name, value, event)]);
  return definitionList([...details, ["By", event.actor && untrusted(event.actor)], ["On behalf of", event.onBehalfOf && untrusted(event.onBehalfOf)],
    ["Request id", event.requestId && untrusted(event.requestId)], ["Event id", event.eventId], ["Time (UTC)", timeOf(event)]].filter(([, value]) => value));
}

// In JSON line breaks are kept; in every other text they are shown as escapes.
function jsonBody(event) {
  const lines = toJson(event).split("\n").map((line) => [untrusted(line), "\n"]).flat();
  return h("pre", { tabindex: "0", "aria-label": "The event as JSON" }, lines);
}

// Each event leads to the order as it was right after it.
function timeline(history, format, shownRevision, id) {
  const at = (revision) => linkTo(["orders", id], { revision: revision === history.length ? "" : revision, events: format === "compact" ? "" : format });
  return h("ol", { class: "timeline" }, history.map((event) => h("li", {
    class: event.revision > shownRevision ? "later" : undefined, "data-event": event.type, "aria-current": event.revision === shownRevision ? "step" : undefined,
  }, h("div", { class: "what" }, badge(STATUS_AFTER[event.type], event.type.replace("Order", "")), h("span", {}, fullTime(timeOf(event))),
    h("a", { class: "small", href: at(event.revision), title: "Show the order as it was then" }, `revision ${event.revision}`)),
  eventBody(event, format))));
}

function formatButtons(format, onChoose) {
  return h("div", { class: "segments", role: "group", "aria-label": "Format of the events" }, Object.entries(EVENT_FORMATS).map(([name, title]) =>
    h("button", { type: "button", "aria-pressed": String(format === name), onclick: () => onChoose(name) }, title)));
}

// The slider over the revisions, and the input for a time.
function timeTravel(history, revision, query, changeRoute) {
  const last = history.length;
  const text = (number) => `Revision ${number} of ${last}: ${history[number - 1].type.replace("Order", "")}`;
  const output = h("output", { for: "travel" }, text(revision));
  const slider = h("input", {
    id: "travel", type: "range", min: "1", max: String(last), step: "1", ".value": String(revision), disabled: last < 2,
    "aria-valuetext": text(revision),
    oninput: ({ target }) => {
      output.textContent = text(Number(target.value));
      target.setAttribute("aria-valuetext", output.textContent);
    },
    onchange: ({ target }) => changeRoute({ revision: Number(target.value) === last ? "" : target.value, asOf: "" }),
  });
  const asOf = query.get("asOf");
  const localTime = asOf ? new Date(Date.parse(asOf) - new Date(asOf).getTimezoneOffset() * 60_000).toISOString().slice(0, 19) : "";
  const timeInput = h("input", {
    type: "datetime-local", id: "as-of", step: "1", ".value": localTime,
    onchange: ({ target }) => changeRoute({ revision: "", asOf: target.value ? new Date(target.value).toISOString() : "" }),
  });
  return h("div", { class: "travel card" }, h("label", { for: "travel" }, "Time travel"), slider, output, h("label", {}, "As of ", timeInput));
}

function pastBanner(order, query, changeRoute) {
  if (!query.get("revision") && !query.get("asOf")) return null;
  const asOf = query.get("asOf") ? `, the last one up to ${dateTime(query.get("asOf"))}` : "";
  return h("div", { class: "banner info", id: "past" }, h("span", {}, "You see the order as it was at revision ", h("strong", {}, String(order.revision)), ", ",
    time(order.updatedAt), asOf, "."), h("button", { type: "button", onclick: () => changeRoute({ revision: "", asOf: "" }) }, "Show the current state"));
}

function copyButton(id) {
  const copy = async (text) => {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    // Without TLS a page has no clipboard, but may copy what is selected.
    getSelection().selectAllChildren(document.querySelector("h1 .id, h1 bdi"));
    document.execCommand("copy");
    getSelection().removeAllRanges();
  };
  const onclick = () => copy(id).then(() => toast("The order id is copied."), (error) => toast(sentence(error.message)));
  return h("button", { type: "button", class: "quiet", onclick }, "Copy id");
}

// What is shown where there is no order, or no state of it.
function missing(id, isPast, error) {
  return [h("h1", {}, "Order ", untrusted(id)), emptyState(isPast ? "There is no state of the order at that revision or time." : "There is no such order.",
    sentence(error.message), " ",
    h("a", { href: isPast ? linkTo(["orders", id]) : linkTo(["orders"]) }, isPast ? "Show the current state" : "Show all orders"))];
}

export function order([, id]) {
  const content = h("div");
  // Responses may arrive in another order than their requests: only the latest one is shown.
  let latestUpdate = 0;

  function changeRoute(parameters) {
    replaceParameters(parameters);
    return update();
  }

  async function update() {
    const number = ++latestUpdate;
    const { query } = currentRoute();
    const parameters = new URLSearchParams();
    for (const name of ["revision", "asOf"]) if (query.get(name)) parameters.set(name, query.get(name));
    const path = "/orders/" + encodeURIComponent(id);
    let shown, history;
    try {
      [shown, { rows: history }] = await Promise.all([
        load(parameters.size ? `${path}?${parameters}` : path), page(`${path}/history?pageSize=${HISTORY_PAGE_SIZE}`),
      ]);
    } catch (error) {
      if (number !== latestUpdate) return;
      if (error.status !== 404 && error.status !== 400) throw error;
      return replaceContent(content, missing(id, parameters.size > 0, error));
    }
    if (number !== latestUpdate) return;
    const isPast = parameters.size > 0;
    const format = Object.hasOwn(EVENT_FORMATS, query.get("events") ?? "") ? query.get("events") : "compact";
    replaceContent(content,
      h("div", { class: "head" }, h("h1", {}, "Order ", h("span", { class: "id" }, shown.orderId), " ", badge(shown.status)),
        isPast ? "" : actionButtons(shown, update)),
      pastBanner(shown, query, changeRoute) ?? "",
      history.length > 1 ? timeTravel(history, shown.revision, query, changeRoute) : "",
      h("div", { class: "columns" },
        h("div", {}, itemsCard(shown), detailsCard(shown, history)),
        h("section", { class: "card" }, h("div", { class: "head" }, h("h2", {}, `Events (${count(history.length)})`),
          formatButtons(format, (name) => changeRoute({ events: name === "compact" ? "" : name }))),
        timeline(history, format, shown.revision, id))));
  }

  return {
    title: `Order ${id}`,
    content: [h("p", { class: "crumbs" }, h("a", { href: lastList.hash }, "Orders"), " / ", visible(id), " ", copyButton(id)), content],
    update,
    // A batch has its newest events only.
    isAffectedBy: ({ events, count: all }) => all > events.length || events.some((event) => event.orderId === id),
  };
}
