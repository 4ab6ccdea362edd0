// The list of orders: search, filters, pages.

import { load, page } from "./api.js";
import { amount, badge, byId, emptyState, untrusted, h, tableRow, time, toast } from "./dom.js";
import { navigate, currentRoute, linkTo } from "./router.js";
import { count, visible } from "./text.js";

const PAGE_SIZE = 50;
// There is no index by currency: pages of this size are scanned until enough orders match, at most MAX_SCANS of them for a page of the list.
const SCAN_PAGE_SIZE = 500;
const MAX_SCANS = 10;
const STATUSES = ["Pending", "Paid", "Shipped", "Delivered", "Cancelled"];
const COLUMNS = [
  { title: "Order" }, { title: "Customer" }, { title: "Status" }, { title: "Items", number: true }, { title: "Total", number: true },
  { title: "Placed" }, { title: "Changed" },
];
const DAYS = { today: "Today", week: "Last 7 days", month: "Last 30 days" };

// The token of the previous page by page token, for the pages that this tab has shown.
const previousPageTokens = new Map();

function startOfPeriod(day) {
  const from = new Date();
  from.setHours(0, 0, 0, 0);
  from.setDate(from.getDate() - { today: 0, week: 6, month: 29 }[day]);
  return from.toISOString();
}

const startOf = (date) => new Date(date + "T00:00:00").toISOString();

function endOf(date) {
  const next = new Date(date + "T00:00:00");
  next.setDate(next.getDate() + 1);
  return next.toISOString();
}

function listPath(query, token, size) {
  const parameters = new URLSearchParams({ pageSize: size });
  const set = (name, value) => value && parameters.set(name, value);
  set("customerId", query.get("customer"));
  set("status", query.get("status"));
  set("orderBy", query.get("sort") === "oldest" && "createdAsc");
  if (query.get("from")) set("createdAfter", startOf(query.get("from")));
  else if (DAYS[query.get("day")]) set("createdAfter", startOfPeriod(query.get("day")));
  if (query.get("until")) set("createdBefore", endOf(query.get("until")));
  set("pageToken", token);
  return "/orders?" + parameters;
}

// The orders of a page of the list. With a currency, several pages are scanned.
async function find(query) {
  const currency = query.get("currency");
  let token = query.get("page") ?? "";
  if (!currency) return { ...await page(listPath(query, token, PAGE_SIZE), "pageToken"), scannedCount: 0 };
  const rows = [];
  let scannedCount = 0;
  for (let scan = 0; scan < MAX_SCANS && rows.length < PAGE_SIZE; scan++) {
    const found = await page(listPath(query, token, SCAN_PAGE_SIZE), "pageToken");
    scannedCount += found.rows.length;
    rows.push(...found.rows.filter((order) => order.currency === currency));
    token = found.next;
    if (!token) break;
  }
  return { rows, next: token, scannedCount };
}

const linkWith = (query, parameters) => linkTo(["orders"], { ...Object.fromEntries(query), page: "", ...parameters });

const chip = (title, isOn, hash, number) => h("a", { class: "chip", href: hash, "aria-current": isOn ? "true" : undefined }, title,
  number === undefined ? null : h("span", { class: "count" }, count(number)));

function statusChips(query, stats) {
  const status = query.get("status") ?? "";
  return h("div", { class: "chips", role: "group", "aria-label": "Status" },
    chip("All", !status, linkWith(query, { status: "" }), stats?.totalOrders),
    STATUSES.map((name) => chip(name, status === name, linkWith(query, { status: name }), stats?.byStatus[name])));
}

function dateAndCurrencyChips(query, stats) {
  const day = query.get("day") ?? "";
  const currencies = Object.keys(stats?.revenueByCurrency ?? {});
  const currentCurrency = query.get("currency") ?? "";
  const date = (name, title) => h("label", { class: "date" }, title, " ", h("input", {
    type: "date", ".value": query.get(name) ?? "", onchange: ({ target }) => navigate(linkWith(query, { [name]: target.value, day: "" })),
  }));
  return h("div", { class: "chips" },
    h("span", { role: "group", "aria-label": "Date", class: "chips" },
      Object.entries(DAYS).map(([name, title]) => chip(title, day === name, linkWith(query, { day: day === name ? "" : name, from: "", until: "" }))),
      date("from", "From"), date("until", "to")),
    currencies.length > 1 || currentCurrency
      ? h("span", { role: "group", "aria-label": "Currency", class: "chips" }, [...new Set([...currencies, currentCurrency])].filter(Boolean).map((code) =>
        chip(code, currentCurrency === code, linkWith(query, { currency: currentCurrency === code ? "" : code }))))
      : null,
    chip("Oldest first", query.get("sort") === "oldest", linkWith(query, { sort: query.get("sort") === "oldest" ? "" : "oldest" })));
}

const isOrderId = (text) => /^\d{1,19}$/.test(text);

async function search(text) {
  const term = text.trim();
  if (!term) return navigate(linkTo(["orders"]));
  if (isOrderId(term)) {
    try {
      await load("/orders/" + term);
      return navigate(linkTo(["orders", term]));
    } catch (error) {
      // The id of a customer may be a number as well.
      if (error.status !== 404 && error.status !== 400) return toast(error.message);
    }
  }
  return navigate(linkTo(["orders"], { customer: term }));
}

function searchForm(query) {
  const submit = (event) => {
    event.preventDefault();
    search(byId("search").value);
  };
  return h("form", { class: "search", role: "search", onsubmit: submit },
    h("input", {
      id: "search", type: "search", placeholder: "Order id, or customer id  ( / )", "aria-label": "Search by order id or customer id",
      ".value": query.get("customer") ?? "", spellcheck: "false", autocomplete: "off",
    }),
    h("button", { type: "submit" }, "Search"));
}

function orderRow(order) {
  const link = h("a", { href: linkTo(["orders", order.orderId]), class: "id" }, order.orderId);
  const customer = h("a", { href: linkTo(["orders"], { customer: order.customerId }), class: "plain" }, untrusted(order.customerId, { cut: true }));
  return tableRow(COLUMNS, [link, customer, badge(order.status), count(order.itemCount), amount(order.total, order.currency),
    time(order.createdAt), time(order.updatedAt)], { "data-row": order.orderId, "data-revision": order.revision });
}

function pager(query, found) {
  const token = query.get("page") ?? "";
  if (found.next) previousPageTokens.set(found.next, token);
  const link = (title, hash, rel) => h("a", { class: "button", href: hash, rel }, title);
  return h("nav", { class: "pager", "aria-label": "Pages" },
    token ? link(query.get("sort") === "oldest" ? "« Oldest" : "« Newest", linkWith(query, {})) : null,
    token && previousPageTokens.has(token) ? link("‹ Previous", linkWith(query, { page: previousPageTokens.get(token) }), "prev") : null,
    h("span", { class: "mute" }, found.scannedCount
      ? `${count(found.rows.length)} of ${count(found.scannedCount)} orders that were scanned`
      : `${count(found.rows.length)} orders on this page`),
    found.next ? link(found.scannedCount && found.rows.length < PAGE_SIZE ? "Search further ›" : "Next ›",
      linkWith(query, { page: found.next }), "next") : null);
}

function noOrders(query) {
  if ([...query.keys()].length === 0) {
    return emptyState("There are no orders yet.", "Place the first one: ", h("a", { href: linkTo(["new"]) }, "New order"), ".");
  }
  const customer = query.get("customer");
  return emptyState("No order matches.", customer ? `Customer ids must match exactly: “${visible(customer)}”. ` : "",
    h("a", { href: linkTo(["orders"]) }, "Show all orders"));
}

export function orders() {
  const { query } = currentRoute();
  const filters = h("div", { class: "filters" });
  const rows = h("tbody", { id: "orders" });
  const head = h("tr", {}, COLUMNS.map(({ title, number }) => h("th", { scope: "col", class: number ? "number" : undefined }, title)));
  const list = h("div", { class: "scroll" }, h("table", { class: "orders" }, h("caption", { class: "unseen" }, "Orders"), h("thead", {}, head), rows));
  const footer = h("div");
  let shown = new Map();

  async function update() {
    const [stats, found] = await Promise.all([load("/stats").catch(() => null), find(query)]);
    filters.replaceChildren(statusChips(query, stats), dateAndCurrencyChips(query, stats));
    const isFirst = shown.size === 0;
    const focused = document.activeElement?.closest("[data-row]")?.dataset.row;
    rows.replaceChildren(...found.rows.map((order) => {
      const row = orderRow(order);
      if (!isFirst && shown.get(order.orderId) !== order.revision) row.classList.add("fresh");
      return row;
    }));
    if (focused) rows.querySelector(`[data-row="${focused}"] a`)?.focus({ preventScroll: true });
    shown = new Map(found.rows.map((order) => [order.orderId, order.revision]));
    list.hidden = found.rows.length === 0;
    footer.replaceChildren(found.rows.length || query.get("page") || found.next ? pager(query, found) : noOrders(query));
  }

  const customer = query.get("customer");
  return {
    title: "Orders",
    content: [
      h("div", { class: "head" }, h("h1", {}, customer ? ["Orders of ", untrusted(customer)] : "Orders"), searchForm(query),
        h("a", { class: "button primary", href: linkTo(["new"]) }, "New order")),
      filters, list, footer,
    ],
    update,
    onEvents: update,
  };
}
