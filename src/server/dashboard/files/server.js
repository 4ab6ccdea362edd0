// The node itself: its configuration, its durability, and the rebuild of the read model.

import { PHASES, configuration, rebuild, serverInfo } from "./admin.js";
import { load } from "./api.js";
import { openDialog, explain } from "./actions.js";
import { announce, emptyState, definitionList, fullTime, h, replaceContent, table, tableRow, toast } from "./dom.js";
import { bytes, count, duration, sentence, visible } from "./text.js";

const DURABILITY_TEXTS = {
  none: "nothing. Commands are lost when the process ends.",
  process: "the end of the service process, but not a power loss of the store's machine.",
  machine: "a power loss of the store's machine.",
  quorum: "the loss of a minority of the store's machines.",
};
const LIMIT_NAMES = {
  maxMessageBytes: "Size of a request", maxItemsPerOrder: "Items of an order", maxQuantity: "Quantity of an item", maxPageSize: "Orders on a page",
  maxBatchSize: "Orders of a batch", maxIdsPerCall: "Ids of a call", maxInFlight: "Commands and queries in flight",
  maxConcurrentStreams: "Calls in flight on a connection", maxConnections: "Connections", maxMetadataBytes: "Size of the headers of a call",
};

// The rebuild continues in the node while another view is shown.
const progress = h("div", { role: "status" });
let isRunning = false;

function showProgress({ phase, events, total, perSecond, remaining, joined }) {
  isRunning = phase !== 3;
  const share = total ? Math.min(1, events / total) : 1;
  progress.replaceChildren(
    h("progress", { max: "1", ".value": phase === 3 ? 1 : share, "aria-label": "Progress of the rebuild" }),
    h("p", {}, h("strong", {}, PHASES[phase] ?? "Running"), ` · ${count(events)} of ${count(total)} events · ${count(Math.round(perSecond))} per second`,
      remaining === undefined || phase === 3 ? "" : ` · about ${duration(remaining)} left`, joined ? " · it was already running" : ""));
}

async function runRebuild() {
  isRunning = true;
  try {
    await rebuild(showProgress);
    announce("The read model is rebuilt.");
  } catch (error) {
    progress.replaceChildren(h("p", { class: "refusal" }, error.status ? explain(error) : "The connection was lost. The rebuild continues in the node."));
  } finally {
    isRunning = false;
  }
}

function confirmRebuild() {
  if (isRunning) return toast("The rebuild is running already.");
  openDialog({
    title: "Rebuild the read model?", buttonLabel: "Rebuild",
    description: "Lists and totals of this node are computed again from the log. The present ones are used until the new ones are complete.",
    onConfirm: async () => void runRebuild(),
  });
}

const SETTING_COLUMNS = [{ title: "Setting" }, { title: "Value" }, { title: "Source" }];

// The settings in use, as `ordersystem config` prints them; without those that have their defaults until these are asked for.
function settings(all) {
  const tables = h("div");
  const show = (withDefaults) => {
    const shown = all.filter(({ isDefault }) => withDefaults || !isDefault);
    const sections = Map.groupBy(shown, ({ section }) => section);
    const row = ({ name, value, source }) => tableRow(SETTING_COLUMNS, [h("code", {}, name),
      value ? h("code", { class: "whole" }, visible(value)) : h("span", { class: "mute" }, "not set"), h("span", { class: "mute" }, visible(source))]);
    const head = (section) => h("tr", { class: "section", role: "row" },
      h("th", { scope: "rowgroup", role: "rowheader", colspan: SETTING_COLUMNS.length }, section));
    const rows = [...sections].flatMap(([section, members]) => [head(section), ...members.map(row)]);
    tables.replaceChildren(shown.length ? table("Settings", SETTING_COLUMNS, rows) : h("p", { class: "mute" }, "Every setting has its default."));
  };
  show(false);
  return h("section", { class: "card settings" }, h("div", { class: "head" }, h("h2", {}, "Configuration"),
    h("label", { class: "check" }, h("input", { type: "checkbox", id: "defaults", onchange: ({ target }) => show(target.checked) }), " Show defaults too")),
    h("p", { class: "mute" }, "The settings in use, and their sources. Passwords are hidden."), tables);
}

const errorCard = (error) => h("section", { class: "card" }, h("h2", {}, "Configuration"), emptyState("This is for operators.", sentence(error.message)));

export function server() {
  const body = h("div");
  const settingsSection = h("div");
  let isConfigurationRequested = false;

  // Loaded once: the node records each call in its audit log.
  async function loadConfiguration() {
    if (isConfigurationRequested) return;
    isConfigurationRequested = true;
    try {
      settingsSection.replaceChildren(settings(await configuration()));
    } catch (error) {
      // Without a response it is requested again with the next update.
      if (!error.status) isConfigurationRequested = false;
      else settingsSection.replaceChildren(errorCard(error));
    }
  }

  async function update() {
    const [info, root] = await Promise.all([serverInfo(), load("/")]);
    const limits = Object.entries(info.limits).map(([name, value]) => [LIMIT_NAMES[name], name.endsWith("Bytes") ? bytes(value) : count(value)]);
    replaceContent(body, h("div", { class: "columns" },
      h("div", {},
        h("section", { class: "card" }, h("h2", {}, "This node"), definitionList([
          ["Name", visible(info.node)], ["Version", info.version], ["Mode", root.mode], ["State", root.status], ["Started", fullTime(info.startedAt)],
          ["Event store", info.persistence], ["Message bus", info.transport],
          ["Datacenter and worker", `${info.datacenterId} / ${info.workerId}`],
          ["Callers", info.authentication === "required" ? "identified by keys, tokens or certificates"
            : "not identified: every client may read and change orders"],
        ])),
        h("section", { class: "card" }, h("h2", {}, "Durability: ", root.durability),
          h("p", {}, "An acknowledged command survives: ", DURABILITY_TEXTS[root.durability] ?? "not known yet."),
          info.durabilityDetail ? h("p", { class: "mute" }, visible(info.durabilityDetail)) : ""),
        h("section", { class: "card" }, h("h2", {}, "Read model"), h("p", {}, "Lists and totals are computed from the log of events."),
          h("p", { class: "buttons" }, h("button", { type: "button", id: "rebuild", onclick: confirmRebuild }, "Rebuild …")), progress)),
      h("section", { class: "card" }, h("h2", {}, "Limits"), h("p", { class: "mute" }, "A call that exceeds a limit is refused. ", h("code", {}, "ordersystem --help"),
          " says how to change them."), h("div", { class: "limits" }, definitionList(limits)))));
    await loadConfiguration();
  }

  return { title: "Server", content: [h("div", { class: "head" }, h("h1", {}, "Server")), body, settingsSection], update };
}
