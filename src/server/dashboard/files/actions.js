// The actions on an order. Each opens a dialog to confirm it, has its own request id, and explains an error.

import { command, newRequestId } from "./api.js";
import { badge, definitionList, h, toast, untrusted } from "./dom.js";
import { label, money, sentence } from "./text.js";

const field = (name, options = {}) => ({ name, isRequired: false, ...options });

const ACTIONS = {
  pay: {
    title: "Pay", successMessage: "The order is paid.", allowedIn: ["Pending"], buttonLabel: (order) => `Pay ${money(order.total, order.currency)}`,
    consequence: "The payment is recorded; no money is moved by this service.",
    fields: [field("paymentMethod", { isRequired: true, value: "card" }), field("paymentReference")],
  },
  ship: {
    title: "Ship", successMessage: "The order is shipped.", allowedIn: ["Paid"], buttonLabel: () => "Ship the order",
    consequence: "A shipped order cannot be cancelled.",
    fields: [field("trackingNumber", { isRequired: true }), field("carrier")],
  },
  deliver: {
    title: "Deliver", successMessage: "The order is delivered.", allowedIn: ["Shipped"], buttonLabel: () => "Mark as delivered", fields: [],
    consequence: "A delivered order does not change any more.",
  },
  cancel: {
    title: "Cancel", successMessage: "The order is cancelled.", allowedIn: ["Pending", "Paid"], buttonLabel: () => "Cancel the order", isDangerous: true,
    consequence: "A cancelled order cannot be paid, shipped or reopened.",
    fields: [field("reason")],
  },
};

// The actions that are allowed in a status.
export const allowedActions = (status) => Object.keys(ACTIONS).filter((name) => ACTIONS[name].allowedIn.includes(status));

const EXPLANATIONS = {
  IF_MATCH_FAILED: (problem) => `Somebody else has changed this order: it is now at revision ${problem.body.actualRevision}, but you were looking at ` +
    `revision ${problem.body.expectedRevision}. Nothing was changed. Close this dialog to see the current state of the order.`,
};

// The message for an error, with what to do about it.
export function explain(error) {
  if (error.name === "TypeError") throw error;
  if (!error.status) return "No response was received, so the command may or may not have taken effect. Press the button again: with the same request id " +
    "it takes effect at most once.";
  if (error.status === 403) return sentence(`You may not do this: ${error.message}`);
  if (error.status === 401) return sentence(`Log in to do this: ${error.message}`);
  return EXPLANATIONS[error.reason]?.(error) ?? sentence(`Refused: ${error.message}`);
}

export function input(spec) {
  const id = "field-" + spec.name.replace(/\W+/g, "-");
  return h("p", { class: "field" }, h("label", { for: id }, spec.label ?? label(spec.name), spec.isRequired ? "" : h("span", { class: "mute" }, " (optional)")),
    h("input", { id, name: spec.name, required: spec.isRequired, ".value": spec.value ?? "", autocomplete: "off", ...spec.attributes }));
}

// The values of a form, without empty ones.
export const formValues = (form) => Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ""));

export function clearError(form, output) {
  output.textContent = "";
  for (const message of form.querySelectorAll(".field-error")) message.remove();
  for (const element of form.elements) for (const name of ["aria-invalid", "aria-describedby"]) element.removeAttribute(name);
}

// Shows an error: what is wrong with a field below the field, everything else in `output`.
export function showError(form, output, error) {
  const explanation = explain(error);
  const others = [];
  for (const { field: name, description } of error.violations ?? []) {
    const element = form.elements.namedItem(name);
    if (!(element instanceof HTMLInputElement)) {
      others.push(sentence(`${name} ${description}`));
      continue;
    }
    const message = h("span", { class: "field-error", id: `error-${element.name.replace(/\W+/g, "-")}` }, sentence(description));
    element.after(message);
    element.setAttribute("aria-invalid", "true");
    element.setAttribute("aria-describedby", message.id);
  }
  const marked = form.querySelectorAll("[aria-invalid]");
  marked[0]?.focus();
  output.textContent = marked.length ? [`Refused: correct the marked ${marked.length === 1 ? "field" : "fields"}.`, ...others].join(" ") : explanation;
}

// Opens a dialog with the fields and calls `onConfirm` with their values when it is confirmed. The dialog stays open if that fails.
export function openDialog({ title, description, fields = [], buttonLabel, isDangerous, onConfirm, note }) {
  const errorText = h("p", { class: "refusal", role: "alert" });
  const button = h("button", { type: "submit", class: isDangerous ? "danger" : "primary" }, buttonLabel);
  const back = h("button", { type: "button", onclick: () => dialog.close() }, "Back");
  const form = h("form", { method: "dialog" }, h("h2", { id: "dialog-title" }, title), h("div", { id: "dialog-text" }, description), fields.map(input), errorText,
    note ? h("p", { class: "mute small" }, note) : null,
    h("p", { class: "buttons" }, back, button));
  const dialog = h("dialog", { "aria-labelledby": "dialog-title", "aria-describedby": "dialog-text", onclose: () => dialog.remove() }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    clearError(form, errorText);
    try {
      await onConfirm(formValues(form));
      dialog.close();
    } catch (error) {
      showError(form, errorText, error);
    } finally {
      button.disabled = false;
    }
  });
  document.body.append(dialog);
  dialog.showModal();
  // Enter alone must not confirm something dangerous.
  (form.querySelector("input") ?? (isDangerous ? back : button)).focus();
}

function openActionDialog(name, order, onDone) {
  const action = ACTIONS[name];
  const requestId = newRequestId();
  openDialog({
    title: `${action.title} order ${order.orderId}`,
    description: [definitionList([
      ["Customer", untrusted(order.customerId)], ["Total", money(order.total, order.currency)], ["Status", badge(order.status)],
    ]), h("p", {}, action.consequence)],
    fields: action.fields, buttonLabel: action.buttonLabel(order), isDangerous: action.isDangerous,
    note: `Request id ${requestId}`,
    onConfirm: async (values) => {
      await command(`/orders/${order.orderId}/${name}`, values, requestId, order.revision);
      toast(action.successMessage);
      await onDone();
    },
  });
}

export function actionButtons(order, onDone) {
  const names = allowedActions(order.status);
  if (names.length === 0) return h("p", { class: "mute" }, `${order.status} orders do not change any more.`);
  return h("div", { class: "buttons", role: "group", "aria-label": "Actions" }, names.map((name) => h("button", {
    type: "button", class: ACTIONS[name].isDangerous ? "danger" : "primary", "data-action": name, onclick: () => openActionDialog(name, order, onDone),
  }, ACTIONS[name].title)));
}
