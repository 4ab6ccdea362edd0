/**
 * A tour of the order service: the life of an order, errors, a retry, a followed history, health, a deadline.
 *
 * usage: node build/example.js ADDRESS
 *
 * Halfway it waits for a line on standard input: restart the service then, and see the history resume. That needs a durable service, such
 * as `ordersystem --persistence embedded --data-dir DIR`.
 */

import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { argv, exit, stdin } from "node:process";
import { createInterface } from "node:readline";
import { create, equals } from "@bufbuild/protobuf";
import { Code, createClient } from "@connectrpc/connect";
import {
  type Follow,
  followEvents,
  Health,
  HealthCheckResponse_ServingStatus,
  IdService,
  money,
  type Order,
  OrderCommandService,
  OrderError,
  OrderHistoryService,
  OrderStatus,
  PayOrderRequestSchema,
  PayOrderResponseSchema,
  type StreamEventsResponse,
  StreamStart,
  send,
} from "ordersystem-client";
import { type Channel, connect } from "ordersystem-client/node";

async function main(): Promise<void> {
  const [, , address, ...more] = argv;
  if (address === undefined || more.length > 0) {
    console.error("usage: node build/example.js ADDRESS");
    exit(2);
  }
  const channel = connect(address);
  try {
    await showHealth(channel);
    const order = await placeAndPay(channel);
    const cursor = await readHistory(channel, order);
    console.log("restart the service if you like, then press Enter");
    await once(createInterface(stdin), "line");
    await finish(channel, order, cursor);
    await showDeadline(channel);
  } finally {
    channel.close();
  }
}

async function showHealth(channel: Channel): Promise<void> {
  const answer = await createClient(Health, channel).check({ service: "readiness" }, { timeoutMs: 30_000 });
  console.log("readiness:", HealthCheckResponse_ServingStatus[answer.status]);
}

async function placeAndPay(channel: Channel): Promise<Order> {
  const commands = createClient(OrderCommandService, channel);
  const price = money("999.99", "USD");
  const { order } = await send(commands.createOrder, {
    // A customer unique to this run, to distinguish its events from others.
    customerId: `customer-${randomUUID()}`,
    items: [{ productId: "prod-1", name: "Laptop", quantity: 1n, unitPrice: price }],
  });
  if (!order) {
    throw new Error("a reply to CreateOrder always has the order");
  }
  console.log("placed:", OrderStatus[order.status]);

  const { orderId } = order;
  try {
    await send(commands.shipOrder, { orderId, trackingNumber: "TRACK-1" });
  } catch (error) {
    const { code, reason, metadata } = OrderError.of(error);
    console.log("refused:", Code[code], reason, metadata.status);
  }

  const pay = create(PayOrderRequestSchema, { requestId: randomUUID(), orderId, paymentMethod: "credit_card" });
  const first = await commands.payOrder(pay, { timeoutMs: 30_000 });
  const second = await send(commands.payOrder, pay);
  const isSame = equals(PayOrderResponseSchema, first, second);
  console.log("paid:", OrderStatus[first.order?.status ?? 0], "- the retry got the first answer:", isSame);
  return order;
}

/** Reads the existing events; returns the cursor to resume from. */
async function readHistory(channel: Channel, order: Order): Promise<string> {
  const history = createClient(OrderHistoryService, channel);
  const follow = followEvents(history, { customerIds: [order.customerId], follow: true });
  for await (const message of follow) {
    if (message.item.case === "caughtUp") {
      break;
    }
    show(message);
  }
  return follow.cursor;
}

/** Ships and delivers the order, and resumes reading the history. */
async function finish(channel: Channel, { orderId, customerId }: Order, cursor: string): Promise<void> {
  const commands = createClient(OrderCommandService, channel);
  const history = createClient(OrderHistoryService, channel);
  const rest = { customerIds: [customerId], start: StreamStart.AFTER, cursor, follow: true };
  const follow = followEvents(history, rest);
  try {
    await send(commands.shipOrder, { orderId, trackingNumber: "TRACK-1" });
    await showNext(follow);
    await send(commands.deliverOrder, { orderId });
    await showNext(follow);
  } finally {
    follow.cancel();
  }
}

/** Shows the next event, and skips other messages. */
async function showNext(follow: Follow<StreamEventsResponse>): Promise<void> {
  for (;;) {
    const { done, value } = await follow.next();
    if (done) {
      return;
    }
    if (value.item.case === "event") {
      show(value);
      return;
    }
  }
}

function show({ item }: StreamEventsResponse): void {
  if (item.case === "event") {
    console.log("event:", Number(item.value.revision), item.value.event.case);
  }
}

async function showDeadline(channel: Channel): Promise<void> {
  try {
    // A node issues at most 4096 ids per millisecond.
    await createClient(IdService, channel).generateIds({ count: 100_000 }, { timeoutMs: 5 });
  } catch (error) {
    console.log("too late:", Code[OrderError.of(error).code]);
  }
}

await main();
