// The keyboard shortcuts of the console.

import { byId, h } from "./dom.js";
import { navigate, linkTo } from "./router.js";

const KEYS = [
  ["/", "Search"], ["j", "Next row"], ["k", "Previous row"], ["Enter", "Open the row"], ["n", "New order"],
  ["g", "Then o, p, d or s: orders, operations, dead letters, server"], ["?", "This help"], ["Esc", "Close a dialog"],
];
const VIEWS = { o: "orders", p: "operations", d: "dead-letters", s: "server" };

function showHelp() {
  const dialog = h("dialog", { "aria-labelledby": "help-title", onclose: () => dialog.remove() }, h("form", { method: "dialog" },
    h("h2", { id: "help-title" }, "Keyboard shortcuts"),
    h("dl", { class: "keys" }, KEYS.map(([name, description]) => h("div", {}, h("dt", {}, h("kbd", {}, name)), h("dd", {}, description)))),
    h("p", { class: "buttons" }, h("button", { class: "primary" }, "Close"))));
  document.body.append(dialog);
  dialog.showModal();
}

// Moves the focus to the link of the next or previous row.
function moveFocus(step) {
  const rows = [...document.querySelectorAll("[data-row]")];
  const current = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[current < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(Math.max(current + step, 0), rows.length - 1)];
  next?.querySelector("a, input")?.focus();
}

let goPressedAt = 0;

function handleKey(name) {
  if (Date.now() - goPressedAt < 1500 && VIEWS[name]) {
    goPressedAt = 0;
    return navigate(linkTo([VIEWS[name]]));
  }
  if (name === "/") {
    if (byId("search")) return byId("search").select();
    addEventListener("hashchange", () => byId("search")?.select(), { once: true });
    return navigate(linkTo(["orders"]));
  }
  const action = { j: () => moveFocus(1), k: () => moveFocus(-1), n: () => navigate(linkTo(["new"])), "?": showHelp, g: () => (goPressedAt = Date.now()) }[name];
  return action ? action() ?? true : false;
}

export function initKeyboard(button) {
  button.addEventListener("click", showHelp);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") return document.activeElement?.blur();
    if (event.target.matches("input, textarea, select")) return;
    if (handleKey(event.key) !== false) event.preventDefault();
  });
}
