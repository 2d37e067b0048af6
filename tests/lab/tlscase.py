"""What the tests of TLS share: authorities and certificates made by openssl, nginx as a TLS endpoint that
says what it was told about the client, and the configuration of weir-l7."""

import subprocess

from labcase import *

ORDERS_PORT, TOLD_PORT = 8443, 8090  # of the endpoint
PASSED_PORT = 9443  # of the VIP: TLS is passed through
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
RSA = ("-newkey", "rsa:2048")


class Authorities:
    """Certificates in a directory, NAME.crt and NAME.key, and both in NAME.pem."""

    def __init__(self, directory):
        self.directory = directory

    def path(self, name):
        return self.directory / name

    def make(self, name, *names, subject=None, issuer=None, key=CURVE, authority=False):
        """A certificate for DNS names, or for a client without any."""
        extensions = [f"basicConstraints=critical,CA:{str(authority).upper()}"]
        if names:
            extensions.append("subjectAltName=" + ",".join(names))
        signer = () if issuer is None else ("-CA", self.path(f"{issuer}.crt"),
                                            "-CAkey", self.path(f"{issuer}.key"))
        run("openssl", "req", "-x509", "-nodes", "-days", "120", *key, *signer,
            "-keyout", self.path(f"{name}.key"), "-out", self.path(f"{name}.crt"),
            "-subj", subject or f"/CN={names[0].partition(':')[2]}",
            *(word for text in extensions for word in ("-addext", text)))
        chain = [f"{name}.crt"] + ([] if issuer is None else [f"{issuer}.crt"])
        text = "".join(self.path(part).read_text() for part in chain + [f"{name}.key"])
        # As whoever renews certificates does it: nobody reads half a file.
        whole = self.path(f"{name}.pem.new")
        whole.write_text(text)
        whole.rename(self.path(f"{name}.pem"))

    def serial(self, name):
        done = run("openssl", "x509", "-in", self.path(f"{name}.crt"), "-noout", "-serial")
        return done.stdout.strip().partition("=")[2]

    def der(self, name):
        return run_bytes("openssl", "x509", "-in", self.path(f"{name}.crt"), "-outform", "DER")

    def answer_ocsp(self, name, issuer):
        """An OCSP response that says that the certificate is good, for two days."""
        index = self.path("index.txt")
        index.write_text(f"V\t351231235959Z\t\t{self.serial(name)}\tunknown\t/CN={name}\n")
        run("openssl", "ocsp", "-index", index, "-CA", self.path(f"{issuer}.crt"),
            "-rsigner", self.path(f"{issuer}.crt"), "-rkey", self.path(f"{issuer}.key"),
            "-issuer", self.path(f"{issuer}.crt"), "-cert", self.path(f"{name}.crt"),
            "-respout", self.path(f"{name}.ocsp"), "-ndays", "2", "-noverify")


def run_bytes(*command):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True,
                          timeout=60).stdout


class TlsCase(LabCase):
    """Two workers. Certificates of one authority, clients of another."""

    WORKERS = 2

    @classmethod
    def prepare(cls):
        cls.made = Authorities(cls.lab.directory)
        cls.made.make("root", subject="/CN=Weir test root", authority=True)
        cls.made.make("people", subject="/CN=Weir test people", authority=True)
        cls.made.make("strangers", subject="/CN=Weir test strangers", authority=True)
        cls.made.make("shop", "DNS:shop.example", "DNS:*.shop.example", issuer="root")
        cls.made.make("shop-rsa", "DNS:shop.example", "DNS:*.shop.example", issuer="root", key=RSA)
        cls.made.make("clubs", "DNS:members.example", "DNS:guests.example", issuer="root")
        cls.made.make("orders", "DNS:orders.internal", issuer="root")
        cls.made.make("alice", issuer="people", subject="/O=People/CN=alice")
        cls.made.make("mallory", issuer="strangers", subject="/O=People/CN=alice")
        cls.made.answer_ocsp("shop", "root")
        cls.start_teller()
        cls.config = cls.lab.write_config(cls.configuration())
        cls.lab.weir("apply", "-f", cls.config)
        cls.lab.start_l7(cls.config)

    @classmethod
    def start_teller(cls):
        """nginx on b1: one port over TLS, one in the clear, and both say which client they heard of."""
        here = cls.lab.directory
        config = here / "teller.conf"
        (here / "teller-sink").mkdir()
        config.write_text(f"""
worker_processes 1; daemon off; user root; pid {here}/teller.pid; error_log {here}/teller.error info;
events {{ worker_connections 8192; }} worker_rlimit_nofile 16384;
http {{
  access_log off; large_client_header_buffers 4 32k; client_body_temp_path {here}/teller-tmp;
  proxy_temp_path {here}/teller-p; fastcgi_temp_path {here}/teller-f; uwsgi_temp_path {here}/teller-u;
  scgi_temp_path {here}/teller-s;
  server {{
    listen {TOLD_PORT}; listen {ORDERS_PORT} ssl;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {here}/orders.pem; ssl_certificate_key {here}/orders.key;
    location ~ /sink {{ dav_methods PUT; root {here}/teller-sink; create_full_put_path on; }}
    location / {{ default_type text/plain; return 200
"sni=$ssl_server_name tls=$ssl_protocol
cert=$http_client_cert
subject=$http_x_client_cert_subject
forged=$http_client_cert_chain$http_x_ssl_client_cert$http_x_client_cert$http_x_ssl_client_s_dn
proto=$http_x_forwarded_proto
"; }}
  }}
}}""")
        cls.lab.start("teller", "b1", "nginx", "-c", config, "-p", here)
        wait_until("the teller", lambda: cls.lab.listening("b1", ORDERS_PORT))

    @classmethod
    def configuration(cls):
        here = cls.lab.directory
        own, secure = (f"{weirlab.backend4('b1')}:{port}" for port in (TOLD_PORT, ORDERS_PORT))
        ca, people = (f"caRef: {{file: {here}/{name}.crt}}" for name in ("root", "people"))
        clubs = f"certificateRefs: [{{file: {here}/clubs.pem}}]"
        services = {
            "told": f"""endpoints: ["{own}"]""",
            "orders": f"""endpoints: ["{secure}"], tls: {{sni: orders.internal, {ca}}}""",
            "misnamed": f"""endpoints: ["{secure}"], tls: {{sni: other.internal, {ca}}}""",
            "untrusted": f"""endpoints: ["{secure}"], tls: {{sni: orders.internal, {people}}}""",
            "unnamed": f"""endpoints: ["{secure}"], tls: {{{ca}}}""",
            "unproved": f"""endpoints: ["{secure}"], tls: {{sni: x.internal, verification: "Off"}}""",
            "clear": f"""endpoints: ["{own}"], tls: {{sni: orders.internal, {ca}}}""",
        }
        rules = "\n".join(
            f"  - {{name: {name}, matches: [{{path: {{prefix: /{name}}}}}], backendRefs: [{{name: {name}}}]}}"
            for name in services)
        listed = "\n".join(f"  {name}: {{{text}}}" for name, text in services.items())
        return f"""version: 1
node:
  interfaces: [eth0]
  xdpMode: native
  l7: {{workers: {cls.WORKERS}, addresses: [{L7_4}/24, "{L7_6}/64"]}}
gateways:
- name: edge
  addresses: [{VIP_EDGE4}, "{VIP_EDGE6}"]
  listeners:
  - {{name: plain, port: 8080, protocol: HTTP}}
  - name: https
    port: 443
    protocol: HTTPS
    hostname: "*.shop.example"
    tls: {{certificateRefs: [{{file: {here}/shop.pem, ocsp: {here}/shop.ocsp}}, {{file: {here}/shop-rsa.pem}}]}}
  - {{name: members, port: 443, protocol: HTTPS, hostname: members.example, tls: {{{clubs}, clientValidation: {{{people}}}}}}}
  - {{name: guests, port: 443, protocol: HTTPS, hostname: guests.example, tls: {{{clubs}, clientValidation: {{mode: Optional, {people}}}}}}}
  - {{name: passed, port: {PASSED_PORT}, protocol: TLS, tls: {{mode: Passthrough}}}}
services:
{listed}
  passed: {{endpoints: ["{secure}"]}}
tlsRoutes:
- {{name: passing, parentRefs: [{{name: edge, sectionName: passed}}], hostnames: ["*.internal"], rules: [{{backendRefs: [{{name: passed}}]}}]}}
httpRoutes:
- name: all
  parentRefs: [{{name: edge}}]
  rules:
{rules}
"""

    # ---- clients and what is known ------------------------------------------------------------

    def ask(self, path, *extra, host="api.shop.example", sni=None, port=443, **options):
        """curl, which believes the test's authority alone."""
        sni = sni or host
        scheme = "https" if port in (443, PASSED_PORT) else "http"
        header = () if sni == host else ("-H", f"Host: {host}")
        # HTTP/1.1, whose status line says 200 OK; HTTP/2 has a script of its own.
        return self.lab.curl("-i", "--http1.1", "--cacert", self.made.path("root.crt"), "--resolve",
                             f"{sni}:{port}:{VIP_EDGE4}", *header, *extra,
                             f"{scheme}://{sni}:{port}{path}", **options)

    def s_client(self, *options, say="", host="api.shop.example", port=443, seconds=20):
        """openssl s_client, which hangs up at the end of what it is told to say."""
        done = self.lab.run_in("client", "openssl", "s_client", "-connect", f"{VIP_EDGE4}:{port}",
                               "-servername", host, "-CAfile", self.made.path("root.crt"), *options,
                               input=say, check=False, timeout=seconds)
        return done.stdout + done.stderr

    def records(self, **wanted):
        lines = (self.lab.directory / "access.log").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        return [r for r in rows if all(r.get(k) == v for k, v in wanted.items())]

    def record_of(self, target):
        return wait_until("the log", lambda: self.records(target=target))[-1]

    def stats(self):
        """A dictionary of counters for each worker."""
        workers = [collections.Counter() for _ in range(self.WORKERS)]
        for row in self.lab.weir_json("stats", "--total")["weir-l7"]:
            if row["worker"] is not None:  # of the process
                workers[row["worker"]][row["counter"]] = row["value"]
        return workers
