/** The scenarios that gRPC-Web can carry: all that do not stream requests. */

import assert from "node:assert/strict";
import test from "node:test";
import { connect } from "ordersystem-client/web";
import { testScenarios } from "./conformance.js";
import { files, type Scenario } from "./driver.js";

const streamsNoRequests = ({ steps }: Scenario) => !steps.some((step) => "execute" in step);

testScenarios(
  (address, token) => ({ transport: connect(`http://${address}`, { token }), close: () => {} }),
  streamsNoRequests,
);

test("only the scenarios of ExecuteCommands are left out", () => {
  const left = files().filter(({ scenarios }) => !scenarios.every(streamsNoRequests));
  assert.deepEqual(
    left.map(({ stem }) => stem),
    ["08_execute"],
  );
});
