// The list of orders: search, filters, pages.

import { Problem, load, page } from "./api.js";
import { amount, badge, byId, emptyState, untrusted, h, openOnClick, replaceContent, table, tableRow, time, toast } from "./dom.js";
import { navigate, currentRoute, lastList, linkTo } from "./router.js";
import { count, sentence, visible } from "./text.js";

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

// Whether the filters that a phone hides at first are shown.
let isMoreOpen = false;

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

// A filter that the service would refuse, or the console cannot send; the address may have been edited by hand.
function checkFilters(query) {
  const refuse = (detail) => {
    throw new Problem(400, { detail });
  };
  for (const name of ["from", "until"]) {
    if (query.get(name) && Number.isNaN(Date.parse(query.get(name) + "T00:00:00"))) refuse(`${name} must be a date such as 2026-01-31`);
  }
  if (query.get("day") && !Object.hasOwn(DAYS, query.get("day"))) refuse(`day must be one of ${Object.keys(DAYS).join(", ")}`);
  if (query.get("currency") && !/^[A-Z]{3}$/.test(query.get("currency"))) refuse("currency must be three capital letters, such as USD");
}

const chip = (title, isOn, hash) => h("a", { class: "chip", href: hash, "aria-current": isOn ? "true" : undefined }, title);
const chipsTitle = (title) => h("span", { class: "chips-title", "aria-hidden": "true" }, title);
const group = (title, ...members) => h("div", { role: "group", "aria-label": title, class: "chips" }, chipsTitle(title), members);

// The totals are those of all orders, so they say nothing about a list that another filter has narrowed.
const hasTotals = (query) => !["customer", "day", "from", "until", "currency"].some((name) => query.get(name));

// The chips are built once: they must not change under the hand of somebody who uses them. Returns them and a function that shows new totals.
function filterBar(query) {
  const status = query.get("status") ?? "";
  const isOldestFirst = query.get("sort") === "oldest";
  const counts = new Map();
  const statusChip = (name, title) => {
    const link = chip(title, status === name, linkWith(query, { status: name }));
    counts.set(name, link.appendChild(h("span", { class: "count" })));
    return link;
  };
  const currencyChips = h("div", { role: "group", "aria-label": "Currency", class: "chips", hidden: true });
  const active = ["day", "from", "until", "currency"].filter((name) => query.get(name)).length;
  const more = h("div", { class: "more-filters", id: "more-filters" }, dateChips(query), currencyChips);
  const toggle = h("button", { type: "button", class: "chip more-toggle", "aria-controls": "more-filters", onclick: () => {
    isMoreOpen = !isMoreOpen;
    showMore();
  } }, active ? `More filters (${active} set)` : "More filters");
  const showMore = () => {
    toggle.setAttribute("aria-expanded", String(isMoreOpen));
    more.classList.toggle("is-open", isMoreOpen);
  };
  showMore();
  const bar = h("div", { class: "filters" }, h("div", { class: "chips statuses" },
    h("div", { class: "chips", role: "group", "aria-label": "Status" }, statusChip("", "All"), STATUSES.map((name) => statusChip(name, name))),
    chip("Oldest first", isOldestFirst, linkWith(query, { sort: isOldestFirst ? "" : "oldest" }))), toggle, more);

  function showStats(stats) {
    for (const [name, element] of counts) element.textContent = stats && hasTotals(query) ? count(name ? stats.byStatus[name] : stats.totalOrders) : "";
    showCurrencies(currencyChips, query, Object.keys(stats?.revenueByCurrency ?? {}));
  }
  return { bar, showStats };
}

function dateChips(query) {
  const day = query.get("day") ?? "";
  const date = (name, title) => h("label", { class: "date" }, title, " ", h("input", {
    type: "date", ".value": query.get(name) ?? "", onchange: ({ target }) => navigate(linkWith(query, { [name]: target.value, day: "" })),
  }));
  return group("Placed", Object.entries(DAYS).map(([name, title]) =>
    chip(title, day === name, linkWith(query, { day: day === name ? "" : name, from: "", until: "" }))), date("from", "from"), date("until", "to"));
}

// A choice of one currency is none, unless it is chosen already.
function showCurrencies(chips, query, known) {
  const current = query.get("currency") ?? "";
  const codes = [...new Set([...known, current])].filter(Boolean).sort();
  if (chips.dataset.codes === codes.join()) return;
  chips.dataset.codes = codes.join();
  chips.hidden = codes.length < 2 && !current;
  replaceContent(chips, chipsTitle("Currency"), codes.map((code) =>
    chip(code, current === code, linkWith(query, { currency: current === code ? "" : code }))));
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
      if (error.status !== 404 && error.status !== 400) return toast(sentence(error.message));
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
      id: "search", type: "search", placeholder: "Order id or customer id ( / )", "aria-label": "Search by order id or customer id",
      ".value": query.get("customer") ?? "", spellcheck: "false", autocomplete: "off",
    }),
    h("button", { type: "submit" }, "Search"));
}

function orderRow(order) {
  const link = h("a", { href: linkTo(["orders", order.orderId]), class: "id" }, order.orderId);
  const customer = h("a", { href: linkTo(["orders"], { customer: order.customerId }), class: "plain" }, untrusted(order.customerId, { cut: true }));
  return openOnClick(tableRow(COLUMNS, [link, customer, badge(order.status), count(order.itemCount), amount(order.total, order.currency),
    time(order.createdAt), time(order.updatedAt)], { "data-row": order.orderId, "data-revision": order.revision }));
}

// "50 of 2,500 orders", with the number of all orders where it is known.
function pageText(query, found, stats) {
  const shown = count(found.rows.length);
  if (found.scannedCount) return `${shown} of ${count(found.scannedCount)} orders that were scanned`;
  const all = stats && hasTotals(query) ? stats.byStatus[query.get("status")] ?? stats.totalOrders : undefined;
  return all === undefined ? `${shown} ${found.rows.length === 1 ? "order" : "orders"} on this page` : `${shown} of ${all === 1 ? "1 order" : `${count(all)} orders`}`;
}

function pager(query, found, stats) {
  const token = query.get("page") ?? "";
  if (found.next) previousPageTokens.set(found.next, token);
  const link = (title, hash, rel) => h("a", { class: "button", href: hash, rel }, title);
  return h("nav", { class: "pager", "aria-label": "Pages" },
    token ? link(query.get("sort") === "oldest" ? "« Oldest" : "« Newest", linkWith(query, {})) : null,
    token && previousPageTokens.has(token) ? link("‹ Previous", linkWith(query, { page: previousPageTokens.get(token) }), "prev") : null,
    h("span", { class: "mute" }, pageText(query, found, stats)),
    found.next ? link(found.scannedCount && found.rows.length < PAGE_SIZE ? "Search further ›" : "Next ›",
      linkWith(query, { page: found.next }), "next") : null);
}

const allOrders = () => h("a", { href: linkTo(["orders"]) }, "Show all orders");

function noOrders(query, isEmptyNode) {
  if (isEmptyNode || [...query.keys()].length === 0) {
    return emptyState("There are no orders yet.", "Place the first one here, or send one to the API: every new order appears in this list at once.",
      h("span", { class: "buttons" }, h("a", { class: "button primary", href: linkTo(["new"]) }, "Place an order"),
        h("a", { class: "button", href: "/swagger" }, "Try the API")));
  }
  const customer = query.get("customer");
  return emptyState("No order matches.", customer ? `Customer ids must match exactly: “${visible(customer)}”. ` : "", allOrders());
}

export function orders() {
  const { query } = currentRoute();
  const { bar, showStats } = filterBar(query);
  const rows = h("tbody", { id: "orders", role: "rowgroup" });
  const list = table("Orders", COLUMNS, [], { kind: "orders", body: rows });
  const footer = h("div");
  let shown = new Map();
  let scannedCount = 0;

  function showRows(found) {
    const isFirst = shown.size === 0;
    replaceContent(rows, found.rows.map((order) => {
      const row = orderRow(order);
      if (!isFirst && shown.get(order.orderId) !== order.revision) row.classList.add("fresh");
      return row;
    }));
    shown = new Map(found.rows.map((order) => [order.orderId, order.revision]));
    list.hidden = found.rows.length === 0;
  }

  async function update() {
    const statsRequest = load("/stats").catch(() => null);
    let found;
    try {
      checkFilters(query);
      found = await find(query);
    } catch (error) {
      if (error.status !== 400) throw error;
      list.hidden = true;
      return footer.replaceChildren(emptyState("This list cannot be shown.", sentence(error.message), " ", allOrders()));
    }
    scannedCount = found.scannedCount;
    const stats = await statsRequest;
    const isEmptyNode = stats?.totalOrders === 0 && found.rows.length === 0;
    showStats(stats);
    showRows(found);
    bar.hidden = isEmptyNode;
    replaceContent(footer, found.rows.length || query.get("page") || found.next ? pager(query, found, stats) : noOrders(query, isEmptyNode));
  }

  const customer = query.get("customer");
  lastList.hash = linkTo(["orders"], Object.fromEntries(query));
  return {
    title: "Orders",
    content: [
      h("div", { class: "head" }, h("h1", {}, customer ? ["Orders of ", untrusted(customer)] : "Orders"), searchForm(query),
        h("a", { class: "button primary", href: linkTo(["new"]) }, "New order")),
      bar, list, footer,
    ],
    update,
    // A scan of many pages is repeated only for events that may change what is shown.
    isAffectedBy: ({ events }) => scannedCount <= SCAN_PAGE_SIZE
      || events.some((event) => shown.has(event.orderId) || event.currency === query.get("currency")),
  };
}
