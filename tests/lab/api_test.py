"""The admin API of weir-l4 against its OpenAPI description; its socket's rights; TCP with TLS on both
sides; metrics over plain HTTP; clients who mean harm."""

import contextlib
import http.client
import json
import os
import pathlib
import resource
import signal
import socket
import ssl
import subprocess
import sys
import time
import unittest

from labcase import *

ROOT = pathlib.Path(__file__).resolve().parents[2]
MANUAL = "203.0.113.91:443/udp"
OF_FILE = "203.0.113.80:80/tcp"
OF_TABLE = "203.0.113.84:80/tcp"
OF_NAT = "203.0.113.83:53/udp"
OF_L7 = "203.0.113.10:80/tcp"
NOBODY = 65534
TCP = ("127.0.0.1", 19443)
METRICS = ("127.0.0.1", 19177)
TRACED = ("020000000001" "020000000009" "0800" "45000028000040004006" "0000" "c6336401" "cb007150"
          "9c400050" "00000001" "00000000" "50022000" "00000000").lower()


class ApiCase(unittest.TestCase):
    """One weir-l4 in a namespace with a pair of devices."""

    OPTIONS = ()
    DOOR = None  # where it listens on TCP

    @classmethod
    def setUpClass(cls):
        need_root()
        cls.lab = weirlab.Lab(f"weirapi{os.getpid()}")
        cls.addClassCleanup(cls.lab.close)
        cls.lab.directory.chmod(0o755)  # what keeps others out is the socket itself
        for host in ("node", "peer"):
            cls.lab.add_host(host)
        cls.lab.cable("node", "eth0", "peer", "eth0", 1500)
        cls.lab.run_in("node", "ip", "addr", "add", "10.77.0.1/24", "dev", "eth0")
        cls.lab.run_in("peer", "ip", "addr", "add", "10.77.0.2/24", "dev", "eth0")
        cls.prepare()
        try:
            cls.lab.start_l4(*cls.options())
        except BaseException:
            print(f"--- weir-l4\n{cls.lab.log('weir-l4')}", file=sys.stderr)
            raise

    @classmethod
    def prepare(cls):
        pass

    @classmethod
    def options(cls):
        return cls.OPTIONS

    def connect(self, source="127.0.0.1"):
        with self.lab.inside("node"):
            return socket.create_connection(self.DOOR, timeout=20, source_address=(source, 0))

    def assert_unix_answers_soon(self):
        begin = time.monotonic()
        self.lab.weir("vip", "list")
        self.assertLess(time.monotonic() - begin, 2)

    def memory_kb(self):
        return weirlab.resident_kb(self.lab.processes["weir-l4"].pid)


CONFIG = """version: 1
node: {interfaces: [eth0], xdpMode: generic, l7: {addresses: [10.77.0.9/24]}}
vips:
- {name: web, address: 203.0.113.80, port: 80, protocol: TCP, forward: {mode: ipip}, backends: [{name: b2, address: 10.77.0.2}], health: {udp: {port: 9, send: {hex: "00ff"}, expect: x}, interval: 100ms, timeout: 50ms}}
- {name: quic, address: 203.0.113.81, port: 443, protocol: UDP, forward: {mode: nat}, sources: {deny: [192.0.2.0/24]}, backends: [{address: 10.77.0.2, port: 8443, state: draining}], health: {https: {path: /a, host: b, verify: false}}}
- {name: rpc, address: 203.0.113.82, port: 443, protocol: TCP, forward: {mode: l2}, backends: [{address: 10.77.0.2}], health: {grpc: {service: s}}}
- {name: old, address: 203.0.113.83, port: 53, protocol: UDP, forward: {mode: nat}, backends: [{name: c1, address: 10.77.0.2, port: 5353}]}
- {name: plain, address: 203.0.113.84, port: 80, protocol: TCP, forward: {mode: ipip}, backends: [{address: 10.77.0.2}]}
gateways:
- name: edge
  addresses: [203.0.113.10]
  listeners: [{name: http, port: 80, protocol: HTTP}]
"""

NEW_VIP = {"vip": MANUAL, "name": "quic2", "mode": "gue", "gue_port": 6080, "when_empty": "refuse",
           "hash": "fiveTuple", "affinity_timeout_s": None, "table_size": 4099, "snat": None,
           "sources": {"allow": ["10.0.0.0/8"], "deny": ["10.9.0.0/16"]},
           "limits": {"new_flows_per_source": 200, "packets_per_source": 0, "new_flows": 0,
                      "packets": 1000000},
           "quic": {"server_id_length": 3, "config_rotation": 0}, "health": {"kind": "tcp", "port": 80},
           "backends": [{"address": "10.77.0.2", "name": "b2", "weight": 100, "state": "active",
                         "server_id": "0a0b0c", "port": None}]}


# In the peer: one packet to a VIP of the flow table, one to a VIP of the NAT table.
SEND = """
import contextlib, socket
for kind, target in ((socket.SOCK_STREAM, ("203.0.113.84", 80)), (socket.SOCK_DGRAM, ("203.0.113.83", 53))):
    with socket.socket(socket.AF_INET, kind) as s, contextlib.suppress(OSError):
        s.settimeout(0.5)
        s.bind(("10.77.0.2", 4711))
        s.connect(target)
        s.send(b"x")
"""


class Description(ApiCase):
    """Every operation, every status that is described, every member."""

    @classmethod
    def prepare(cls):
        cls.lab.run_in("peer", "ip", "route", "add", "203.0.113.0/24", "via", "10.77.0.1")
        cls.lab.cable("node", "eth1", "peer", "eth1", 1500)
        cls.lab.load_program("node", "eth1", "weir_pass")  # somebody else's

    def submission(self, text, **more):
        return {"file": str(self.lab.directory / "weir.yaml"), "text": text, **more}

    def test_the_daemon_does_what_is_described_and_all_of_it(self):
        from openapi import Client
        api = Client(self.lab.l4_socket)
        self.assertEqual(api.described.document,
                         json.loads((ROOT / "l4" / "openapi.json").read_text()))
        api.ask("GET", "/v1/openapi.json", 200)
        self.before_anything_is_loaded(api)
        self.configuration(api)
        self.files_read_by_itself(api)
        self.by_hand(api)
        self.revisions(api)
        self.traffic(api)
        self.flows(api)
        self.lanes(api)
        self.the_end(api)
        self.assertEqual(api.described.unseen(), [])

    def before_anything_is_loaded(self, api):
        status = api.ask("GET", "/v1/status", 200)
        self.assertEqual((status["file"], status["reload"], status["programs"]), (None, None, []))
        api.ask("GET", "/v1/vips", 200)
        api.ask("GET", "/v1/stats", 503)
        api.ask("GET", "/v1/monitor", 503)
        api.ask("GET", "/v1/flows", 503)
        self.assertIn("\nweir_loaded 0\n", api.ask("GET", "/metrics", 200))
        api.ask("POST", "/v1/trace", 503, body={"packets": [TRACED]})
        api.ask("POST", "/v1/load", 400, wrong={"devices": []})
        api.ask("POST", "/v1/load", 404, body={"devices": ["eth9"]})
        api.ask("POST", "/v1/load", 409, body={"devices": ["eth1"], "chain": False})
        api.ask("POST", "/v1/load", 200, body={"devices": ["eth0"], "mode": "generic", "chain": False})

    def configuration(self, api):
        for path in ("/v1/check", "/v1/apply"):
            api.ask("POST", path, 400, wrong={"text": "version: 1"})
            refused = api.ask("POST", path, 422, body=self.submission("version: 1\nvip: []\n"))
            self.assertEqual(refused["diagnostics"][0]["line"], 2)
            api.ask("POST", path, 400, wrong=self.submission(CONFIG, partial="yes"))
            api.ask("POST", path, 422, body=self.submission(self.WRONG, partial=False))
            changed = api.ask("POST", path, 200, body=self.submission(self.WRONG, partial=True))
            self.assertEqual([row["object"] for row in changed["left_out"]], ["vip 'rpc'"])
            changed = api.ask("POST", path, 200, body=self.submission(CONFIG))
            self.assertEqual(changed["left_out"], [])
        self.assertEqual(changed["changes"], ["add vip 203.0.113.82:443/tcp (l2, 1 backend)"])
        status = api.ask("GET", "/v1/status", 200)
        self.assertIs(status["in_desired_state"], True, status["warnings"])
        self.assertIn("weir_lb", [program["name"] for program in status["programs"]])
        wait_until("next hops", lambda: api.ask("GET", "/v1/status", 200)["backends_unresolved"] == 0)
        api.ask("GET", "/v1/vips", 200)
        api.ask("GET", "/v1/vips", 200, backends="count")
        api.ask("GET", "/v1/vips", 200, vip=OF_FILE)
        for method, path in (("GET", "/v1/vips"), ("GET", "/v1/stats"), ("DELETE", "/v1/vips")):
            api.ask(method, path, 400, vip="web")
            api.ask(method, path, 404, vip="203.0.113.99:1/tcp")

    WRONG = CONFIG.replace("203.0.113.82, port: 443", "203.0.113.82, port: 0")

    def files_read_by_itself(self, api):
        daemon = self.lab.processes["weir-l4"]
        for state, text in (("failed", "version: 7\n"), ("ok", CONFIG)):
            self.lab.write_config(text)
            daemon.send_signal(signal.SIGHUP)
            reload = wait_until("the file to be read", lambda s=state: (
                lambda r: r if r is not None and r["state"] == s else None)(
                    api.ask("GET", "/v1/status", 200)["reload"]))
            self.assertEqual(len(reload["diagnostics"]), 1 if state == "failed" else 0, reload)

    def by_hand(self, api):
        api.ask("POST", "/v1/vips", 400, wrong={"vip": MANUAL, "mod": "ipip"})
        api.ask("POST", "/v1/vips", 200, body=NEW_VIP)
        api.ask("POST", "/v1/vips", 409, body={"vip": MANUAL})
        sticky = {"vip": "203.0.113.92:80/tcp", "hash": "sourceIP", "affinity_timeout_s": 60}
        added = api.ask("POST", "/v1/vips", 200, body=sticky)["vip"]
        self.assertEqual(added["table_size"], 1021, "by the number of backends")
        self.assertEqual([row["vip"] for row in api.ask("GET", "/v1/vips", 200, backends="count")["vips"]
                          if row["owner"] == "manual"], [MANUAL, sticky["vip"]])
        api.ask("DELETE", "/v1/vips", 200, vip=sticky["vip"])
        for path in ("/v1/check", "/v1/apply"):
            api.ask("POST", path, 409, body=self.submission(
                CONFIG.replace("203.0.113.81", "203.0.113.91")))
        backend = {"vip": MANUAL, "address": "10.77.0.2", "name": "b", "weight": 1, "state": "draining",
                   "port": None, "server_id": "0a0b0d"}
        api.ask("POST", "/v1/backends", 400, wrong={"vip": MANUAL})
        api.ask("POST", "/v1/backends", 404, body={**backend, "vip": "203.0.113.99:1/tcp"})
        api.ask("POST", "/v1/backends", 409, body={**backend, "vip": OF_FILE})
        api.ask("POST", "/v1/backends", 200, body=backend)
        self.operators_words(api)
        api.ask("DELETE", "/v1/backends", 400, wrong=True, vip=MANUAL)
        api.ask("DELETE", "/v1/backends", 404, vip=MANUAL, address="10.77.0.3")
        api.ask("DELETE", "/v1/backends", 409, vip=OF_FILE, address="10.77.0.2")
        api.ask("DELETE", "/v1/backends", 200, vip=MANUAL, address="10.77.0.2")
        api.ask("DELETE", "/v1/vips", 409, vip=OF_FILE)
        api.ask("DELETE", "/v1/vips", 200, vip=MANUAL)

    def operators_words(self, api):
        path, of_file = "/v1/backends/state", {"vip": OF_FILE, "address": "10.77.0.2"}
        api.ask("GET", "/v1/backends", 400, wrong=True, vip=OF_FILE)
        api.ask("GET", "/v1/backends", 404, vip=OF_FILE, address="10.77.0.3")
        api.ask("POST", path, 400, wrong={**of_file, "state": "tired"})
        api.ask("POST", path, 404, body={"vip": OF_FILE, "address": "10.77.0.3", "state": "active"})
        api.ask("POST", path, 409, body={"vip": "203.0.113.81:443/udp", "address": "10.77.0.2",
                                         "state": "active"})
        changed = api.ask("POST", path, 200, body={**of_file, "state": "maintenance"})
        self.assertEqual((changed["state"], changed["state_owner"]), ("maintenance", "manual"))
        api.ask("GET", "/v1/backends", 200, **of_file)
        api.ask("POST", path, 200, body={**of_file, "state": "active"})

    def revisions(self, api):
        path = "/v1/revisions"
        listed = api.ask("GET", path, 200)
        self.assertEqual([row["revision"] for row in listed["revisions"]],
                         list(range(1, listed["revision"] + 1)))
        applied = [row["revision"] for row in listed["revisions"] if row["cause"].startswith("apply")]
        self.assertEqual(len(applied), 2)
        api.ask("GET", path, 400, wrong=True, revision="last")
        api.ask("GET", path, 404, revision=1000)
        first, whole = (api.ask("GET", path, 200, revision=number) for number in applied)
        self.assertEqual((first["text"], first["partial"]), (self.WRONG, True))
        self.assertEqual((whole["text"], whole["partial"]), (CONFIG, False))
        before = api.ask("GET", "/v1/export", 200)
        path = "/v1/rollback"
        api.ask("POST", path, 400, wrong={"revision": "1"})
        api.ask("POST", path, 400, wrong={"revision": 1, "dry_run": 1})
        api.ask("POST", path, 404, body={"revision": 1000})
        told = api.ask("POST", path, 200, body={"revision": applied[0], "dry_run": True})
        self.assertEqual(told["changes"], ["remove vip 203.0.113.82:443/tcp"])
        self.assertEqual(told["revision"], listed["revision"])
        self.assertEqual(api.ask("GET", "/v1/export", 200), before)
        done = api.ask("POST", path, 200, body={"revision": applied[0]})
        self.assertEqual((done["changes"], done["revision"]), (told["changes"], told["revision"] + 1))
        self.lab.run_in("node", "ip", "addr", "add", "203.0.113.82/32", "dev", "lo")
        api.ask("POST", path, 409, body={"revision": applied[1]})
        self.lab.run_in("node", "ip", "addr", "del", "203.0.113.82/32", "dev", "lo")
        api.ask("POST", path, 200, body={"revision": applied[1], "dry_run": False})
        self.assertEqual(api.ask("GET", "/v1/export", 200), before)

    def traffic(self, api):
        api.ask("GET", "/v1/stats", 200)
        api.ask("GET", "/v1/stats", 400, wrong=True, backends="no")
        rows = api.ask("GET", "/v1/stats", 200, backends="false")["vips"]
        self.assertFalse(any("backends" in row for row in rows))
        self.assertEqual([row["vip"] for row in rows if row["sent_packets"] is None], [OF_L7])
        rows = api.ask("GET", "/v1/stats", 200, vip=OF_FILE, backends="true")["vips"]
        self.assertEqual([len(row["backends"]) for row in rows], [1])
        self.assertRegex(api.ask("GET", "/metrics", 200),
                         f'(?m)^weir_vip_packets_total{{vip="{OF_FILE}",name="web"}} \\d+$')
        api.ask("POST", "/v1/trace", 400, wrong={"packets": []})
        api.ask("POST", "/v1/trace", 404, body={"packets": [TRACED], "device": "eth9"})
        api.ask("POST", "/v1/trace", 200, body={"packets": [TRACED], "device": "eth0"})
        api.ask("GET", "/v1/monitor", 400, every=0, wrong=True)
        api.ask("GET", "/v1/monitor", 404, vip="203.0.113.99:1/tcp")
        pinging = subprocess.Popen(self.lab.command_in("peer", "ping", "-q", "-i0.05", "-c60", "10.77.0.1"),
                                   stdout=subprocess.DEVNULL)
        try:
            with api.lines("/v1/monitor", every=1, snap_bytes=64, verdicts="pass") as events:
                lines = [next(events) for _ in range(6)]
                api.ask("GET", "/v1/monitor", 409)
        finally:
            pinging.wait(30)
        self.assertTrue(any("frame" in line for line in lines), lines)

    def flows(self, api):
        path, client = "/v1/flows", "10.77.0.2:4711"
        self.lab.run_in("peer", "python3", "-c", SEND)
        for query in ({"vip": "web"}, {"source": client}, {"limit": 0}, {"nat": "no"}, {"colour": "red"},
                      {"vip": OF_TABLE, "source": client, "backend": "10.77.0.2"}):
            api.ask("GET", path, 400, wrong=True, **query)
        for query in ({}, {"nat": "true"}, {"source": client}):
            api.ask("GET", path, 404, vip="203.0.113.99:1/tcp", **query)
        api.ask("GET", path, 501, vip=OF_L7, source=client)
        of_all = api.ask("GET", path, 200)["flows"]
        rows = api.ask("GET", path, 200, vip=OF_TABLE, backend="10.77.0.2")["flows"]
        self.assertEqual([row for row in of_all if row["vip"] == OF_TABLE], rows)
        self.assertEqual([row["new"] + row["established"] for row in rows], [1], rows)
        flow = api.ask("GET", path, 200, vip=OF_TABLE, source=client)["flow"]
        self.assertEqual((flow["backend"], flow["new_flow_by"]), ("10.77.0.2", "table"))
        flow = api.ask("GET", path, 200, vip=OF_TABLE, source="10.77.0.2:4712")["flow"]
        self.assertEqual((flow["backend"], flow["state"], flow["idle_s"]), (None, None, None))
        listed = api.ask("GET", path, 200, nat="true", source=client, limit=1)
        self.assertEqual([(row["vip"], row["client"], row["backend"]) for row in listed["nat_flows"]],
                         [(OF_NAT, client, "10.77.0.2:5353")])
        self.assertEqual(listed["matched"], 1)

    def lanes(self, api):
        """There is a carrier while some gateway is configured."""
        path = "/v1/lane"
        self.assertEqual(api.ask("GET", path, 200)["lane"], "blue")
        for body in ({}, {"lane": "red"}, {"lane": "green", "now": True}):
            api.ask("POST", path, 400, wrong=body)
        for lane in ("green", "blue"):
            self.assertEqual(api.ask("POST", path, 200, body={"lane": lane})["lane"], lane)

    def the_end(self, api):
        with api.lines("/v1/monitor", vip=OF_FILE, source="10.77.0.2") as events:
            next(events)
            api.ask("POST", "/v1/unload", 200, body={})
            *_, last = events
        self.assertIn("taken off", last["end"])
        api.ask("GET", "/v1/lane", 409)
        api.ask("POST", "/v1/lane", 409, body={"lane": "green"})

    def test_what_http_has_a_status_for_is_a_problem_with_that_status(self):
        from openapi import Client
        api = Client(self.lab.l4_socket)
        for method, target, headers, body, status in (
                ("GET", "/v1/nothing", {}, None, 404), ("PUT", "/v1/vips", {}, None, 405),
                ("POST", "/v1/status", {}, None, 405), ("BREW", "/v1/status", {}, None, 501),
                ("GET", "/v1/" + "a" * 5000, {}, None, 414), ("GET", "/%zz", {}, None, 400),
                ("GET", "/v1/status", {"Origin": "https://a.example"}, None, 403),
                ("GET", "/v1/status", {"X": "a" * 40000}, None, 431),
                ("POST", "/v1/vips", {"Content-Type": "text/plain"}, "{}", 415),
                ("POST", "/v1/vips", {"Content-Length": str(1 << 40)}, None, 413)):
            with self.subTest(method=method, target=target[:20], status=status):
                got, fields, text = api.raw(method, target, body, headers)
                self.assertEqual(got, status, text)
                self.assertEqual(fields["Content-Type"], "application/problem+json")
                problem = json.loads(text)
                api.described.validate({"$ref": "#/components/schemas/Problem"}, problem)
                self.assertEqual(problem["status"], status)
                if status == 405:
                    self.assertIn("GET", fields["Allow"])

    def test_head_and_options_are_answered(self):
        from openapi import Client
        api = Client(self.lab.l4_socket)
        status, fields, text = api.raw("HEAD", "/v1/status")
        self.assertEqual((status, text), (200, ""))
        self.assertGreater(int(fields["Content-Length"]), 100)
        status, fields, text = api.raw("OPTIONS", "/v1/vips")
        self.assertEqual((status, fields["Allow"], text), (204, "GET, HEAD, POST, DELETE, OPTIONS", ""))


def as_nobody(groups=()):
    """For Popen: what the child is. Root's rights would open every socket."""
    def become():
        os.setgroups(list(groups))
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    return become


class Rights(ApiCase):
    """The file's rights decide who may use the API; the kernel holds them."""

    GROUP = 54321
    OPTIONS = ("--socket-group", str(GROUP))

    def connect_as(self, groups):
        script = ("import socket, sys\ns = socket.socket(socket.AF_UNIX)\n"
                  "try:\n s.connect(sys.argv[1])\n"
                  "except PermissionError:\n print('refused'); sys.exit()\n"
                  "s.sendall(b'GET /v1/status HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n')\n"
                  "print(s.recv(15).decode())")
        done = subprocess.run(["python3", "-c", script, str(self.lab.l4_socket)], text=True,
                              capture_output=True, preexec_fn=as_nobody(groups), check=False)
        return done.stdout.strip() + done.stderr

    def test_another_user_is_refused_and_a_member_of_the_group_is_not(self):
        status = self.lab.l4_socket.stat()
        self.assertEqual((status.st_gid, status.st_mode & 0o777), (self.GROUP, 0o660))
        self.assertEqual(self.connect_as([]), "refused")
        self.assertEqual(self.connect_as([self.GROUP]), "HTTP/1.1 200 OK")

    def test_weir_says_what_is_missing(self):
        done = subprocess.run([weirlab.BUILD / "tools" / "weir" / "weir", "--l4-socket",
                               self.lab.l4_socket, "vip", "list"], text=True, capture_output=True,
                              preexec_fn=as_nobody(), check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("member of the socket's group", done.stderr)


def openssl(*arguments):
    run("openssl", *arguments)


class Certificates:
    """Two authorities, and certificates of theirs. Made once; keys on a curve, which takes no time."""

    def __init__(self, directory):
        self.directory = directory
        for authority in ("ca", "stranger"):
            openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", "-subj", f"/CN={authority}", "-keyout", self.key(authority),
                    "-out", self.pem(authority))
        self.issue("server", "ca", "subjectAltName=IP:127.0.0.1,DNS:localhost")
        self.issue("elsewhere", "ca", "subjectAltName=DNS:other.example")
        self.issue("ops", "ca", "extendedKeyUsage=clientAuth")
        self.issue("guest", "ca", "subjectAltName=DNS:guest.example")
        self.issue("serving", "ca", "extendedKeyUsage=serverAuth")
        self.issue("foreign", "stranger", "extendedKeyUsage=clientAuth")
        self.issue("expired", "ca", "extendedKeyUsage=clientAuth", "20200101000000Z", "20200201000000Z")

    def pem(self, name):
        return self.directory / f"{name}.pem"

    def key(self, name):
        return self.directory / f"{name}.key"

    def issue(self, name, authority, extension, begin=None, end=None):
        request = self.directory / f"{name}.csr"
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                f"/CN={name}", "-keyout", self.key(name), "-out", request)
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(extension + "\n")
        if begin is None:
            openssl("x509", "-req", "-in", request, "-CA", self.pem(authority), "-CAkey",
                    self.key(authority), "-days", "1", "-extfile", extensions, "-out", self.pem(name))
            return
        # Only the ca command takes dates.
        (self.directory / "index").write_text("")
        config = self.directory / "ca.cnf"
        config.write_text(f"[ca]\ndefault_ca=c\n[c]\ndatabase={self.directory}/index\n"
                          f"new_certs_dir={self.directory}\nrand_serial=yes\ndefault_md=sha256\n"
                          "policy=p\n[p]\ncommonName=supplied\n")
        openssl("ca", "-batch", "-config", config, "-cert", self.pem(authority), "-keyfile",
                self.key(authority), "-in", request, "-startdate", begin, "-enddate", end,
                "-extfile", extensions, "-out", self.pem(name), "-notext")


class Tls(ApiCase):
    """TCP, with certificates on both sides or not at all."""

    DOOR = TCP

    @classmethod
    def prepare(cls):
        cls.certificates = Certificates(cls.lab.directory)

    @classmethod
    def options(cls):
        c = cls.certificates
        return ("--listen", "%s:%d" % TCP, "--tls-cert", c.pem("server"), "--tls-key", c.key("server"),
                "--tls-client-ca", c.pem("ca"), "--tls-allow", "ops", "--tls-allow", "other")

    def curl(self, name, *more):
        shown = [] if name is None else ["--cert", self.certificates.pem(name), "--key",
                                         self.certificates.key(name)]
        return self.lab.run_in("node", "curl", "-sS", "--max-time", "10", "--cacert",
                               self.certificates.pem("ca"), *shown, *more,
                               "https://%s:%d/v1/status" % TCP, check=False)

    def test_the_right_certificate_is_served(self):
        done = self.curl("ops")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["loaded"], False)

    def test_others_are_refused_in_the_handshake(self):
        for name in (None, "foreign", "expired", "serving"):
            with self.subTest(certificate=name):
                done = self.curl(name)
                self.assertNotEqual(done.returncode, 0, done.stdout)
                self.assertEqual(done.stdout, "")
                self.assertIn("alert", done.stderr)

    def test_a_name_that_is_not_on_the_list_is_told_so(self):
        done = self.curl("guest")
        self.assertEqual(json.loads(done.stdout)["status"], 403, done.stderr)
        self.assertIn("'guest'", json.loads(done.stdout)["detail"])

    def test_nothing_below_tls_1_2_is_spoken(self):
        done = self.curl("ops", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0")
        self.assertNotEqual(done.returncode, 0)
        for version in ("1.2", "1.3"):
            self.assertEqual(self.curl("ops", "--tls-max", version, f"--tlsv{version}").returncode, 0)

    def test_openssl_sees_the_authority_that_is_asked_for_and_no_session_to_resume(self):
        done = self.lab.run_in(
            "node", "openssl", "s_client", "-connect", "%s:%d" % TCP, "-CAfile",
            self.certificates.pem("ca"), "-cert", self.certificates.pem("ops"), "-key",
            self.certificates.key("ops"), "-verify_return_error", "-ign_eof",
            input="GET /v1/status HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertIn("Acceptable client certificate CA names\nCN = ca", done.stdout)
        self.assertIn("HTTP/1.1 200 OK", done.stdout)
        self.assertNotIn("TLS session ticket:", done.stdout)

    def weir(self, name, *arguments, ca="ca", url="https://127.0.0.1:19443"):
        return self.lab.run_in("node", weirlab.BUILD / "tools" / "weir" / "weir", "--connect", url,
                               "--tls-cert", self.certificates.pem(name), "--tls-key",
                               self.certificates.key(name), "--tls-ca", self.certificates.pem(ca),
                               *arguments, check=False)

    def test_weir_works_over_it(self):
        self.assertIn("weir-l4:", self.weir("ops", "status").stdout)
        added = self.weir("ops", "vip", "add", "203.0.113.7:80/tcp", url="https://localhost:19443")
        self.assertEqual(added.returncode, 0, added.stderr)
        self.assertIn("203.0.113.7:80/tcp", self.lab.weir("vip", "list").stdout)
        self.assertEqual(self.weir("ops", "vip", "del", "203.0.113.7:80/tcp").returncode, 0)

    def test_weir_says_what_is_wrong(self):
        for arguments, words in (
                (dict(name="ops", ca="stranger"), "must be of the authority in --tls-ca"),
                (dict(name="ops", url="https://127.0.0.1:1"), "is it running, with --listen there?"),
                (dict(name="ops", url="http://127.0.0.1:19443"), "is not https://HOST:PORT"),
                (dict(name="guest"), "not among those of --tls-allow"),
                (dict(name="foreign"), "its log says why")):
            with self.subTest(**arguments):
                name = arguments.pop("name")
                done = self.weir(name, "vip", "list", **arguments)
                self.assertEqual(done.returncode, 1)
                self.assertIn(words, done.stderr)

    def test_the_daemon_does_not_start_without_an_authority_for_clients(self):
        c = self.certificates
        for options, words in (
                (("--listen", "127.0.0.1:19444"), "all four or none"),
                (("--listen", "127.0.0.1:19444", "--tls-cert", c.pem("server"), "--tls-key",
                  c.key("server")), "all four or none"),
                (("--listen", "127.0.0.1:19444", "--tls-cert", c.pem("server"), "--tls-key",
                  c.key("ops"), "--tls-client-ca", c.pem("ca")), "--tls-key"),
                (("--listen", "127.0.0.1:19444", "--tls-cert", c.pem("server"), "--tls-key",
                  c.key("server"), "--tls-client-ca", c.key("ca")), "--tls-client-ca")):
            with self.subTest(words=words):
                done = self.lab.run_in("node", weirlab.BUILD / "l4" / "weir-l4", "--socket",
                                       self.lab.directory / "second.sock", "--state-dir",
                                       self.lab.directory / "second", "--pin-dir",
                                       str(self.lab.pins / "second"), *options, check=False, timeout=20)
                self.assertEqual(done.returncode, 1)
                self.assertIn(words, done.stderr)

    # ---- clients who mean harm ------------------------------------------------------------------

    def wrapped(self, connection):
        context = ssl.create_default_context(cafile=self.certificates.pem("ca"))
        context.load_cert_chain(self.certificates.pem("ops"), self.certificates.key("ops"))
        return context.wrap_socket(connection, server_hostname="127.0.0.1")

    def test_half_open_and_slow_clients_are_given_up_and_others_served(self):
        silent = [self.connect() for _ in range(20)]  # more than one source may have
        slow = self.wrapped(self.connect("127.0.0.2"))
        slow.sendall(b"GET /v1/status HTTP/1.1\r\nHost: a\r\n")
        begin = time.monotonic()
        self.assert_unix_answers_soon()
        self.assertEqual(self.curl("ops", "--interface", "127.0.0.3").returncode, 0)
        with contextlib.suppress(OSError):
            for _ in range(40):  # a field every quarter second, for as long as it is let
                slow.sendall(b"X: a\r\n")
                time.sleep(0.25)
        self.assertLess(time.monotonic() - begin, 9)
        slow.close()
        for connection in silent:
            connection.settimeout(10)
            with contextlib.suppress(ConnectionError):
                self.assertEqual(connection.recv(1), b"")
            connection.close()
        self.assertEqual(self.curl("ops").returncode, 0)

    def test_thousands_of_connections_leave_the_unix_socket_alone(self):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, limit[1]), limit[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limit)
        before = self.memory_kb()
        connections = []
        for number in range(3000):
            with contextlib.suppress(OSError):
                with self.lab.inside("node"):
                    connection = socket.socket()
                    connection.setblocking(False)
                    connection.bind((f"127.0.{number % 100 + 1}.1", 0))
                    connection.connect_ex(TCP)
                connections.append(connection)
        self.assertGreater(len(connections), 2000)
        for _ in range(5):
            self.assert_unix_answers_soon()
        process = self.lab.processes["weir-l4"]
        self.assertLess(len(os.listdir(f"/proc/{process.pid}/fd")), 200)
        for connection in connections:
            connection.close()
        wait_until("TCP to be served again", lambda: self.curl("ops").returncode == 0, 40)
        self.assertLess(self.memory_kb() - before, 64 * 1024)

    def test_fields_and_bodies_without_an_end_are_cut(self):
        for head, status in ((b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000, b"431"),
                             (b"POST /v1/check HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n",
                              b"413")):
            connection = self.wrapped(self.connect())
            with contextlib.suppress(OSError):
                connection.sendall(head)
            self.assertIn(b"HTTP/1.1 " + status, connection.recv(4096))
            connection.close()
        endless = self.wrapped(self.connect())
        endless.sendall(b"POST /v1/check HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + b"a" * 0x100000 + b"\r\n"
        with contextlib.suppress(OSError):
            for _ in range(64):
                endless.sendall(chunk)
        self.assert_unix_answers_soon()
        endless.close()


class Metrics(ApiCase):
    """TCP without certificates: GET /metrics and nothing else, whoever comes."""

    OPTIONS = ("--metrics", str(METRICS[1]))  # a port alone is on loopback
    DOOR = METRICS
    ENDLESS = b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: "

    def ask(self, method, path, headers=(), body=b"", source="127.0.0.1"):
        """Status, fields and body."""
        with self.connect(source) as connection:
            head = [f"{method} {path} HTTP/1.1", "Host: a", *headers]
            connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
            reply = http.client.HTTPResponse(connection, method=method)
            reply.begin()
            return reply.status, dict(reply.getheaders()), reply.read().decode()

    def test_metrics_are_those_of_the_unix_socket(self):
        from openapi import Client
        status, fields, text = self.ask("GET", "/metrics")
        self.assertEqual((status, fields["Content-Type"]),
                         (200, "text/plain; version=0.0.4; charset=utf-8"))
        names = lambda body: [line for line in body.splitlines() if line.startswith("# TYPE ")]
        self.assertEqual(names(text), names(Client(self.lab.l4_socket).ask("GET", "/metrics", 200)))
        self.assertIn("weir_loaded 0", text.splitlines())
        status, fields, text = self.ask("HEAD", "/metrics")
        self.assertEqual((status, text), (200, ""))
        self.assertGreater(int(fields["Content-Length"]), 100)

    def test_nothing_else_is_served(self):
        for method, path, headers, body, wanted in (
                ("GET", "/", (), b"", 404), ("GET", "/v1/status", (), b"", 404),
                ("GET", "/v1/openapi.json", (), b"", 404), ("GET", "/metrics/", (), b"", 404),
                ("POST", "/v1/unload", (), b"", 404), ("POST", "/metrics", (), b"", 404),
                ("DELETE", "/metrics", (), b"", 404), ("OPTIONS", "/metrics", (), b"", 404),
                ("BREW", "/metrics", (), b"", 501),
                ("GET", "/metrics", ("Origin: https://a.example",), b"", 403),
                ("GET", "/metrics", ("Content-Length: 2",), b"{}", 413),
                ("POST", "/v1/apply", ("Content-Length: 2",), b"{}", 413),
                ("POST", "/metrics", ("Content-Length: 999999999999",), b"", 413),
                ("POST", "/metrics", ("Transfer-Encoding: chunked",), b"2\r\n{}\r\n0\r\n\r\n", 413),
                ("POST", "/metrics", ("Content-Length: 2", "Content-Type: text/plain"), b"{}", 415)):
            with self.subTest(method=method, path=path, headers=headers):
                status, fields, text = self.ask(method, path, headers, body)
                self.assertEqual((status, fields["Content-Type"]), (wanted, "application/problem+json"))
                self.assertEqual(json.loads(text)["status"], wanted)

    def test_a_field_without_an_end_is_cut_and_takes_no_memory(self):
        for _ in range(4):
            self.send_without_end()  # threads come to have memory of their own
        before = self.memory_kb()
        for _ in range(20):
            self.assertIn(b"HTTP/1.1 431 ", self.send_without_end())
        self.assertLess(self.memory_kb() - before, 4 * 1024)

    def send_without_end(self):
        """16 MiB, or as much as is taken; the answer."""
        with self.connect() as connection:
            with contextlib.suppress(OSError):
                connection.sendall(self.ENDLESS)
                for _ in range(256):
                    connection.sendall(b"a" * 65536)
            return connection.recv(4096)

    def test_silent_clients_of_one_address_keep_nobody_else_waiting(self):
        silent = [self.connect() for _ in range(40)]  # more than one source may have
        halves = [self.connect() for _ in range(5)]
        for connection in halves:
            with contextlib.suppress(OSError):
                connection.sendall(self.ENDLESS)
        try:
            self.assert_unix_answers_soon()
            begin = time.monotonic()
            self.assertEqual(self.ask("GET", "/metrics", source="127.0.0.2")[0], 200)
            self.assertLess(time.monotonic() - begin, 2)
            silent[0].settimeout(10)
            with contextlib.suppress(ConnectionError):
                self.assertEqual(silent[0].recv(1), b"")
        finally:
            for connection in silent + halves:
                connection.close()
        wait_until("the address to be served again", self.served, 20)

    def served(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.ask("GET", "/metrics")[0] == 200
        return False


if __name__ == "__main__":
    main()
