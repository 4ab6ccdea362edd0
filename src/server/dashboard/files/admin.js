// The RPCs of catga.system.v1 that the console calls, with the field numbers of their messages.

import { call, stream, type } from "./grpc.js";

const { text, number, flag, time, seconds, message, list } = type;

const LETTER = {
  eventId: [1, text], orderId: [2, text], revision: [3, number], type: [4, text], attempts: [5, number], deadLetteredAt: [6, time], reason: [7, text],
};
const PROGRESS = { phase: [1, number], events: [2, number], total: [3, number], perSecond: [4, number], remaining: [5, seconds], joined: [6, flag] };
const LIMITS = {
  maxMessageBytes: [1, number], maxItemsPerOrder: [2, number], maxQuantity: [3, number], maxPageSize: [4, number], maxBatchSize: [5, number],
  maxIdsPerCall: [6, number], maxInFlight: [7, number], maxConcurrentStreams: [8, number], maxConnections: [9, number], maxMetadataBytes: [10, number],
};
const INFO = {
  service: [1, text], version: [2, text], node: [3, text], mode: [4, number], persistence: [5, text], transport: [6, text], durability: [7, number],
  limits: [8, message(LIMITS)], startedAt: [9, time], datacenterId: [11, number], workerId: [12, number], durabilityDetail: [13, text],
  authentication: [14, text], securityWarning: [15, text],
};

const BREAKER = {
  name: [1, text], state: [2, number], failures: [3, number], retryAfter: [4, seconds], failuresToOpen: [5, number], successesToClose: [6, number],
  openFor: [7, seconds],
};
const SETTING = { name: [1, text], section: [2, text], value: [3, text], source: [4, text], isDefault: [5, flag] };

const ADMIN = "catga.system.v1.AdminService/";
export const PHASES = ["Waiting", "Reading the log", "Building the indexes", "Done"];

export const breakers = async () =>
  (await call("catga.system.v1.SystemService/ListCircuitBreakers", [], { breakers: [1, list(BREAKER)] })).breakers;

// The node records each call in its audit log.
export const configuration = async () => (await call(ADMIN + "GetConfiguration", [], { settings: [1, list(SETTING)] })).settings;

export const serverInfo = () => call("catga.system.v1.SystemService/GetServerInfo", [], INFO);

export const deadLetters = (handler, pageToken = "") => call(ADMIN + "ListDeadLetters", [[1, handler], ...(pageToken ? [[3, pageToken]] : [])],
  { letters: [1, list(LETTER)], next: [2, text] });

const selection = (handler, eventIds) => [[1, handler], ...(eventIds ? eventIds.map((id) => [2, id]) : [[3, 1]])];

// Without event ids: all dead letters of the handler.
export const replay = async (handler, eventIds) =>
  (await call(ADMIN + "ReplayDeadLetters", selection(handler, eventIds), { count: [1, number] })).count;
export const discard = async (handler, eventIds) =>
  (await call(ADMIN + "DiscardDeadLetters", selection(handler, eventIds), { count: [1, number] })).count;

// A rebuild may take long, so the call has no timeout: it ends when the rebuild has completed or failed.
export const rebuild = (onProgress) => stream(ADMIN + "RebuildProjections", [], PROGRESS, onProgress, new AbortController().signal);
