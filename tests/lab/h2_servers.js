// Endpoints that node makes: HTTP/2 in the clear and over TLS, and over HTTP/1.1 a WebSocket's end and
// server-sent events.
//   node h2_servers.js H2C_PORT TLS_PORT CERTIFICATE WEBSOCKET_PORT
'use strict';
const fs = require('fs');
const http = require('http');
const http2 = require('http2');

const [h2cPort, tlsPort, certificate, webSocketPort] = process.argv.slice(2);

// Says what it has seen, with a digest of the body, and a trailer behind it.
function serve(stream, headers) {
  const hash = require('crypto').createHash('sha256');
  let size = 0;
  stream.on('error', () => {});
  stream.on('data', (piece) => { hash.update(piece); size += piece.length; });
  stream.on('end', () => {
    if (stream.destroyed) return;
    const match = /^\/h2s?\/bytes\/(\d+)/.exec(headers[':path']);
    const body = match ? Buffer.alloc(Number(match[1]), 'weir') : JSON.stringify({
      method: headers[':method'], path: headers[':path'], scheme: headers[':scheme'],
      authority: headers[':authority'], via: headers.via, forwarded: headers['x-forwarded-for'],
      size, sha256: hash.digest('hex')}) + '\n';
    stream.respond({':status': 200, 'x-service': 'h2', 'trailer': 'x-size'},
                   {waitForTrailers: true});
    stream.on('wantTrailers', () => stream.sendTrailers({'x-size': String(size)}));
    stream.end(body);
  });
}

// A session of the gateway is many clients': node's 10 MB for all that it holds would be too few.
const options = {maxSessionMemory: 1000};
http2.createServer(options).on('stream', serve).on('sessionError', () => {}).listen(h2cPort);
const pem = fs.readFileSync(certificate);
http2.createSecureServer({...options, cert: pem, key: pem}).on('stream', serve).listen(tlsPort);

// Events, ten a second, as long as somebody listens.
function events(response) {
  let count = 0;
  response.writeHead(200, {'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store'});
  const timer = setInterval(() => response.write(`id: ${++count}\ndata: event ${count}\n\n`), 100);
  response.on('close', () => clearInterval(timer));
}

const sockets = http.createServer((request, response) =>
  request.url.startsWith('/ws/events') ? events(response) : response.end('plain\n'));
sockets.on('upgrade', (request, socket) => {
  const accept = require('crypto').createHash('sha1')
    .update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11')
    .digest('base64');
  socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
               `Sec-WebSocket-Accept: ${accept}\r\n\r\n`);
  socket.on('error', () => {});
  socket.on('data', (bytes) => socket.write(bytes));
  socket.on('end', () => socket.end());
});
sockets.listen(webSocketPort);
