// POST /orders with emmett: parse, validate, decide, append, reply. HTTP/2 without TLS on PORT. DATABASE names the file of SQLite; without it the
// events are in memory.

import { CommandHandler, IllegalStateError } from '@event-driven-io/emmett';
import { getSQLiteEventStore } from '@event-driven-io/emmett-sqlite';
import fastify from 'fastify';
import sqlite3 from 'sqlite3';

const file = process.env.DATABASE;
const store = getSQLiteEventStore({ fileName: file ?? ':memory:' });
// The store opens and closes a connection for each operation on a file. The last one to close would empty the write-ahead log each time, so one stays.
const kept = file && new sqlite3.Database(file);

// The store has one connection, whose transactions must not overlap.
let last = Promise.resolve();
const inTurn = (work) => {
  const mine = last.then(work);
  last = mine.catch(() => {});
  return mine;
};

// Snowflake ids, as far as they matter here: increasing, 63 bits.
let previous = 0n;
const newId = () => {
  const now = BigInt(Date.now() - Date.UTC(2024, 0, 1)) << 22n;
  previous = now > previous ? now : previous + 1n;
  return previous.toString();
};

const evolve = (state, { type, data }) =>
  type === 'OrderCreated' ? { status: 'Pending', revision: 1, ...data } : state;

const create = (command) => (state) => {
  if (state.status) throw new IllegalStateError('the order exists');
  // Prices are decimal numbers of at most two digits: exact in cents.
  const total = command.items.reduce((sum, item) => sum + Math.round(item.price * 100) * item.quantity, 0);
  return { type: 'OrderCreated', data: { ...command, total: total / 100, createdAt: new Date().toISOString() } };
};

const handle = CommandHandler({ evolve, initialState: () => ({}) });

const text = (maxLength) => ({ type: 'string', minLength: 1, maxLength, pattern: '^[^\\u0000-\\u001f]*\\S[^\\u0000-\\u001f]*$' });
const order = {
  type: 'object',
  additionalProperties: false,
  required: ['customerId', 'items'],
  properties: {
    customerId: text(128),
    shippingAddress: text(512),
    items: {
      type: 'array',
      minItems: 1,
      maxItems: 1000,
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['productId', 'quantity', 'price'],
        properties: {
          productId: text(128),
          name: text(256),
          quantity: { type: 'integer', minimum: 1, maximum: 1_000_000 },
          price: { type: 'number', minimum: 0, multipleOf: 0.01 },
        },
      },
    },
  },
};

const app = fastify({ http2: true, ajv: { customOptions: { coerceTypes: false, allErrors: true, multipleOfPrecision: 6 } } });

app.post('/orders', { schema: { body: order } }, async (request, reply) => {
  const orderId = newId();
  const work = () => handle(store, `order-${orderId}`, create(request.body), { expectedStreamVersion: 'STREAM_DOES_NOT_EXIST' });
  const { newState } = await inTurn(work);
  reply.code(201);
  return { orderId, ...newState, currency: 'USD', updatedAt: newState.createdAt };
});

await app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' });
