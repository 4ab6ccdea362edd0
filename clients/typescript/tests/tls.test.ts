/** Channels over TLS, with and without a certificate of the client. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import type { SecureClientSessionOptions } from "node:http2";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Code, createClient } from "@connectrpc/connect";
import {
  followEvents,
  OrderCommandService,
  OrderError,
  OrderHistoryService,
  SystemService,
  send,
} from "ordersystem-client";
import { connect } from "ordersystem-client/node";
import { type Redis, redisIfAsked, Server, temporaryFolder } from "./server.js";

const folder = temporaryFolder();
const file = (name: string) => join(folder.path, name);
const pem = (name: string) => readFileSync(file(name), "utf8");
let redis: Redis | undefined;

before(async () => {
  const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: ["ignore", "ignore", "pipe"] });
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  for (const ca of ["ca", "other-ca"]) {
    openssl(
      "req",
      "-x509",
      ...newKey,
      "-keyout",
      file(`${ca}.key`),
      "-out",
      file(`${ca}.pem`),
      "-days",
      "2",
      "-subj",
      `/CN=${ca}`,
    );
  }
  writeFileSync(
    file("extensions"),
    "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n",
  );
  for (const [name, ca] of [
    ["server", "ca"],
    ["client", "ca"],
    ["stranger", "other-ca"],
  ] as const) {
    openssl("req", ...newKey, "-keyout", file(`${name}.key`), "-out", file(`${name}.csr`), "-subj", `/CN=${name}`);
    const signer = ["-CA", file(`${ca}.pem`), "-CAkey", file(`${ca}.key`), "-CAcreateserial", "-days", "2"];
    openssl(
      "x509",
      "-req",
      "-in",
      file(`${name}.csr`),
      ...signer,
      "-extfile",
      file("extensions"),
      "-out",
      file(`${name}.pem`),
    );
  }
  redis = await redisIfAsked(folder.path);
});

after(async () => {
  await redis?.stop();
  folder.remove();
});

/** Runs `body` with a server that speaks TLS. */
async function withServer(name: string, args: readonly string[], body: (address: string) => Promise<void>) {
  const tls = ["--tls-cert", file("server.pem"), "--tls-key", file("server.key")];
  const server = await Server.of(folder.path, redis, name, [...tls, ...args]);
  try {
    await server.launch();
    await body(server.address);
  } finally {
    await server.kill();
  }
}

/** The error of a query over such a channel; undefined if it succeeds. */
async function failureOf(address: string, credentials?: SecureClientSessionOptions): Promise<OrderError | undefined> {
  const channel = connect(address, credentials);
  try {
    const { service } = await createClient(SystemService, channel).getServerInfo({}, { timeoutMs: 10_000 });
    assert.equal(service, "Catga OrderSystem");
    return undefined;
  } catch (error) {
    return OrderError.of(error);
  } finally {
    channel.close();
  }
}

test("a service with TLS is reached only by clients that trust its certificate", () =>
  withServer("tls", [], async (address) => {
    assert.equal(await failureOf(address, { ca: pem("ca.pem") }), undefined);
    assert.equal((await failureOf(address, { ca: pem("other-ca.pem") }))?.code, Code.Unavailable);
    assert.equal((await failureOf(address, {}))?.code, Code.Unavailable);
    assert.equal((await failureOf(address))?.code, Code.Unavailable, "in plain text");
  }));

test("a service that wants client certificates takes those of its CA, and no other and none", () =>
  withServer("mtls", ["--tls-client-ca", file("ca.pem")], async (address) => {
    const ca = pem("ca.pem");
    const shown = (name: string) => ({ ca, cert: pem(`${name}.pem`), key: pem(`${name}.key`) });
    assert.equal((await failureOf(address, { ca }))?.code, Code.Unavailable, "without a certificate");
    assert.equal((await failureOf(address, shown("stranger")))?.code, Code.Unavailable, "with one of another CA");
    assert.equal(await failureOf(address, shown("client")), undefined);

    const channel = connect(address, shown("client"));
    try {
      const unitPrice = { currencyCode: "USD", units: 5n };
      const create = { customerId: "c", items: [{ productId: "p", quantity: 1n, unitPrice }] };
      const { order } = await send(createClient(OrderCommandService, channel).createOrder, create);
      const orderIds = [order?.orderId ?? assert.fail("no order")];
      const follow = followEvents(createClient(OrderHistoryService, channel), { orderIds, follow: true });
      assert.equal((await follow.next()).value?.item.case, "event");
      follow.cancel();
    } finally {
      channel.close();
    }
  }));
