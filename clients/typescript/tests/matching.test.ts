import assert from "node:assert/strict";
import { join } from "node:path";
import test from "node:test";
import { load, SCENARIOS } from "./driver.js";
import { type Json, MATCHERS, Mismatch, match, resolve } from "./matching.js";

interface Case {
  pattern: Json;
  matches: Json[];
  refuses: Json[];
}

const CASES = load(join(SCENARIOS, "matching", "cases.yaml")) as unknown as Case[];

for (const { pattern, matches, refuses } of CASES) {
  test(`the pattern ${JSON.stringify(pattern)} matches what it should and refuses the rest`, () => {
    for (const value of matches) {
      match(pattern, value === "$nothing" ? undefined : value, new Map());
    }
    for (const value of refuses) {
      const refused = () => match(pattern, value === "$nothing" ? undefined : value, new Map());
      assert.throws(refused, Mismatch, `it must not match ${JSON.stringify(value)}`);
    }
  });
}

test("every matcher has its cases", () => {
  const used = new Set(CASES.flatMap(({ pattern }) => JSON.stringify(pattern).match(/\$[a-z]+/g) ?? []));
  assert.deepEqual([...used].sort(), Object.keys(MATCHERS).sort());
});

test("variables are put in as text, as whole values and into keys, and an unknown one is an error", () => {
  const variables = new Map<string, Json>([
    ["a", { b: [1] }],
    ["n", 7],
  ]);
  assert.deepEqual(resolve({ "k${n}": ["${a}", "x${n}y", "${n}"] }, variables), { k7: [{ b: [1] }, "x7y", 7] });
  assert.deepEqual(
    resolve(
      [
        { $text: "x", $times: 3 },
        { $list: { v: "${n}" }, $times: 2 },
      ],
      variables,
    ),
    ["xxx", [{ v: 7 }, { v: 7 }]],
  );
  assert.throws(() => resolve("${nothing}", variables), /nothing was saved/);
});
