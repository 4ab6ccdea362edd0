/** The package in a real browser, on a page of another origin than the service. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, mkdtempSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { Code, createClient } from "@connectrpc/connect";
import { build } from "esbuild";
import { OrderCommandService, OrderQueryService, send } from "ordersystem-client";
import { connect } from "ordersystem-client/node";
import { CLIENT, freePort, type Redis, redisIfAsked, Server, start, temporaryFolder, until } from "./server.js";

const DRIVER = "/usr/bin/chromedriver";
const BROWSER = "/usr/bin/chromium";
const skip = existsSync(DRIVER) && existsSync(BROWSER) ? false : `needs ${BROWSER} and ${DRIVER}`;
const folder = temporaryFolder();
let redis: Redis | undefined;

before(async () => {
  redis = await redisIfAsked(folder.path);
});

after(async () => {
  await redis?.stop();
  folder.remove();
});

/** Headless Chromium, driven over the WebDriver protocol. */
class Browser {
  readonly #session: string;

  private constructor(session: string) {
    this.#session = session;
  }

  static async run(body: (browser: Browser) => Promise<void>): Promise<void> {
    const port = await freePort();
    const root = `http://127.0.0.1:${port}/session`;
    const driver = start(DRIVER, [`--port=${port}`], join(folder.path, "driver.log"));
    const profile = mkdtempSync(join(folder.path, "profile-"));
    const quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"];
    const plain = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", `--user-data-dir=${profile}`];
    const options = { binary: BROWSER, args: [...plain, ...quiet] };
    const capabilities = { alwaysMatch: { "goog:chromeOptions": options } };
    try {
      const { sessionId } = await until(() => call<{ sessionId: string }>("POST", root, { capabilities }));
      const browser = new Browser(`${root}/${sessionId}`);
      try {
        await body(browser);
      } finally {
        await call("DELETE", browser.#session);
      }
    } finally {
      const ended = once(driver, "exit");
      driver.kill();
      await ended;
    }
  }

  async open(url: string): Promise<void> {
    await call("POST", `${this.#session}/url`, { url });
  }

  /** The lines of the page, once `isEnough` or after some seconds. */
  async lines(isEnough: (lines: string[]) => boolean): Promise<string[]> {
    for (const deadline = performance.now() + 20_000; ; ) {
      const body = { script: "return document.body.textContent", args: [] };
      const text = await call<string>("POST", `${this.#session}/execute/sync`, body);
      const lines = text.split("\n").filter((line) => line !== "");
      if (isEnough(lines) || performance.now() > deadline) {
        return lines;
      }
      await pause(100);
    }
  }
}

async function call<T>(method: string, url: string, body?: object): Promise<T> {
  const reply = await fetch(url, { method, ...(body && { body: JSON.stringify(body) }) });
  const { value } = (await reply.json()) as { value: T };
  assert(reply.ok, JSON.stringify(value));
  return value;
}

/** Serves the page, with the package in it, on its own port: an origin other than the service's. */
async function servePage(): Promise<{ origin: string; close: () => void }> {
  const bundle = await build({
    entryPoints: [join(CLIENT, "tests", "browser", "page.ts")],
    bundle: true,
    format: "esm",
    platform: "browser",
    write: false,
    logLevel: "error",
  });
  const script = bundle.outputFiles[0]?.text ?? assert.fail("nothing was built");
  const server = createServer((request, response) => {
    const [type, body] = request.url?.startsWith("/page.js")
      ? ["text/javascript", script]
      : ["text/html", '<!doctype html><meta charset="utf-8"><body><script type="module" src="/page.js"></script>'];
    response.writeHead(200, { "content-type": type }).end(body);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const address = server.address();
  assert(typeof address === "object" && address);
  return {
    origin: `http://127.0.0.1:${address.port}`,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

test("a page of an allowed origin lists, creates and follows orders, over a restart of the service", {
  skip,
}, async () => {
  const page = await servePage();
  const server = await Server.of(folder.path, redis, "browser", ["--cors-allowed-origins", page.origin]);
  try {
    await server.start();
    await Browser.run(async (browser) => {
      await browser.open(`${page.origin}/?service=http://${server.address}`);
      const first = ["listed 0", "created PENDING 7", "event 1 orderCreated", "event 2 orderPaid"];
      assert.deepEqual(await browser.lines((lines) => lines.length >= first.length), first);
      await server.stop();
      await server.start();
      await ship(server);
      // The second shipping is refused: an error crosses the origins with its details.
      const rest = ["event 3 orderShipped", "listed 1", `failed ${Code.FailedPrecondition} ILLEGAL_TRANSITION`, "end"];
      assert.deepEqual(await browser.lines((lines) => lines.includes("end")), [...first, ...rest]);
    });
  } finally {
    await server.kill();
    page.close();
  }
});

test("a page of another origin does not get in", { skip }, async () => {
  const page = await servePage();
  const server = await Server.of(folder.path, redis, "closed", ["--cors-allowed-origins", "http://other.example"]);
  try {
    await server.start();
    await Browser.run(async (browser) => {
      await browser.open(`${page.origin}/?service=http://${server.address}`);
      assert.deepEqual(await browser.lines((lines) => lines.includes("end")), [`failed ${Code.Unavailable} `, "end"]);
    });
  } finally {
    await server.kill();
    page.close();
  }
});

/** Ships the order of the page. */
async function ship(server: Server): Promise<void> {
  const channel = connect(server.address);
  try {
    const { orders } = await createClient(OrderQueryService, channel).listOrders({ customerId: "browser" });
    const orderId = orders[0]?.orderId ?? assert.fail("the page has made no order");
    await send(createClient(OrderCommandService, channel).shipOrder, { orderId, trackingNumber: "T" });
  } finally {
    channel.close();
  }
}
