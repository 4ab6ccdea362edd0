// Every view has an address: `#/orders?status=Paid`, `#/orders/ID?revision=2`.

// The parts of the path and the parameters of the current view.
export function currentRoute() {
  const [path, query = ""] = location.hash.slice(1).split("?");
  const parts = path.split("/").filter(Boolean).map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { parts, query: new URLSearchParams(query) };
}

// The address of a view, without empty parameters.
export function linkTo(parts, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) if (value !== "" && value !== undefined && value !== null) query.set(name, value);
  const path = "#/" + parts.map(encodeURIComponent).join("/");
  return query.size ? `${path}?${query}` : path;
}

// The list of orders as it was last shown, with its filters and page: the way back from an order.
export const lastList = { hash: "#/orders" };

export function navigate(hash) {
  location.hash = hash;
}

// Changes parameters of the current view without adding an entry to the history of the browser.
export function replaceParameters(parameters) {
  const { parts, query } = currentRoute();
  history.replaceState(history.state, "", linkTo(parts, { ...Object.fromEntries(query), ...parameters }));
}
