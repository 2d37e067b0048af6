"""Health checks and draining, with real servers that die and come back."""

import http.client
import json
import signal
import socket
import time

from labcase import *

WEB = f"{VIP_WEB4}:80/tcp"
DIRECT = f"{VIP_L2}:80/tcp"
INTERVAL_S, FALL = 0.5, 2


def config(extra="", state=""):
    backends = ", ".join(f"{{name: {b}, address: {backend4(b)}{state if b == 'b4' else ''}}}"
                         for b in BACKENDS)
    check = f"tcp: {{}}, interval: 500ms, rise: 1, fall: {FALL}"
    return f"""version: 1
node:
  interfaces: [eth0]
  xdpMode: native
vips:
- name: web
  address: {VIP_WEB4}
  port: 80
  protocol: TCP
  forward: {{mode: ipip}}
  health: {{{check}, flaps: 3, grace: 3s{extra}}}
  backends: [{backends}]
- name: direct
  address: {VIP_L2}
  port: 80
  protocol: TCP
  forward: {{mode: l2}}
  health: {{{check}, failOpen: 50%}}
  backends: [{backends}]
"""


class AdminSocket(http.client.HTTPConnection):
    """Faster than a process for each question."""

    def __init__(self, path):
        super().__init__("weir-l4", timeout=10)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Health(LabCase):

    @classmethod
    def prepare(cls):
        cls.apply(config())

    @classmethod
    def apply(cls, text):
        cls.lab.weir("apply", "-f", cls.lab.write_config(text))

    def setUp(self):
        for name in BACKENDS:
            if f"nginx-{name}" not in self.lab.processes:
                self.lab.start_nginx(name)
        self.apply(config())
        for name in BACKENDS:
            self.lab.weir("backend", "activate", WEB, backend4(name))
        self.wait_for_slots(WEB, BACKENDS)
        self.wait_for_slots(DIRECT, BACKENDS)

    def vip(self, vip):
        connection = AdminSocket(self.lab.l4_socket)
        connection.request("GET", f"/v1/vips?vip={vip.replace('/', '%2F')}")
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer["vips"][0]

    def backend(self, vip, name):
        return next(b for b in self.vip(vip)["backends"] if b["name"] == name)

    def serving(self, vip):
        return sorted(b["name"] for b in self.vip(vip)["backends"] if b["slots"] > 0)

    def wait_for_slots(self, vip, names, seconds=30):
        try:
            wait_until(f"{names} to serve {vip}", lambda: self.serving(vip) == sorted(names), seconds,
                       step=0.005)
        except LabError as error:
            raise LabError(f"{error}: {json.dumps(self.vip(vip)['backends'], indent=1)}") from None

    def start_download(self, rate):
        """Of 64 MiB, at some MiB a second; the name of the backend that it comes from."""
        head, body = self.lab.directory / "head", self.lab.directory / "body"
        for file in (head, body):
            file.unlink(missing_ok=True)
        client = self.lab.start("download", "client", "curl", "-sS", "--limit-rate", f"{rate}M", "-D",
                                head, "-o", body, f"http://{VIP_WEB4}/files/64MiB")
        wait_until("the download to begin",
                   lambda: body.exists() and body.stat().st_size > 0 and "x-backend" in head.read_text())
        line = next(l for l in head.read_text().splitlines() if l.startswith("x-backend"))
        return client, line.split(":")[1].strip(), body

    def end_download(self):
        self.lab.stop("download")

    # ---- health -------------------------------------------------------------------------------

    def test_a_server_that_dies_leaves_in_time_and_no_connection_after_that_fails(self):
        began = time.monotonic()
        self.lab.stop("nginx-b1")
        self.wait_for_slots(WEB, ["b2", "b3", "b4"])
        took = time.monotonic() - began
        counts = self.connect_many(200, f"{VIP_WEB4}:80")
        self.assertEqual(sum(counts[b] for b in ("b2", "b3", "b4")), 200, counts)
        health = self.backend(WEB, "b1")["health"]
        self.assertEqual(health["state"], "down")
        self.assertIn("refused", health["reason"])
        self.assertIn(f"backend {backend4('b1')} of {WEB} is down", self.lab.log("weir-l4"))
        print(f"out of the table {took * 1000:.0f} ms after the kill")
        self.assertLess(took, INTERVAL_S * FALL + 0.1)
        wait_until("it to be counted in both VIPs",
                   lambda: self.lab.weir_json("status")["health"]["backends_down"] == 2)
        wait_until("its flows to be spread", lambda: self.backend(WEB, "b1")["id"] == 0, 10)
        self.lab.start_nginx("b1")
        self.wait_for_slots(WEB, BACKENDS)
        counts = self.connect_many(200, f"{VIP_WEB4}:80")
        self.assertEqual(sum(counts[b] for b in BACKENDS), 200, counts)
        self.assertGreater(counts["b1"], 0)

    def test_a_new_backend_has_to_show_that_it_works(self):
        without = config().replace(f", {{name: b4, address: {backend4('b4')}}}", "")
        self.apply(without)
        self.lab.stop("nginx-b4")
        self.apply(config())
        self.assertEqual(self.serving(WEB), ["b1", "b2", "b3"])
        self.assertEqual(self.backend(WEB, "b4")["health"]["state"], "checking")
        self.lab.start_nginx("b4")
        self.wait_for_slots(WEB, BACKENDS)

    def test_where_too_few_are_up_all_take_traffic(self):
        for name in ("b1", "b2", "b3"):
            self.lab.stop(f"nginx-{name}")
        wait_until("the VIP to fail open", lambda: self.vip(DIRECT)["fail_open"], 30)
        self.wait_for_slots(DIRECT, BACKENDS)
        self.wait_for_slots(WEB, ["b4"])
        self.assertEqual(self.lab.weir_json("status")["health"]["vips_fail_open"], 1)
        self.assertIn(f"VIP {DIRECT} fails open", self.lab.log("weir-l4"))
        for name in ("b1", "b2", "b3"):
            self.lab.start_nginx(name)
        wait_until("health to count again", lambda: not self.vip(DIRECT)["fail_open"], 30)

    def test_a_daemon_that_restarts_keeps_what_the_kernel_has(self):
        self.lab.stop("nginx-b2")
        self.wait_for_slots(WEB, ["b1", "b3", "b4"])
        wait_until("its flows to be spread", lambda: self.backend(WEB, "b2")["id"] == 0, 10)
        for _ in range(3):
            self.lab.stop("weir-l4", signal.SIGKILL)
            counts = self.connect_many(50, f"{VIP_WEB4}:80")
            self.assertEqual(sum(counts[b] for b in ("b1", "b3", "b4")), 50, counts)
            self.lab.start_l4()
            self.assertEqual(self.serving(WEB), ["b1", "b3", "b4"])
            counts = self.connect_many(50, f"{VIP_WEB4}:80")
            self.assertEqual(sum(counts[b] for b in ("b1", "b3", "b4")), 50, counts)

    def test_what_flaps_is_held_down(self):
        for _ in range(3):
            self.lab.stop("nginx-b3")
            wait_until("b3 to be down", lambda: self.backend(WEB, "b3")["health"]["state"] == "down", 30)
            held = self.backend(WEB, "b3")["health"]["held_s"]
            self.lab.start_nginx("b3")
            self.wait_for_slots(WEB, BACKENDS)
        self.assertIsNotNone(held, "the third time is one too many")
        self.assertIn("it flaps", self.lab.log("weir-l4"))

    # ---- draining -----------------------------------------------------------------------------

    def test_flows_of_a_draining_backend_finish_and_wait_returns_when_they_have(self):
        client, name, body = self.start_download(16)
        done = self.lab.weir("backend", "drain", WEB, backend4(name), "--wait", "--timeout", "60s",
                             timeout=90)
        self.assertIn("has no flows left", done.stdout)
        self.assertRegex(done.stderr, r"\d+ flows? left")
        self.assertEqual(client.wait(5), 0)
        self.lab.processes.pop("download")
        self.assertEqual(sha256(body), sha256(self.lab.directory / "www" / "64MiB"))
        counts = self.connect_many(100, f"{VIP_WEB4}:80")
        self.assertEqual(counts[name], 0, counts)
        self.assertEqual(sum(counts[b] for b in BACKENDS), 100, counts)

    def test_a_wait_that_is_in_vain_says_how_many_are_left(self):
        client, name, _ = self.start_download(1)
        self.addCleanup(self.end_download)
        done = self.lab.weir("backend", "drain", WEB, backend4(name), "--wait", "--timeout", "2s",
                             check=False)
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertRegex(done.stderr, r"\d+ flows? left after 2s")
        self.assertIsNone(client.poll(), "the flow goes on")

    def test_an_operators_word_stands_over_the_file_and_over_restarts(self):
        self.lab.weir("backend", "drain", WEB, backend4("b1"))
        backend = self.backend(WEB, "b1")
        self.assertEqual((backend["state"], backend["state_owner"], backend["slots"]),
                         ("draining", "manual", 0))
        self.apply(config())
        self.assertEqual(self.backend(WEB, "b1")["state"], "draining")
        self.lab.stop("weir-l4", signal.SIGKILL)
        self.lab.start_l4()
        self.assertEqual(self.backend(WEB, "b1")["state"], "draining")
        self.assertEqual(self.serving(WEB), ["b2", "b3", "b4"])
        self.assertIn("draining (manual)", self.lab.weir("vip", "show", WEB).stdout)
        self.lab.weir("backend", "activate", WEB, backend4("b1"))
        backend = self.backend(WEB, "b1")
        self.assertEqual((backend["state"], backend["state_owner"]), ("active", None))
        self.wait_for_slots(WEB, BACKENDS)

    def test_the_files_own_word_is_changed_in_the_file(self):
        self.apply(config(state=", state: draining"))
        done = self.lab.weir("backend", "activate", WEB, backend4("b4"), check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("change the file", done.stderr)
        self.assertEqual(self.serving(WEB), ["b1", "b2", "b3"])

    def test_maintenance_moves_flows_after_the_grace_and_probes_go_on(self):
        self.lab.weir("backend", "maintenance", WEB, backend4("b2"))
        self.assertEqual(self.serving(WEB), ["b1", "b3", "b4"])
        self.assertNotEqual(self.backend(WEB, "b2")["id"], 0, "its flows stay for the grace")
        wait_until("its flows to be moved", lambda: self.backend(WEB, "b2")["id"] == 0, 10)
        self.assertEqual(self.backend(WEB, "b2")["state"], "maintenance")
        self.lab.stop("nginx-b2")
        wait_until("probes to find it down",
                   lambda: self.backend(WEB, "b2")["health"]["state"] == "down")
        self.lab.start_nginx("b2")
        wait_until("probes to find it up", lambda: self.backend(WEB, "b2")["health"]["state"] == "up")
        self.assertEqual(self.serving(WEB), ["b1", "b3", "b4"])
        self.lab.weir("backend", "activate", WEB, backend4("b2"))
        self.wait_for_slots(WEB, BACKENDS)


if __name__ == "__main__":
    main()
