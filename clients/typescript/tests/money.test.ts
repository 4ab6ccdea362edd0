/** Amounts are exact or refused, in the same way in every client. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import { amountOf, MoneySchema, minorOf, money, moneyOfMinor } from "ordersystem-client";
import { CURRENCIES } from "../src/gen/currencies.js";
import { load, SCENARIOS } from "./driver.js";
import { ROOT } from "./server.js";

interface Case {
  amount: string;
  currency: string;
  units: string;
  nanos: number;
  shown?: string;
}

const CASES = load(join(SCENARIOS, "money", "cases.yaml")) as unknown as Record<
  "exact" | "refused" | "shown" | "malformed",
  Case[]
>;

const parts = ({ currency, units, nanos }: Case) =>
  create(MoneySchema, { currencyCode: currency, units: BigInt(units), nanos });

test("an amount becomes money and is shown with the decimals of its currency", () => {
  assert(CASES.exact.length > 10);
  for (const one of CASES.exact) {
    const made = money(one.amount, one.currency);
    assert.deepEqual(made, parts(one), one.amount);
    assert.equal(amountOf(made), one.shown ?? one.amount);
    assert.deepEqual(moneyOfMinor(minorOf(made), one.currency), made);
  }
  assert.equal(minorOf(money("19.99", "USD")), 1999n);
});

test("what is no exact amount is refused", () => {
  assert(CASES.refused.length > 10);
  for (const { amount, currency } of CASES.refused) {
    assert.throws(() => money(amount, currency), RangeError, amount);
  }
  for (const currency of ["toString", "__proto__"]) {
    assert.throws(() => money("1", currency), RangeError);
  }
  assert.throws(() => moneyOfMinor(2n ** 63n, "USD"), RangeError);
  assert.throws(() => money(19.99 as unknown as string, "USD"), RangeError);
});

test("what the service may say is shown, and is no amount to send", () => {
  for (const one of CASES.shown) {
    assert.equal(amountOf(parts(one)), one.shown);
    assert.throws(() => minorOf(parts(one)), RangeError);
  }
});

test("parts that do not go together are refused", () => {
  for (const one of CASES.malformed) {
    assert.throws(() => amountOf(parts(one)), RangeError);
  }
});

test("the currencies are those that all clients share", () => {
  const lines = readFileSync(join(ROOT, "clients", "currencies.txt"), "utf8")
    .trim()
    .split("\n");
  assert.deepEqual(
    Object.entries(CURRENCIES).map(([code, digits]) => `${code} ${digits}`),
    lines,
  );
});
