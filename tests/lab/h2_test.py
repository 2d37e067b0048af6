"""HTTP/2 and WebSockets with clients and servers that nobody here wrote: curl, nghttp, h2load, node,
gRPC, ws."""

from labcase import *

HERE = pathlib.Path(__file__).resolve().parent
# Not the interpreter of whoever runs this: Debian's has python3-grpcio.
PYTHON = "/usr/bin/python3"
H2C, H2S, WEBSOCKET, GRPC, WS = 8082, 8443, 8090, 50051, 8091


def h2_config(directory):
    b1 = weirlab.backend4("b1")
    return l7_config(directory).replace("httpRoutes:", f"""  h2: {{endpoints: ["{b1}:{H2C}"], protocol: h2c}}
  h2s: {{endpoints: ["{b1}:{H2S}"], protocol: h2, tls: {{verification: Off}}}}
  ws: {{endpoints: ["{b1}:{WEBSOCKET}"]}}
  node-ws: {{endpoints: ["{b1}:{WS}"]}}
  grpc: {{endpoints: ["{b1}:{GRPC}"], protocol: h2c}}
  gone2: {{endpoints: ["{b1}:9"], protocol: h2c}}
httpRoutes:""") + """  - {name: h2, matches: [{path: {prefix: /h2}}], backendRefs: [{name: h2}]}
  - {name: h2s, matches: [{path: {prefix: /h2s}}], backendRefs: [{name: h2s}]}
  - {name: tunnels, matches: [{method: CONNECT}], backendRefs: [{name: users}]}
  - {name: ws, matches: [{path: {prefix: /ws}}], backendRefs: [{name: ws}]}
  - {name: node-ws, matches: [{path: {prefix: /node-ws}}], backendRefs: [{name: node-ws}]}
  - {name: grpc, matches: [{path: {prefix: /weir.test.Echo}}], backendRefs: [{name: grpc}]}
  - {name: gone2, matches: [{path: {prefix: /gone.Service}}], backendRefs: [{name: gone2}]}
"""


def start_h2_servers(lab):
    """Of every service of h2_config()."""
    lab.start("node", "b1", "node", HERE / "h2_servers.js", H2C, H2S, lab.directory / "shop.pem", WEBSOCKET)
    lab.start("grpc", "b1", PYTHON, HERE / "grpc_peer.py", "serve", GRPC)
    for port in (H2C, H2S, WEBSOCKET, GRPC):
        wait_until(f"port {port}", lambda p=port: lab.listening("b1", p), 20)


class Http2(LabCase):

    @classmethod
    def prepare(cls):
        cls.lab.make_certificates()
        cls.config = cls.lab.write_config(h2_config(cls.lab.directory))
        start_h2_servers(cls.lab)
        cls.lab.start("ws", "b1", "node", HERE / "ws_peer.js", "serve", WS)
        wait_until(f"port {WS}", lambda: cls.lab.listening("b1", WS), 20)
        cls.lab.weir("apply", "-f", cls.config)
        cls.lab.start_l7(cls.config)

    def curl(self, path, *extra, port=443):
        scheme = "https" if port == 443 else "http"
        version = "--http2" if port == 443 else "--http2-prior-knowledge"
        host = "api.shop.example"
        return self.lab.curl("-k", "-i", version, "--resolve", f"{host}:{port}:{VIP_EDGE4}", *extra,
                             f"{scheme}://{host}:{port}{path}").stdout

    def in_client(self, *command, **options):
        return self.lab.run_in("client", *command, **options)

    def through_a_tunnel(self, host, *proxy):
        return self.lab.run_in("client", "curl", "-sS", "-i", "--max-time", "20", "--proxytunnel", "--proxy",
                               *proxy, f"http://{host}/users/x", check=False)

    def test_curl_goes_through_a_tunnel_where_a_rule_names_connect(self):
        for proxy in ((f"http://{VIP_EDGE4}:8080",), (f"https://{VIP_EDGE4}", "--proxy-insecure")):
            done = self.through_a_tunnel("api.shop.example", *proxy)
            self.assertEqual(done.returncode, 0, done.stderr)
            established, answer = done.stdout.split("\n\n", 1)
            self.assertEqual(established, "HTTP/1.1 200 Connection Established")
            self.assertIn("x-service: users", answer.lower())
            refused = self.through_a_tunnel("elsewhere.example", *proxy)
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn("CONNECT", refused.stderr)

    def node(self, *words, port=8080):
        scheme = "https" if port == 443 else "http"
        done = self.in_client("node", HERE / "h2_client.js", VIP_EDGE4,
                              f"{scheme}://api.shop.example:{port}", *words)
        return json_lines(done.stdout)[-1]

    def stats(self):
        return {row["counter"]: row["value"] for row in self.lab.weir_json("stats", "--total")["weir-l7"]}

    def records(self, **wanted):
        lines = (self.lab.directory / "access.log").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        return [r for r in rows if all(r.get(k) == v for k, v in wanted.items())]

    def test_curl_speaks_h2_over_tls_to_an_http1_backend(self):
        reply = self.curl("/cart/7")
        self.assertTrue(reply.startswith("HTTP/2 200"), reply)
        self.assertIn("x-service: cart", reply)
        row = wait_until("the log", lambda: self.records(target="/cart/7"))[0]
        self.assertEqual(row["protocol"], "HTTP/2")

    def test_curl_speaks_h2_by_prior_knowledge_in_the_clear(self):
        reply = self.curl("/cart/8", port=8080)
        self.assertTrue(reply.startswith("HTTP/2 200"), reply)
        self.assertIn("x-service: cart", reply)

    def test_curl_uploads_and_downloads_exactly(self):
        body = self.lab.directory / "body"
        body.write_bytes(os.urandom(3_000_000))
        for path in ("/h2/up", "/h2s/up"):
            reply = json_lines(self.curl(path, "-X", "PUT", "-T", body))[-1]
            self.assertEqual((reply["size"], reply["sha256"]), (3_000_000, sha256(body)))
            self.assertEqual(reply["scheme"], "https" if path == "/h2s/up" else "http")
            self.assertEqual(reply["via"], "2 weir")
        out = self.lab.directory / "out"
        self.curl("/cart/files/64MiB", "-o", out)
        # -i puts the head in front.
        content = out.read_bytes()
        self.assertEqual(hashlib.sha256(content[content.index(b"\r\n\r\n") + 4:]).hexdigest(),
                         sha256(self.lab.directory / "www" / "64MiB"))

    def test_http1_clients_reach_h2_backends(self):
        for path in ("/h2/x", "/h2s/x"):
            reply = self.lab.curl("-k", "-i", "--http1.1", "--resolve",
                                  f"api.shop.example:443:{VIP_EDGE4}",
                                  f"https://api.shop.example{path}").stdout
            self.assertIn("HTTP/1.1 200 OK", reply)
            self.assertEqual(json_lines(reply)[-1]["via"], "1.1 weir")

    def test_nghttp_fetches_many_streams(self):
        done = self.in_client("nghttp", "-nvm", "20", f"http://{VIP_EDGE4}:8080/cart/n",
                              "-H", ":authority: api.shop.example")
        self.assertEqual(done.stdout.count(":status: 200"), 20, done.stdout[-2000:])
        self.assertNotIn("RST_STREAM", done.stdout)

    def test_h2load_sees_no_error_with_either_backend(self):
        for path in ("cart", "h2/load", "h2s/load"):
            done = self.in_client("h2load", "-n5000", "-c20", "-m20", "-t1",
                                  f"--connect-to={VIP_EDGE4}:443",
                                  f"https://api.shop.example/{path}", timeout=200)
            self.assertIn("5000 done, 5000 succeeded, 0 failed, 0 errored, 0 timeout", done.stdout)

    def test_node_sees_trailers_of_an_h2_backend(self):
        self.lab.weir_json("stats", "--total")
        answer = self.node("many", "50", "/h2/bytes/100000")
        self.assertEqual(answer, {"status": 200, "size": 100000, "trailer": "0", "code": 0, "same": 50})

    def test_a_websocket_over_a_stream(self):
        answer = self.node("websocket", "/ws/chat", "hello over a stream")
        self.assertEqual(answer, {"status": 200, "echoed": "hello over a stream", "enabled": True})

    def test_node_ws_talks_to_node_ws(self):
        for scheme, port in (("ws", 8080), ("wss", 443)):
            url = f"{scheme}://api.shop.example:{port}/node-ws/{scheme}"
            done = self.in_client("node", HERE / "ws_peer.js", "talk", url, VIP_EDGE4, "200", timeout=60)
            self.assertEqual(json_lines(done.stdout), [{"same": 200, "pong": "still there", "code": 1000}])
            wait_until("its line in the log", lambda: self.records(target=f"/node-ws/{scheme}"), 5)
            [line] = self.records(target=f"/node-ws/{scheme}")
            self.assertEqual((line["status"], line["reason"]), (101, "ok"))

    def test_all_kinds_of_grpc_calls(self):
        for words in ((f"{VIP_EDGE4}:8080",), (f"{VIP_EDGE4}:443", self.lab.directory / "shop.pem")):
            target, *certificate = words
            done = self.in_client(PYTHON, HERE / "grpc_peer.py", "call", target, "api.shop.example",
                                  *certificate, timeout=120)
            seen = json.loads(done.stdout)
            waited = seen.pop("waited")
            self.assertLess(waited, 3)
            self.assertEqual({k: v for k, v in seen.items() if k not in ("unknown", "slow")}, {
                "unary": True, "trailer": str(256 * 4000), "up": 500_000, "down": 100, "both": True,
                "fails": "FAILED_PRECONDITION not today, und äöü",
                "no_route": "UNIMPLEMENTED no_route", "no_endpoint": "UNAVAILABLE connect_failed"})
            self.assertTrue(seen["unknown"].startswith("UNIMPLEMENTED"), seen)
            self.assertTrue(seen["slow"].startswith("DEADLINE_EXCEEDED"), seen)


if __name__ == "__main__":
    main()
