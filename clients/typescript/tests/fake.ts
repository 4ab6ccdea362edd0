/** A server in this process that follows the script of a test. */

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import type { Socket } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  type Client,
  Code,
  ConnectError,
  createClient,
  type HandlerContext,
  type Transport,
} from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { OrderCommandService, OrderHistoryService, OrderQueryService } from "ordersystem-client";
import { connect } from "ordersystem-client/node";
import { connect as connectWeb } from "ordersystem-client/web";
import { ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";

/** A detail of an error, as Connect takes it. */
export interface Detail {
  desc: DescMessage;
  // biome-ignore lint/suspicious/noExplicitAny: what it holds depends on desc
  value: any;
}

/** An error to answer with. */
export class Failure {
  readonly code: Code;
  readonly details: readonly Detail[];
  /** Trailers in addition to those of Connect. */
  readonly trailers: Readonly<Record<string, string>>;

  constructor(code: Code, details: readonly Detail[] = [], trailers: Readonly<Record<string, string>> = {}) {
    this.code = code;
    this.details = details;
    this.trailers = trailers;
  }
}

/** The connection breaks instead of an answer. */
export const BREAK = Symbol("the connection breaks");
/** The error of a broken connection: the service itself always gives a reason. */
export const UNAVAILABLE = new Failure(Code.Unavailable);

export function detail<D extends DescMessage>(desc: D, value: MessageInitShape<D>): Detail {
  return { desc, value };
}

export function info(reason: string, metadata: Record<string, string> = {}): Detail {
  return detail(ErrorInfoSchema, { reason, domain: "ordersystem", metadata });
}

export function retryInfo(ms: number): Detail {
  return detail(RetryInfoSchema, { retryDelay: durationFromMs(ms) });
}

export const SHUTTING_DOWN = new Failure(Code.Unavailable, [info("SHUTTING_DOWN")]);
export const OVERLOADED = new Failure(Code.ResourceExhausted, [info("OVERLOADED"), retryInfo(300)]);

/** The answer to one call: a message, a failure, a break, or for a stream a list of them. */
// biome-ignore lint/suspicious/noExplicitAny: the reply of any method
type Answer = any;
/** The requests to the server, with the fields that the tests check. */
interface Asked {
  requestId: string;
  start: number;
  cursor: string;
  fromRevision: bigint;
  customerIds: string[];
  customerId: string;
  pageToken: string;
  follow: boolean;
}

/** The protocols of the client. */
export type Protocol = "gRPC" | "gRPC-Web";

/** Every call takes the next answer of a script. A stream whose list has neither failure nor break stays open until the client ends it. */
export class FakeServer {
  readonly requests: Asked[] = [];
  readonly times: number[] = [];
  /** The headers of each call. */
  readonly headers: Headers[] = [];
  /** How many streams the client has ended. */
  ended = 0;
  readonly commands: Client<typeof OrderCommandService>;
  readonly queries: Client<typeof OrderQueryService>;
  readonly history: Client<typeof OrderHistoryService>;
  readonly transport: Transport;
  readonly port: number;
  readonly #script: Answer[];
  readonly #breakOff: () => void;

  private constructor(script: readonly Answer[], transport: Transport, port: number, breakOff: () => void) {
    this.#script = [...script];
    this.#breakOff = breakOff;
    this.transport = transport;
    this.port = port;
    this.commands = createClient(OrderCommandService, transport);
    this.queries = createClient(OrderQueryService, transport);
    this.history = createClient(OrderHistoryService, transport);
  }

  /** Runs `body` with a server that follows `script`, and with clients of it. */
  static async run(script: readonly Answer[], body: (fake: FakeServer) => Promise<void>, protocol: Protocol = "gRPC") {
    let fake: FakeServer | undefined;
    const handler = connectNodeAdapter({
      routes: (router) => {
        const unary = (request: unknown, context: HandlerContext) => (fake ?? assert.fail()).#unary(request, context);
        const stream = (request: unknown, context: HandlerContext) => (fake ?? assert.fail()).#stream(request, context);
        router
          .service(OrderCommandService, { createOrder: unary, payOrder: unary })
          .service(OrderQueryService, { getOrder: unary, listOrders: unary })
          .service(OrderHistoryService, { streamEvents: stream, streamOrderHistory: stream });
      },
    });
    // gRPC-Web by fetch is HTTP/1.1 on a plain connection.
    const server = protocol === "gRPC" ? http2.createServer(handler) : http.createServer(handler);
    const sockets = new Set<Socket>();
    const breakOff = () => {
      for (const socket of sockets) {
        socket.destroy();
      }
      sockets.clear();
    };
    server.on("connection", (socket: Socket) => sockets.add(socket));
    await once(server.listen(0, "127.0.0.1"), "listening");
    const address = server.address();
    assert(typeof address === "object" && address);
    const place = `127.0.0.1:${address.port}`;
    const channel = protocol === "gRPC" ? connect(place) : undefined;
    fake = new FakeServer(script, channel ?? connectWeb(`http://${place}`), address.port, breakOff);
    try {
      await body(fake);
    } finally {
      channel?.close();
      server.close();
      breakOff();
    }
  }

  #next(request: unknown, context: HandlerContext): Answer {
    this.headers.push(context.requestHeader);
    this.requests.push(request as Asked);
    this.times.push(performance.now());
    return this.#script.shift() ?? new Failure(Code.Internal, [info("SCRIPT_HAS_ENDED")]);
  }

  async #give(answer: Answer, context: HandlerContext): Promise<Answer> {
    if (answer === BREAK) {
      // Earlier messages must be on their way.
      await pause(20);
      this.#breakOff();
      throw new ConnectError("nobody sees this", Code.Internal);
    }
    if (answer instanceof Failure) {
      for (const [name, value] of Object.entries(answer.trailers)) {
        context.responseTrailer.set(name, value);
      }
      throw new ConnectError("as scripted", answer.code, undefined, [...answer.details]);
    }
    return answer;
  }

  async #unary(request: unknown, context: HandlerContext): Promise<Answer> {
    return this.#give(this.#next(request, context), context);
  }

  async *#stream(request: unknown, context: HandlerContext): AsyncGenerator<Answer> {
    for (const answer of this.#next(request, context)) {
      yield await this.#give(answer, context);
    }
    if (!context.signal.aborted) {
      await once(context.signal, "abort");
    }
    this.ended += 1;
  }
}
