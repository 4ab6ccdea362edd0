/** The token of a channel, which goes with each of its calls. */

import type { Interceptor } from "@connectrpc/connect";

/** A function (or async function) that gives the token for each attempt of a call; without one (undefined, or empty) it has none. */
export type TokenSource = () => string | undefined | Promise<string | undefined>;

/** Sends the token of `source` with every attempt. */
export function bearer(source: TokenSource | undefined): Interceptor[] {
  if (!source) {
    return [];
  }
  const interceptor: Interceptor = (next) => async (request) => {
    const token = await source();
    if (token) {
      request.header.set("authorization", `Bearer ${token}`);
    } else {
      request.header.delete("authorization");
    }
    return next(request);
  };
  return [interceptor];
}
