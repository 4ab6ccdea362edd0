/** The part of a gRPC service config that Connect does not support: retries of calls without side effects. */

import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { between, sleep } from "./backoff.js";
import { SERVICE_CONFIG } from "./gen/service_config.js";

/** The part of a gRPC service config that is read here. */
export interface ServiceConfig {
  readonly methodConfig: readonly {
    readonly name: readonly { readonly service: string; readonly method?: string }[];
    readonly retryPolicy: RetryPolicy;
  }[];
  readonly retryThrottling: { readonly maxTokens: number; readonly tokenRatio: number };
}

interface RetryPolicy {
  readonly maxAttempts: number;
  readonly initialBackoff: string;
  readonly maxBackoff: string;
  readonly backoffMultiplier: number;
  readonly retryableStatusCodes: readonly string[];
}

/**
 * Retries unary calls as `config` says, and commands never: those are retried by `send`, which knows whether they have a request id. One
 * per channel, since the throttling counts the calls of the channel.
 */
export function retries(config: ServiceConfig = SERVICE_CONFIG): Interceptor {
  const budget = new Budget(config.retryThrottling);
  return (next) => async (request) => {
    const policy = policyOf(config, request.service.typeName, request.method.name);
    if (!policy || request.stream) {
      return next(request);
    }
    let backoffMs = milliseconds(policy.initialBackoff);
    for (let attempt = 1; ; attempt += 1) {
      try {
        const reply = await next(request);
        budget.worked();
        return reply;
      } catch (error) {
        if (!policy.retryableStatusCodes.includes(grpcName(ConnectError.from(error).code))) {
          throw error;
        }
        budget.failed();
        if (attempt >= policy.maxAttempts || !budget.allowsRetry() || request.signal.aborted) {
          throw error;
        }
        const askedFor = pushbackMs(error);
        if (Number.isNaN(askedFor)) {
          throw error;
        }
        await sleep(askedFor ?? between(0.8, 1.2) * backoffMs, request.signal);
        if (request.signal.aborted) {
          throw error;
        }
        const longer =
          askedFor === undefined ? backoffMs * policy.backoffMultiplier : milliseconds(policy.initialBackoff);
        backoffMs = Math.min(longer, milliseconds(policy.maxBackoff));
      }
    }
  };
}

/** The policy for a method: one for the method comes before one for its service. */
export function policyOf(config: ServiceConfig, service: string, method: string): RetryPolicy | undefined {
  const named = (wanted: string | undefined) =>
    config.methodConfig.find(({ name }) => name.some((n) => n.service === service && n.method === wanted));
  return (named(method) ?? named(undefined))?.retryPolicy;
}

/** The delay that the service requests before a retry; undefined if it gives none, NaN if it forbids retries. */
function pushbackMs(error: unknown): number | undefined {
  const value = ConnectError.from(error).metadata.get("grpc-retry-pushback-ms");
  return value === null ? undefined : /^\d+$/.test(value) ? Number(value) : Number.NaN;
}

/** Stops retries while most calls fail, so that they do not overload a failing service. */
class Budget {
  readonly #max: number;
  readonly #ratio: number;
  #tokens: number;

  constructor({ maxTokens, tokenRatio }: ServiceConfig["retryThrottling"]) {
    this.#max = maxTokens;
    this.#ratio = tokenRatio;
    this.#tokens = maxTokens;
  }

  worked(): void {
    this.#tokens = Math.min(this.#tokens + this.#ratio, this.#max);
  }

  failed(): void {
    this.#tokens = Math.max(this.#tokens - 1, 0);
  }

  allowsRetry(): boolean {
    return this.#tokens > this.#max / 2;
  }
}

/** `"0.1s"`: 100. */
function milliseconds(duration: string): number {
  return Number.parseFloat(duration) * 1_000;
}

/** The name that gRPC has for a code: `FAILED_PRECONDITION`. */
function grpcName(code: Code): string {
  return code === Code.Canceled ? "CANCELLED" : Code[code].replace(/\B[A-Z]/g, "_$&").toUpperCase();
}
