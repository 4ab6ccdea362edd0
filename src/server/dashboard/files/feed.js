// The event feed of this tab: from the shared worker of all tabs, or from a stream of its own where the browser has no shared workers.

import { key } from "./api.js";
import { EventFeed } from "./stream.js";

const HEARTBEAT_INTERVAL_MS = 20_000;

// Dispatches "state" (live, reconnecting, refused) and "events".
export const feed = new EventTarget();
feed.state = { type: "connecting" };

function dispatch(message) {
  if (message.type === "events") {
    feed.dispatchEvent(new CustomEvent("events", { detail: message }));
  } else {
    feed.state = message;
    feed.dispatchEvent(new Event("state"));
  }
}

let port = null;
let ownFeed = null;

function useOwnStream() {
  port = null;
  ownFeed?.stop();
  ownFeed = new EventFeed(key.get(), dispatch);
}

// Follows the events as the caller with the current key.
export function follow() {
  if (ownFeed || typeof SharedWorker === "undefined") return useOwnStream();
  if (!port) {
    const worker = new SharedWorker("/dashboard/worker.js", { type: "module", name: "ordersystem events" });
    worker.addEventListener("error", useOwnStream);
    port = worker.port;
    port.addEventListener("message", ({ data }) => dispatch(data));
    port.start();
  }
  port.postMessage({ type: "follow", secret: key.get() });
}

setInterval(() => port?.postMessage({ type: "heartbeat" }), HEARTBEAT_INTERVAL_MS);
addEventListener("pagehide", () => port?.postMessage({ type: "leave" }));
// The page is restored from the back-forward cache of the browser.
addEventListener("pageshow", ({ persisted }) => persisted && follow());
