/** Turns the scenarios into tests, for both transports. */

import { after, before, describe, test } from "node:test";
import { type Dial, FileRun, files, type Scenario } from "./driver.js";
import { type Redis, redisIfAsked, temporaryFolder } from "./server.js";

/** One test for each scenario that `isWanted`, over the transport that `dial` opens. */
export function testScenarios(dial: Dial, isWanted: (scenario: Scenario) => boolean): void {
  const folder = temporaryFolder();
  let redis: Redis | undefined;
  before(async () => {
    redis = await redisIfAsked(folder.path);
  });
  after(async () => {
    await redis?.stop();
    folder.remove();
  });
  for (const file of files()) {
    const selected = file.scenarios.filter(isWanted);
    if (selected.length === 0) {
      continue;
    }
    describe(file.stem, () => {
      let run: FileRun;
      before(async () => {
        run = await FileRun.start(file, dial, folder.path, redis);
      });
      after(() => run?.close());
      for (const { name, steps } of selected) {
        test(`${file.stem}: ${name}`, () => run.run(steps));
      }
    });
  }
}
