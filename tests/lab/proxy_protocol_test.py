"""The PROXY protocol with those who made it and those who use it: HAProxy and curl in front of weir-l7,
nginx and HAProxy behind it. And how many connections one source may have."""

from labcase import *

BEHIND, BEHIND_TLS, FEW, HTTP = 8090, 8443, 8091, 8080
FRONT = "b4"  # HAProxy in front of weir-l7
LINE, BINARY, SECURE, SILENT = 9001, 9002, 9003, 9004  # where it listens
NGINX, HAPROXY = 8095, 8096  # who reads headers behind weir-l7, on b1
PER_SOURCE = 5

HOLD = """
import socket, sys, time
held = []
for _ in range(int(sys.argv[3])):
    try:
        held.append(socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5))
    except ConnectionResetError:
        pass  # faster than connect() looked
time.sleep(1)
alive = 0
for one in held:
    one.settimeout(0.2)
    try:
        one.recv(1)
    except TimeoutError:
        alive += 1
    except OSError:
        pass
print(alive)
"""


def config(directory):
    b1 = weirlab.backend4("b1")
    tls = f"{{certificateRefs: [{{file: {directory}/shop.pem}}]}}"
    proxies = f"{{from: [{weirlab.backend4(FRONT)}]}}"
    services = ", ".join(
        f'{name}: {{endpoints: ["{b1}:{port}"], proxyProtocol: {version}}}'
        for name, port, version in (("nginx1", NGINX, "v1"), ("nginx2", NGINX, "v2"),
                                    ("haproxy1", HAPROXY, "v1"), ("haproxy2", HAPROXY, "v2")))
    rules = "".join(f"""
  - {{name: {name}, matches: [{{path: {{prefix: /{name}}}}}], backendRefs: [{{name: {name}}}]}}"""
                    for name in ("nginx1", "nginx2", "haproxy1", "haproxy2"))
    return f"""version: 1
node:
  interfaces: [eth0]
  xdpMode: native
  l7: {{workers: 1, addresses: [{L7_4}/24, "{L7_6}/64"]}}
gateways:
- name: edge
  addresses: [{VIP_EDGE4}]
  listeners:
  - {{name: plain, port: {HTTP}, protocol: HTTP}}
  - {{name: behind, port: {BEHIND}, protocol: HTTP, proxyProtocol: {proxies}}}
  - {{name: behind-tls, port: {BEHIND_TLS}, protocol: HTTPS, tls: {tls}, proxyProtocol: {proxies}}}
  - {{name: few, port: {FEW}, protocol: HTTP, limits: {{connectionsPerSource: {PER_SOURCE}}}}}
services: {{cart: {{endpoints: ["{b1}:8080"]}}, {services}}}
httpRoutes:
- name: all
  parentRefs: [{{name: edge}}]
  rules:{rules}
  - {{name: cart, backendRefs: [{{name: cart}}]}}
"""


class ProxyProtocol(LabCase):

    @classmethod
    def prepare(cls):
        if weirlab.shutil.which("haproxy") is None:
            raise LabError("haproxy is not installed; run tools/setup")
        cls.lab.make_certificates()
        file = cls.lab.write_config(config(cls.lab.directory))
        cls.lab.weir("apply", "-f", file)
        cls.lab.start_l7(file)
        cls.start_front()
        cls.start_receivers()

    @classmethod
    def start_front(cls):
        """What a request to b4 becomes on its way to weir-l7."""
        cls.lab.run_in(FRONT, "ip", "route", "add", f"{VIP_EDGE4}/32", "via", NODE4)
        ways = ((LINE, BEHIND, "send-proxy"),
                (BINARY, BEHIND, "send-proxy-v2 proxy-v2-options crc32c,authority"),
                (SECURE, BEHIND_TLS, "send-proxy-v2 proxy-v2-options crc32c"),
                (SILENT, BEHIND, ""))
        parts = "".join(f"""
listen to-{port}
  bind :{port}
  server weir {VIP_EDGE4}:{target} {options}
""" for port, target, options in ways)
        cls.start_haproxy(FRONT, "mode tcp", parts)
        wait_until("HAProxy in front", lambda: cls.lab.listening(FRONT, SILENT))

    @classmethod
    def start_receivers(cls):
        nginx = cls.lab.directory / "receiver.conf"
        nginx.write_text(f"""
worker_processes 1; daemon off; user root; pid {cls.lab.directory}/receiver.pid;
error_log {cls.lab.directory}/receiver.error warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  server {{
    listen {NGINX} proxy_protocol;
    location / {{
      default_type text/plain;
      return 200 "$proxy_protocol_addr to $proxy_protocol_server_addr:$proxy_protocol_server_port\\n";
    }}
  }}
}}""")
        cls.lab.start("receiver", "b1", "nginx", "-c", nginx, "-p", cls.lab.directory)
        cls.start_haproxy("b1", "mode http", f"""
frontend receiver
  bind :{HAPROXY} accept-proxy
  http-request return status 200 content-type text/plain lf-string "%[src] to %[dst]:%[dst_port]"
""")
        for port in (NGINX, HAPROXY):
            wait_until(f"port {port}", lambda p=port: cls.lab.listening("b1", p))

    @classmethod
    def start_haproxy(cls, host, mode, parts):
        file = cls.lab.directory / f"haproxy-{host}.cfg"
        file.write_text(f"""
defaults
  {mode}
  timeout connect 5s
  timeout client 30s
  timeout server 30s
{parts}""")
        cls.lab.start(f"haproxy-{host}", host, "haproxy", "-db", "-f", file)

    def records(self, **wanted):
        lines = (self.lab.directory / "access.log").read_text().splitlines()
        return [r for r in map(json.loads, lines) if all(r.get(k) == v for k, v in wanted.items())]

    def stats(self):
        return {row["counter"]: row["value"] for row in self.lab.weir_json("stats", "--total")["weir-l7"]}

    def counter(self, name):
        return next(value for counter, value in self.stats().items() if counter.endswith(name))

    def check_logged(self, path):
        row = wait_until("the log", lambda: self.records(target=path))[0]
        self.assertEqual(row["client"].rsplit(":", 1)[0], CLIENT4)
        self.assertEqual(row["proxy"].rsplit(":", 1)[0], weirlab.backend4(FRONT))
        self.assertEqual(row["status"], 200)

    def test_haproxys_line_names_the_client(self):
        reply = self.lab.curl(f"http://{weirlab.backend4(FRONT)}:{LINE}/line")
        self.assertIn("cart on b1: GET /line", reply.stdout)
        self.check_logged("/line")

    def test_haproxys_binary_header_with_a_checksum_names_the_client(self):
        reply = self.lab.curl(f"http://{weirlab.backend4(FRONT)}:{BINARY}/binary")
        self.assertIn("cart on b1: GET /binary", reply.stdout)
        self.check_logged("/binary")

    def test_behind_the_header_tls_is_spoken(self):
        host = f"api.shop.example:{SECURE}"
        reply = self.lab.curl("-k", "--resolve", f"{host}:{weirlab.backend4(FRONT)}",
                              f"https://{host}/secure")
        self.assertIn("cart on b1: GET /secure", reply.stdout)
        self.check_logged("/secure")

    def test_a_proxy_without_a_header_is_not_served(self):
        before = self.counter("proxy_header_failures")
        done = self.lab.curl(f"http://{weirlab.backend4(FRONT)}:{SILENT}/silent", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(self.counter("proxy_header_failures"), before + 1)
        self.assertEqual(self.records(target="/silent"), [])

    def test_a_client_that_is_no_proxy_cannot_name_another(self):
        direct = f"http://{VIP_EDGE4}:{BEHIND}/direct"
        self.assertIn("GET /direct", self.lab.curl(direct).stdout)
        done = self.lab.curl("-i", "--haproxy-protocol", direct)
        self.assertIn("400 Bad Request", done.stdout)

    def test_nginx_and_haproxy_are_told_who_the_client_is(self):
        for name in ("nginx1", "nginx2", "haproxy1", "haproxy2"):
            with self.subTest(name):
                reply = self.lab.curl(f"http://{VIP_EDGE4}:{HTTP}/{name}")
                self.assertEqual(reply.stdout.strip(), f"{CLIENT4} to {VIP_EDGE4}:{HTTP}")

    def test_what_one_header_says_the_next_one_repeats(self):
        for name in ("nginx1", "haproxy2"):
            with self.subTest(name):
                front = weirlab.backend4(FRONT)
                reply = self.lab.curl(f"http://{front}:{BINARY}/{name}")
                self.assertEqual(reply.stdout.strip(), f"{CLIENT4} to {front}:{BINARY}")

    def test_clients_on_kept_connections_are_not_mistaken_for_each_other(self):
        url = f"http://{VIP_EDGE4}:{HTTP}/nginx2"
        for host, address in (("client", CLIENT4), (FRONT, weirlab.backend4(FRONT)),
                              ("client", CLIENT4)):
            reply = self.lab.run_in(host, "curl", "-sS", url, url)
            self.assertEqual(set(reply.stdout.splitlines()), {f"{address} to {VIP_EDGE4}:{HTTP}"})

    def test_a_source_has_no_more_connections_than_it_may(self):
        before = self.counter("connections_over_limit")
        done = self.lab.run_in("client", "python3", "-c", HOLD, VIP_EDGE4, str(FEW),
                               str(PER_SOURCE + 3))
        self.assertEqual(int(done.stdout), PER_SOURCE)
        self.assertEqual(self.counter("connections_over_limit"), before + 3)
        reply = wait_until("room for another", lambda: self.lab.curl(
            f"http://{VIP_EDGE4}:{FEW}/again", check=False).stdout)
        self.assertIn("GET /again", reply)

    def test_our_own_answers_have_a_date(self):
        reply = self.lab.curl("-i", "-X", "CONNECT", f"http://{VIP_EDGE4}:{HTTP}/").stdout
        self.assertRegex(reply, r"Date: \w{3}, \d\d \w{3} 20\d\d \d\d:\d\d:\d\d GMT")


if __name__ == "__main__":
    main()
