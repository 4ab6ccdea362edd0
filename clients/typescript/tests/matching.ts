/** The patterns of the conformance scenarios; clients/conformance/README.md says what each one means. */

import type { JsonValue } from "@bufbuild/protobuf";

export type Json = JsonValue;
export type Variables = Map<string, Json>;
type Mapping = { [key: string]: Json };
/** A value, or undefined for a field that is not there. */
type Actual = Json | undefined;

/** The actual value does not match the pattern. */
export class Mismatch extends Error {
  constructor(path: string, pattern: Json, actual: Actual) {
    const shown = actual === undefined ? "nothing" : JSON.stringify(actual);
    super(`at ${path || "the top"}: expected ${JSON.stringify(pattern)}, got ${shown}`);
  }
}

/** `value` with variables substituted. */
export function resolve(value: Json, variables: Variables): Json {
  if (Array.isArray(value)) {
    return value.map((entry) => resolve(entry, variables));
  }
  if (isMapping(value)) {
    const { $times, $text, $list } = value;
    if (typeof $times === "number") {
      return typeof $text === "string"
        ? text(resolve($text, variables)).repeat($times)
        : Array.from({ length: $times }, () => resolve($list ?? null, variables));
    }
    return Object.fromEntries(
      Object.entries(value).map(([key, entry]) => [text(resolve(key, variables)), resolve(entry, variables)]),
    );
  }
  if (typeof value !== "string") {
    return value;
  }
  const whole = /^\$\{(\w+)\}$/.exec(value)?.[1];
  return whole === undefined
    ? value.replace(/\$\{(\w+)\}/g, (_, name: string) => text(variable(name, variables)))
    : variable(whole, variables);
}

function variable(name: string, variables: Variables): Json {
  const value = variables.get(name);
  if (value === undefined) {
    throw new Error(`nothing was saved as ${name}`);
  }
  return value;
}

export function isMapping(value: Actual): value is Mapping {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isScalar(value: Actual): value is string | number | boolean {
  return typeof value === "string" || typeof value === "number" || typeof value === "boolean";
}

function text(value: Json): string {
  if (!isScalar(value)) {
    throw new Error(`${JSON.stringify(value)} is no scalar`);
  }
  return String(value);
}

function isMissing(value: Actual): boolean {
  if (Array.isArray(value)) {
    return value.length === 0;
  }
  return value === undefined || value === null || (isScalar(value) && ["", "0", "false"].includes(text(value)));
}

/** Throws {@link Mismatch}; values that the pattern saves go into `saved`. */
export function match(pattern: Json, actual: Actual, saved: Variables, path = ""): void {
  const fail = (part = pattern): never => {
    throw new Mismatch(path, part, actual);
  };
  if (isMapping(pattern)) {
    const matchers = Object.entries(pattern).filter(([key]) => key.startsWith("$"));
    const fields = Object.entries(pattern).filter(([key]) => !key.startsWith("$"));
    for (const [name, argument] of matchers) {
      if (!matcher(name)(argument, actual, saved, path)) {
        fail({ [name]: argument });
      }
    }
    if (matchers.length > 0 && fields.length === 0) {
      return;
    }
    const mapping = isMapping(actual) ? actual : fail();
    for (const [key, expected] of fields) {
      match(expected, field(mapping, key), saved, `${path}.${key}`);
    }
  } else if (isMissing(pattern)) {
    isMissing(actual) || fail();
  } else if (Array.isArray(pattern)) {
    const list = Array.isArray(actual) && actual.length === pattern.length ? actual : fail();
    pattern.forEach((expected, index) => {
      match(expected, list[index], saved, `${path}[${index}]`);
    });
  } else if (!isScalar(actual) || text(actual) !== text(pattern)) {
    fail();
  }
}

function field(mapping: Mapping, key: string): Actual {
  return Object.hasOwn(mapping, key) ? mapping[key] : undefined;
}

function matches(pattern: Json, actual: Actual, saved: Variables, path: string): boolean {
  try {
    match(pattern, actual, saved, path);
    return true;
  } catch (error) {
    if (error instanceof Mismatch) {
      return false;
    }
    throw error;
  }
}

function equal(one: Actual, other: Actual): boolean {
  if (isMissing(one) || isMissing(other)) {
    return isMissing(one) && isMissing(other);
  }
  if (isMapping(one) && isMapping(other)) {
    return Object.keys({ ...one, ...other }).every((key) => equal(field(one, key), field(other, key)));
  }
  if (Array.isArray(one) && Array.isArray(other)) {
    return one.length === other.length && one.every((entry, index) => equal(entry, other[index]));
  }
  return isScalar(one) && isScalar(other) && text(one) === text(other);
}

/** In 64 bits: a double cannot hold an id. */
function number(value: Actual): bigint {
  return isMissing(value) ? 0n : BigInt(text(value ?? null));
}

function entries(value: Actual): Json[] | undefined {
  return isMissing(value) ? [] : Array.isArray(value) ? value : undefined;
}

type Matcher = (argument: Json, actual: Actual, saved: Variables, path: string) => boolean;

export const MATCHERS: Readonly<Record<string, Matcher>> = {
  $present: (_, actual) => !isMissing(actual),
  $absent: (_, actual) => isMissing(actual),
  $save: (name, actual, saved) => {
    if (actual === undefined || isMissing(actual)) {
      return false;
    }
    saved.set(text(name), actual);
    return true;
  },
  $is: (pattern, actual, saved, path) => {
    match(pattern, actual, saved, path);
    return true;
  },
  $equals: (value, actual) => equal(value, actual),
  $not: (pattern, actual, saved, path) => !isMissing(actual) && !matches(pattern, actual, saved, path),
  $matches: (regex, actual) => typeof actual === "string" && new RegExp(`^(?:${text(regex)})$`).test(actual),
  $gt: (value, actual) => number(actual) > BigInt(text(value)),
  $ge: (value, actual) => number(actual) >= BigInt(text(value)),
  $le: (value, actual) => number(actual) <= BigInt(text(value)),
  $length: (length, actual) => entries(actual)?.length === length,
  $contains: (pattern, actual, saved, path) =>
    entries(actual)?.some((entry) => matches(pattern, entry, saved, path)) ?? false,
  $each: (pattern, actual, saved, path) => {
    entries(actual)?.forEach((entry, index) => {
      match(pattern, entry, saved, `${path}[${index}]`);
    });
    return entries(actual) !== undefined;
  },
  $growing: (_, actual) => {
    const numbers = entries(actual)?.map(number);
    return numbers?.every((entry, index) => index === 0 || entry > (numbers[index - 1] ?? entry)) ?? false;
  },
};

function matcher(name: string): Matcher {
  const found = MATCHERS[name];
  if (!found) {
    throw new Error(`there is no matcher ${name}`);
  }
  return found;
}
