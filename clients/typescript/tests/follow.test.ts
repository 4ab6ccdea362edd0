/** Followed streams resume where they broke off. */

import assert from "node:assert/strict";
import { getEventListeners, once } from "node:events";
import { createServer, connect as open, type Socket } from "node:net";
import test from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { Code, createClient } from "@connectrpc/connect";
import {
  type Follow,
  followEvents,
  followOrder,
  OrderError,
  OrderHistoryService,
  StreamEventsRequestSchema,
  type StreamEventsResponse,
  StreamOrderHistoryRequestSchema,
  type StreamOrderHistoryResponse,
  StreamStart,
} from "ordersystem-client";
import { connect } from "ordersystem-client/node";
import { BREAK, Failure, FakeServer, info, type Protocol, retryInfo, UNAVAILABLE } from "./fake.js";

const event = (cursor: string) => ({ cursor, item: { case: "event", value: { eventId: `of ${cursor}` } } });
const caughtUp = (cursor: string) => ({ cursor, item: { case: "caughtUp", value: {} } });
const heartbeat = (cursor: string) => ({ cursor, item: { case: "heartbeat", value: {} } });
const step = (revision: bigint) => ({ cursor: `c${revision}`, item: { case: "event", value: { revision } } });

/** The kind and the cursor of a message: `event a`. */
const shown = ({ cursor, item }: StreamEventsResponse | StreamOrderHistoryResponse) => `${item.case} ${cursor}`;

/** This many messages of a stream that continues. */
async function first(count: number, follow: Follow<StreamEventsResponse> | Follow<StreamOrderHistoryResponse>) {
  const seen: string[] = [];
  for await (const message of follow) {
    seen.push(shown(message));
    if (seen.length === count) {
      break;
    }
  }
  return seen;
}

for (const protocol of ["gRPC", "gRPC-Web"] satisfies Protocol[]) {
  test(`events continue after the last cursor, whatever message it came with, over ${protocol}`, () => {
    const script = [
      [event("a"), UNAVAILABLE],
      [heartbeat("b"), BREAK],
      [caughtUp("c"), UNAVAILABLE],
      [BREAK],
      [event("d")],
    ];
    return FakeServer.run(
      script,
      async ({ history, requests }) => {
        const request = create(StreamEventsRequestSchema, {
          start: StreamStart.LATEST,
          customerIds: ["c"],
          follow: true,
        });
        const follow = followEvents(history, request);
        assert.deepEqual(await first(4, follow), ["event a", "heartbeat b", "caughtUp c", "event d"]);
        assert.equal(follow.cursor, "d");
        const { AFTER, LATEST } = StreamStart;
        assert.deepEqual(
          requests.map(({ start, cursor }) => [start, cursor]),
          [
            [LATEST, ""],
            [AFTER, "a"],
            [AFTER, "b"],
            [AFTER, "c"],
            [AFTER, "c"],
          ],
        );
        assert(requests.every(({ customerIds, follow }) => customerIds[0] === "c" && follow));
        assert.deepEqual([request.start, request.cursor], [LATEST, ""], "the caller's request stays as it was");
      },
      protocol,
    );
  });
}

test("caughtUp comes once", () => {
  const script = [
    [caughtUp("a"), UNAVAILABLE],
    [caughtUp("b"), event("c"), UNAVAILABLE],
    [event("d"), caughtUp("e"), event("f")],
  ];
  return FakeServer.run(script, async ({ history, requests }) => {
    assert.deepEqual(await first(4, followEvents(history, { follow: true })), [
      "caughtUp a",
      "event c",
      "event d",
      "event f",
    ]);
    assert.deepEqual(
      requests.map(({ cursor }) => cursor),
      ["", "a", "c"],
    );
  });
});

test("the history of an order continues after its last revision", () => {
  const up = { cursor: "x", item: { case: "caughtUp", value: { revision: 4n } } };
  const script = [[step(3n), step(4n), up, UNAVAILABLE], [up, UNAVAILABLE], [step(5n)]];
  return FakeServer.run(script, async ({ history, requests }) => {
    const request = create(StreamOrderHistoryRequestSchema, { orderId: "1", fromRevision: 3n, follow: true });
    const follow = followOrder(history, request);
    assert.deepEqual(await first(4, follow), ["event c3", "event c4", "caughtUp x", "event c5"]);
    assert.equal(follow.cursor, "c5");
    assert.deepEqual(
      requests.map(({ fromRevision }) => fromRevision),
      [3n, 5n, 5n],
    );
    assert.equal(request.fromRevision, 3n);
  });
});

test("an error that a retry does not fix is thrown, and ends it", () => {
  const lost = new Failure(Code.InvalidArgument, [info("CURSOR_OF_ANOTHER_LOG")]);
  return FakeServer.run([[event("a"), UNAVAILABLE], [lost]], async ({ history }) => {
    const { signal } = new AbortController();
    const follow = followEvents(history, { follow: true }, { signal });
    assert.equal((await follow.next()).value?.cursor, "a");
    await assert.rejects(follow.next(), (error) => OrderError.of(error).reason === "CURSOR_OF_ANOTHER_LOG");
    assert.equal((await follow.next()).done, true);
    assert.deepEqual(getEventListeners(signal, "abort"), [], "it listens no longer");
  });
});

test("a reopening waits as long as the service asks for", () => {
  const draining = new Failure(Code.Unavailable, [info("SHUTTING_DOWN"), retryInfo(400)]);
  return FakeServer.run([[draining], [event("a")]], async ({ history, times }) => {
    await first(1, followEvents(history, { follow: true }));
    const [before, after] = times;
    assert(before !== undefined && after !== undefined && after - before >= 400);
  });
});

test("it gives up with the last error when nothing comes for too long", () =>
  FakeServer.run([[event("a"), UNAVAILABLE], ...Array(99).fill([UNAVAILABLE])], async ({ history, requests }) => {
    const follow = followEvents(history, { follow: true }, { giveUpAfterMs: 500 });
    await follow.next();
    await assert.rejects(follow.next(), (error) => OrderError.of(error).code === Code.Unavailable);
    assert(requests.length >= 2 && requests.length < 10, `${requests.length} attempts`);
  }));

test("a message ends the period of failures", () => {
  // All delays together exceed the allowed time of failure, and each is much shorter.
  const later = new Failure(Code.Unavailable, [retryInfo(3_000)]);
  return FakeServer.run([...Array(3).fill([event("a"), later]), [event("b")]], async ({ history }) => {
    const follow = followEvents(history, { follow: true }, { giveUpAfterMs: 8_000 });
    assert.deepEqual(await first(4, follow), [...Array(3).fill("event a"), "event b"]);
  });
});

const OPEN = { reading: [[]], waiting: [[new Failure(Code.Unavailable, [retryInfo(60_000)])]] };
for (const [state, script] of Object.entries(OPEN)) {
  for (const how of ["cancel", "signal", "return"] as const) {
    test(`a ${how} ends it at once while it is ${state}`, () =>
      FakeServer.run(script, async ({ history, requests }) => {
        const controller = new AbortController();
        const follow = followEvents(history, { follow: true }, { signal: controller.signal });
        const next = follow.next();
        while (requests.length === 0) {
          await pause(10);
        }
        await pause(100);
        const start = performance.now();
        await { cancel: () => follow.cancel(), signal: () => controller.abort(), return: () => follow.return() }[how]();
        assert.deepEqual(await next, { done: true, value: undefined });
        assert(performance.now() - start < 5_000);
      }));
  }
}

test("leaving the loop ends the stream at the service", () =>
  FakeServer.run([[event("a")]], async (fake) => {
    await first(1, followEvents(fake.history, { follow: true }));
    for (let tries = 0; fake.ended === 0 && tries < 500; tries += 1) {
      await pause(10);
    }
    assert.equal(fake.ended, 1);
  }));

test("a connection that falls silent is noticed although nothing is being sent, and the follow continues over another", () =>
  FakeServer.run([[event("a")], [event("b")]], async ({ port, requests }) => {
    const sockets: Socket[] = [];
    const between = createServer((socket) => {
      const onward = open(port, "127.0.0.1");
      sockets.push(
        socket.on("error", () => {}),
        onward.on("error", () => {}),
      );
      socket.pipe(onward).pipe(socket);
    });
    await once(between.listen(0, "127.0.0.1"), "listening");
    const address = between.address();
    assert(typeof address === "object" && address);
    const channel = connect(`127.0.0.1:${address.port}`, undefined, { pingIntervalMs: 100, pingTimeoutMs: 100 });
    try {
      const follow = followEvents(createClient(OrderHistoryService, channel), { follow: true });
      assert.equal((await follow.next()).value?.cursor, "a");
      for (const socket of sockets) {
        socket.unpipe().pause();
      }
      assert.equal((await follow.next()).value?.cursor, "b");
      assert.equal(requests[1]?.cursor, "a");
      follow.cancel();
    } finally {
      channel.close();
      between.close();
      for (const socket of sockets) {
        socket.destroy();
      }
    }
  }));

test("a signal that was aborted before opens nothing", () =>
  FakeServer.run([[event("a")]], async ({ history, requests }) => {
    const follow = followEvents(history, {}, { signal: AbortSignal.abort() });
    assert.equal((await follow.next()).done, true);
    assert.equal(requests.length, 0);
  }));

test("headers go with each opening of a followed stream", () =>
  FakeServer.run([[event("a"), UNAVAILABLE], [event("b")], [step(1n)]], async ({ history, headers }) => {
    let calls = 0;
    const token = () => {
      calls += 1;
      return { authorization: `token ${calls}` };
    };
    assert.deepEqual(await first(2, followEvents(history, { follow: true }, { headers: token })), [
      "event a",
      "event b",
    ]);
    await first(1, followOrder(history, { orderId: "1", follow: true }, { headers: { authorization: "fixed" } }));
    assert.deepEqual(
      headers.map((seen) => seen.get("authorization")),
      ["token 1", "token 2", "fixed"],
    );
  }));
