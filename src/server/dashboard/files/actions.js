// The actions on an order. Each opens a dialog to confirm it, has its own request id, and explains an error.

import { command, newRequestId } from "./api.js";
import { h, toast } from "./dom.js";
import { label, money, visible } from "./text.js";

const field = (name, options = {}) => ({ name, isRequired: false, ...options });

const ACTIONS = {
  pay: {
    title: "Pay", successMessage: "The order is paid.", allowedIn: ["Pending"], buttonLabel: (order) => `Pay ${money(order.total, order.currency)}`,
    fields: [field("paymentMethod", { isRequired: true, value: "card" }), field("paymentReference")],
  },
  ship: {
    title: "Ship", successMessage: "The order is shipped.", allowedIn: ["Paid"], buttonLabel: () => "Ship the order",
    fields: [field("trackingNumber", { isRequired: true }), field("carrier")],
  },
  deliver: { title: "Deliver", successMessage: "The order is delivered.", allowedIn: ["Shipped"], buttonLabel: () => "Mark as delivered", fields: [] },
  cancel: {
    title: "Cancel", successMessage: "The order is cancelled.", allowedIn: ["Pending", "Paid"], buttonLabel: () => "Cancel the order", isDangerous: true,
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
  if (error.status === 403) return `You may not do this: ${error.message}.`;
  if (error.status === 401) return `Log in to do this: ${error.message}.`;
  return EXPLANATIONS[error.reason]?.(error) ?? visible(`Refused: ${error.message}`);
}

export function input(spec) {
  const id = "field-" + spec.name.replace(/\W+/g, "-");
  return h("p", { class: "field" }, h("label", { for: id }, spec.label ?? label(spec.name), spec.isRequired ? "" : h("span", { class: "mute" }, " (optional)")),
    h("input", { id, name: spec.name, required: spec.isRequired, ".value": spec.value ?? "", autocomplete: "off", ...spec.attributes }));
}

// The values of a form, without empty ones.
export const formValues = (form) => Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ""));

// Marks the fields that the violations of an error name.
export function markInvalidFields(form, error) {
  for (const element of form.elements) element.removeAttribute("aria-invalid");
  for (const { field: name } of error.violations ?? []) form.elements.namedItem(name)?.setAttribute?.("aria-invalid", "true");
}

// Opens a dialog with the fields and calls `onConfirm` with their values when it is confirmed. The dialog stays open if that fails.
export function openDialog({ title, description, fields = [], buttonLabel, isDangerous, onConfirm, note }) {
  const errorText = h("p", { class: "refusal", role: "alert" });
  const button = h("button", { type: "submit", class: isDangerous ? "danger" : "primary" }, buttonLabel);
  const form = h("form", { method: "dialog" }, h("h2", { id: "dialog-title" }, title), h("p", {}, description), fields.map(input), errorText,
    note ? h("p", { class: "mute small" }, note) : null,
    h("p", { class: "buttons" }, h("button", { type: "button", onclick: () => dialog.close() }, "Back"), button));
  const dialog = h("dialog", { "aria-labelledby": "dialog-title", onclose: () => dialog.remove() }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    errorText.textContent = "";
    try {
      await onConfirm(formValues(form));
      dialog.close();
    } catch (error) {
      errorText.textContent = explain(error);
      markInvalidFields(form, error);
    } finally {
      button.disabled = false;
    }
  });
  document.body.append(dialog);
  dialog.showModal();
  (form.querySelector("input") ?? button).focus();
}

function openActionDialog(name, order, onDone) {
  const action = ACTIONS[name];
  const requestId = newRequestId();
  openDialog({
    title: `${action.title} order ${order.orderId}`,
    description: `It is ${order.status}, ${money(order.total, order.currency)}, for ${visible(order.customerId)}.`,
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
