/** Amounts of money, exact: between decimals and the units and nanos of `google.type.Money`. */

import { create } from "@bufbuild/protobuf";
import { CURRENCIES } from "./gen/currencies.js";
import { type Money, MoneySchema } from "./gen/google/type/money_pb.js";

const NANO_DIGITS = 9;
/** The service's range: 64 bits of minor units. */
const MOST_MINOR_UNITS = 2n ** 63n - 1n;
/** The maximum number of whole digits; longer numbers are refused before they are parsed. */
const MOST_WHOLE_DIGITS = 19;

/**
 * An amount as a proto message: `money("19.99", "USD")`.
 *
 * @param amount a plain decimal number such as `-1.75`; never a `number`, which has no exact 19.99
 * @throws RangeError if the service does not accept the currency, if the text is not a plain decimal number, or if the amount is finer than
 * the minor unit of the currency or larger than 2^63 - 1 minor units. Negative amounts are valid, although no order can have one.
 */
export function money(amount: string, currency: string): Money {
  const digits = digitsOf(currency);
  const parts = /^(-?)0*([0-9]+?)(?:\.([0-9]+?)0*)?$/.exec(typeof amount === "string" ? amount : "");
  if (!parts) {
    throw new RangeError(`${JSON.stringify(amount)} is not a plain decimal number in text`);
  }
  const [, sign = "", whole = "", fraction = ""] = parts;
  const decimals = fraction === "0" ? "" : fraction;
  if (decimals.length > digits) {
    throw new RangeError(`${amount} has more decimals than the ${digits} of ${currency}`);
  }
  if (whole.length > MOST_WHOLE_DIGITS) {
    throw new RangeError(`${amount} ${currency} is too large`);
  }
  const minor = BigInt(whole + decimals.padEnd(digits, "0"));
  return moneyOfMinor(sign ? -minor : minor, currency);
}

/**
 * An amount of whole minor units: `moneyOfMinor(1999n, "USD")` is 19.99 USD.
 *
 * @throws RangeError if the service does not accept the currency, or if the amount is larger than 2^63 - 1
 */
export function moneyOfMinor(minor: bigint, currency: string): Money {
  const digits = digitsOf(currency);
  if (minor > MOST_MINOR_UNITS || minor < -MOST_MINOR_UNITS) {
    throw new RangeError(`${minor} minor units of ${currency} are too many`);
  }
  const perUnit = 10n ** BigInt(digits);
  const nanos = Number(minor % perUnit) * 10 ** (NANO_DIGITS - digits);
  // Not -0, which is not equal to 0 everywhere.
  return create(MoneySchema, { currencyCode: currency, units: minor / perUnit, nanos: nanos || 0 });
}

/**
 * The amount of a proto message, with all decimals of the currency: `19.99`.
 *
 * @throws RangeError if units and nanos contradict each other
 */
export function amountOf({ currencyCode, units, nanos }: Money): string {
  const signsAgree = !(units > 0n && nanos < 0) && !(units < 0n && nanos > 0);
  if (!signsAgree || Math.abs(nanos) >= 10 ** NANO_DIGITS) {
    throw new RangeError(`units ${units} and nanos ${nanos} do not go together`);
  }
  const whole = units === 0n && nanos < 0 ? "-0" : String(units);
  const decimals = String(Math.abs(nanos))
    .padStart(NANO_DIGITS, "0")
    .replace(/0+$/, "")
    .padEnd(known(currencyCode) ?? 0, "0");
  return decimals ? `${whole}.${decimals}` : whole;
}

/**
 * An amount in whole minor units of its currency: `1999n` for 19.99 USD.
 *
 * @throws RangeError if the amount is not one of those that {@link money} makes
 */
export function minorOf(amount: Money): bigint {
  const { currencyCode, units, nanos } = money(amountOf(amount), amount.currencyCode);
  const digits = digitsOf(currencyCode);
  return units * 10n ** BigInt(digits) + BigInt(nanos / 10 ** (NANO_DIGITS - digits));
}

function known(currency: string): number | undefined {
  return Object.hasOwn(CURRENCIES, currency) ? CURRENCIES[currency] : undefined;
}

/** The decimal digits of the minor unit: 2 for USD (cents), 0 for JPY. */
function digitsOf(currency: string): number {
  const digits = known(currency);
  if (digits === undefined) {
    throw new RangeError(`${JSON.stringify(currency)} is not the code of a currency that the service takes`);
  }
  return digits;
}
