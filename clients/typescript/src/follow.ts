/** Event streams that are followed across restarts of the service. */

import { clone, create, type MessageInitShape } from "@bufbuild/protobuf";
import type { CallOptions, Client } from "@connectrpc/connect";
import { Backoff, sleep } from "./backoff.js";
import { OrderError } from "./errors.js";
import {
  type OrderHistoryService,
  type StreamEventsRequest,
  StreamEventsRequestSchema,
  type StreamEventsResponse,
  type StreamOrderHistoryRequest,
  StreamOrderHistoryRequestSchema,
  type StreamOrderHistoryResponse,
  StreamStart,
} from "./gen/catga/orders/v1/history_pb.js";
import { type CallHeaders, withHeaders } from "./headers.js";

/** How to follow. */
export interface FollowOptions {
  /** How long to try without a single message before the last error is thrown, in milliseconds; left out: forever. */
  giveUpAfterMs?: number;
  /** Headers each time that the stream is opened. */
  headers?: CallHeaders;
  /** Ends the stream as {@link Follow.cancel} does. */
  signal?: AbortSignal;
}

type Reply = StreamEventsResponse | StreamOrderHistoryResponse;

/**
 * The messages of a stream, which is reopened where it broke off: no message is lost or repeated.
 *
 * Iterate it once, with `for await` or {@link next}; leaving the loop ends the stream. `caughtUp` comes once, however often the stream is
 * reopened. An error that a retry does not fix is thrown as the `ConnectError` that it is.
 */
export class Follow<R extends Reply> implements AsyncIterableIterator<R, undefined> {
  /** The cursor of the last message; keep it to resume from here later with `StreamStart.AFTER`. Empty before the first. */
  cursor = "";

  readonly #open: (options: CallOptions) => AsyncIterable<R>;
  readonly #note: (reply: R) => void;
  readonly #giveUpAfterMs: number;
  readonly #headers: CallHeaders | undefined;
  readonly #cancelled = new AbortController();
  readonly #backoff = new Backoff();
  readonly #messages: AsyncGenerator<R, undefined>;
  #failingSince: number | undefined;
  #hasCaughtUp = false;

  /** Made by {@link followEvents} and {@link followOrder}. */
  constructor(
    open: (options: CallOptions) => AsyncIterable<R>,
    note: (reply: R) => void,
    { giveUpAfterMs = Number.POSITIVE_INFINITY, headers, signal }: FollowOptions,
  ) {
    this.#open = open;
    this.#note = note;
    this.#giveUpAfterMs = giveUpAfterMs;
    this.#headers = headers;
    this.#messages = this.#run();
    if (signal) {
      const cancel = () => this.cancel();
      // The listener is removed with the stream, so that a long-lived signal does not accumulate listeners.
      signal.addEventListener("abort", cancel, { once: true, signal: this.#cancelled.signal });
      if (signal.aborted) {
        this.cancel();
      }
    }
  }

  /** The next message, or the end. */
  next(): Promise<IteratorResult<R, undefined>> {
    return this.#messages.next();
  }

  /** Ends the stream; `for await` calls it when its loop is left. */
  return(): Promise<IteratorResult<R, undefined>> {
    this.cancel();
    return this.#messages.return(undefined);
  }

  /** Ends the stream; iterating it then stops. */
  cancel(): void {
    this.#cancelled.abort();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async *#run(): AsyncGenerator<R, undefined> {
    const { signal } = this.#cancelled;
    try {
      while (!signal.aborted) {
        try {
          for await (const reply of this.#open(await withHeaders({ signal }, this.#headers))) {
            if (this.#take(reply)) {
              yield reply;
            }
            if (signal.aborted) {
              return;
            }
          }
          return;
        } catch (error) {
          await this.#recover(error);
        }
      }
    } finally {
      this.cancel();
    }
  }

  /** Records the position of a message; returns whether to pass it on. */
  #take(reply: R): boolean {
    this.#failingSince = undefined;
    this.#backoff.reset();
    this.#note(reply);
    this.cursor = reply.cursor;
    if (reply.item.case !== "caughtUp") {
      return true;
    }
    const isFirst = !this.#hasCaughtUp;
    this.#hasCaughtUp = true;
    return isFirst;
  }

  /** Waits before the stream is reopened; throws `error` if that would not help. */
  async #recover(error: unknown): Promise<void> {
    if (this.#cancelled.signal.aborted) {
      return;
    }
    const facts = OrderError.of(error);
    const now = performance.now();
    this.#failingSince ??= now;
    const wait = this.#backoff.waitMs(facts);
    if (!facts.isRetryable || now + wait - this.#failingSince > this.#giveUpAfterMs) {
      throw error;
    }
    await sleep(wait, this.#cancelled.signal);
  }
}

/** The events of all orders, as `StreamEvents` with `request` would give them, resumed by cursor whenever it breaks off. */
export function followEvents(
  history: Client<typeof OrderHistoryService>,
  request: MessageInitShape<typeof StreamEventsRequestSchema>,
  options: FollowOptions = {},
): Follow<StreamEventsResponse> {
  // A copy: the caller's request is not changed.
  const place: StreamEventsRequest = clone(StreamEventsRequestSchema, create(StreamEventsRequestSchema, request));
  const note = ({ cursor }: StreamEventsResponse) => {
    place.start = StreamStart.AFTER;
    place.cursor = cursor;
  };
  return new Follow((call) => history.streamEvents(place, call), note, options);
}

/** The history of one order, as `StreamOrderHistory` with `request` would give it, resumed by revision. */
export function followOrder(
  history: Client<typeof OrderHistoryService>,
  request: MessageInitShape<typeof StreamOrderHistoryRequestSchema>,
  options: FollowOptions = {},
): Follow<StreamOrderHistoryResponse> {
  const place: StreamOrderHistoryRequest = clone(
    StreamOrderHistoryRequestSchema,
    create(StreamOrderHistoryRequestSchema, request),
  );
  const note = ({ item }: StreamOrderHistoryResponse) => {
    if (item.case === "event") {
      place.fromRevision = item.value.revision + 1n;
    }
  };
  return new Follow((call) => history.streamOrderHistory(place, call), note, options);
}
