/** Which errors are retried, and which are not. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import {
  AdminService,
  Health,
  IdService,
  OrderCommandService,
  OrderError,
  OrderHistoryService,
  OrderQueryService,
  PayOrderRequestSchema,
  SERVICE_CONFIG,
  SystemService,
  send,
} from "ordersystem-client";
import { connect } from "ordersystem-client/node";
import { connect as connectWeb } from "ordersystem-client/web";
import { policyOf } from "../src/retries.js";
import {
  BREAK,
  Failure,
  FakeServer,
  info,
  OVERLOADED,
  type Protocol,
  retryInfo,
  SHUTTING_DOWN,
  UNAVAILABLE,
} from "./fake.js";
import { freePort, ROOT } from "./server.js";

const PAID = { revision: 2n };
const PAY = { orderId: "1" };

/** The error of a call that must fail. */
async function failureOf(call: Promise<unknown>): Promise<OrderError> {
  const failure = await call.then(
    () => assert.fail("the call succeeds"),
    (error: unknown) => error,
  );
  assert(failure instanceof ConnectError, String(failure));
  return OrderError.of(failure);
}

for (const protocol of ["gRPC", "gRPC-Web"] satisfies Protocol[]) {
  test(`a query is retried by the channel while the service is unavailable, over ${protocol}`, () =>
    FakeServer.run(
      [UNAVAILABLE, BREAK, { consistencyToken: "t" }],
      async ({ queries, requests }) => {
        const reply = await queries.getOrder({ orderId: "1" }, { timeoutMs: 10_000 });
        assert.equal(reply.consistencyToken, "t");
        assert.equal(requests.length, 3);
      },
      protocol,
    ));

  test(`a command is never retried by the channel, over ${protocol}`, () =>
    FakeServer.run(
      [UNAVAILABLE, UNAVAILABLE, BREAK, PAID],
      async ({ commands, requests }) => {
        const withId = { ...PAY, requestId: "with an id as well" };
        for (const call of [
          () => commands.createOrder({}),
          () => commands.payOrder(withId),
          () => commands.payOrder(PAY),
        ]) {
          assert.equal((await failureOf(call())).code, Code.Unavailable);
        }
        assert.equal(requests.length, 3);
      },
      protocol,
    ));

  test(`send retries with one request id, over ${protocol}`, () =>
    FakeServer.run(
      [UNAVAILABLE, BREAK, PAID],
      async ({ commands, requests }) => {
        const command = create(PayOrderRequestSchema, PAY);
        assert.equal((await send(commands.payOrder, command)).revision, 2n);
        assert.match(command.requestId, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
        assert.deepEqual(
          requests.map(({ requestId }) => requestId),
          Array(3).fill(command.requestId),
        );
      },
      protocol,
    ));
}

test("a query is tried four times and not more", () =>
  FakeServer.run(Array(9).fill(UNAVAILABLE), async ({ queries, requests }) => {
    assert.equal((await failureOf(queries.getOrder({}, { timeoutMs: 10_000 }))).code, Code.Unavailable);
    assert.equal(requests.length, 4);
  }));

test("a query is not retried after another code, nor past its deadline", () =>
  FakeServer.run([OVERLOADED, ...Array(4).fill(UNAVAILABLE)], async ({ queries, requests }) => {
    assert.equal((await failureOf(queries.getOrder({}))).reason, "OVERLOADED");
    assert.equal(requests.length, 1);
    assert.equal((await failureOf(queries.getOrder({}, { timeoutMs: 60 }))).code, Code.DeadlineExceeded);
    assert.equal(requests.length, 2);
  }));

test("a query is retried when the service asks for it, and not if it forbids it", () => {
  const pushback = (value: string) => new Failure(Code.Unavailable, [], { "grpc-retry-pushback-ms": value });
  const script = [pushback("400"), { consistencyToken: "t" }, pushback("-1"), pushback("soon")];
  return FakeServer.run(script, async ({ queries, requests, times }) => {
    await queries.getOrder({}, { timeoutMs: 10_000 });
    const [first, second] = times;
    assert(first !== undefined && second !== undefined && second - first >= 400);
    await failureOf(queries.getOrder({}));
    assert.equal(requests.length, 3);
    await failureOf(queries.getOrder({}));
    assert.equal(requests.length, 4);
  });
});

test("queries are no longer retried by a channel on which most calls fail", () =>
  FakeServer.run(Array(400).fill(UNAVAILABLE), async ({ queries, requests }) => {
    // 50 of the 100 tokens are spent by 13 calls of 4 attempts at the most.
    await Promise.all(Array.from({ length: 20 }, () => failureOf(queries.getOrder({}))));
    const before = requests.length;
    await failureOf(queries.getOrder({}));
    assert.equal(requests.length, before + 1);
  }));

test("what the channel retries is what the service config of all clients says, and changes nothing", () => {
  const shared = readFileSync(join(ROOT, "clients", "service_config.json"), "utf8");
  assert.deepEqual(SERVICE_CONFIG, JSON.parse(shared));
  const orders = [OrderCommandService, OrderQueryService, OrderHistoryService];
  const services = [...orders, IdService, SystemService, AdminService, Health];
  const methods = services.flatMap(({ methods }) => methods);
  const retried = methods.filter(({ parent, name }) => policyOf(SERVICE_CONFIG, parent.typeName, name));
  assert(retried.every(({ methodKind, parent }) => methodKind === "unary" && parent !== OrderCommandService));
  assert.deepEqual(retried.map(({ name }) => name).sort(), [
    ...[
      "BatchGetOrders",
      "Check",
      "GenerateId",
      "GenerateIds",
      "GetCluster",
      "GetOrder",
      "GetOrderStats",
      "GetServerInfo",
      "ListOrders",
    ],
    "ParseId",
  ]);
});

test("send fills in another id for another command and keeps a given one", () =>
  FakeServer.run([PAID, PAID, PAID, PAID], async ({ commands, requests }) => {
    const kept = { ...PAY, requestId: "" };
    for (const command of [{ ...PAY }, kept, kept, { requestId: "mine" }]) {
      await send(commands.payOrder, command);
    }
    const [first, second, third, fourth] = requests.map(({ requestId }) => requestId);
    assert(first && second && first !== second);
    assert.equal(second, kept.requestId);
    assert.equal(third, second, "the same object sent again is a retry");
    assert.equal(fourth, "mine");
  }));

test("send waits as long as the service asks for", () =>
  FakeServer.run([OVERLOADED, PAID], async ({ commands, times }) => {
    await send(commands.payOrder, { ...PAY });
    const [first, second] = times;
    assert(first !== undefined && second !== undefined && second - first >= 300);
  }));

for (const reason of ["MESSAGE_TOO_LARGE", "ILLEGAL_TRANSITION"]) {
  test(`send does not retry errors that a retry does not fix: ${reason}`, () =>
    FakeServer.run([new Failure(Code.FailedPrecondition, [info(reason)]), PAID], async ({ commands, requests }) => {
      assert.equal((await failureOf(send(commands.payOrder, { ...PAY }))).reason, reason);
      assert.equal(requests.length, 1);
    }));
}

test("send accepts as many answers as allowed, and a broken connection is not an answer", () =>
  FakeServer.run([UNAVAILABLE, BREAK, SHUTTING_DOWN, UNAVAILABLE, OVERLOADED, PAID], async ({ commands, requests }) => {
    const failure = await failureOf(send(commands.payOrder, { ...PAY }, { attempts: 2 }));
    assert.equal(failure.reason, "OVERLOADED");
    assert.equal(requests.length, 5);
  }));

test("send tries until its time is up, and not only so many times", () =>
  FakeServer.run([...Array(6).fill(SHUTTING_DOWN), PAID], async ({ commands, requests }) => {
    assert.equal((await send(commands.payOrder, { ...PAY })).revision, 2n);
    assert.equal(requests.length, 7);
  }));

for (const protocol of ["gRPC", "gRPC-Web"] satisfies Protocol[]) {
  test(`only the time limit ends a send that reaches no server, over ${protocol}`, async () => {
    const place = `127.0.0.1:${await freePort()}`;
    const channel = protocol === "gRPC" ? connect(place) : undefined;
    const commands = createClient(OrderCommandService, channel ?? connectWeb(`http://${place}`));
    const began = performance.now();
    const failure = await failureOf(send(commands.payOrder, { ...PAY }, { timeoutMs: 5_000 }));
    channel?.close();
    assert.deepEqual([failure.code, failure.reason], [Code.Unavailable, ""]);
    // It gives up if the next delay, of at most 2 s, would end too late.
    const took = performance.now() - began;
    assert(took >= 3_000 && took < 25_000, `it took ${took} ms`);
  });
}

test("headers go with every attempt of send, and come from a function for each", () =>
  FakeServer.run([UNAVAILABLE, PAID, UNAVAILABLE, PAID], async ({ commands, headers }) => {
    await send(commands.payOrder, { ...PAY }, { headers: { authorization: "fixed" } });
    let calls = 0;
    const token = async () => {
      calls += 1;
      return { authorization: `token ${calls}` };
    };
    await send(commands.payOrder, { ...PAY }, { headers: token });
    assert.deepEqual(
      headers.map((seen) => seen.get("authorization")),
      ["fixed", "fixed", "token 1", "token 2"],
    );
  }));

test("send gives up at once when the wait would pass the deadline", () => {
  const slow = new Failure(Code.ResourceExhausted, [info("STORE_FULL"), retryInfo(600_000)]);
  return FakeServer.run([slow, PAID], async ({ commands, requests }) => {
    const failure = await failureOf(send(commands.payOrder, { ...PAY }, { timeoutMs: 60_000 }));
    assert.equal(failure.reason, "STORE_FULL");
    assert.equal(requests.length, 1);
  });
});

test("a signal ends send while it waits", () => {
  const slow = new Failure(Code.ResourceExhausted, [info("STORE_FULL"), retryInfo(20_000)]);
  return FakeServer.run([slow, PAID], async ({ commands, requests }) => {
    const signal = AbortSignal.timeout(200);
    assert.equal((await failureOf(send(commands.payOrder, { ...PAY }, { signal }))).code, Code.Canceled);
    assert.equal(requests.length, 1);
  });
});

test("send must be allowed an attempt", () =>
  FakeServer.run([], async ({ commands }) => {
    await assert.rejects(send(commands.payOrder, { ...PAY }, { attempts: 0 }), RangeError);
  }));

test("a channel that was closed answers no call, and a call that runs ends", () =>
  FakeServer.run([[]], async ({ history, requests, transport }) => {
    const events = history.streamEvents({ follow: true })[Symbol.asyncIterator]();
    const running = failureOf(events.next());
    while (requests.length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert("close" in transport);
    (transport as ReturnType<typeof connect>).close();
    assert.equal((await running).code, Code.Canceled);
    assert.equal((await failureOf(history.streamEvents({})[Symbol.asyncIterator]().next())).code, Code.Canceled);
  }));
