/** Errors are read completely, and damaged details do not hide them. */

import assert from "node:assert/strict";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { OrderError } from "ordersystem-client";
import { BadRequestSchema, PreconditionFailureSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../src/gen/google/rpc/status_pb.js";
import { type Detail, detail, Failure, FakeServer, info, type Protocol, retryInfo } from "./fake.js";

const DETAILS: Detail[] = [
  info("SOME_REASON", { order_id: "1" }),
  detail(BadRequestSchema, { fieldViolations: [{ field: "a", description: "must be b" }] }),
  detail(PreconditionFailureSchema, { violations: [{ type: "ORDER_STATUS", subject: "orders/1", description: "d" }] }),
  retryInfo(1_500),
];
const NOTHING = {
  reason: "",
  domain: "",
  metadata: {},
  fieldViolations: [],
  preconditions: [],
  retryDelayMs: undefined,
};
const EXPECTED = {
  code: Code.Aborted,
  message: "as scripted",
  reason: "SOME_REASON",
  domain: "ordersystem",
  metadata: { order_id: "1" },
  fieldViolations: [{ field: "a", description: "must be b" }],
  preconditions: [{ type: "ORDER_STATUS", subject: "orders/1", description: "d" }],
  retryDelayMs: 1_500,
};

/** The view of the error of a call. */
async function seen(failure: Failure, protocol: Protocol = "gRPC"): Promise<OrderError> {
  let view: OrderError | undefined;
  await FakeServer.run(
    [failure],
    async ({ commands }) => {
      view = await commands.payOrder({}).then(() => assert.fail("the call succeeds"), OrderError.of);
    },
    protocol,
  );
  return view ?? assert.fail();
}

for (const protocol of ["gRPC", "gRPC-Web"] satisfies Protocol[]) {
  test(`every detail of a failed call is read, over ${protocol}`, async () => {
    assert.deepEqual({ ...(await seen(new Failure(Code.Aborted, DETAILS), protocol)) }, EXPECTED);
  });
}

test("the status of one command of many is read in the same way", () => {
  const details = DETAILS.map(({ desc, value }) => anyPack(desc, create(desc, value)));
  const status = create(StatusSchema, { code: Code.Aborted, message: "as scripted", details });
  assert.deepEqual({ ...OrderError.ofStatus(status) }, EXPECTED);
  assert.equal(OrderError.ofStatus(create(StatusSchema, { code: 99 })).code, Code.Unknown);
});

test("an error without details has no reason", async () => {
  assert.deepEqual(
    { ...(await seen(new Failure(Code.Internal))) },
    { ...NOTHING, code: Code.Internal, message: "as scripted" },
  );
  assert.deepEqual({ ...OrderError.of(new Error("x")) }, { ...NOTHING, code: Code.Unknown, message: "x" });
});

test("a damaged detail leaves the code, the message and the other details", () => {
  const broken = { typeUrl: "type.googleapis.com/google.rpc.BadRequest", value: Uint8Array.of(0xff) };
  const unknown = { typeUrl: "type.googleapis.com/of.Tomorrow", value: Uint8Array.of(1) };
  const { desc, value } = info("SOME_REASON");
  const details = [broken, unknown, anyPack(desc, create(desc, value))];
  const view = OrderError.ofStatus(create(StatusSchema, { code: Code.InvalidArgument, message: "m", details }));
  const expected = {
    ...NOTHING,
    code: Code.InvalidArgument,
    message: "m",
    reason: "SOME_REASON",
    domain: "ordersystem",
  };
  assert.deepEqual({ ...view }, expected);
});

test("details that are damaged as a whole are a DataLoss, which Connect makes of them, and no crash", async () => {
  const view = await seen(new Failure(Code.Internal, [], { "grpc-status-details-bin": "/w==" }));
  assert.deepEqual({ ...view, message: "" }, { ...NOTHING, code: Code.DataLoss, message: "" });
  assert(!view.isRetryable);
});

test("retryable errors are unavailable or have a delay", async () => {
  assert((await seen(new Failure(Code.Unavailable))).isRetryable);
  assert((await seen(new Failure(Code.Aborted, [retryInfo(0)]))).isRetryable);
  assert(!(await seen(new Failure(Code.ResourceExhausted))).isRetryable);
  assert(!(await seen(new Failure(Code.DeadlineExceeded))).isRetryable);
});
