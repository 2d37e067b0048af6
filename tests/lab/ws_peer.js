// WebSockets by Debian's node-ws: an endpoint that echoes, and a client.
//   node ws_peer.js serve PORT
//   node ws_peer.js talk URL ADDRESS COUNT     says what it has seen, as JSON
'use strict';
module.paths.push('/usr/share/nodejs');  // where Debian has it, whosever node this is
const WebSocket = require('ws');

const [mode, where, address, count] = process.argv.slice(2);

if (mode === 'serve') {
  new WebSocket.Server({port: Number(where)}).on('connection', (socket) => {
    socket.on('message', (data, isBinary) => socket.send(data, {binary: isBinary}));
  });
} else {
  const sent = Array.from({length: Number(count)}, (_, i) => 'x'.repeat(i * 601) + i);
  const seen = {same: 0, pong: '', code: 0};
  // The name stays in the URL, for Host and SNI; the address is where it leads.
  const lookup = (name, options, done) => options.all ? done(null, [{address, family: 4}])
                                                      : done(null, address, 4);
  const socket = new WebSocket(where, {rejectUnauthorized: false, lookup});
  socket.on('open', () => socket.ping('still there'));
  socket.on('pong', (data) => {
    seen.pong = data.toString();
    socket.send(sent[0]);
  });
  socket.on('message', (data) => {
    if (data.toString() === sent[seen.same]) ++seen.same;
    else return socket.terminate();
    if (seen.same === sent.length) socket.close(1000, 'done');
    else socket.send(sent[seen.same]);
  });
  socket.on('error', (error) => { seen.error = error.message; });
  socket.on('close', (code) => {
    seen.code = code;
    console.log(JSON.stringify(seen));
  });
}
