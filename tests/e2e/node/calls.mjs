// Makes the calls that the command line names, in that order, with OpenAI's SDK, and prints a JSON list of what the SDK gave for
// each: `{returned, thrown}`. The key and the base URL are what the SDK itself reads: OPENAI_API_KEY and OPENAI_BASE_URL.
import { HttpsProxyAgent } from 'https-proxy-agent';
import OpenAI, { toFile } from 'openai';
import { OpenAIRealtimeWS } from 'openai/realtime/ws';
import { ResponsesWS } from 'openai/resources/responses/ws';
import { ProxyAgent } from 'undici';

// The fetch of Node 20 takes no proxy from the environment. This is the SDK's documented way to give it one.
const proxy = process.env.HTTPS_PROXY;
const client = new OpenAI(proxy ? { fetchOptions: { dispatcher: new ProxyAgent(proxy) } } : {});
// `ws`, with which the SDK opens its WebSockets, takes no proxy from the environment either, on any version of Node.
const socketOptions = proxy ? { agent: new HttpsProxyAgent(proxy) } : {};

const messages = [{ role: 'user', content: 'Who pays at the tollhouse? Même les poètes: 渡し守。' }];
const chat = { model: 'gpt-4o', messages };
const tools = [{
  type: 'function',
  function: { name: 'road', parameters: { type: 'object', properties: { to: { type: 'string' } } } },
}];
// One black pixel.
const pixel =
  'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==';

const create = (more = {}) => client.chat.completions.create({ ...chat, ...more });

// A second of silence has 16,000 bytes.
const wav = (seconds) => {
  const head = Buffer.alloc(44);
  head.write('RIFF', 0);
  head.writeUInt32LE(36 + 16_000 * seconds, 4);
  head.write('WAVEfmt ', 8);
  [16, 1 | (1 << 16), 8_000, 16_000, 2 | (16 << 16)].forEach((value, at) => head.writeUInt32LE(value, 16 + 4 * at));
  head.write('data', 36);
  head.writeUInt32LE(16_000 * seconds, 40);
  return Buffer.concat([head, Buffer.alloc(16_000 * seconds)]);
};

// The events of a session up to the one that is `last`. The request is sent when the session is open, or after the event `begun`.
const talk = (session, returned, begun, last, request) =>
  new Promise((resolve, reject) => {
    session.on('error', reject);
    session.on('event', (event) => {
      returned.push(event);
      if (event.type === begun) session.send(request);
      if (event.type === last) session.close();
    });
    if (begun === null) session.send(request);
    session.socket.on('close', resolve);
  });

// Each gives what the SDK returned, in a list. What a stream gave before it broke is returned beside what was thrown.
const calls = {
  async plain(returned) {
    returned.push(await create());
  },
  async stream(returned) {
    for await (const chunk of await create({ stream: true })) returned.push(chunk);
  },
  async counted_stream(returned) {
    const counted = { stream: true, stream_options: { include_usage: true } };
    for await (const chunk of await create(counted)) returned.push(chunk);
  },
  async embedding(returned) {
    returned.push(await client.embeddings.create({ model: 'text-embedding-3-small', input: ['one', 'two'] }));
  },
  async tool(returned) {
    const asked = await create({ tools });
    const { message } = asked.choices[0];
    const given = message.tool_calls.map(({ id }) => ({ role: 'tool', tool_call_id: id, content: 'open' }));
    returned.push(asked, await create({ tools, messages: [...messages, message, ...given] }));
  },
  async image(returned) {
    const content = [{ type: 'text', text: 'What is it?' }, { type: 'image_url', image_url: { url: pixel } }];
    returned.push(await create({ messages: [{ role: 'user', content }] }));
  },
  async response(returned) {
    const asked = { model: 'gpt-4o', input: 'Who pays?' };
    returned.push(await client.responses.create(asked));
    for await (const event of await client.responses.create({ ...asked, stream: true })) returned.push(event);
  },
  async upload(returned) {
    // Larger than one read of a socket.
    const file = await toFile(Buffer.alloc(300_000, 'toll,1\n'), 'tolls.csv', { type: 'text/csv' });
    returned.push(await client.files.create({ file, purpose: 'assistants' }));
  },
  async transcription(returned) {
    const file = await toFile(wav(4), 'toll.wav', { type: 'audio/wav' });
    returned.push(await client.audio.transcriptions.create({ file, model: 'whisper-1' }));
  },
  async realtime(returned) {
    const session = new OpenAIRealtimeWS({ model: 'gpt-realtime', options: socketOptions }, client);
    await talk(session, returned, 'session.created', 'response.done', { type: 'response.create' });
  },
  async response_socket(returned) {
    const session = new ResponsesWS(client, socketOptions);
    await talk(session, returned, null, 'response.completed', { type: 'response.create', model: 'gpt-4o', input: 'Who pays?' });
  },
  async closed_path(returned) {
    returned.push(await client.get('/engines'));
  },
};

const given = [];
for (const name of process.argv.slice(2)) {
  const returned = [];
  let thrown = null;
  try {
    await calls[name](returned);
  } catch (error) {
    if (!(error instanceof OpenAI.OpenAIError)) throw error;
    // Each class has a name of its own, and `error.name` is "Error".
    const { status, message, code, type, param, error: body } = error;
    thrown = { class: error.constructor.name, status, message, code, type, param, body };
  }
  // The SDK keeps the request's id in a property that is not listed.
  given.push({ returned, ids: returned.map(({ _request_id: id }) => id ?? null), thrown });
}
console.log(JSON.stringify(given));
