/** Commands that are safe to retry. */

import { type CallOptions, Code, ConnectError } from "@connectrpc/connect";
import { Backoff, sleep } from "./backoff.js";
import { OrderError } from "./errors.js";
import { type CallHeaders, withHeaders } from "./headers.js";

/** The fields that all commands have. */
export interface Command {
  requestId?: string;
}

/** How {@link send} sends. */
export interface SendOptions {
  /** How long all attempts may take together, in milliseconds; left out: 30 000. */
  timeoutMs?: number;
  /**
   * The maximum number of replies of the service, at least 1; if omitted: limited by time only. A connection that cannot be opened or that
   * breaks does not count.
   */
  attempts?: number;
  /** Headers of every attempt. */
  headers?: CallHeaders;
  /** Ends the call, and the wait for the next attempt, with the code `Canceled`. */
  signal?: AbortSignal;
}

/**
 * Sends a command and retries it until it is answered: `send(commands.payOrder, { orderId, paymentMethod })`.
 *
 * A `command` without a request id gets one, in place, so that it takes effect once however often it is sent; the same object sent again,
 * after a DeadlineExceeded for example, gets the first reply. Errors for which a retry may help ({@link OrderError.isRetryable}) are
 * retried, never earlier than the service requests, until the time is up; no attempt starts later.
 *
 * @throws the `ConnectError` of the last attempt
 */
export async function send<C extends Command, R>(
  method: (command: C, options?: CallOptions) => Promise<R>,
  command: NoInfer<C>,
  { timeoutMs = 30_000, attempts = Number.POSITIVE_INFINITY, headers, signal }: SendOptions = {},
): Promise<R> {
  if (!(attempts >= 1)) {
    throw new RangeError("attempts must be at least 1");
  }
  (command as Command).requestId ||= randomUuid();
  const deadline = performance.now() + timeoutMs;
  const backoff = new Backoff();
  for (let answers = 0; ; ) {
    // An integer other than 0, which Connect interprets as no limit.
    const remainingMs = Math.max(Math.ceil(deadline - performance.now()), 1);
    try {
      const options = { timeoutMs: remainingMs, ...(signal && { signal }) };
      return await method(command, await withHeaders(options, headers));
    } catch (error) {
      const facts = OrderError.of(error);
      const wait = backoff.waitMs(facts);
      // An unreachable service has not replied; its replies always have a reason.
      if (facts.code !== Code.Unavailable || facts.reason !== "") {
        answers += 1;
      }
      if (answers >= attempts || !facts.isRetryable || performance.now() + wait >= deadline) {
        throw error;
      }
      await sleep(wait, signal);
    }
    if (signal?.aborted) {
      throw ConnectError.from(signal.reason, Code.Canceled);
    }
  }
}

/** A random UUID. `crypto.randomUUID` exists only on pages served over HTTPS. */
function randomUuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
