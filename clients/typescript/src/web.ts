/**
 * Channels for browsers: gRPC-Web, by `fetch`.
 *
 * @module
 */

import type { Transport } from "@connectrpc/connect";
import { createGrpcWebTransport, type GrpcWebTransportOptions } from "@connectrpc/connect-web";
import { brokenIsUnavailable } from "./connection.js";
import { retries } from "./retries.js";
import { bearer, type TokenSource } from "./tokens.js";

/** Connect's own options, on top of those of the client. */
export interface ConnectOptions extends Omit<GrpcWebTransportOptions, "baseUrl"> {
  /** The token of each attempt of each call. */
  token?: TokenSource;
}

/**
 * A channel to the service at `url`, such as `https://orders.example.com`: give it to `createClient`. Nothing needs to be closed.
 *
 * For a page of another origin the service must be started with `--cors-allowed-origins`. gRPC-Web carries all methods but
 * `ExecuteCommands`. Queries are retried while the service is unavailable; commands are not: see `send`.
 */
export function connect(url: string, { token, ...options }: ConnectOptions = {}): Transport {
  return createGrpcWebTransport({
    ...options,
    baseUrl: url,
    interceptors: [...(options.interceptors ?? []), retries(), ...bearer(token), brokenIsUnavailable(() => false)],
  });
}
