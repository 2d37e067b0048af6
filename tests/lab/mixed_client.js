// What clients of all kinds do with the gateway for a while, by node's own HTTP; one line of JSON with
// counts at the end. Whatever is cut short on purpose has "cut" in its path; all else has to succeed.
//   node mixed_client.js ADDRESS SECONDS SEED steady | websocket1 | websocket2 | reset | goaway
'use strict';
const crypto = require('crypto');
const http = require('http');
const http2 = require('http2');

const [address, seconds, seed, verb] = process.argv.slice(2);
const deadline = Date.now() + Number(seconds) * 1000;
const host = 'api.shop.example';
const counts = {done: 0, cut: 0, failures: []};
const patience = 30000;  // for one message

// mulberry32: the same numbers for the same seed.
let state = Number(seed) >>> 0;
function random(below) {
  state = (state + 0x6d2b79f5) >>> 0;
  let t = Math.imul(state ^ (state >>> 15), state | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) % below;
}

function fail(what) {
  if (counts.failures.length < 20) counts.failures.push(what);
}

function pause(ms) { return new Promise((resolve) => setTimeout(resolve, ms)); }

function connect(url) {
  const lookup = (name, options, done) =>
    options.all ? done(null, [{address, family: 4}]) : done(null, address, 4);
  return http2.connect(url, {rejectUnauthorized: false, lookup});
}

// Sends messages over a duplex stream and wants each back before the next; true if it got them all.
function converse(stream, messages, length) {
  return new Promise((resolve) => {
    let expected = null;
    let got = [];
    let size = 0;
    const timer = setTimeout(() => resolve(false), patience);
    const finish = (good) => { clearTimeout(timer); resolve(good); };
    const next = () => {
      if (messages-- === 0) return finish(true);
      expected = crypto.randomBytes(1 + random(length));
      got = [];
      size = 0;
      stream.write(expected);
    };
    stream.on('data', (piece) => {
      got.push(piece);
      size += piece.length;
      if (size < expected.length) return;
      if (!Buffer.concat(got).equals(expected)) return finish(false);
      next();
    });
    stream.on('error', () => finish(false));
    stream.on('close', () => finish(false));
    next();
  });
}

function closed(stream) {
  return new Promise((resolve) => stream.destroyed ? resolve() : stream.once('close', resolve));
}

async function webSocketOfHttp1() {
  const isCut = random(4) === 0;
  const request = http.request({
    host: address, port: 8080, path: isCut ? '/ws/cut' : '/ws/chat',
    headers: {Host: host, Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13',
              'Sec-WebSocket-Key': crypto.randomBytes(16).toString('base64')}});
  const socket = await new Promise((resolve) => {
    request.on('upgrade', (response, socket) => resolve(socket));
    request.on('response', (response) => { fail(`websocket: ${response.statusCode}`); resolve(null); });
    request.on('error', (error) => { fail(`websocket: ${error.message}`); resolve(null); });
    request.end();
  });
  if (!socket) return;
  const messages = 1 + random(20);
  if (isCut) {
    setTimeout(() => random(2) ? socket.resetAndDestroy() : socket.destroy(), random(50));
    await converse(socket, 1000, 65536);
    counts.cut++;
    return;
  }
  const good = await converse(socket, messages, 65536);
  const end = closed(socket);
  socket.end();
  await end;
  if (good) counts.done++; else fail('websocket: a message did not come back');
}

async function webSocketOfHttp2(session) {
  const isCut = random(4) === 0;
  const stream = session.request({
    ':method': 'CONNECT', ':protocol': 'websocket', ':path': isCut ? '/ws/cut' : '/ws/chat',
    ':authority': host, 'sec-websocket-version': '13'});
  stream.on('error', (error) => { if (!isCut) fail(`websocket: ${error.message}`); });
  const status = await new Promise((resolve) => {
    stream.on('response', (headers) => resolve(headers[':status']));
    stream.on('close', () => resolve(0));
  });
  if (status !== 200) return fail(`websocket: ${status}`);
  if (isCut) {
    setTimeout(() => stream.close(http2.constants.NGHTTP2_CANCEL), random(50));
    await converse(stream, 1000, 65536);
    counts.cut++;
    return;
  }
  const good = await converse(stream, 1 + random(20), 65536);
  const end = closed(stream);
  stream.end();
  await end;
  if (good) counts.done++; else fail('websocket: a message did not come back');
}

// Fetches, or sends a body; resolves to whether it was whole. A stream that was refused is asked for
// by `again`.
function exchange(session, path, body, closing, again) {
  return new Promise((resolve) => {
    const stream = session.request({
      ':path': path, ':authority': host, ':method': body ? 'POST' : 'GET'}, {endStream: !body});
    let status = 0;
    let ended = false;
    stream.on('response', (headers) => { status = headers[':status']; });
    stream.on('data', () => {});
    stream.on('end', () => { ended = true; });
    stream.on('error', () => {});
    stream.on('close', () => {
      // The session was told to go before this left: nobody has seen it (RFC 9113, section 8.7).
      if (again && status === 0 && stream.rstCode === http2.constants.NGHTTP2_REFUSED_STREAM)
        return resolve(again());
      const whole = status === 200 && ended && stream.rstCode === 0;
      if (!whole && !path.includes('cut'))
        fail(`${path}: status ${status}, ended ${ended}, code ${stream.rstCode}`);
      resolve(whole);
    });
    if (body) stream.end(body);
    if (closing) closing(stream);
  });
}

const paths = ['/cart/files/64MiB', '/h2/bytes/500000', '/h2s/bytes/300000', '/h2/up', '/users'];

function request(session, suffix, closing) {
  const path = paths[random(paths.length)] + suffix;
  const body = path.includes('/up') ? Buffer.alloc(1 + random(300000), 'x') : null;
  return exchange(session, path, body, closing);
}

// Streams that are reset within their answers, beside others that are not.
async function resets(session) {
  const all = [];
  for (let i = 0; i < 20; ++i) {
    const isCut = random(3) !== 0;
    if (isCut) {
      const codes = [http2.constants.NGHTTP2_CANCEL, http2.constants.NGHTTP2_NO_ERROR,
                     http2.constants.NGHTTP2_INTERNAL_ERROR];
      const code = codes[random(codes.length)];
      const after = random(100);
      all.push(request(session, '?cut', (stream) => setTimeout(() => stream.close(code), after))
        .then(() => counts.cut++));
    } else {
      all.push(exchange(session, '/h2/bytes/20000', null).then((whole) => {
        if (whole) counts.done++; else fail('a stream beside one that was reset');
      }));
    }
  }
  await Promise.all(all);
}

// Either says GOAWAY and waits for what is under way, or goes at once.
async function goaway(session) {
  const isCut = random(2) === 0;
  const all = [];
  for (let i = 0; i < 5; ++i)
    all.push(isCut ? request(session, '?cut') : exchange(session, '/h2/bytes/200000', null));
  await pause(random(50));
  const end = closed(session);
  if (isCut) {
    session.destroy(undefined, http2.constants.NGHTTP2_NO_ERROR);
    counts.cut += 5;
  } else {
    session.close();
  }
  const whole = await Promise.all(all);
  await end;
  if (isCut) return;
  counts.done += whole.filter((good) => good).length;
  if (!whole.every((good) => good)) fail('a stream behind our GOAWAY');
}

async function withSession(url, action) {
  const session = connect(url);
  session.on('error', (error) => fail(`session: ${error.message}`));
  await new Promise((resolve) => {
    session.once('remoteSettings', resolve);
    session.once('close', resolve);
  });
  await action(session);
  if (session.closed || session.destroyed) return;
  const end = closed(session);
  session.close();
  await end;
}

// One session for as long as it lasts, as browsers have it; whoever is told to go opens the next.
let kept = null;
async function session() {
  if (kept && !kept.closed && !kept.destroyed) return kept;
  kept = connect(tls);
  kept.on('error', (error) => fail(`session: ${error.message}`));
  await new Promise((resolve) => kept.once('remoteSettings', resolve));
  return kept;
}

async function steady() {
  const ask = async (path, body) => {
    const again = async () => exchange(await session(), path, body);
    return exchange(await session(), path, body, null, again);
  };
  await session();  // one for all of them
  const whole = await Promise.all(Array.from({length: 5}, (_, i) =>
    i ? ask('/h2/bytes/20000', null) : ask('/h2/up', Buffer.alloc(1 + random(300000), 'x'))));
  counts.done += whole.filter((good) => good).length;
}

const tls = `https://${host}:443`;
const clear = `http://${host}:8080`;
const verbs = {
  steady,
  websocket1: () => Promise.all(Array.from({length: 4}, webSocketOfHttp1)),
  websocket2: () => withSession(random(2) ? tls : clear, (session) =>
    Promise.all(Array.from({length: 4}, () => webSocketOfHttp2(session)))),
  reset: () => withSession(random(2) ? tls : clear, resets),
  goaway: () => withSession(random(2) ? tls : clear, goaway),
};

async function main() {
  while (Date.now() < deadline) {
    await verbs[verb]();
    await pause(random(100));
  }
  console.log(JSON.stringify(counts));
  process.exit(0);
}
main();
setTimeout(() => { fail('it never ended'); console.log(JSON.stringify(counts)); process.exit(1); },
           Number(seconds) * 1000 + 60000).unref();
