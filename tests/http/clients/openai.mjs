// SPDX-License-Identifier: MIT
// Drives the official openai client. `call` is a path into it ("chat.completions.create"), args:
//   base, key, retries, timeout   of the client
//   params                        the call's own, see expand() in common.mjs
//   options                       the request's
// A stream is read to its end: the answer is the list of its chunks.
import { digest, expand, recorder, require, serve } from './common.mjs';

const OpenAI = require('openai').OpenAI;
const { toFile } = require('openai');

async function read(stream, order) {
  order.partial = [];
  for await (const chunk of stream) {
    order.partial.push(chunk);
    order.emit('chunk', { n: order.partial.length });
  }
  return order.partial;
}

serve(async (order) => {
  const { call, args, calls, signal, emit } = order;
  const client = new OpenAI({
    baseURL: args.base, apiKey: args.key ?? 'none', maxRetries: args.retries ?? 0,
    timeout: args.timeout ?? 20000, fetch: recorder(calls),
  });
  const path = call.split('.');
  const name = path.pop();
  const target = path.reduce((at, part) => at[part], client);
  const params = await Promise.all((args.params ?? []).map((p) => expand(p, toFile)));
  emit('begin');
  const promise = target[name](...params, { signal, ...(args.options ?? {}) });
  if (call === 'models.list') return (await promise).data;
  const { data, request_id } = await promise.withResponse();
  if (data?.controller && data[Symbol.asyncIterator]) return { chunks: await read(data, order), request_id };
  if (typeof data?.arrayBuffer === 'function') {
    const bytes = Buffer.from(await data.arrayBuffer());
    return { length: bytes.length, sha256: digest(bytes), request_id };
  }
  return { data, request_id };
});
