// node's HTTP/2 client against the gateway; one line of JSON for what was asked for.
//   node h2_client.js ADDRESS URL many COUNT PATH | websocket PATH TEXT | abort COUNT PATH
'use strict';
const http2 = require('http2');

const [address, url, verb, ...rest] = process.argv.slice(2);
const lookup = (name, options, done) =>
  options.all ? done(null, [{address, family: 4}]) : done(null, address, 4);
const session = http2.connect(url, {rejectUnauthorized: false, lookup});
session.on('error', (error) => { console.log(JSON.stringify({error: error.message})); });
const authority = new URL(url).host;

function get(path) {
  return new Promise((resolve) => {
    const stream = session.request({':path': path, ':authority': authority});
    let status = 0;
    let size = 0;
    let trailer = null;
    stream.on('response', (headers) => { status = headers[':status']; });
    stream.on('trailers', (headers) => { trailer = headers['x-size'] ?? null; });
    stream.on('data', (piece) => { size += piece.length; });
    stream.on('error', () => {});
    stream.on('close', () => resolve({status, size, trailer, code: stream.rstCode}));
  });
}

async function many(count, path) {
  const answers = await Promise.all(Array.from({length: Number(count)}, () => get(path)));
  const first = answers[0];
  const same = answers.filter((a) => JSON.stringify(a) === JSON.stringify(first)).length;
  console.log(JSON.stringify({...first, same}));
}

function websocket(path, text) {
  return new Promise((resolve) => {
    session.once('remoteSettings', (settings) => {
      const stream = session.request({
        ':method': 'CONNECT', ':protocol': 'websocket', ':path': path, ':authority': authority,
        'sec-websocket-version': '13'});
      let status = 0;
      let echoed = '';
      stream.on('response', (headers) => { status = headers[':status']; stream.write(text); });
      stream.on('data', (piece) => {
        echoed += piece;
        if (echoed.length >= text.length) stream.end();
      });
      stream.on('error', () => {});
      stream.on('close', () => {
        console.log(JSON.stringify({status, echoed, enabled: settings.enableConnectProtocol}));
        resolve();
      });
    });
  });
}

// Opens streams and resets each a moment later, somewhere within its answer.
async function abort(count, path) {
  const closed = Array.from({length: Number(count)}, (_, i) => new Promise((resolve) => {
    const stream = session.request({':path': path, ':authority': authority});
    stream.on('error', () => {});
    stream.on('data', () => {});
    stream.on('close', resolve);
    setTimeout(() => stream.close(http2.constants.NGHTTP2_CANCEL), (i * 37) % 101);
  }));
  await Promise.all(closed);
  console.log(JSON.stringify({aborted: closed.length}));
}

const verbs = {many, websocket, abort};
verbs[verb](...rest).then(() => session.close());
setTimeout(() => { console.log(JSON.stringify({error: 'time'})); process.exit(1); }, 60000).unref();
