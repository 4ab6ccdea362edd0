/** Lists of orders, page by page. */

import { clone, create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { ListOrdersRequestSchema, type OrderQueryService } from "./gen/catga/orders/v1/queries_pb.js";
import type { OrderSummary } from "./gen/catga/orders/v1/types_pb.js";
import { type CallHeaders, withHeaders } from "./headers.js";

/** How to list. */
export interface ListOptions {
  /** How long each page may take, in milliseconds; left out: 30 000. */
  timeoutMs?: number;
  /** Headers of the call for each page. */
  headers?: CallHeaders;
  /** Ends the list with the code `Canceled`. */
  signal?: AbortSignal;
}

/**
 * Every order that `ListOrders` finds with `request`, from its `pageToken` on: `for await (const order of listOrders(queries, {}))`. The
 * next page is fetched when it is needed.
 *
 * @throws the `ConnectError` of a page that cannot be fetched
 */
export async function* listOrders(
  queries: Client<typeof OrderQueryService>,
  request: MessageInitShape<typeof ListOrdersRequestSchema>,
  { timeoutMs = 30_000, headers, signal }: ListOptions = {},
): AsyncGenerator<OrderSummary, void, undefined> {
  // A copy: the caller's request is not changed.
  const page = clone(ListOrdersRequestSchema, create(ListOrdersRequestSchema, request));
  do {
    const options = await withHeaders({ timeoutMs, ...(signal && { signal }) }, headers);
    const { orders, nextPageToken } = await queries.listOrders(page, options);
    yield* orders;
    page.pageToken = nextPageToken;
  } while (page.pageToken !== "");
}
