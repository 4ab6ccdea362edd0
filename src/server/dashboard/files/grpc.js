// A small client for gRPC-Web, for the operations that REST does not have: dead letters, rebuilds, and all limits of the node.

import { markReachable, UnreachableError, markUnreachable, authorization, key, node, Problem } from "./api.js";

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const REQUEST_TIMEOUT_MS = 30_000;
const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5];

function varint(number) {
  const bytes = [];
  let remaining = BigInt(number);
  do {
    bytes.push(Number(remaining & 0x7fn) | (remaining > 0x7fn ? 0x80 : 0));
    remaining >>= 7n;
  } while (remaining > 0n);
  return bytes;
}

// Encodes a message from its fields, [number, value]. Values are strings, booleans or non-negative integers.
export function encode(fields) {
  return Uint8Array.from(fields.flatMap(([number, value]) => {
    if (typeof value === "string") {
      const bytes = encoder.encode(value);
      return [...varint(number << 3 | BYTES), ...varint(bytes.length), ...bytes];
    }
    return [...varint(number << 3 | VARINT), ...varint(value)];
  }));
}

function readVarint(bytes, offset) {
  let value = 0n;
  for (let shift = 0n; ; shift += 7n) {
    if (offset >= bytes.length) throw new Error("the message is truncated");
    const byte = bytes[offset++];
    value |= BigInt(byte & 0x7f) << shift;
    if (byte < 0x80) return [value, offset];
  }
}

// Decodes a message: for each field number, a list of values, which are integers, doubles or bytes.
export function decode(bytes) {
  const fields = new Map();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let offset = 0, tag, value; offset < bytes.length;) {
    [tag, offset] = readVarint(bytes, offset);
    const type = Number(tag & 7n);
    if (type === VARINT) {
      [value, offset] = readVarint(bytes, offset);
      value = Number(BigInt.asIntN(64, value));
    } else if (type === BYTES) {
      [value, offset] = readVarint(bytes, offset);
      const start = offset;
      offset += Number(value);
      if (offset > bytes.length) throw new Error("the message is truncated");
      value = bytes.subarray(start, offset);
    } else if (type === FIXED64) {
      value = view.getFloat64(offset, true);
      offset += 8;
    } else if (type === FIXED32) {
      value = view.getUint32(offset, true);
      offset += 4;
    } else {
      throw new Error("unknown wire type");
    }
    const number = Number(tag >> 3n);
    fields.set(number, [...(fields.get(number) ?? []), value]);
  }
  return fields;
}

// A schema has for each field its number and its decoder.
const last = (values) => values?.at(-1);
export const type = {
  text: (values) => values ? decoder.decode(last(values)) : "",
  number: (values) => last(values) ?? 0,
  flag: (values) => Boolean(last(values)),
  time: (values) => values ? new Date(seconds(values) * 1000).toISOString() : "",
  seconds: (values) => values && seconds(values),
  message: (schema) => (values) => read(schema, last(values) ?? new Uint8Array()),
  list: (schema) => (values) => (values ?? []).map((bytes) => read(schema, bytes)),
};

function seconds(values) {
  const parts = decode(last(values));
  return (parts.get(1)?.[0] ?? 0) + (parts.get(2)?.[0] ?? 0) / 1e9;
}

export function read(schema, bytes) {
  const fields = decode(bytes);
  return Object.fromEntries(Object.entries(schema).map(([name, [number, decodeField]]) => [name, decodeField(fields.get(number))]));
}

const STATUS = { 7: 403, 16: 401 };

function check(headers) {
  const code = Number(headers.get("grpc-status") ?? 0);
  if (code === 0) return;
  let detail = headers.get("grpc-message") ?? "";
  try {
    detail = decodeURIComponent(detail);
  } catch {
    // Shown as it was received.
  }
  const problem = new Problem(STATUS[code] ?? 400, { detail });
  problem.code = code;
  if (problem.needsLogin) node.dispatchEvent(new CustomEvent("unauthenticated", { detail }));
  throw problem;
}

const trailers = (bytes) => new Map(decoder.decode(bytes).split("\r\n").filter(Boolean)
  .map((line) => [line.slice(0, line.indexOf(":")).trim().toLowerCase(), line.slice(line.indexOf(":") + 1).trim()]));

function frame(message) {
  const framed = new Uint8Array(5 + message.length);
  new DataView(framed.buffer).setUint32(1, message.length);
  framed.set(message, 5);
  return framed;
}

// Calls a method, and `onMessage` with every message of the response.
export async function stream(method, fields, schema, onMessage, signal = AbortSignal.timeout(REQUEST_TIMEOUT_MS)) {
  let response;
  try {
    response = await fetch("/" + method, {
      method: "POST", body: frame(encode(fields)), cache: "no-store", signal,
      headers: { "content-type": "application/grpc-web+proto", "x-grpc-web": "1", ...authorization(key.get()) },
    });
  } catch {
    if (!signal.aborted) markUnreachable();
    throw new UnreachableError();
  }
  markReachable();
  check(response.headers);
  if (!response.ok) throw new Problem(response.status, await response.json().catch(() => ({})));
  const reader = response.body.getReader();
  for (let remaining = new Uint8Array(); ;) {
    const { value, done } = await reader.read().catch(() => ({ done: true }));
    if (done) throw new UnreachableError();
    const joined = new Uint8Array(remaining.length + value.length);
    joined.set(remaining);
    joined.set(value, remaining.length);
    remaining = joined;
    while (remaining.length >= 5) {
      const size = new DataView(remaining.buffer, remaining.byteOffset).getUint32(1);
      if (remaining.length < 5 + size) break;
      const body = remaining.subarray(5, 5 + size);
      // The last frame has the trailers, and so the status.
      if (remaining[0] & 0x80) return check(trailers(body));
      onMessage(read(schema, body));
      remaining = remaining.subarray(5 + size);
    }
  }
}

export async function call(method, fields, schema) {
  let reply;
  await stream(method, fields, schema, (message) => (reply = message));
  return reply;
}
