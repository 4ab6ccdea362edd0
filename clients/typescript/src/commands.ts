/** Commands that are safe to retry. */

import { type CallOptions, Code, ConnectError } from "@connectrpc/connect";
import { Backoff, sleep } from "./backoff.js";
import { OrderError } from "./errors.js";

/** What all commands have. */
export interface Command {
  requestId?: string;
}

/** How {@link send} sends. */
export interface SendOptions {
  /** How long all attempts may take together, in milliseconds; left out: 30 000. */
  timeoutMs?: number;
  /** How many attempts there may be, at least 1; left out: 5. */
  attempts?: number;
  /** Ends the call, and the wait for the next attempt, with the code `Canceled`. */
  signal?: AbortSignal;
}

/**
 * Gives a command and retries it until it is answered: `send(commands.payOrder, { orderId, paymentMethod })`.
 *
 * A `command` without a request id gets one, in place, so that it takes effect once however often it is sent; whoever sends the
 * same object again, after a DeadlineExceeded for example, gets the first answer. Retried is what may help
 * ({@link OrderError.isRetryable}), after the time that the service asks for.
 *
 * @throws the `ConnectError` of the last attempt
 */
export async function send<C extends Command, R>(
  method: (command: C, options?: CallOptions) => Promise<R>,
  command: NoInfer<C>,
  { timeoutMs = 30_000, attempts = 5, signal }: SendOptions = {},
): Promise<R> {
  if (!(attempts >= 1)) {
    throw new RangeError("attempts must be at least 1");
  }
  (command as Command).requestId ||= randomUuid();
  const deadline = performance.now() + timeoutMs;
  const backoff = new Backoff();
  for (let attempt = 1; ; attempt += 1) {
    // Whole and not 0, which Connect takes for no limit.
    const remainingMs = Math.max(Math.ceil(deadline - performance.now()), 1);
    try {
      return await method(command, { timeoutMs: remainingMs, ...(signal && { signal }) });
    } catch (error) {
      const facts = OrderError.of(error);
      const wait = backoff.waitMs(facts);
      if (attempt >= attempts || !facts.isRetryable || performance.now() + wait >= deadline) {
        throw error;
      }
      await sleep(wait, signal);
    }
    if (signal?.aborted) {
      throw ConnectError.from(signal.reason, Code.Canceled);
    }
  }
}

/** A random UUID. `crypto.randomUUID` is there only on pages that came over HTTPS. */
function randomUuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
