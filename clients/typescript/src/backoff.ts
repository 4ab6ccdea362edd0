/** The delays between retries. */

import type { OrderError } from "./errors.js";

const FIRST_MS = 100;
/** Short, so that a service is used again soon after an outage. */
const LONGEST_MS = 2_000;
/** The maximum of timers: longer ones fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Delays that grow from 0.1 s to 2 s, with jitter so that clients do not all return at once. */
export class Backoff {
  #nextMs = FIRST_MS;

  /** Returns to the shortest delay, after a success. */
  reset(): void {
    this.#nextMs = FIRST_MS;
  }

  /** The delay after `error`: at least the one that the service requests. */
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
    // A timer may fire slightly early, but the service requests a minimum.
    const timer = setTimeout(end, Math.min(Math.ceil(ms) + 1, LONGEST_TIMER_MS));
    signal?.addEventListener("abort", end);
  });
}
