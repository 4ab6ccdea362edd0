/** A page that lists, creates, pays and follows orders of the service in its query: its body shows what it has received. */

import { createClient } from "@connectrpc/connect";
import {
  followEvents,
  OrderCommandService,
  OrderError,
  OrderHistoryService,
  OrderQueryService,
  OrderStatus,
  send,
} from "ordersystem-client";
import { connect } from "ordersystem-client/web";

const channel = connect(new URLSearchParams(location.search).get("service") ?? "");
const commands = createClient(OrderCommandService, channel);
const queries = createClient(OrderQueryService, channel);
const history = createClient(OrderHistoryService, channel);

function show(line: string): void {
  document.body.append(line, "\n");
}

async function main(): Promise<void> {
  const before = await queries.listOrders({ customerId: "browser" }, { timeoutMs: 10_000 });
  show(`listed ${before.orders.length}`);

  const unitPrice = { currencyCode: "EUR", units: 2n, nanos: 500_000_000 };
  const create = { customerId: "browser", items: [{ productId: "p", quantity: 3n, unitPrice }] };
  const { order } = await send(commands.createOrder, create);
  const orderId = order?.orderId ?? "";
  show(`created ${OrderStatus[order?.status ?? 0]} ${order?.total?.units}`);

  const follow = followEvents(history, { orderIds: [orderId], follow: true });
  for await (const { item } of follow) {
    if (item.case === "event") {
      show(`event ${item.value.revision} ${item.value.event.case}`);
    }
    if (item.case === "caughtUp") {
      await send(commands.payOrder, { orderId, paymentMethod: "card" });
    }
    if (item.case === "event" && item.value.event.case === "orderShipped") {
      break;
    }
  }

  const after = await queries.listOrders({ customerId: "browser" }, { timeoutMs: 10_000 });
  show(`listed ${after.orders.length}`);
  await send(commands.shipOrder, { orderId, trackingNumber: "again" });
}

main()
  .catch((error: unknown) => {
    const { code, reason } = OrderError.of(error);
    show(`failed ${code} ${reason}`);
  })
  .finally(() => {
    show("end");
  });
