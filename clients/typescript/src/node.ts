/**
 * Channels for Node: gRPC over HTTP/2.
 *
 * @module
 */

import { readFile } from "node:fs/promises";
import type { SecureClientSessionOptions } from "node:http2";
import { Code, ConnectError, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcTransport, type GrpcTransportOptions, Http2SessionManager } from "@connectrpc/connect-node";
import { brokenIsUnavailable } from "./connection.js";
import { retries } from "./retries.js";
import { bearer, type TokenSource } from "./tokens.js";

/** A channel to the order service: give it to `createClient`. */
export interface Channel extends Transport {
  /** Closes the connection; running calls end with the code `Canceled`, and so does every later call. */
  close(): void;
}

/** Connect's own options, on top of those of the client. */
export interface ConnectOptions extends Omit<GrpcTransportOptions, "baseUrl" | "sessionManager" | "nodeOptions"> {
  /** The token of each attempt of each call, such as that of `tokenFile`. Without TLS it is sent in plain text. */
  token?: TokenSource;
}

/**
 * A source that reads the token from a file for each attempt: a token that is renewed there is used at once. Replace the file by renaming
 * another one to its name, so that no call reads half of it.
 */
export function tokenFile(path: string): TokenSource {
  return async () => (await readFile(path, "utf8")).trim();
}

/**
 * Opens a channel to `address` (`host:port`), in plain text without `credentials`. Close it after use.
 *
 * `credentials` are the TLS options of Node: `{}` trusts whom Node trusts, `{ ca }` a CA of your own, `{ ca, cert, key }` shows a
 * client certificate. The connection is opened by the first call, and again by the first call after it broke; a silent one is
 * noticed within half a minute, also while nothing is being sent. Queries are retried while the service is unavailable; commands
 * are not: see `send`.
 */
export function connect(
  address: string,
  credentials?: SecureClientSessionOptions,
  { token, ...options }: ConnectOptions = {},
): Channel {
  const baseUrl = `${credentials ? "https" : "http"}://${address}`;
  const { pingIntervalMs = 20_000, pingTimeoutMs = 10_000 } = options;
  const sessionManager = new Http2SessionManager(baseUrl, { ...options, pingIntervalMs, pingTimeoutMs }, credentials);
  let isClosed = false;
  const refuseWhenClosed: Interceptor = (next) => async (request) => {
    if (isClosed) {
      throw new ConnectError("the channel is closed", Code.Canceled);
    }
    return next(request);
  };
  const transport = createGrpcTransport({
    ...options,
    baseUrl,
    sessionManager,
    interceptors: [
      ...(options.interceptors ?? []),
      retries(),
      ...bearer(token),
      brokenIsUnavailable(() => isClosed),
      refuseWhenClosed,
    ],
  });
  return {
    ...transport,
    close() {
      isClosed = true;
      sessionManager.abort();
    },
  };
}
