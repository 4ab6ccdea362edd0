/** The details of an error of the order service. */

import { Code, ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb.js";
import type { Status } from "./gen/google/rpc/status_pb.js";

/** One violation in the input. */
export interface FieldViolation {
  /** The field as the proto names it: `items[0].unit_price`. */
  readonly field: string;
  /** The constraint. */
  readonly description: string;
}

/** A violated precondition of a command. */
export interface Precondition {
  /** `ORDER_STATUS`. */
  readonly type: string;
  /** `orders/{order id}`. */
  readonly subject: string;
  /** A description for people. */
  readonly description: string;
}

/** A view of an error, with its details read. Made by {@link OrderError.of} and {@link OrderError.ofStatus}. */
export class OrderError {
  /** The gRPC code. */
  readonly code: Code;
  /** A description for people. */
  readonly message: string;
  /** One stable word for programs, such as `ILLEGAL_TRANSITION`; empty if the error did not come from the service. */
  readonly reason: string;
  /** `ordersystem`, or empty. */
  readonly domain: string;
  /** Additional facts by name: `order_id`, `actual_revision` ... */
  readonly metadata: Readonly<Record<string, string>>;
  /** All violations in the input. */
  readonly fieldViolations: readonly FieldViolation[];
  /** Why the order's status does not allow the command. */
  readonly preconditions: readonly Precondition[];
  /** The delay before a retry, in milliseconds; undefined if the service gave none. */
  readonly retryDelayMs: number | undefined;

  private constructor(error: ConnectError) {
    const [info] = error.findDetails(ErrorInfoSchema);
    const [bad] = error.findDetails(BadRequestSchema);
    const [failure] = error.findDetails(PreconditionFailureSchema);
    const [retry] = error.findDetails(RetryInfoSchema);
    this.code = error.code in Code ? error.code : Code.Unknown;
    this.message = error.rawMessage;
    this.reason = info?.reason ?? "";
    this.domain = info?.domain ?? "";
    this.metadata = { ...info?.metadata };
    this.fieldViolations = (bad?.fieldViolations ?? []).map(({ field, description }) => ({ field, description }));
    this.preconditions = (failure?.violations ?? []).map(({ type, subject, description }) => ({
      type,
      subject,
      description,
    }));
    const delay = retry?.retryDelay;
    this.retryDelayMs = delay && Number(delay.seconds) * 1_000 + delay.nanos / 1_000_000;
  }

  /** The details of the error of a call. Accepts anything thrown: values other than `ConnectError` have the code `Unknown`. */
  static of(error: unknown): OrderError {
    return new OrderError(ConnectError.from(error));
  }

  /** The details of the error of one command of an `ExecuteCommands` call. */
  static ofStatus(status: Status): OrderError {
    const error = new ConnectError(status.message, status.code);
    error.details = status.details.map(({ typeUrl, value }) => ({
      type: typeUrl.slice(typeUrl.lastIndexOf("/") + 1),
      value,
    }));
    return new OrderError(error);
  }

  /** Whether a retry may help. A command must then have the request id of the first attempt. */
  get isRetryable(): boolean {
    return this.code === Code.Unavailable || this.retryDelayMs !== undefined;
  }
}
