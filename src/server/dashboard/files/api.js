// The REST API of the node, and whether the node can be reached.

// The key of the caller, for this tab only. It is sent as a header and never part of an address.
const STORAGE_KEY = "ordersystem-key";
const REQUEST_TIMEOUT_MS = 10_000;

export const key = {
  get: () => sessionStorage.getItem(STORAGE_KEY) ?? "",
  set: (value) => sessionStorage.setItem(STORAGE_KEY, value),
  clear: () => sessionStorage.removeItem(STORAGE_KEY),
};

export const authorization = (secret) => secret ? { authorization: "Bearer " + secret } : {};

// Whether the node can be reached. Dispatches "reachable", "unreachable" and "unauthenticated".
export const node = new EventTarget();
node.lastResponseAt = 0;
node.isUnreachable = false;

export function markReachable() {
  node.lastResponseAt = Date.now();
  if (!node.isUnreachable) return;
  node.isUnreachable = false;
  node.dispatchEvent(new Event("reachable"));
}

export function markUnreachable() {
  if (node.isUnreachable) return;
  node.isUnreachable = true;
  node.dispatchEvent(new Event("unreachable"));
}

// An error response of the service (RFC 9457), with the service's own text.
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `the node responded with ${status}`);
    this.status = status;
    this.reason = body.reason ?? "";
    this.title = body.title ?? "";
    this.violations = body.violations ?? [];
    this.body = body;
  }

  get needsLogin() {
    return this.status === 401;
  }
}

// No response was received.
export class UnreachableError extends Error {
  constructor() {
    super("the server does not answer");
  }
}

// Amounts are kept as the decimal text that the service sent: a binary floating-point number cannot represent every amount of money.
const AMOUNTS = new Set(["price", "total", "totalRevenue"]);
const isAmount = (name) => AMOUNTS.has(name) || /^[A-Z]{3}$/.test(name);
export const parse = (text) => JSON.parse(text, (name, value, context) =>
  typeof value === "number" && isAmount(name) ? context?.source ?? value : value);

// The JSON as the service sent it, indented.
export const toJson = (value) => JSON.stringify(value, (name, part) =>
  typeof part === "string" && isAmount(name) && /^-?\d+(\.\d+)?$/.test(part) && JSON.rawJSON ? JSON.rawJSON(part) : part, 2);

export async function send(path, { method = "GET", accept = "application/json", headers = {}, body, signal } = {}) {
  const contentType = body === undefined || typeof body !== "string" ? {} : { "content-type": "application/json" };
  const options = {
    method, body, cache: "no-store", signal: signal ?? AbortSignal.timeout(REQUEST_TIMEOUT_MS),
    headers: { accept, ...authorization(key.get()), ...contentType, ...headers },
  };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    if (!signal?.aborted) markUnreachable();
    throw new UnreachableError();
  }
  // A proxy in front of an unreachable node responds in its place.
  if (response.status === 502 || response.status === 504) {
    markUnreachable();
    throw new UnreachableError();
  }
  markReachable();
  return response;
}

async function toProblem(response) {
  const problem = new Problem(response.status, await response.json().catch(() => ({})));
  if (problem.needsLogin) node.dispatchEvent(new CustomEvent("unauthenticated", { detail: problem.message }));
  return problem;
}

// The JSON of a response. An unhealthy node responds with 503 and the same body.
export async function load(path, options) {
  const response = await send(path, options);
  const type = response.headers.get("content-type") ?? "";
  if (!type.startsWith("application/json")) throw await toProblem(response);
  return parse(await response.text());
}

// A page of a list, and the token of the next page.
export async function page(path, parameter) {
  const response = await send(path);
  if (!response.ok) throw await toProblem(response);
  const link = /<([^>]+)>; rel="next"/.exec(response.headers.get("link") ?? "");
  const next = link && new URL(link[1], location.href).searchParams.get(parameter);
  return { rows: parse(await response.text()), next };
}

export async function text(path) {
  const response = await send(path, { accept: "text/plain" });
  if (!response.ok) throw await toProblem(response);
  return response.text();
}

// Every command has a request id: a command that is sent again takes effect once. `crypto.randomUUID` is not available without TLS.
export const newRequestId = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export const command = (path, body, requestId, revision) => load(path, {
  method: "POST",
  body: JSON.stringify(body),
  headers: { "idempotency-key": requestId, ...(revision ? { "if-match": `"${revision}"` } : {}) },
});
