// The form that places an order.

import { command, newRequestId } from "./api.js";
import { clearError, input, formValues, showError } from "./actions.js";
import { byId, h, toast } from "./dom.js";
import { lastList, navigate, linkTo } from "./router.js";
import { money, totalOf } from "./text.js";

function itemRow(remove) {
  const cell = (name, title, attributes) => h("label", {}, title, h("input", { "data-item": name, "aria-label": title, autocomplete: "off", ...attributes }));
  const row = h("fieldset", { class: "item" }, h("legend", { class: "unseen" }, "Item"),
    cell("productId", "Product id", { required: true }), cell("name", "Name (optional)"),
    cell("quantity", "Quantity", { required: true, type: "number", min: "1", step: "1", ".value": "1" }),
    cell("price", "Price", { required: true, inputmode: "decimal", placeholder: "9.95" }),
    h("button", { type: "button", class: "quiet remove", "aria-label": "Remove this item", title: "Remove this item", onclick: () => remove(row) },
      h("span", { "aria-hidden": "true" }, "✕"), h("span", { class: "wide" }, " Remove")));
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
    const sum = totalOf(readItems(rows.children));
    const currency = form.elements.currency.value.toUpperCase();
    total.textContent = sum !== undefined && /^[A-Z]{3}$/.test(currency) ? money(sum, currency) : "–";
  }

  async function place(event) {
    event.preventDefault();
    button.disabled = true;
    clearError(form, errorText);
    const { customerId, currency, shippingAddress } = formValues(form);
    try {
      const order = await command("/orders", { customerId, currency: currency?.toUpperCase(), shippingAddress, items: readItems(rows.children) }, requestId);
      toast("The order is placed.");
      navigate(linkTo(["orders", order.orderId]));
    } catch (error) {
      showError(form, errorText, error);
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
    h("p", { class: "buttons" }, h("button", { type: "button", onclick: addItem }, "Add an item"), h("span", { class: "total" }, "Total ", total)),
    errorText, h("p", { class: "buttons end" }, h("a", { class: "button", href: lastList.hash }, "Back"), button));
  addItem();
  return {
    title: "New order",
    content: [h("p", { class: "crumbs" }, h("a", { href: lastList.hash }, "Orders"), " / New order"), h("h1", {}, "New order"), form],
    update: async () => byId("field-customerId")?.value || byId("field-customerId")?.focus(),
  };
}
