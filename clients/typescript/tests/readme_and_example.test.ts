/** The README and the example match the actual behaviour. */

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { CLIENT, type Redis, redisIfAsked, Server, temporaryFolder } from "./server.js";

const MARK = "--- the next block";
const folder = temporaryFolder();
let redis: Redis | undefined;
let server: Server;

before(async () => {
  redis = await redisIfAsked(folder.path);
  server = await Server.of(folder.path, redis, "readme");
  await server.start();
});

after(async () => {
  await server?.kill();
  await redis?.stop();
  folder.remove();
});

test("the blocks of the README are typed well, run one after the other and print what they show", () => {
  const readme = readFileSync(join(CLIENT, "README.md"), "utf8");
  const blocks = [...readme.matchAll(/^```ts\n(.*?)^```/gms)].map(([, code]) => code ?? "");
  assert(blocks.length > 6);
  const program = blocks.join(`\nconsole.log("${MARK}");\n`).replaceAll("127.0.0.1:5000", server.address);

  const place = join(CLIENT, "build", "readme");
  mkdirSync(place, { recursive: true });
  writeFileSync(join(place, "readme.ts"), program);
  const config = {
    extends: "../../tsconfig.json",
    compilerOptions: { rootDir: ".", outDir: "out" },
    files: ["readme.ts"],
    include: [],
  };
  writeFileSync(join(place, "tsconfig.json"), JSON.stringify(config));
  execFileSync(join(CLIENT, "node_modules", ".bin", "tsc"), ["-p", place], { stdio: "inherit" });
  const output = execFileSync(process.execPath, [join(place, "out", "readme.js")], {
    cwd: folder.path,
    encoding: "utf8",
    timeout: 60_000,
  });

  const printed = output.split(`${MARK}\n`);
  assert.equal(printed.length, blocks.length);
  for (const [index, block] of blocks.entries()) {
    const expected = [...block.matchAll(/console\.log\(.*\); \/\/ (.*)$/gm)].map(([, text]) => `${text}\n`);
    assert.equal(printed[index], expected.join(""), block);
  }
});

test("the example continues after a restart of the server", { timeout: 60_000 }, async () => {
  const example = spawn(process.execPath, [join(CLIENT, "build", "example.js"), server.address], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  try {
    const seen: string[] = [];
    for await (const line of createInterface(example.stdout)) {
      seen.push(line);
      if (line.startsWith("restart the service")) {
        await server.stop();
        await server.start();
        example.stdin.end("\n");
      }
    }
    assert.deepEqual(seen, [
      "readiness: SERVING",
      "placed: PENDING",
      "refused: FailedPrecondition ILLEGAL_TRANSITION Pending",
      "paid: PAID - the retry got the first answer: true",
      "event: 1 orderCreated",
      "event: 2 orderPaid",
      "restart the service if you like, then press Enter",
      "event: 3 orderShipped",
      "event: 4 orderDelivered",
      "too late: DeadlineExceeded",
    ]);
    if (example.exitCode === null) {
      await once(example, "exit");
    }
    assert.equal(example.exitCode, 0);
  } finally {
    example.kill("SIGKILL");
  }
});
