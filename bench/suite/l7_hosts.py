"""What the L7 laboratory is made of: two namespaces, two veths, three proxies and their load.

    proxy (core 0)                         load (core 1)
      x0  weir-l4, weir-l7 behind it ────── x1      wrk, h2load; kernel_peer (http, WebSocket), nginx for
      k0  nginx, haproxy             ────── k1      files, nghttpd in the place of a gRPC server

The veth of Weir has what XDP needs (no offloads), that of the peers what Linux gives it.
"""

import json
import os
import shutil

import processor_group
import programs
import sockets
import weirlab
from group import BenchLab
from processor_group import ProcessorGroup
from rows import WEIR
from weirlab import LabError, run, wait_until

PROXY, LOAD = "proxy", "load"
PROXY_CORE, LOAD_CORE = 0, 1
NGINX, HAPROXY, DIRECT = "nginx", "haproxy", "direct"
PEERS = (NGINX, HAPROXY)
VIP = "203.0.113.10"
# Where the client finds each: the backend itself stands for a proxy that costs nothing.
ADDRESS = {WEIR: VIP, NGINX: "10.99.0.1", HAPROXY: "10.99.0.3", DIRECT: "10.99.0.2"}
BACKEND_PORT, FILE_PORT, SOCKET_PORT, GRPC_PORT = 9000, 9001, 9002, 9003
HTTP_PORT, HTTPS_PORT = 80, 443
NAME = "bench.example"
REPLY_BYTES = 256
FILES = {"1k": 1 << 10, "16k": 1 << 14, "128k": 1 << 17, "1m": 1 << 20}
GRPC_PATH = "/bench.Echo/Say"
GRPC_MESSAGE = b"\0\0\0\0\x20" + b"m" * 32  # not compressed, 32 bytes long


class L7Lab(BenchLab):
    """The two hosts with everything running; one proxy at a time is loaded, the others sleep."""

    settings = (*BenchLab.settings, "net.ipv4.tcp_max_tw_buckets=262144")

    def __init__(self):
        super().__init__("l7lab")
        self.node = PROXY
        self.groups = {}

    def prepare(self):
        self.need()
        for name in (WEIR, NGINX, HAPROXY, LOAD):
            self.groups[name] = ProcessorGroup(name)
        for host in (PROXY, LOAD):
            self.add_host(host)
        self.cable(PROXY, "x0", LOAD, "x1", 1500)
        self.cable(PROXY, "k0", LOAD, "k1", 1500)
        for host, device in ((PROXY, "k0"), (LOAD, "k1")):
            self.run_in(host, "ethtool", "-K", device, "tx", "on", "tso", "on", "gso", "on", "gro", "on",
                        check=False)
        for host, device, address in ((PROXY, "x0", "10.98.0.1"), (LOAD, "x1", "10.98.0.2"),
                                      (PROXY, "k0", ADDRESS[NGINX]), (PROXY, "k0", ADDRESS[HAPROXY]),
                                      (LOAD, "k1", ADDRESS[DIRECT])):
            self.run_in(host, "ip", "address", "add", f"{address}/24", "dev", device)
        self.run_in(LOAD, "ip", "route", "add", f"{VIP}/32", "via", "10.98.0.1")
        self.receive_redirected(LOAD, "x1")
        self.certificate()
        self.start_backends()
        self.start_weir()
        self.start_peers()

    def need(self):
        for tool in ("ip", "nsenter", "bpftool", "ethtool", "nginx", "haproxy", "wrk", "h2load",
                     "nghttpd", "openssl", "taskset", "chrt"):
            if shutil.which(tool) is None:
                raise LabError(f"{tool} is not installed; run tools/setup")
        programs.need(*(weirlab.BUILD / part for part in ("l4/weir-l4", "l7/weir-l7", "tools/weir/weir",
                                                          "bench/kernel_peer")))

    def placed(self, core, group, *command):
        """The command on a core and in a group, before it can have made threads or children."""
        procs = self.groups[group].path / "cgroup.procs"
        return ["sh", "-c", f'echo $$ > {procs} && exec taskset -c {core} "$@"', "sh", *command]

    def launch(self, name, host, core, group, *command):
        return self.start(name, host, *self.placed(core, group, *command))

    def certificate(self):
        pem = self.directory / "bench.pem"
        key, crt = self.directory / "bench.key", self.directory / "bench.crt"
        run("openssl", "req", "-x509", "-nodes", "-days", "30", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-keyout", key, "-out", crt, "-subj", f"/CN={NAME}",
            "-addext", f"subjectAltName=DNS:{NAME}")
        pem.write_text(crt.read_text() + key.read_text())

    # ---- load's side --------------------------------------------------------------------------

    def start_backends(self):
        """One thread that answers every head with the same bytes, one with WebSocket frames; nginx, which
        sends files; nghttpd, whose answers have a trailer as those of gRPC."""
        peer = weirlab.BUILD / "bench" / "kernel_peer"
        self.launch("backend", LOAD, LOAD_CORE, LOAD, peer, "http", "--port", BACKEND_PORT, "--reply",
                    REPLY_BYTES, "--json")
        self.launch("sockets", LOAD, LOAD_CORE, LOAD, peer, "echo", "--websocket", "--port", SOCKET_PORT,
                    "--json")
        (self.directory / "files").mkdir()
        for name, size in FILES.items():
            (self.directory / "files" / name).write_bytes(os.urandom(size))
        config = self.nginx_config("files", f"""
  sendfile on; tcp_nopush on;
  server {{ listen {FILE_PORT}; location / {{ root {self.directory}; }} }}""")
        self.launch("files", LOAD, LOAD_CORE, LOAD, "nginx", "-c", config, "-p", self.directory)
        reply = self.directory / "grpc" / GRPC_PATH[1:]
        reply.parent.mkdir(parents=True)
        reply.write_bytes(GRPC_MESSAGE)
        (self.directory / "message").write_bytes(GRPC_MESSAGE)
        self.launch("grpc", LOAD, LOAD_CORE, LOAD, "nghttpd", "--no-tls", "--trailer=grpc-status: 0",
                    "-d", self.directory / "grpc", GRPC_PORT)
        for port in (BACKEND_PORT, FILE_PORT, SOCKET_PORT, GRPC_PORT):
            wait_until(f"the backend on {port}", lambda p=port: self.listening(LOAD, p))

    # ---- proxies ------------------------------------------------------------------------------

    def configuration(self, routes=0, changing="never asked"):
        """What Weir is given; with so many routes of other hosts, and one whose answer can be changed."""
        others = "\n".join(
            f"- {{name: r{n}, parentRefs: [{{name: edge}}], hostnames: [h{n}.example], "
            f"rules: [{{name: all, matches: [{{path: {{prefix: /p{n}}}}}], backendRefs: [{{name: backend}}]}}]}}"
            for n in range(routes))
        rules = "\n".join((
            f"  - {{name: changing, matches: [{{path: {{exact: /changing}}}}], respond: {{status: 200, "
            f"body: \"{changing}\", contentType: text/plain}}}}",
            f"  - {{name: fixed, matches: [{{path: {{exact: /fixed}}}}], respond: {{status: 200, "
            f"body: \"{'x' * REPLY_BYTES}\", contentType: text/plain}}}}",
            "  - {name: files, matches: [{path: {prefix: /files}}], backendRefs: [{name: files}]}",
            "  - {name: sockets, matches: [{path: {exact: /ws}}], backendRefs: [{name: sockets}]}",
            "  - {name: grpc, matches: [{path: {prefix: /bench.Echo}}], backendRefs: [{name: grpc}]}",
            "  - {name: all, matches: [{path: {prefix: /}}], backendRefs: [{name: backend}]}"))
        return f"""version: 1
node:
  interfaces: [x0]
  xdpMode: native
  l7: {{workers: 1, addresses: [10.98.0.3/24]}}
gateways:
- name: edge
  addresses: [{VIP}]
  listeners:
  - {{name: http, port: {HTTP_PORT}, protocol: HTTP}}
  - {{name: https, port: {HTTPS_PORT}, protocol: HTTPS, tls: {{certificateRefs: [{{file: {self.directory}/bench.pem}}]}}}}
  limits: {{requestsPerConnection: 0, connectionAge: 0s}}
  accessLog: {{sample: 0%}}
services:
  backend: {{endpoints: ["10.98.0.2:{BACKEND_PORT}"]}}
  files: {{endpoints: ["10.98.0.2:{FILE_PORT}"]}}
  sockets: {{endpoints: ["10.98.0.2:{SOCKET_PORT}"]}}
  grpc: {{endpoints: ["10.98.0.2:{GRPC_PORT}"], protocol: h2c}}
httpRoutes:
- name: bench
  parentRefs: [{{name: edge}}]
  rules:
{rules}
{others}
"""

    def start_weir(self):
        config = self.write_config(self.configuration())
        self.launch("weir-l4", PROXY, PROXY_CORE, WEIR, weirlab.BUILD / "l4" / "weir-l4",
                              "--socket", self.l4_socket, "--state-dir", self.directory / "state",
                              "--pin-dir", self.pins / "lb")

        wait_until("weir-l4 to answer", lambda: self.alive("weir-l4") and
                   self.weir("vip", "list", check=False).returncode == 0)
        self.weir("apply", "-f", config)
        self.launch("weir-l7", PROXY, PROXY_CORE, WEIR, weirlab.BUILD / "l7" / "weir-l7", "--config",
                    config, "--socket", self.l7_socket, "--state-dir", self.directory / "state",
                    "--access-log", "/dev/null")
        wait_until("weir-l7 to answer", lambda: self.alive("weir-l7") and self.l7_socket.exists(), 30)

    def answer_of(self, path):
        request = f"GET {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode()
        answer = sockets.ask(self, LOAD, VIP, HTTP_PORT, request)
        return answer.partition(b"\r\n\r\n")[2].decode()

    def weir_stats(self):
        """The counters of the one worker, by name."""
        self.alive("weir-l7")
        rows = json.loads(self.weir("stats", "--total", "-o", "json").stdout)["weir-l7"]
        return {row["counter"]: row["value"] for row in rows}

    def nginx_config(self, name, servers):
        config = self.directory / f"nginx-{name}.conf"
        paths = " ".join(f"{word}_temp_path {self.directory}/{name}-{word};"
                         for word in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        config.write_text(f"""
worker_processes 1; daemon off; user root; pid {self.directory}/{name}.pid;
error_log {self.directory}/{name}.error warn; worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_timeout 75s; keepalive_requests 100000000; {paths}
{servers}
}}""")
        return config

    def start_peers(self):
        fixed = "x" * REPLY_BYTES
        address = ADDRESS[NGINX]
        config = self.nginx_config("proxy", f"""
  ssl_certificate {self.directory}/bench.pem; ssl_certificate_key {self.directory}/bench.key;
  ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache off; ssl_session_tickets on;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
  proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
  upstream backend {{ server {ADDRESS[DIRECT]}:{BACKEND_PORT}; keepalive 1024; keepalive_requests 100000000; }}
  upstream files {{ server {ADDRESS[DIRECT]}:{FILE_PORT}; keepalive 1024; keepalive_requests 100000000; }}
  upstream sockets {{ server {ADDRESS[DIRECT]}:{SOCKET_PORT}; }}
  upstream grpc {{ server {ADDRESS[DIRECT]}:{GRPC_PORT}; keepalive 1024; keepalive_requests 100000000; }}
  server {{
    listen {address}:{HTTP_PORT} backlog=4096; listen {address}:{HTTPS_PORT} ssl http2 backlog=4096;
    location = /fixed {{ default_type text/plain; return 200 "{fixed}"; }}
    location /files/ {{ proxy_pass http://files; proxy_max_temp_file_size 0; }}
    location = /ws {{ proxy_pass http://sockets; proxy_set_header Upgrade $http_upgrade;
                      proxy_set_header Connection Upgrade; }}
    location /bench.Echo/ {{ grpc_pass grpc://grpc; }}
    location / {{ proxy_pass http://backend; }}
  }}""")
        self.launch("nginx", PROXY, PROXY_CORE, NGINX, "nginx", "-c", config, "-p", self.directory)
        body = self.directory / "fixed"
        body.write_text(fixed)
        address = ADDRESS[HAPROXY]
        path = self.directory / "haproxy.cfg"
        path.write_text(f"""
global
  nbthread 1
  maxconn 8192
  tune.ssl.cachesize 0
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout connect 5s
  timeout client 75s
  timeout server 75s
  option forwardfor
  http-reuse always
frontend edge
  bind {address}:{HTTP_PORT} backlog 4096
  bind {address}:{HTTPS_PORT} ssl crt {self.directory}/bench.pem alpn h2,http/1.1 backlog 4096
  http-request return status 200 content-type text/plain file {body} if {{ path /fixed }}
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  use_backend files if {{ path_beg /files/ }}
  use_backend sockets if {{ path /ws }}
  use_backend grpc if {{ path_beg /bench.Echo/ }}
  default_backend backend
backend backend
  server one {ADDRESS[DIRECT]}:{BACKEND_PORT} pool-max-conn 1024
backend files
  server one {ADDRESS[DIRECT]}:{FILE_PORT} pool-max-conn 1024
backend sockets
  server one {ADDRESS[DIRECT]}:{SOCKET_PORT}
backend grpc
  server one {ADDRESS[DIRECT]}:{GRPC_PORT} proto h2
""")
        self.launch("haproxy", PROXY, PROXY_CORE, HAPROXY, "haproxy", "-db", "-f", path)
        for name in PEERS:
            wait_until(f"{name} to listen",
                       lambda n=name: self.alive(n) and f"{ADDRESS[n]}:{HTTPS_PORT} " in
                       self.run_in(PROXY, "ss", "-Hltn").stdout)

    def remove_leftovers(self):
        super().remove_leftovers()
        processor_group.remove_all()
