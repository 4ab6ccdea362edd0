/** The real server, and the Redis server that stores its data if requested. */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, connect as open } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { Health, HealthCheckResponse_ServingStatus } from "ordersystem-client";
import { connect } from "ordersystem-client/node";

/** The folder of the client; the tests are compiled into `build/tests`. */
export const CLIENT = resolve(import.meta.dirname, "..", "..");
export const ROOT = resolve(CLIENT, "..", "..");
const START_MS = 60_000;
const STOP_MS = 30_000;

/** The server under test. */
function binary(): string {
  const named = process.env.ORDERSYSTEM_BINARY;
  const candidates = named
    ? [resolve(named)]
    : ["release", "debug"].map((kind) => join(ROOT, "target", kind, "ordersystem"));
  const found = candidates.find((path) => existsSync(path));
  assert(found, `no server at ${candidates.join(" or ")}: build it, or set ORDERSYSTEM_BINARY`);
  return found;
}

/** The persistence under test. */
export function persistence(): "embedded" | "redis" {
  const name = process.env.CONFORMANCE_PERSISTENCE ?? "embedded";
  assert(name === "embedded" || name === "redis", `CONFORMANCE_PERSISTENCE must be embedded or redis, not ${name}`);
  return name;
}

/** The key of a caller that may do everything. */
export const ALL_ROLES = "orderkey_test-only-all------------------------------";

/** Whether the server identifies its callers in files that do not say so. */
export const WITH_IDENTITIES = process.env.CONFORMANCE_IDENTITIES === "1";

/** The callers of the scenarios, in a file that only this user can write. */
export function identities(folder: string): string {
  const copy = join(folder, "identities.toml");
  writeFileSync(copy, readFileSync(join(ROOT, "clients", "conformance", "identities.toml")), { mode: 0o600 });
  return copy;
}

export async function freePort(): Promise<number> {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const address = listener.address();
  assert(typeof address === "object" && address);
  listener.close();
  await once(listener, "close");
  return address.port;
}

/** A folder for the test, and how to remove it. */
export function temporaryFolder(): { path: string; remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), "ordersystem-client-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

const RUNNING = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of RUNNING) {
    child.kill("SIGKILL");
  }
});

/** Starts a program that is stopped with these tests at the latest. Its output goes into `log`. */
export function start(program: string, args: readonly string[], log: string, env = process.env): ChildProcess {
  const output = openSync(log, "a");
  const child = spawn(program, args, { env, stdio: ["ignore", output, output] });
  closeSync(output);
  RUNNING.add(child);
  child.once("exit", () => RUNNING.delete(child));
  return child;
}

/** Its exit code; a signal is an error, as is a timeout. */
async function ended(child: ChildProcess, limitMs: number): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) {
    await once(child, "exit", { signal: AbortSignal.timeout(limitMs) });
  }
  return child.exitCode;
}

/** Tries every 20 ms until it does not throw; throws the last error. */
export async function until<T>(attempt: () => Promise<T>, limitMs = START_MS): Promise<T> {
  for (const deadline = performance.now() + limitMs; ; ) {
    try {
      return await attempt();
    } catch (error) {
      if (performance.now() > deadline) {
        throw error;
      }
    }
    await pause(20);
  }
}

/** A redis-server that syncs before it answers. */
export class Redis {
  readonly port: number;
  readonly #process: ChildProcess;

  private constructor(port: number, folder: string) {
    this.port = port;
    const settings = [
      "--appendonly",
      "yes",
      "--appendfsync",
      "always",
      "--save",
      "",
      "--maxmemory-policy",
      "noeviction",
    ];
    const place = ["--port", String(port), "--bind", "127.0.0.1", "--dir", folder];
    this.#process = start("redis-server", [...place, ...settings], join(folder, "redis.log"));
  }

  static async start(folder: string): Promise<Redis> {
    const redis = new Redis(await freePort(), folder);
    await until(async () => {
      const socket = open(redis.port, "127.0.0.1");
      await once(socket, "connect").finally(() => socket.destroy());
    });
    return redis;
  }

  async stop(): Promise<void> {
    this.#process.kill("SIGKILL");
    await ended(this.#process, STOP_MS);
  }
}

/** The server with a new, empty store; it keeps its port and data across restarts. */
export class Server {
  readonly port: number;
  readonly address: string;
  readonly #log: string;
  readonly #args: readonly string[];
  #process: ChildProcess | undefined;

  private constructor(port: number, folder: string, redis: Redis | undefined, name: string, args: readonly string[]) {
    this.port = port;
    this.address = `127.0.0.1:${port}`;
    this.#log = join(folder, `${name}.log`);
    const store = redis
      ? ["--persistence", "redis", "--redis", `127.0.0.1:${redis.port}`, "--redis-prefix", name]
      : ["--persistence", "embedded", "--data-dir", join(folder, name)];
    this.#args = ["--port", String(port), "--log-level", "warn", ...store, ...args];
  }

  /** A server that does not run yet. */
  static async of(folder: string, redis: Redis | undefined, name: string, args: readonly string[] = []) {
    return new Server(await freePort(), folder, redis, name, args);
  }

  /** Starts it and waits until it is ready. */
  async start(): Promise<void> {
    await this.launch();
    const channel = connect(this.address);
    const health = createClient(Health, channel);
    try {
      await this.#whenUp(async () => {
        const { status } = await health.check({ service: "readiness" }, { timeoutMs: 1_000 });
        assert.equal(status, HealthCheckResponse_ServingStatus.SERVING);
      });
    } finally {
      channel.close();
    }
  }

  /** Starts it and waits only until it accepts connections: the health check may need a certificate. */
  async launch(): Promise<void> {
    assert(!this.#process, "the server runs already");
    // It reads settings from variables that begin with ORDERSYSTEM_, and refuses unknown ones.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("ORDERSYSTEM_")));
    this.#process = start(binary(), this.#args, this.#log, env);
    await this.#whenUp(async () => {
      const socket = open(this.port, "127.0.0.1");
      await once(socket, "connect").finally(() => socket.destroy());
    });
  }

  async #whenUp(attempt: () => Promise<void>): Promise<void> {
    const process = this.#process;
    try {
      // A process that has ended will never be ready.
      await until(async () => (process?.exitCode == null ? attempt() : undefined));
      assert.equal(process?.exitCode, null);
    } catch (error) {
      throw new Error(`the server does not start: ${this.log()}`, { cause: error });
    }
  }

  /** Its output so far. */
  log(): string {
    return readFileSync(this.#log, "utf8");
  }

  /** Stops it as an operator does. */
  async stop(): Promise<void> {
    const process = this.#process;
    assert(process, "the server does not run");
    process.kill("SIGTERM");
    const code = await ended(process, STOP_MS);
    this.#process = undefined;
    assert.equal(code, 0, `the server ended with ${code}: ${this.log()}`);
  }

  /** Kills it, as a crash would; does nothing if it is not running. */
  async kill(): Promise<void> {
    const process = this.#process;
    this.#process = undefined;
    if (process) {
      process.kill("SIGKILL");
      await ended(process, STOP_MS);
    }
  }
}

/** The Redis server of a test file, if that is the persistence under test. */
export async function redisIfAsked(folder: string): Promise<Redis | undefined> {
  return persistence() === "redis" ? Redis.start(folder) : undefined;
}
