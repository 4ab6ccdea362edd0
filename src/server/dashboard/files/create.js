// The form that places an order.

import { command, newRequestId } from "./api.js";
import { explain, input, markInvalidFields, formValues } from "./actions.js";
import { byId, h, toast } from "./dom.js";
import { navigate, linkTo } from "./router.js";
import { money } from "./text.js";

function itemRow(remove) {
  const cell = (name, title, attributes) => h("label", {}, title, h("input", { "data-item": name, "aria-label": title, autocomplete: "off", ...attributes }));
  const row = h("fieldset", { class: "item" }, h("legend", { class: "unseen" }, "Item"),
    cell("productId", "Product", { required: true }), cell("name", "Name (optional)"),
    cell("quantity", "Quantity", { required: true, type: "number", min: "1", step: "1", ".value": "1" }),
    cell("price", "Price", { required: true, inputmode: "decimal", placeholder: "9.95" }),
    h("button", { type: "button", class: "quiet", "aria-label": "Remove this item", onclick: () => remove(row) }, "✕"));
  return row;
}

// The items in the rows. The price stays the text that was typed in, so that no decimal is lost.
const readItems = (rows) => [...rows].map((row) => Object.fromEntries([...row.querySelectorAll("[data-item]")].filter(({ value }) => value !== "")
  .map(({ dataset, value }) => [dataset.item, dataset.item === "quantity" ? Number(value) : value])));

export function create() {
  const rows = h("div", { id: "items" });
  const total = h("strong", {}, "–");
  const errorText = h("p", { class: "refusal", role: "alert" });
  const button = h("button", { type: "submit", class: "primary" }, "Place the order");
  // Renewed whenever the form changes, and kept otherwise: the same order that is sent again is placed once.
  let requestId = newRequestId();

  function renumber() {
    [...rows.children].forEach((row, index) => {
      for (const cell of row.querySelectorAll("[data-item]")) cell.name = `items[${index}].${cell.dataset.item}`;
    });
  }
  function addItem() {
    rows.append(itemRow((row) => {
      if (rows.children.length > 1) row.remove();
      renumber();
      updateTotal();
    }));
    renumber();
    rows.lastElementChild.querySelector("input").focus();
  }
  function updateTotal() {
    const amounts = readItems(rows.children).map(({ quantity, price }) => quantity * Number(price));
    const totalAmount = amounts.reduce((left, right) => left + right, 0);
    const currency = form.elements.currency.value.toUpperCase();
    total.textContent = Number.isFinite(totalAmount) && /^[A-Z]{3}$/.test(currency) ? money(totalAmount.toFixed(2), currency) : "–";
  }

  async function place(event) {
    event.preventDefault();
    button.disabled = true;
    errorText.textContent = "";
    const { customerId, currency, shippingAddress } = formValues(form);
    try {
      const order = await command("/orders", { customerId, currency: currency?.toUpperCase(), shippingAddress, items: readItems(rows.children) }, requestId);
      toast("The order is placed.");
      navigate(linkTo(["orders", order.orderId]));
    } catch (error) {
      errorText.textContent = explain(error);
      markInvalidFields(form, error);
    } finally {
      button.disabled = false;
    }
  }

  const onInput = () => {
    requestId = newRequestId();
    updateTotal();
  };
  const form = h("form", { class: "card form", onsubmit: place, oninput: onInput },
    input({ name: "customerId", label: "Customer id", isRequired: true }),
    input({ name: "currency", value: "USD", isRequired: true, attributes: { maxlength: "3", pattern: "[A-Za-z]{3}", size: "4" } }),
    input({ name: "shippingAddress" }),
    h("h2", {}, "Items"), rows,
    h("p", { class: "buttons" }, h("button", { type: "button", onclick: addItem }, "Add an item"), h("span", { class: "total" }, "Total about ", total)),
    errorText, h("p", { class: "buttons" }, h("a", { class: "button", href: linkTo(["orders"]) }, "Back"), button));
  addItem();
  return {
    title: "New order",
    content: [h("p", { class: "crumbs" }, h("a", { href: linkTo(["orders"]) }, "Orders"), " / New order"), h("h1", {}, "New order"), form],
    update: async () => byId("field-customerId")?.value || byId("field-customerId")?.focus(),
  };
}
