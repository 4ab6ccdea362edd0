// One event stream for all tabs of a caller: over HTTP/1.1 a browser has six connections to a node, and a stream occupies one.

import { EventFeed } from "./stream.js";

// A tab without a heartbeat for this long has crashed. It must be over a minute, since timers of hidden tabs run once a minute.
const TAB_TIMEOUT_MS = 150_000;

const feeds = new Map();

function leave(secret, port) {
  const shared = feeds.get(secret);
  if (!shared?.ports.delete(port) || shared.ports.size > 0) return;
  shared.feed.stop();
  feeds.delete(secret);
}

function follow(secret, port) {
  const existing = feeds.get(secret);
  if (existing && existing.feed.state.type !== "refused") {
    existing.ports.set(port, Date.now());
    port.postMessage(existing.feed.state);
    return;
  }
  const ports = existing?.ports ?? new Map();
  ports.set(port, Date.now());
  const broadcast = (message) => ports.forEach((_, tab) => tab.postMessage(message));
  feeds.set(secret, { ports, feed: new EventFeed(secret, broadcast) });
}

self.addEventListener("connect", ({ ports: [port] }) => {
  let secret = "";
  port.addEventListener("message", ({ data }) => {
    if (data.type === "follow") {
      if (data.secret !== secret) leave(secret, port);
      secret = data.secret;
      follow(secret, port);
    } else if (data.type === "heartbeat") {
      // A tab that has timed out, for example while the machine slept, joins again.
      if (feeds.get(secret)?.ports.has(port)) feeds.get(secret).ports.set(port, Date.now());
      else follow(secret, port);
    } else {
      leave(secret, port);
    }
  });
  port.start();
});

setInterval(() => {
  for (const [secret, { ports }] of feeds) {
    for (const [port, lastSeen] of ports) if (Date.now() - lastSeen > TAB_TIMEOUT_MS) leave(secret, port);
  }
}, TAB_TIMEOUT_MS / 5);
