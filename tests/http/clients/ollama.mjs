// SPDX-License-Identifier: MIT
// Drives the official ollama client. `call` is one of its methods, args:
//   base     where it connects to
//   headers  more header fields
//   params   the call's own, see expand() in common.mjs
//   abort    how an abort is made: "fetch" (default: a signal of the application's own), or, of a
//            stream that has begun, "iterator" or "client"
import { expand, recorder, require, serve } from './common.mjs';

const { Ollama } = require('ollama');

serve(async (order) => {
  const { call, args, calls, signal, emit } = order;
  const record = recorder(calls);
  const fetch = (url, init) => record(url, args.abort ? init : { ...init, signal });
  const client = new Ollama({ host: args.base, headers: args.headers, fetch });
  const params = await Promise.all((args.params ?? []).map((p) => expand(p, (data) => data)));
  emit('begin');
  const answer = await client[call](...params);
  if (!answer?.[Symbol.asyncIterator]) return { data: answer };
  if (args.abort === 'client') signal.addEventListener('abort', () => client.abort());
  if (args.abort === 'iterator') signal.addEventListener('abort', () => answer.abort());
  order.partial = [];
  for await (const part of answer) {
    order.partial.push(part);
    emit('chunk', { n: order.partial.length });
  }
  return { chunks: order.partial };
});
