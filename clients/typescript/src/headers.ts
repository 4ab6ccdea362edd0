/** Headers that go with calls. */

import type { CallOptions } from "@connectrpc/connect";

/**
 * Headers of a call, by lower-case names, such as `{ authorization: "Bearer ..." }`; or a function that gives those of each attempt, for
 * a token that expires.
 */
export type CallHeaders = Given | (() => Given | Promise<Given>);

type Given = NonNullable<CallOptions["headers"]>;

/** The options of a call with these headers. */
export async function withHeaders(options: CallOptions, headers: CallHeaders | undefined): Promise<CallOptions> {
  if (headers === undefined) {
    return options;
  }
  return { ...options, headers: typeof headers === "function" ? await headers() : headers };
}
