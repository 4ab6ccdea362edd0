/** The published package is complete. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { CLIENT, ROOT, temporaryFolder } from "./server.js";

test("an installed package is found by its three names, with code and types, and needs nothing that is not declared", () => {
  const folder = temporaryFolder();
  try {
    const run = (program: string, ...args: string[]) =>
      execFileSync(program, args, { cwd: folder.path, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
    // It has been built already.
    const pack = ["pack", "--json", "--ignore-scripts", "--loglevel=error", "--pack-destination", folder.path, CLIENT];
    run("npm", ...pack);
    const modules = join(folder.path, "node_modules");
    const installed = join(modules, "ordersystem-client");
    mkdirSync(installed, { recursive: true });
    run("tar", "-xzf", "ordersystem-client-0.1.0.tgz", "--strip-components=1", "-C", installed);
    for (const licence of ["LICENSE-MIT", "LICENSE-APACHE"]) {
      assert.equal(readFileSync(join(installed, licence), "utf8"), readFileSync(join(ROOT, licence), "utf8"));
    }
    const manifest = JSON.parse(readFileSync(join(installed, "package.json"), "utf8"));
    for (const name of [...Object.keys(manifest.dependencies), "@types/node", "undici-types"]) {
      mkdirSync(join(modules, name, ".."), { recursive: true });
      symlinkSync(join(CLIENT, "node_modules", name), join(modules, name));
    }

    const program = `
      import { createClient } from "@connectrpc/connect";
      import { followEvents, followOrder, OrderError, OrderHistoryService, SERVICE_CONFIG, send } from "ordersystem-client";
      import { connect } from "ordersystem-client/node";
      import { connect as connectWeb } from "ordersystem-client/web";
      const channel = connect("127.0.0.1:1");
      createClient(OrderHistoryService, connectWeb("http://127.0.0.1:1"));
      channel.close();
      console.log([connect, send, followEvents, followOrder, OrderError.of].every((f) => typeof f === "function"));
      console.log(SERVICE_CONFIG.methodConfig.length);
    `;
    writeFileSync(join(folder.path, "use.ts"), program);
    writeFileSync(join(folder.path, "package.json"), JSON.stringify({ type: "module" }));
    const options = ["--strict", "--module", "nodenext", "--target", "es2022", "--types", "node"];
    run(join(CLIENT, "node_modules", ".bin", "tsc"), ...options, "use.ts");
    assert.equal(run(process.execPath, "use.js"), "true\n1\n");
  } finally {
    folder.remove();
  }
});
