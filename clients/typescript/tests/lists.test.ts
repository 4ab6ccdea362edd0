/** Lists are read page by page. */

import assert from "node:assert/strict";
import test from "node:test";
import { Code } from "@connectrpc/connect";
import { listOrders, OrderError } from "ordersystem-client";
import { Failure, FakeServer, info, type Protocol } from "./fake.js";

const REQUEST = { customerId: "c", pageSize: 2, pageToken: "from here" };
const FIRST = { orders: [{ orderId: "1" }, { orderId: "2" }], nextPageToken: "two" };
// A page may be empty and not the last.
const PAGES = [FIRST, { nextPageToken: "three" }, { orders: [{ orderId: "3" }] }];

for (const protocol of ["gRPC", "gRPC-Web"] satisfies Protocol[]) {
  test(`all pages of a list are read, each when it is needed, over ${protocol}`, () =>
    FakeServer.run(
      PAGES,
      async ({ queries, requests, headers }) => {
        const seen: string[] = [];
        for await (const { orderId } of listOrders(queries, REQUEST, { headers: { tenant: "t" } })) {
          seen.push(orderId);
          assert.equal(requests.length, orderId === "3" ? 3 : 1);
        }
        assert.deepEqual(seen, ["1", "2", "3"]);
        assert.deepEqual(
          requests.map(({ customerId, pageToken }) => [customerId, pageToken]),
          ["from here", "two", "three"].map((token) => ["c", token]),
        );
        assert(headers.every((given) => given.get("tenant") === "t"));
        assert.equal(REQUEST.pageToken, "from here");
      },
      protocol,
    ));
}

test("a list ends with the error of a page", () =>
  FakeServer.run([FIRST, new Failure(Code.InvalidArgument, [info("CURSOR_OF_ANOTHER_LOG")])], async ({ queries }) => {
    const orders = listOrders(queries, REQUEST);
    assert.deepEqual([(await orders.next()).value?.orderId, (await orders.next()).value?.orderId], ["1", "2"]);
    await assert.rejects(orders.next(), (error) => OrderError.of(error).reason === "CURSOR_OF_ANOTHER_LOG");
  }));
