"""Seeing, on real traffic: what status, stats, top and flows say, the metrics as a scraper gets them,
the log as a program reads it."""

import json
import shutil
import subprocess
import time

from labcase import *

VIP_STICKY, VIP_NAT = "203.0.113.104", "203.0.113.105"
METRICS = "127.0.0.1:9177"
SOURCE = "192.0.2.7"  # a client that never was

# In the client's namespace: connects from a port, says so, and stays until its input ends.
HOLD = """
import socket, sys
source, port, target, target_port = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
with socket.create_connection((target, target_port), timeout=10, source_address=(source, port)) as s:
    s.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    reply = s.recv(65536).decode()
    print(next(l.split()[1] for l in reply.splitlines() if l.lower().startswith("x-backend:")), flush=True)
    sys.stdin.read()
"""


def seeing_config():
    backends = ", ".join(f'{{name: {b}, address: "{backend4(b)}"}}' for b in BACKENDS)
    return l4_config(f"""
- {{name: sticky, address: {VIP_STICKY}, port: 5000-5999, protocol: TCP, forward: {{mode: ipip}}, affinity: {{clientIP: {{timeout: 1h}}}}, backends: [{backends}]}}
- {{name: nat, address: {VIP_NAT}, port: 80, protocol: TCP, forward: {{mode: nat}}, backends: [{{name: b1, address: {backend4("b1")}, port: 8080}}, {{name: b2, address: {backend4("b2")}, port: 8080}}]}}
""")


class Seeing(LabCase):

    @classmethod
    def prepare(cls):
        cls.start_daemon()
        cls.lab.weir("apply", "-f", cls.lab.write_config(seeing_config()))
        wait_until("next hops", lambda: cls.lab.weir_json("status")["weir-l4"]["backends_unresolved"] == 0)

    @classmethod
    def start_daemon(cls, *options):
        cls.lab.stop("weir-l4")
        (cls.lab.directory / "weir-l4.log").unlink()
        cls.lab.start_l4("--metrics", METRICS, "--log-format", "json", *options)

    def hold(self, port, target, target_port=80):
        """A connection that stays, and the backend that has it."""
        client = subprocess.Popen(
            self.lab.command_in("client", "python3", "-c", HOLD, CLIENT4, port, target, target_port),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.let_go, client)
        return client, client.stdout.readline().strip()

    def let_go(self, client):
        client.stdin.close()
        client.stdout.close()
        client.wait(10)

    def flow(self, *arguments):
        return self.lab.weir_json("flows", *arguments)["flow"]

    def scrape(self, path="/metrics", method="GET"):
        return self.lab.run_in("node", "curl", "-sS", "-i", "-X", method, f"http://{METRICS}{path}").stdout

    def metrics(self):
        body = self.scrape().split("\n\n", 1)[1]
        rows = [line.rsplit(" ", 1) for line in body.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in rows}

    # ---- status ---------------------------------------------------------------------------------

    def test_status_tells_programs_kernel_and_health(self):
        status = self.lab.weir_json("status")
        program = next(p for p in status["programs"] if p["name"] == "weir_lb")
        told = json.loads(run("bpftool", "-j", "prog", "show", "id", program["id"]).stdout)
        self.assertEqual(program["tag"], told["tag"])
        self.assertAlmostEqual(program["loaded_unix_s"], told["loaded_at"], delta=2)
        self.assertEqual([d["program_id"] for d in status["devices"]], [program["id"]])
        daemon = status["weir-l4"]
        self.assertEqual(daemon["pid"], int(self.lab.run_in("node", "pgrep", "-f", str(self.lab.l4_socket)).stdout.split()[0]))
        self.assertGreater(daemon["memory_bytes"], 1 << 20)
        self.assertIn(os.uname().release, daemon["kernel"])
        text = self.lab.weir("status").stdout
        self.assertRegex(text, r"(?m)^condition +well; 1 warning$")
        self.assertRegex(text, r"(?m)^memory_bytes +[\d.]+ MiB$")

    # ---- stats and top --------------------------------------------------------------------------

    def test_stats_have_rates_and_totals_within_a_second(self):
        # One flow of 100 datagrams a second, of 60 bytes each with all headers, paced by the clock.
        sender = self.lab.start("steady", "client", "python3", "-c", f"""
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
due = time.monotonic()
while True:
    s.sendto(bytes(18), ("{VIP_DNS4}", 53))
    due += 0.01
    time.sleep(max(0, due - time.monotonic()))""")
        self.addCleanup(self.lab.stop, "steady")
        vip = f"{VIP_DNS4}:53/udp"
        wait_until("the flow to be seen", lambda: sum(
            row["new"] + row["established"] for row in self.lab.weir_json("flows", "--vip", vip)["flows"]))
        begun = time.monotonic()
        stats = self.lab.weir_json("stats")
        self.assertLess(time.monotonic() - begun, 1.5)
        dns = next(row for row in stats["vips"] if row["vip"] == vip)
        self.assertAlmostEqual(dns["packets_per_s"], 100, delta=25)
        self.assertAlmostEqual(dns["bits_per_s"], 100 * 60 * 8, delta=25 * 60 * 8)
        self.assertLess(dns["drops_per_s"], 5)
        of_backends = sorted(b["packets_per_s"] for b in stats["backends"] if b["vip"] == vip)
        self.assertEqual(of_backends[:3], [0, 0, 0], "one flow has one backend")
        self.assertAlmostEqual(of_backends[3], dns["packets_per_s"], delta=5)
        frame = self.lab.weir("top", "--once", "--interval", "500ms", "--filter", "dns4").stdout.splitlines()
        self.assertIn(vip, frame[3])
        self.assertAlmostEqual(float(frame[3].split()[2]), 100, delta=25)
        self.assertIsNone(sender.poll())

    def test_packets_that_no_backend_gets_are_drops(self):
        flood = self.lab.start("refused", "client", "python3", "-c", f"""
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    s.sendto(b"x", ("{VIP_DNS4}", 54)); time.sleep(0.01)""")
        self.addCleanup(self.lab.stop, "refused")
        wait_until("a rate of refusals", lambda: any(
            row["verdict"] == "tx_refused" and row["packets_per_s"] > 10
            for row in self.lab.weir_json("stats")["verdicts"]))
        self.assertEqual(flood.poll(), None)

    def test_several_reports_come_one_after_the_other(self):
        out = self.lab.weir("stats", f"{VIP_WEB4}:80/tcp", "--interval", "200ms", "--count", "3").stdout
        self.assertEqual(out.count("vips:"), 3)
        total = self.lab.weir("stats", "--total").stdout
        self.assertNotIn("PACKETS/S", total)

    # ---- flows ----------------------------------------------------------------------------------

    def test_a_flow_is_found_where_its_packets_go(self):
        client, owner = self.hold(42001, VIP_WEB4)
        flow = self.flow(f"{CLIENT4}:42001", f"{VIP_WEB4}:80/tcp")
        self.assertEqual((flow["backend_name"], flow["state"]), (owner, "established"))
        self.assertLessEqual(flow["idle_s"], 5)
        self.let_go(client)
        wait_until("the flow to close", lambda: self.flow(
            f"{CLIENT4}:42001", f"{VIP_WEB4}:80/tcp")["state"] == "closing")

    def test_a_flow_that_is_not_remembered_is_foretold(self):
        for port in range(42101, 42111):
            flow = self.flow(f"{CLIENT4}:{port}", f"{VIP_WEB4}:80/tcp")
            self.assertEqual((flow["backend"], flow["state"], flow["new_flow_by"]), (None, None, "table"))
            _, owner = self.hold(port, VIP_WEB4)
            self.assertEqual(flow["new_flow_backend_name"], owner)

    def test_a_client_with_affinity_goes_where_it_was(self):
        vip = f"{VIP_STICKY}:5080/tcp"
        self.assertEqual(self.flow(SOURCE, vip)["new_flow_by"], "table")
        backend = self.flow(CLIENT4, vip)["new_flow_backend"]
        self.lab.run_in("client", "python3", "-c", f"""
import socket
s = socket.socket(); s.settimeout(0.5)
try: s.connect(("{VIP_STICKY}", 5080))
except OSError: pass""")
        flow = self.flow(CLIENT4, vip)
        self.assertEqual((flow["vip_name"], flow["new_flow_backend"], flow["new_flow_by"]),
                         ("sticky", backend, "affinity"))

    def test_the_table_counts_flows_by_backend_and_state(self):
        _, owner = self.hold(42201, VIP_WEB4)
        rows = self.lab.weir_json("flows", "--vip", f"{VIP_WEB4}:80/tcp")["flows"]
        self.assertEqual([row["backend_name"] for row in rows], BACKENDS)
        mine = next(row for row in rows if row["backend_name"] == owner)
        self.assertGreaterEqual(mine["established"], 1)
        for row in rows:
            self.assertEqual(sum(row[s] for s in ("new", "established", "closing", "clients")),
                             sum(row[s] for s in ("idle_10s", "idle_1m", "idle_10m", "idle_longer")))
        only = self.lab.weir_json("flows", "--backend", backend4(owner))["flows"]
        self.assertEqual({row["backend_name"] for row in only}, {owner})
        self.assertGreater(len(only), 2)

    def test_translated_flows_are_listed_whole(self):
        _, owner = self.hold(42301, VIP_NAT)
        self.hold(42302, VIP_NAT)
        flow = self.flow(f"{CLIENT4}:42301", f"{VIP_NAT}:80/tcp")
        self.assertEqual((flow["backend_name"], flow["state"]), (owner, "established"))
        listed = self.lab.weir_json("flows", "--nat", "--source", f"{CLIENT4}:42301")["nat_flows"]
        self.assertEqual(len(listed), 1)
        row = listed[0]
        self.assertEqual((row["client"], row["destination"], row["state"], row["backend_name"]),
                         (f"{CLIENT4}:42301", f"{VIP_NAT}:80", "established", owner))
        self.assertRegex(row["source"], rf"^{NODE4}:\d+$")
        peers = self.lab.run_in(owner, "ss", "-Htn", "state", "established").stdout
        self.assertIn(row["source"], peers)
        self.assertEqual(row["backend"], f"{backend4(owner)}:8080")
        text = self.lab.weir("flows", "--nat", "--limit", "1", "--vip", f"{VIP_NAT}:80/tcp").stdout
        self.assertRegex(text, r"(?m)^1 of \d+ are shown; --limit shows more$")
        other = "b2" if owner == "b1" else "b1"
        of_other = self.lab.weir_json("flows", "--nat", "--source", f"{CLIENT4}:42301", "--backend",
                                      backend4(other))["nat_flows"]
        self.assertEqual(of_other, [])

    def test_questions_without_an_answer_say_why(self):
        for arguments, complaint in (
                ([SOURCE, f"{VIP_WEB4}:80/tcp"], "are told apart by their source port; give SOURCE:PORT"),
                ([f"{SOURCE}:1", f"{VIP_WEB4}:81/tcp"], f"there is no VIP {VIP_WEB4}:81/tcp"),
                ([f"[{CLIENT6}]:1", f"{VIP_WEB4}:80/tcp"], "are of two families"),
                ([f"{SOURCE}:1", f"{VIP_STICKY}:any/tcp"], "there is no VIP"),
                ([f"{SOURCE}:1", f"{VIP_STICKY}:5000-5999/tcp"], "one address and one port"),
                (["--vip", f"{VIP_WEB4}:81/tcp"], "there is no VIP")):
            done = self.lab.weir("flows", *arguments, check=False)
            self.assertEqual(done.returncode, 1, arguments)
            self.assertIn(complaint, done.stderr)

    # ---- metrics --------------------------------------------------------------------------------

    def test_a_scraper_gets_what_stats_says(self):
        self.connect_many(5, f"{VIP_WEB4}:80")
        time.sleep(0.5)
        head = self.scrape().split("\n\n", 1)[0]
        self.assertIn("200 OK", head)
        self.assertIn("text/plain; version=0.0.4", head)
        metrics, stats = self.metrics(), self.lab.weir_json("stats", "--total")
        verdicts = {row["verdict"]: row for row in stats["verdicts"]}
        self.assertEqual(metrics['weir_packets_total{verdict="tx_ipip",action="tx"}'],
                         verdicts["tx_ipip"]["packets"])
        web = next(vip for vip in stats["vips"] if vip["name"] == "web4")
        self.assertEqual(metrics[f'weir_vip_bytes_total{{vip="{web["vip"]}",name="web4"}}'], web["bytes"])
        b1 = next(b for b in stats["backends"] if b["vip"] == web["vip"] and b["name"] == "b1")
        self.assertEqual(metrics[f'weir_backend_packets_total{{vip="{web["vip"]}",backend="{b1["address"]}",name="b1"}}'],
                         b1["packets"])
        self.assertIn(f'weir_vip_packets_total{{vip="{VIP_NAT}:80/tcp",name="nat"}}', metrics)
        status = self.lab.weir_json("status")["weir-l4"]
        self.assertEqual(metrics["weir_config_revision"], status["revision"])
        self.assertEqual(metrics["weir_loaded"], 1)
        self.assertEqual(metrics["weir_in_desired_state"], 1)
        self.assertAlmostEqual(metrics["process_start_time_seconds"], time.time() - status["uptime_s"], delta=5)

    def test_promtool_has_nothing_to_say(self):
        if shutil.which("promtool") is None:
            self.skipTest("promtool is not installed (Debian: prometheus)")
        body = self.scrape().split("\n\n", 1)[1]
        done = run("promtool", "check", "metrics", input=body, check=False, capture_output=False,
                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_nothing_but_metrics_is_served_there(self):
        for method, path in (("GET", "/"), ("GET", "/v1/status"), ("POST", "/v1/unload"),
                             ("DELETE", "/metrics"), ("GET", "/metrics/../v1/status")):
            self.assertRegex(self.scrape(path, method), r"^HTTP/1\.1 4\d\d ", (method, path))
        self.assertTrue(self.lab.weir_json("status")["weir-l4"]["loaded"])
        done = self.lab.run_in("client", "curl", "-sS", "--max-time", "3", f"http://{NODE4}:9177/metrics",
                               check=False)
        self.assertNotEqual(done.returncode, 0, "it is on loopback alone")

    def test_clients_that_say_nothing_keep_no_scraper_waiting(self):
        idle = self.lab.start("idle", "node", "python3", "-c", """
import socket, time
socks = [socket.create_connection(("127.0.0.1", 9177)) for _ in range(20)]
time.sleep(60)""")
        self.addCleanup(self.lab.stop, "idle")
        time.sleep(0.5)
        begun = time.monotonic()
        self.assertIn("weir_build_info", self.scrape())
        self.assertLess(time.monotonic() - begun, 15)
        self.assertEqual(idle.poll(), None)

    def test_series_are_bounded_and_the_rest_is_counted(self):
        self.start_daemon("--metrics-series-max", "6")
        metrics = self.metrics()
        self.assertEqual(sum(name.startswith("weir_vip_packets_total") for name in metrics), 2)
        self.assertEqual(sum(name.startswith("weir_backend_packets_total") for name in metrics), 0)
        services = self.lab.weir_json("status")["weir-l4"]
        self.assertEqual(metrics["weir_metrics_series_left_out"],
                         3 * (services["vips"] + services["backends"] - 2))
        self.start_daemon()

    def test_a_place_that_is_taken_is_refused_with_what_to_do(self):
        done = self.lab.run_in("node", BUILD / "l4" / "weir-l4", "--socket", self.lab.directory / "other.sock",
                               "--state-dir", self.lab.directory / "other", "--pin-dir",
                               self.lab.pins / "other", "--metrics", METRICS, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"listening on {METRICS}: Address already in use; name an address", done.stderr)

    # ---- log ------------------------------------------------------------------------------------

    def test_every_line_of_the_log_is_an_object(self):
        lines = [json.loads(line) for line in self.lab.log("weir-l4").splitlines()]
        self.assertGreater(len(lines), 0)
        for line in lines:
            self.assertRegex(line["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertEqual(line["program"], "weir-l4")
            self.assertIn(line["level"], ("info", "warning", "error"))
        up = next(line for line in lines if line["message"] == "weir-l4 is up")
        self.assertEqual(up["socket"], str(self.lab.l4_socket))


if __name__ == "__main__":
    main()
