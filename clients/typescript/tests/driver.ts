/** Runs the conformance scenarios with this client; clients/conformance/README.md says what each step means. */

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { EventEmitter, once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { type DescMessage, fromJson, type MessageShape, toJson } from "@bufbuild/protobuf";
import { Code, createClient, type Transport } from "@connectrpc/connect";
import {
  AdminService,
  type Command,
  CommandSuccessSchema,
  ExecuteCommandsRequestSchema,
  type ExecuteCommandsResponse,
  followEvents,
  followOrder,
  Health,
  IdService,
  OrderCommandService,
  OrderError,
  OrderHistoryService,
  OrderQueryService,
  StreamEventsRequestSchema,
  StreamOrderHistoryRequestSchema,
  SystemService,
  send,
  type TokenSource,
} from "ordersystem-client";
import { parse } from "yaml";
import { isMapping, type Json, match, resolve, type Variables } from "./matching.js";
import { ALL_ROLES, identities, persistence, type Redis, ROOT, Server, WITH_IDENTITIES } from "./server.js";

export const SCENARIOS = join(ROOT, "clients", "conformance");
const CALL_MS = 30_000;
const MESSAGE_MS = 30_000;

const SERVICES = [
  ...[OrderCommandService, OrderQueryService, OrderHistoryService],
  ...[IdService, SystemService, AdminService, Health],
];
const KINDS = ["call", "send", "execute", "stream", "follow", "take", "end", "cancel", "server", "token"] as const;

export type Step = { [key: string]: Json };
export interface Scenario {
  name: string;
  steps: Step[];
}
export interface ScenarioFile {
  stem: string;
  args: string[];
  identities: boolean;
  scenarios: Scenario[];
}

/** A transport to a server, which sends the token of a source with each call, and a function that closes it. */
export type Dial = (address: string, token: TokenSource) => { transport: Transport; close: () => void };

export function load(path: string): Json {
  return parse(readFileSync(path, "utf8")) as Json;
}

/** All files, by name. */
export function files(): ScenarioFile[] {
  const names = readdirSync(SCENARIOS).filter((name) => name.endsWith(".yaml"));
  return names.sort().map((name) => {
    const file = load(join(SCENARIOS, name)) as unknown as {
      server?: { args?: string[]; identities?: boolean };
      scenarios: Scenario[];
    };
    const { args = [], identities = false } = file.server ?? {};
    return { stem: basename(name, ".yaml"), args, identities, scenarios: file.scenarios };
  });
}

/** The method that is named `package.Service/Method`. */
export function methodOf(name: string) {
  const [service, method] = name.split("/");
  const found = SERVICES.find(({ typeName }) => typeName === service)?.methods.find((m) => m.name === method);
  assert(found, `there is no method ${name}`);
  return found;
}

/** An error as the scenarios describe it. */
function errorView(error: OrderError): Json {
  const { message, reason, domain, metadata, fieldViolations, preconditions, retryDelayMs } = error;
  const code = error.code === Code.Canceled ? "CANCELLED" : Code[error.code].replace(/\B[A-Z]/g, "_$&").toUpperCase();
  return {
    code,
    message,
    ...(reason && { reason, domain, metadata: { ...metadata } }),
    fieldViolations: fieldViolations.map((violation) => ({ ...violation })),
    preconditions: preconditions.map((precondition) => ({ ...precondition })),
    ...(retryDelayMs !== undefined && { retryDelayMs: Math.round(retryDelayMs) }),
  };
}

type Outcome = { reply: Json } | { error: Json };
type Item = { message: Json } | { error: Json } | "end";

/** Reads a stream in the background, so that waiting for a message can time out. */
class Reader {
  // Bounded: an endless stream must not fill the memory.
  static readonly #MOST = 16;
  readonly #items: Item[] = [];
  readonly #cancel: () => void;
  readonly #events = new EventEmitter();
  #isCancelled = false;

  constructor(schema: DescMessage, stream: AsyncIterable<MessageShape<DescMessage>>, cancel: () => void) {
    this.#cancel = cancel;
    void this.#read(schema, stream);
  }

  async #read(schema: DescMessage, stream: AsyncIterable<MessageShape<DescMessage>>): Promise<void> {
    try {
      for await (const message of stream) {
        await this.#put({ message: toJson(schema, message) });
      }
      await this.#put("end");
    } catch (error) {
      await this.#put({ error: errorView(OrderError.of(error)) });
    }
  }

  async #put(item: Item): Promise<void> {
    while (this.#items.length >= Reader.#MOST && !this.#isCancelled) {
      await once(this.#events, "changed");
    }
    this.#items.push(item);
    this.#events.emit("changed");
  }

  async next(): Promise<Item> {
    const limit = AbortSignal.timeout(MESSAGE_MS);
    for (;;) {
      const item = this.#items.shift();
      if (item !== undefined) {
        this.#events.emit("changed");
        return item;
      }
      await once(this.#events, "changed", { signal: limit }).catch(() =>
        assert.fail(`no message within ${MESSAGE_MS} ms`),
      );
    }
  }

  cancel(): void {
    this.#isCancelled = true;
    this.#cancel();
    this.#events.emit("changed");
  }
}

/** The scenarios of one file, on a separate server. */
export class FileRun {
  readonly #server: Server;
  readonly #dial: Dial;
  readonly #token: string;

  private constructor(server: Server, dial: Dial, token: string) {
    this.#server = server;
    this.#dial = dial;
    this.#token = token;
  }

  static async start(file: ScenarioFile, dial: Dial, folder: string, redis: Redis | undefined): Promise<FileRun> {
    const args = [...file.args];
    if (file.identities || WITH_IDENTITIES) {
      args.push("--identities", identities(folder));
    }
    const server = await Server.of(folder, redis, file.stem, args);
    await server.start();
    return new FileRun(server, dial, file.identities || !WITH_IDENTITIES ? "" : ALL_ROLES);
  }

  /** Runs one scenario. */
  async run(steps: readonly Step[]): Promise<void> {
    const run = new Run(this.#server, this.#dial, this.#token);
    try {
      for (const [index, step] of steps.entries()) {
        try {
          await run.step(step);
        } catch (error) {
          const [first] = Object.entries(step);
          const message = error instanceof Error ? error.message : String(error);
          throw new Error(`step ${index + 1}, ${first}: ${message}`, { cause: error });
        }
      }
    } finally {
      run.close();
    }
  }

  close(): Promise<void> {
    return this.#server.kill();
  }
}

/** One run of one scenario. */
class Run {
  readonly #server: Server;
  readonly #dial: Dial;
  readonly #variables: Variables;
  readonly #channels: ReturnType<Dial>[];
  readonly #readers = new Map<string, Reader>();
  #token: string;

  constructor(server: Server, dial: Dial, token: string) {
    this.#server = server;
    this.#dial = dial;
    this.#token = token;
    this.#variables = new Map([
      ["run", randomBytes(6).toString("hex")],
      ["persistence", persistence()],
    ]);
    this.#channels = [dial(server.address, () => this.#token)];
  }

  async step(step: Step): Promise<void> {
    const kind = KINDS.find((name) => name in step);
    assert(kind, `no such step: ${Object.keys(step)}`);
    const resolved = resolve(step, this.#variables);
    assert(isMapping(resolved));
    await this[kind](resolved);
  }

  close(): void {
    for (const reader of this.#readers.values()) {
      reader.cancel();
    }
    for (const channel of this.#channels) {
      channel.close();
    }
  }

  /** The client of a service on the newest channel, its methods by name: every one takes a request and options. */
  #stub(name: string) {
    const method = methodOf(name);
    const client = createClient(method.parent, (this.#channels.at(-1) ?? assert.fail()).transport);
    // biome-ignore lint/suspicious/noExplicitAny: the method is only known at run time
    const stub = (client as Record<string, any>)[method.localName];
    return { method, stub };
  }

  #check(expected: Step, outcome: Outcome): void {
    const isError = "error" in outcome;
    assert.equal(isError, "error" in expected, `expected another outcome, got ${JSON.stringify(outcome)}`);
    const pattern = (isError ? expected.error : expected.expect) ?? {};
    match(pattern, isError ? outcome.error : outcome.reply, this.#variables);
  }

  async #unary(step: Step, name: Json | undefined, isSent: boolean): Promise<void> {
    const { method, stub } = this.#stub(String(name));
    const request = fromJson(method.input, step.request ?? {});
    const givenMs = step.deadline_ms ?? (isSent ? undefined : CALL_MS);
    const options = givenMs === undefined ? {} : { timeoutMs: Number(givenMs) };
    const started = this.#startLater(step);
    let outcome: Outcome;
    try {
      outcome = {
        reply: toJson(method.output, await (isSent ? send(stub, request as Command, options) : stub(request, options))),
      };
    } catch (error) {
      outcome = { error: errorView(OrderError.of(error)) };
    }
    await started;
    this.#check(step, outcome);
  }

  /** Starts the server during a step that requests it. */
  async #startLater(step: Step): Promise<void> {
    if (step.start_after_ms !== undefined) {
      await pause(Number(step.start_after_ms));
      await this.server({ server: "start" });
    }
  }

  call(step: Step): Promise<void> {
    return this.#unary(step, step.call, false);
  }

  send(step: Step): Promise<void> {
    return this.#unary(step, step.send, true);
  }

  async execute(step: Step): Promise<void> {
    const commands = createClient(OrderCommandService, (this.#channels.at(-1) ?? assert.fail()).transport);
    const { execute, replies } = step;
    assert(Array.isArray(execute) && isMapping(replies ?? null));
    async function* requests() {
      for (const request of execute as Json[]) {
        yield fromJson(ExecuteCommandsRequestSchema, request);
      }
    }
    const responses: ExecuteCommandsResponse[] = [];
    for await (const reply of commands.executeCommands(requests(), { timeoutMs: CALL_MS })) {
      responses.push(reply);
    }
    const expected = replies as { [id: string]: Step };
    assert.deepEqual(responses.map((reply) => reply.correlationId).sort(), Object.keys(expected).sort());
    for (const { correlationId, outcome } of responses) {
      const seen =
        outcome.case === "error"
          ? { error: errorView(OrderError.ofStatus(outcome.value)) }
          : { reply: toJson(CommandSuccessSchema, outcome.value ?? assert.fail("neither success nor error")) };
      this.#check(expected[correlationId] ?? assert.fail(), seen);
    }
  }

  stream(step: Step): void {
    const { method, stub } = this.#stub(String(step.stream));
    const controller = new AbortController();
    const { signal } = controller;
    const deadline = step.deadline_ms === undefined ? {} : { timeoutMs: Number(step.deadline_ms) };
    const messages = stub(fromJson(method.input, step.request ?? {}), { signal, ...deadline });
    this.#open(step, new Reader(method.output, messages, () => controller.abort()));
  }

  follow(step: Step): void {
    const { method } = this.#stub(String(step.follow));
    const history = createClient(OrderHistoryService, (this.#channels.at(-1) ?? assert.fail()).transport);
    const request = step.request ?? {};
    const follow =
      method === OrderHistoryService.method.streamEvents
        ? followEvents(history, fromJson(StreamEventsRequestSchema, request))
        : followOrder(history, fromJson(StreamOrderHistoryRequestSchema, request));
    this.#open(step, new Reader(method.output, follow, () => follow.cancel()));
  }

  #open(step: Step, reader: Reader): void {
    const handle = String(step.as);
    assert(!this.#readers.has(handle), "the handle is taken");
    this.#readers.set(handle, reader);
  }

  #reader(handle: Json | undefined): Reader {
    return this.#readers.get(String(handle)) ?? assert.fail(`there is no stream ${handle}`);
  }

  async take(step: Step): Promise<void> {
    assert(Array.isArray(step.expect));
    for (const pattern of step.expect) {
      const item = await this.#reader(step.take).next();
      assert(item !== "end" && "message" in item, `expected a message, got ${JSON.stringify(item)}`);
      match(pattern, item.message, this.#variables);
    }
  }

  async end(step: Step): Promise<void> {
    const item = await this.#reader(step.end).next();
    if (step.error === undefined) {
      assert.equal(item, "end");
    } else {
      assert(item !== "end" && "error" in item, `expected an error, got ${JSON.stringify(item)}`);
      match(step.error, item.error, this.#variables);
    }
  }

  token(step: Step): void {
    this.#token = String(step.token);
  }

  cancel(step: Step): void {
    this.#reader(step.cancel).cancel();
    this.#readers.delete(String(step.cancel));
  }

  async server(step: Step): Promise<void> {
    for (const action of step.server === "restart" ? ["stop", "start"] : [step.server]) {
      assert(action === "stop" || action === "kill" || action === "start", `no such action: ${action}`);
      await this.#server[action]();
      if (action === "start") {
        this.#channels.push(this.#dial(this.#server.address, () => this.#token));
      }
    }
  }
}
