/** How long to wait before trying again. */

import type { OrderError } from "./errors.js";

const FIRST_MS = 100;
/** Short, so that a service that is back after an outage is used again soon. */
const LONGEST_MS = 2_000;
/** Timers take no more: beyond it they go off at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Waits that grow from 0.1 s to 2 s, spread at random so that clients do not come back all at once. */
export class Backoff {
  #nextMs = FIRST_MS;

  /** Begins again with the shortest: something has worked. */
  reset(): void {
    this.#nextMs = FIRST_MS;
  }

  /** How long to wait after `error`: never less than the service asks for. */
  waitMs(error: OrderError): number {
    const wait = between(0.5, 1) * this.#nextMs;
    this.#nextMs = Math.min(this.#nextMs * 2, LONGEST_MS);
    return Math.max(wait, between(1, 1.2) * (error.retryDelayMs ?? 0));
  }
}

/** A number from `low` to `high`, at random. */
export function between(low: number, high: number): number {
  return low + Math.random() * (high - low);
}

/** Waits for so many milliseconds, or until `signal` is aborted. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    // A timer may go off a moment early; the service has asked for no less.
    const timer = setTimeout(end, Math.min(Math.ceil(ms) + 1, LONGEST_TIMER_MS));
    signal?.addEventListener("abort", end);
  });
}
