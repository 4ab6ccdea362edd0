// Server-sent events, read with fetch: EventSource cannot send headers, and a key in an address would end up in logs.

import { authorization } from "./api.js";

const RECONNECT_DELAY_MS = 1500;
// Events are delivered in batches. A batch has the newest events only, and the count of all.
const BATCH_INTERVAL_MS = 250;
const MAX_BATCH_EVENTS = 100;
// The node sends a heartbeat more often than this.
const IDLE_TIMEOUT_MS = 45_000;

export class EventFeed {
  #secret;
  #onUpdate;
  #lastEventId = "";
  #stopped = new AbortController();
  #events = [];
  #count = 0;
  #timer = 0;
  state = { type: "connecting" };

  // `onUpdate` is called with {type: "live" | "reconnecting" | "refused" | "events", …}.
  constructor(secret, onUpdate) {
    this.#secret = secret;
    this.#onUpdate = onUpdate;
    this.#follow();
  }

  stop() {
    this.#stopped.abort();
    clearTimeout(this.#timer);
  }

  #setState(state) {
    this.state = state;
    if (!this.#stopped.signal.aborted) this.#onUpdate(state);
  }

  // Reconnects and resumes after the last received event, until the caller is refused.
  async #follow() {
    while (!this.#stopped.signal.aborted) {
      try {
        const refusal = await this.#followOnce();
        if (refusal) return this.#setState({ type: "refused", ...refusal });
      } catch {
        // The connection was lost or could not be made.
      }
      this.#setState({ type: "reconnecting" });
      await new Promise((resume) => setTimeout(resume, RECONNECT_DELAY_MS));
    }
  }

  async #followOnce() {
    const idle = new AbortController();
    const signal = AbortSignal.any([this.#stopped.signal, idle.signal]);
    const resumeHeader = this.#lastEventId ? { "last-event-id": this.#lastEventId } : {};
    const headers = { accept: "text/event-stream", ...authorization(this.#secret), ...resumeHeader };
    const response = await fetch("/events?cursor=latest", { headers, cache: "no-store", signal });
    if (response.status === 401 || response.status === 403) {
      return { status: response.status, message: (await response.json()).detail };
    }
    if (!response.ok) {
      // A log that was restored may not have the last event.
      if (response.status === 400) this.#lastEventId = "";
      throw new Error("/events: " + response.status);
    }
    this.#setState({ type: "live" });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ;) {
      const timer = setTimeout(() => idle.abort(), IDLE_TIMEOUT_MS);
      const { value, done } = await reader.read();
      clearTimeout(timer);
      if (done) return null;
      const blocks = (text + value).split("\n\n");
      text = blocks.pop();
      for (const block of blocks) this.#handleBlock(block);
    }
  }

  #handleBlock(block) {
    const fields = { event: "message", data: [] };
    for (const line of block.split("\n")) {
      const colon = line.indexOf(":");
      if (colon < 1) continue;
      const value = line.slice(colon + 1).replace(/^ /, "");
      if (line.startsWith("data:")) fields.data.push(value);
      else fields[line.slice(0, colon)] = value;
    }
    if (fields.id !== undefined) this.#lastEventId = fields.id;
    if (fields.event !== "message" || fields.data.length === 0) return;
    this.#count += 1;
    this.#events.push(fields.data.join("\n"));
    if (this.#events.length > MAX_BATCH_EVENTS) this.#events.shift();
    this.#timer ||= setTimeout(() => this.#flush(), BATCH_INTERVAL_MS);
  }

  #flush() {
    const events = this.#events.map((text) => JSON.parse(text));
    this.#onUpdate({ type: "events", events, count: this.#count });
    this.#events = [];
    this.#count = 0;
    this.#timer = 0;
  }
}
