/** The token of a channel goes with each attempt, and is asked for each time. */

import assert from "node:assert/strict";
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { createClient, type Transport } from "@connectrpc/connect";
import {
  followEvents,
  OrderCommandService,
  OrderHistoryService,
  OrderQueryService,
  send,
  type TokenSource,
} from "ordersystem-client";
import { connect, tokenFile } from "ordersystem-client/node";
import { connect as connectWeb } from "ordersystem-client/web";
import { FakeServer, UNAVAILABLE } from "./fake.js";
import { temporaryFolder } from "./server.js";

/** A token that is another one each time. */
function counting(): TokenSource {
  let asked = 0;
  return async () => String(++asked);
}

const sent = ({ headers }: FakeServer) => headers.map((seen) => seen.get("authorization"));

async function useAll(transport: Transport): Promise<void> {
  await createClient(OrderQueryService, transport).getOrder({ orderId: "1" }, { timeoutMs: 10_000 });
  await send(createClient(OrderCommandService, transport).payOrder, { orderId: "1", paymentMethod: "card" });
  const follow = followEvents(createClient(OrderHistoryService, transport), { follow: true });
  const cursors: string[] = [];
  for await (const { cursor } of follow) {
    cursors.push(cursor);
    if (cursors.length === 2) {
      break;
    }
  }
  assert.deepEqual(cursors, ["a", "b"]);
}

for (const protocol of ["gRPC", "gRPC-Web"] as const) {
  test(`every attempt and opening has the token of that moment, over ${protocol}`, () =>
    FakeServer.run(
      [UNAVAILABLE, {}, UNAVAILABLE, { revision: 2n }, [{ cursor: "a" }, UNAVAILABLE], [{ cursor: "b" }]],
      async (fake) => {
        const place = `127.0.0.1:${fake.port}`;
        if (protocol === "gRPC") {
          const channel = connect(place, undefined, { token: counting() });
          await useAll(channel).finally(() => channel.close());
        } else {
          await useAll(connectWeb(`http://${place}`, { token: counting() }));
        }
        assert.deepEqual(
          sent(fake),
          ["1", "2", "3", "4", "5", "6"].map((token) => `Bearer ${token}`),
        );
      },
      protocol,
    ));
}

test("a file is read for each call, and an empty token is not sent", () =>
  FakeServer.run([{}, {}, {}], async (fake) => {
    const folder = temporaryFolder();
    const file = join(folder.path, "token");
    const channel = connect(`127.0.0.1:${fake.port}`, undefined, { token: tokenFile(file) });
    const queries = createClient(OrderQueryService, channel);
    try {
      for (const content of ["first\n", "renewed\n", ""]) {
        writeFileSync(file, content);
        await queries.getOrder({ orderId: "1" }, { timeoutMs: 10_000 });
      }
      renameSync(file, `${file}-gone`);
      await assert.rejects(queries.getOrder({ orderId: "1" }, { timeoutMs: 10_000 }), /ENOENT/);
    } finally {
      channel.close();
      folder.remove();
    }
    assert.deepEqual(sent(fake), ["Bearer first", "Bearer renewed", null]);
  }));
