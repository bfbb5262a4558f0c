// SPDX-License-Identifier: MIT
// What both clients' scripts have in common: orders in, answers out, one line of JSON each.
//
//   {"id": 1, "call": NAME, "args": {...}}  →  {"id": 1, "result": ...} or {"id": 1, "error": {...}}
//   {"id": 1, "cancel": true}               aborts it as an application would
//   meanwhile                               →  {"id": 1, "event": NAME, ...}
import { createHash } from 'node:crypto';
import { Buffer, File } from 'node:buffer';
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';

globalThis.File ??= File; // not global before node 20

export const require = createRequire(process.env.MEGALITH_NPM + '/');

export const digest = (data) => createHash('sha256').update(data).digest('hex');

// The same bytes each time, none of them text.
export function blob(size) {
  const data = Buffer.alloc(size);
  for (let i = 0; i < size; i++) data[i] = (i * 7 + (i >> 8)) & 0xff;
  return data;
}

// {"$blob": N}: N bytes · {"$base64": N}: their base64 · {"$url": N}: as a data URL
export function expand(value, file) {
  if (Array.isArray(value)) return Promise.all(value.map((v) => expand(v, file)));
  if (value === null || typeof value !== 'object') return value;
  if (value.$blob) return file(blob(value.$blob), value.name ?? 'sound.wav');
  if (value.$base64) return blob(value.$base64).toString('base64');
  if (value.$url) return 'data:image/png;base64,' + blob(value.$url).toString('base64');
  return Promise.all(
    Object.entries(value).map(async ([k, v]) => [k, await expand(v, file)]),
  ).then(Object.fromEntries);
}

// A fetch that remembers what went out and what status came back.
export function recorder(calls) {
  return async (url, init) => {
    const call = { url: String(url), status: null };
    if (typeof init?.body === 'string') {
      call.length = Buffer.byteLength(init.body);
      call.sha256 = digest(init.body);
    }
    calls.push(call);
    const answer = await fetch(url, init);
    call.status = answer.status;
    call.headers = Object.fromEntries(answer.headers);
    return answer;
  };
}

// An error as an application sees it, up to three causes deep.
export function describe(error, depth = 3) {
  if (error === null || typeof error !== 'object') return { name: String(error) };
  const { status, status_code, code, type, param, requestID } = error;
  const classes = [];
  for (let p = error; p && p !== Object.prototype; p = Object.getPrototypeOf(p)) {
    if (p.constructor?.name && !classes.includes(p.constructor.name)) classes.push(p.constructor.name);
  }
  return {
    name: error.name, classes, message: error.message, status: status ?? status_code, code, type,
    param, requestID, body: error.error,
    cause: error.cause && depth ? describe(error.cause, depth - 1) : undefined,
  };
}

export function serve(run) {
  const running = new Map();
  const send = (line) => process.stdout.write(JSON.stringify(line) + '\n');

  createInterface({ input: process.stdin }).on('line', async (line) => {
    const { id, call, args, cancel } = JSON.parse(line);
    if (cancel) {
      running.get(id)?.abort();
      return;
    }
    const controller = new AbortController();
    const calls = [];
    running.set(id, controller);
    const order = {
      call, args, calls, signal: controller.signal, controller,
      emit: (event, more) => send({ id, event, ...more }),
    };
    try {
      const result = await run(order);
      send({ id, result, calls });
    } catch (error) {
      send({ id, error: describe(error), partial: order.partial, calls });
    }
    running.delete(id);
  }).on('close', () => process.exit(0));
  send({ id: 0, event: 'ready' });
}
