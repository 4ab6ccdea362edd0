// Building elements. Everything that comes from the service is inserted as text, so no order can inject markup or scripts.

import { relativeTime, dateTime, exactTime, money, splitHidden, visible } from "./text.js";

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "path", "line", "text", "title", "circle", "rect"]);

// Creates an element with attributes, listeners (`onclick`), properties (`.value`) and children, which are nodes or text.
export function h(tag, attributes = {}, ...children) {
  const isSvg = SVG_TAGS.has(tag);
  const element = isSvg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith(".")) element[name.slice(1)] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

// Untrusted text: isolated from the writing direction of its surroundings, with invisible characters as escapes. `cut` truncates it to one line, with
// the full text as its tooltip.
export function untrusted(text, { cut = false } = {}) {
  const shown = splitHidden(String(text)).map((part) =>
    part.text ?? h("span", { class: "escape", title: "An invisible character" }, part.escape));
  return h("bdi", { class: cut ? "cut" : "whole", title: cut ? visible(text) : undefined }, shown);
}

const CONTROLS = "a, button, input, select, summary";
const rowOf = (element) => element.closest("[data-row]")?.dataset.row ?? "";
const keyOf = (element) => [rowOf(element), element.tagName, element.id || element.name || element.getAttribute("href") || element.textContent].join(" ");

// Replaces the content of an element. The focus stays on the control that had it, which is recognized by its row and its id, name, address or text.
export function replaceContent(container, ...content) {
  const focused = document.activeElement;
  const focusedKey = container.contains(focused) && focused.matches(CONTROLS) ? keyOf(focused) : null;
  container.replaceChildren(...content.flat());
  if (focusedKey === null || container.contains(document.activeElement)) return;
  [...container.querySelectorAll(CONTROLS)].find((element) => keyOf(element) === focusedKey)?.focus({ preventScroll: true });
}

export const time = (iso) => iso ? h("time", { datetime: iso, title: exactTime(iso) }, relativeTime(iso)) : "–";

// The relative time, and beside it the date and time of the clock.
export const fullTime = (iso) => iso ? [time(iso), " ", h("span", { class: "clock" }, dateTime(iso))] : "–";

// Updates the relative times on the page.
export function refreshTimes() {
  for (const element of document.querySelectorAll("time[datetime]")) {
    const text = relativeTime(element.dateTime);
    if (element.textContent !== text) element.textContent = text;
  }
}

const secondsLeft = (deadline) => Math.max(0, Math.ceil((deadline - Date.now()) / 1000));

// A countdown in seconds, by the clock of this page.
export const countdown = (seconds) => {
  const deadline = Date.now() + seconds * 1000;
  return h("span", { class: "number", "data-until": deadline }, `${secondsLeft(deadline)} s`);
};

export function refreshCountdowns() {
  for (const element of document.querySelectorAll("[data-until]")) {
    const text = `${secondsLeft(Number(element.dataset.until))} s`;
    if (element.textContent !== text) element.textContent = text;
  }
}

export const amount = (value, currency) => h("span", { class: "number" }, money(value, currency));

const ICONS = {
  Pending: ["◷", "warn"], Paid: ["●", "info"], Shipped: ["➤", "info"], Delivered: ["✓", "good"], Cancelled: ["✕", "mute"],
  Healthy: ["✓", "good"], Degraded: ["!", "warn"], Unhealthy: ["✕", "bad"],
  closed: ["✓", "good"], "half-open": ["◐", "warn"], open: ["✕", "bad"],
};

export function badge(name, text = name) {
  const [icon, tone] = ICONS[name] ?? ["•", "mute"];
  return h("span", { class: `badge tone-${tone}` }, h("span", { "aria-hidden": "true" }, icon), " ", text);
}

export const emptyState = (title, ...content) => h("div", { class: "empty" }, h("strong", {}, title), h("p", {}, content));

// A table with a caption for screen readers; `rows` are arrays of children, or a row element. On a phone each cell shows the title of its column, above
// it if the column has `long` text. The roles are written out since a row that is laid out as a grid is no row to a screen reader otherwise.
export function table(caption, columns, rows, { kind, body = h("tbody", { role: "rowgroup" }) } = {}) {
  const head = h("tr", { role: "row" }, columns.map(({ title, number, unseen }) =>
    h("th", { scope: "col", role: "columnheader", class: number ? "number" : undefined }, unseen ? h("span", { class: "unseen" }, title) : title)));
  body.append(...rows.map((row) => row instanceof Element ? row : tableRow(columns, row)));
  return h("div", { class: "scroll" }, h("table", { class: kind, role: "table" }, h("caption", { class: "unseen" }, caption),
    h("thead", { role: "rowgroup" }, head), body));
}

export function tableRow(columns, cells, attributes = {}) {
  return h("tr", { role: "row", ...attributes }, cells.map((cell, index) => {
    const { title, number, long } = columns[index];
    return h("td", { "data-column": title, role: "cell", class: number ? "number" : long ? "long" : undefined }, cell);
  }));
}

// Makes a click anywhere in a row follow the row's first link, unless it selects text or meets another control.
export function openOnClick(row) {
  row.addEventListener("click", (clicked) => {
    if (clicked.target.closest("a, button, input, label") || !getSelection().isCollapsed) return;
    row.querySelector("a").dispatchEvent(new MouseEvent("click", clicked));
  });
  return row;
}

export function definitionList(pairs) {
  const shown = pairs.filter(([, value]) => value !== undefined && value !== "");
  return h("dl", { class: "facts" }, shown.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

let announcements = 0;

// Announces a text to screen readers. A text that is repeated has to differ to be announced again.
export function announce(text) {
  byId("announce").textContent = text + (announcements++ % 2 ? "\u00a0" : "");
}

let toastTimer = 0;

// Shows a short message that disappears by itself.
export function toast(text) {
  document.querySelector(".toast")?.remove();
  clearTimeout(toastTimer);
  document.body.append(h("div", { class: "toast" }, text));
  announce(text);
  toastTimer = setTimeout(() => document.querySelector(".toast")?.remove(), 5000);
}
