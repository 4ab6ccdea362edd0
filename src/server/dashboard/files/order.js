// One order: its current or a past state, and its history.

import { load, page, toJson } from "./api.js";
import { actionButtons } from "./actions.js";
import { amount, badge, emptyState, definitionList, untrusted, h, table, time } from "./dom.js";
import { replaceParameters, currentRoute, linkTo } from "./router.js";
import { count, detailsOf, exactTime, label, money, timeOf, visible } from "./text.js";

const HISTORY_PAGE_SIZE = 500;
const EVENT_FORMATS = { compact: "Compact", full: "Full", json: "JSON" };
const STATUS_AFTER = {
  OrderCreated: "Pending", OrderPaid: "Paid", OrderShipped: "Shipped", OrderDelivered: "Delivered", OrderCancelled: "Cancelled",
};

function itemsCard(order) {
  const columns = [{ title: "Product" }, { title: "Name" }, { title: "Quantity", number: true }, { title: "Price", number: true }];
  const rows = order.items.map((item) => [untrusted(item.productId, { cut: true }), item.name === undefined ? "–" : untrusted(item.name),
    count(item.quantity), amount(item.price, order.currency)]);
  return h("section", { class: "card" }, h("h2", {}, `Items (${count(order.items.length)})`), table("Items of the order", columns, rows),
    h("p", { class: "total" }, "Total ", h("strong", {}, amount(order.total, order.currency))));
}

function detailsCard(order, history) {
  const actors = [...new Set(history.flatMap((event) => [event.actor, event.onBehalfOf]).filter(Boolean))];
  const text = (value) => value === undefined ? undefined : untrusted(value);
  return h("section", { class: "card" }, h("h2", {}, "People and places"), definitionList([
    ["Customer", h("a", { href: linkTo(["orders"], { customer: order.customerId }) }, untrusted(order.customerId))],
    ["Changed by", actors.length ? actors.map((actor, index) => [index ? ", " : "", untrusted(actor)]).flat() : undefined],
    ["Shipping address", text(order.shippingAddress)],
    ["Payment", text(order.paymentMethod)], ["Payment reference", text(order.paymentReference)],
    ["Carrier", text(order.carrier)], ["Tracking number", text(order.trackingNumber)],
    ["Cancellation reason", text(order.cancelReason)],
    ["Placed", time(order.createdAt)], ["Last change", time(order.updatedAt)], ["Revision", count(order.revision)],
  ]));
}

function detailValue(name, value, event) {
  if (name === "items") return `${count(value.length)} × ` + value.slice(0, 3).map((item) => visible(item.name ?? item.productId)).join(", ") + (value.length > 3 ? " …" : "");
  if (name === "total") return money(value, event.currency);
  return untrusted(value);
}

function eventBody(event, format) {
  if (format === "json") return jsonBody(event);
  const details = detailsOf(event).map(([name, value]) => [label(name), detailValue(name, value, event)]);
  const actors = [["By", event.actor && untrusted(event.actor)], ["On behalf of", event.onBehalfOf && untrusted(event.onBehalfOf)]];
  if (format === "compact") return null;
  return definitionList([...details, ...actors.filter(([, value]) => value), ["Request id", event.requestId && untrusted(event.requestId)],
    ["Event id", event.eventId], ["Revision", String(event.revision)], ["At", exactTime(timeOf(event))]].filter(([, value]) => value));
}

// In JSON line breaks are kept; in every other text they are shown as escapes.
function jsonBody(event) {
  const lines = toJson(event).split("\n").map((line) => [untrusted(line), "\n"]).flat();
  return h("pre", { tabindex: "0", "aria-label": "The event as JSON" }, lines);
}

function timeline(history, format, shownRevision) {
  return h("ol", { class: "timeline" }, history.map((event) => h("li", {
    class: event.revision > shownRevision ? "later" : undefined, "data-event": event.type,
  }, h("div", { class: "what" }, badge(STATUS_AFTER[event.type], event.type.replace("Order", "")), time(timeOf(event)),
    event.actor && format === "compact" ? h("span", { class: "mute" }, "by ", untrusted(event.actor, { cut: true })) : null),
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
    type: "datetime-local", step: "1", ".value": localTime,
    onchange: ({ target }) => changeRoute({ revision: "", asOf: target.value ? new Date(target.value).toISOString() : "" }),
  });
  return h("div", { class: "travel" }, h("label", { for: "travel" }, "Time travel"), slider, output, h("label", {}, "As of ", timeInput));
}

function pastBanner(order, query, changeRoute) {
  if (!query.get("revision") && !query.get("asOf")) return null;
  return h("div", { class: "banner info", id: "past" }, h("span", {}, "You see the order as it was at revision ", h("strong", {}, String(order.revision)), ", ",
    time(order.updatedAt), "."), h("button", { type: "button", onclick: () => changeRoute({ revision: "", asOf: "" }) }, "Show the current state"));
}

export function order([, id]) {
  const content = h("div");

  function changeRoute(parameters) {
    replaceParameters(parameters);
    return update();
  }

  async function update() {
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
      if (error.status !== 404 && error.status !== 400) throw error;
      const isPast = parameters.size > 0;
      content.replaceChildren(emptyState(isPast ? "There is no state of the order at that revision or time." : "There is no such order.",
        visible(error.message), ". ",
        h("a", { href: isPast ? linkTo(["orders", id]) : linkTo(["orders"]) }, isPast ? "Show the current state" : "Show all orders")));
      return;
    }
    const isPast = parameters.size > 0;
    const format = EVENT_FORMATS[query.get("events")] ? query.get("events") : "compact";
    const focused = document.activeElement?.id === "travel";
    content.replaceChildren(
      h("div", { class: "head" }, h("h1", {}, "Order ", h("span", { class: "id" }, shown.orderId), " ", badge(shown.status)),
        isPast ? null : actionButtons(shown, update)),
      pastBanner(shown, query, changeRoute) ?? "",
      timeTravel(history, shown.revision, query, changeRoute),
      h("div", { class: "columns" },
        h("div", {}, itemsCard(shown), detailsCard(shown, history)),
        h("section", { class: "card" }, h("div", { class: "head" }, h("h2", {}, `Events (${count(history.length)})`),
          formatButtons(format, (name) => changeRoute({ events: name === "compact" ? "" : name }))),
        timeline(history, format, shown.revision))));
    if (focused) document.getElementById("travel").focus();
  }

  return {
    title: `Order ${id}`,
    content: [h("p", { class: "crumbs" }, h("a", { href: linkTo(["orders"]) }, "Orders"), " / ", visible(id)), content],
    update,
    onEvents: ({ events, count: number }) => number > events.length || events.some((event) => event.orderId === id) ? update() : undefined,
  };
}
