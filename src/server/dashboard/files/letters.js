// Dead letters: the events that a handler failed to handle.

import { deadLetters, discard, replay } from "./admin.js";
import { text } from "./api.js";
import { openDialog } from "./actions.js";
import { emptyState, untrusted, h, replaceContent, tableRow, table, time, toast } from "./dom.js";
import { parseMetrics } from "./metrics.js";
import { linkTo } from "./router.js";
import { count, sentence } from "./text.js";

const COLUMNS = [
  { title: "Select", unseen: true }, { title: "Event" }, { title: "Order" }, { title: "Reason", long: true }, { title: "Attempts", number: true },
  { title: "Since" },
];

async function handlers() {
  const metrics = parseMetrics(await text("/metrics"));
  return (metrics.get("ordersystem_subscription_active") ?? []).map(({ labels }) => labels.handler).sort();
}

const eventCount = (number) => number === 1 ? "1 event" : `${count(number)} events`;

export function deadLettersView([, requestedHandler]) {
  const body = h("div");
  const loadedAt = h("span", { class: "mute small" });
  // The selection is kept when the list is reloaded.
  const selected = new Set();
  let pages = 1;

  async function read(handler) {
    const letters = [];
    let next = "";
    for (let loaded = 0; loaded < pages; loaded++) {
      const page = await deadLetters(handler, next);
      letters.push(...page.letters);
      next = page.next;
      if (!next) break;
    }
    return { letters, next };
  }

  function askToConfirm(verb, operation, handler, ids) {
    const subject = ids ? eventCount(ids.length) : "all dead letters of the handler";
    const isDiscard = operation === discard;
    openDialog({
      title: `${verb} ${subject}?`, buttonLabel: verb, isDangerous: isDiscard,
      description: isDiscard ? `The handler will never see ${ids?.length === 1 ? "it. The event stays" : "them. The events stay"} in the log.`
        : `${ids?.length === 1 ? "It is" : "They are"} delivered to the handler again. An event that fails again becomes a dead letter again.`,
      onConfirm: async () => {
        const number = await operation(handler, ids);
        selected.clear();
        toast(isDiscard ? `${eventCount(number)} discarded.` : `${eventCount(number)} sent to the handler again.`);
        await update();
      },
    });
  }

  function letterRow(letter, onSelectionChange) {
    const checkbox = h("input", {
      type: "checkbox", "aria-label": `Select ${letter.eventId}`, ".checked": selected.has(letter.eventId),
      onchange: ({ target }) => {
        if (target.checked) selected.add(letter.eventId);
        else selected.delete(letter.eventId);
        onSelectionChange();
      },
    });
    const eventCell = h("div", { class: "event" }, h("strong", {}, letter.type), h("div", { class: "mute small" }, letter.eventId));
    return tableRow(COLUMNS, [checkbox, eventCell, h("a", { href: linkTo(["orders", letter.orderId]), class: "id" }, letter.orderId), untrusted(letter.reason),
      count(letter.attempts), time(letter.deadLetteredAt)], { "data-row": letter.eventId });
  }

  async function update() {
    const names = await handlers();
    loadedAt.replaceChildren("Loaded ", time(new Date().toISOString()));
    const handler = names.includes(requestedHandler) ? requestedHandler : names[0];
    if (!handler) return body.replaceChildren(emptyState("This node has no event handler.", "Dead letters come from event handlers."));
    const { letters, next } = await read(handler);
    for (const id of selected) if (!letters.some((letter) => letter.eventId === id)) selected.delete(id);
    const tabs = h("div", { class: "chips", role: "group", "aria-label": "Event handlers" },
      h("span", { class: "chips-title", "aria-hidden": "true" }, names.length === 1 ? "Event handler" : "Event handlers"), names.map((name) =>
      h("a", { class: "chip", href: linkTo(["dead-letters", name]), "aria-current": name === handler ? "true" : undefined }, name)));
    if (letters.length === 0) {
      return replaceContent(body, tabs, emptyState("There are no dead letters.",
        `${handler} has handled every event that was delivered to it. An event that it cannot handle is listed here after its last attempt.`));
    }
    const buttons = h("div", { class: "buttons" });
    const rows = h("tbody", { role: "rowgroup" });
    const selectAll = h("input", { type: "checkbox", id: "select-all", onchange: () => {
      for (const { eventId } of letters) if (selectAll.checked) selected.add(eventId); else selected.delete(eventId);
      for (const box of rows.querySelectorAll("input")) box.checked = selectAll.checked;
      showButtons();
    } });
    const showButtons = () => {
      const ids = selected.size ? [...selected] : undefined;
      const scope = ids ? `${ids.length} selected` : "all";
      selectAll.checked = selected.size === letters.length;
      selectAll.indeterminate = selected.size > 0 && !selectAll.checked;
      replaceContent(buttons,
        h("button", { type: "button", class: "primary", onclick: () => askToConfirm("Replay", replay, handler, ids) }, `Replay ${scope}`),
        h("button", { type: "button", class: "danger", onclick: () => askToConfirm("Discard", discard, handler, ids) }, `Discard ${scope}`),
        h("label", { class: "check" }, selectAll, ` Select ${next ? "the" : "all"} ${count(letters.length)} shown`));
    };
    showButtons();
    const moreButton = next ? h("button", {
      type: "button", onclick: () => {
        pages += 1;
        update();
      },
    }, "Show more") : null;
    replaceContent(body, tabs, buttons, table("Dead letters, oldest first", COLUMNS, letters.map((letter) => letterRow(letter, showButtons)),
      { kind: "letters", body: rows }), moreButton ?? "");
  }

  // There is no automatic refresh: the node records each call in its audit log.
  const refresh = h("button", { type: "button", onclick: () => update().catch((error) => toast(sentence(error.message))) }, "Refresh");
  return { title: "Dead letters", content: [h("div", { class: "head" }, h("h1", {}, "Dead letters"), h("div", { class: "buttons" }, loadedAt, refresh)), body], update };
}
