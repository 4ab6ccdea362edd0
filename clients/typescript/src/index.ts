/**
 * A client of the order service: messages, services, and helpers for what Connect alone makes hard.
 *
 * Channels are opened by `connect` of `ordersystem-client/node` or `ordersystem-client/web`; everything else is here and runs in both.
 *
 * @module
 */

export { type Command, type SendOptions, send } from "./commands.js";
export { type FieldViolation, OrderError, type Precondition } from "./errors.js";
export { Follow, type FollowOptions, followEvents, followOrder } from "./follow.js";
export * from "./gen/catga/events/v1/events_pb.js";
export * from "./gen/catga/ids/v1/ids_pb.js";
export * from "./gen/catga/orders/v1/commands_pb.js";
export * from "./gen/catga/orders/v1/history_pb.js";
export * from "./gen/catga/orders/v1/queries_pb.js";
export * from "./gen/catga/orders/v1/types_pb.js";
export * from "./gen/catga/system/v1/system_pb.js";
export * from "./gen/google/type/money_pb.js";
export * from "./gen/grpc/health/v1/health_pb.js";
export { SERVICE_CONFIG } from "./gen/service_config.js";
export type { CallHeaders } from "./headers.js";
export { type ListOptions, listOrders } from "./lists.js";
export { amountOf, minorOf, money, moneyOfMinor } from "./money.js";
export type { TokenSource } from "./tokens.js";
