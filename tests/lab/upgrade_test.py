"""One weir-l7 takes over from another, again and again, and configurations change meanwhile, under load
of every kind: no request fails and no stream is cut. WEIR_UPGRADES and WEIR_CHANGES say how often.
"""

import signal
import threading
import time

from mixedcase import *

UPGRADES = int(os.environ.get("WEIR_UPGRADES", "3"))
CHANGES = int(os.environ.get("WEIR_CHANGES", "30"))
SEED = int(os.environ.get("WEIR_MIXED_SEED", "1"))
UPGRADE_S = 60  # until the old process is gone, on a busy machine
METRICS = 9105
MIXED_S = 20  # how long one command of a load lasts


class Upgrade(MixedCase):

    # ---- processes ----------------------------------------------------------------------------

    def status(self):
        return self.lab.weir_json("status")["weir-l7"]

    def lane_in_use(self):
        return {row["lane"] for row in self.lab.weir_json("status")["workers"] if row["in_use"]}

    def upgrade(self, *more, config=True):
        """Another process takes over; the old one ends by itself."""
        old = self.lab.processes["weir-l7"]
        before = self.status()
        self.assertEqual(before["pid"], old.pid)
        words = [str(word) for word in self.lab.l7_command(self.config, "--take-over", *more)]
        if not config:
            at = words.index("--config")
            del words[at:at + 2]
        new = self.lab.start("weir-l7.new", "node", *words)
        self.lab.processes["weir-l7.old"] = old
        self.lab.processes["weir-l7"] = self.lab.processes.pop("weir-l7.new")
        wait_until("the new process to serve the API", lambda: self.serves(new.pid), 30)
        self.assertNotEqual(self.status()["lane"], before["lane"])
        self.assertEqual(self.lane_in_use(), {self.status()["lane"]})
        return old

    def serves(self, pid):
        self.lab.alive("weir-l7")
        try:
            return self.status()["pid"] == pid
        except (weirlab.LabError, KeyError, json.JSONDecodeError):
            return False

    def wait_for_end(self, old):
        wait_until("the old process to end", lambda: old.poll() is not None, UPGRADE_S)
        self.assertEqual(old.returncode, 0)
        self.lab.processes.pop("weir-l7.old")

    # ---- load ---------------------------------------------------------------------------------

    def wrk(self, url):
        done = self.lab.run_in("client", "wrk", "-t1", "-c8", f"-d{MIXED_S}s", "-H", f"Host: {HOST}", url,
                               timeout=MIXED_S + PATIENCE_S).stdout
        requests = re.search(r"(\d+) requests in", done)
        if "Socket errors" in done or "Non-2xx" in done or not requests:
            raise AssertionError(f"wrk {url}: {done}")
        return int(requests.group(1))

    def loads(self, deadline):
        node = ("node", HERE / "mixed_client.js", VIP_EDGE4, MIXED_S, SEED)
        actions = {
            "h1 keep-alive, clear": lambda: self.wrk(f"{CLEAR}/cart/a"),
            "h1 keep-alive, TLS": lambda: self.wrk(f"https://{VIP_EDGE4}/users/a"),
            "h1 to h2": lambda: self.wrk(f"{CLEAR}/h2/bytes/5000"),
            "curl sends, h1": lambda: self.send_a_file("--http1.1"),
            "curl sends, h2": lambda: self.send_a_file("--http2"),
            "curl fetches, h1": lambda: self.fetch_a_file("--http1.1"),
            "curl fetches, h2": lambda: self.fetch_a_file("--http2"),
            "events over h1": lambda: self.hear_events("--http1.1", 4),
            "events over h2": lambda: self.hear_events("--http2-prior-knowledge", 4),
            "gRPC": lambda: self.run_script(MIXED_S, PYTHON, HERE / "grpc_peer.py", "load",
                                            f"{VIP_EDGE4}:8080", HOST, MIXED_S, SEED),
        } | {verb: lambda v=verb: self.run_script(MIXED_S, *node, v)
             for verb in ("websocket1", "websocket2", "steady")}
        return [Repeated(name, deadline, action) for name, action in actions.items()]

    # ---- tests --------------------------------------------------------------------------------

    def test_a_download_that_began_before_ends_at_the_old_process(self):
        target = self.lab.directory / "download"
        client = self.lab.start("download", "client", "curl", "-sS", "-k", "--limit-rate", "12M", "-o",
                                target, "--resolve", f"{HOST}:443:{VIP_EDGE4}",
                                f"{TLS}/users/files/64MiB")
        wait_until("the download to begin", lambda: target.exists() and target.stat().st_size > 0)
        old = self.upgrade()
        for _ in range(20):
            self.assertIn("x-service: cart", self.lab.curl("-i", "-H", f"Host: {HOST}",
                                                           f"{CLEAR}/cart").stdout)
        self.assertIsNone(client.poll(), "the download was over before anything was tested")
        self.assertIsNone(old.poll())
        self.assertEqual(client.wait(90), 0)
        self.lab.processes.pop("download")
        self.assertEqual(sha256(target), sha256(self.lab.directory / "www" / "64MiB"))
        self.wait_for_end(old)
        moved = {row["counter"]: row["value"] for row in self.lab.weir_json("stats", "--total")["weir-l7"]}
        self.assertGreater(moved["steering.to_predecessor"], 1000)

    def test_what_lasts_too_long_is_cut_and_said(self):
        target = self.lab.directory / "slow"
        client = self.lab.start("slow", "client", "curl", "-sS", "--limit-rate", "100K", "-o", target,
                                "-H", f"Host: {HOST}", f"{CLEAR}/cart/files/64MiB")
        wait_until("the download to begin", lambda: target.exists() and target.stat().st_size > 0)
        old = self.upgrade("--old-connections", "2")
        self.wait_for_end(old)
        self.assertNotEqual(client.wait(60), 0)
        self.lab.processes.pop("slow")

    def test_a_second_one_while_the_first_still_drains_is_refused(self):
        target = self.lab.directory / "second"
        client = self.lab.start("second", "client", "curl", "-sS", "--limit-rate", "3M", "-o", target,
                                "-H", f"Host: {HOST}", f"{CLEAR}/cart/files/64MiB")
        wait_until("the download to begin", lambda: target.exists() and target.stat().st_size > 0)
        old = self.upgrade()
        done = self.lab.run_in("node", *self.lab.l7_command(self.config, "--take-over"), check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("in use by another Weir port", done.stderr)
        self.assertEqual(self.lane_in_use(), {self.status()["lane"]})
        self.lab.stop("second")
        self.wait_for_end(old)

    def test_what_is_applied_meanwhile_is_refused_or_kept(self):
        """Without --config, the new process has what was applied last: also what was while it started."""
        before = self.config.read_text()
        self.addCleanup(self.lab.weir, "apply", "-f", self.config)
        file = self.lab.directory / "meanwhile.yaml"
        acknowledged, refused, halves, stop = [], [], [], threading.Event()

        def apply():
            for number in range(10_000):
                if stop.is_set():
                    return
                file.write_text(before + f"""  - name: version
    matches: [{{path: {{exact: /version}}}}]
    respond: {{status: 200, body: "{number}", contentType: text/plain}}
""")
                done = self.lab.weir("apply", "-f", file, check=False)
                if "does not run" in done.stdout:
                    halves.append(done.stdout)
                elif done.returncode == 0:
                    acknowledged.append(str(number))
                elif "is taking over" in done.stderr:
                    refused.append(number)

        applying = threading.Thread(target=apply)
        applying.start()
        try:
            for _ in range(3):
                wait_until("a configuration", lambda n=len(acknowledged): len(acknowledged) > n, 30)
                old = self.upgrade(config=False)
                self.wait_for_end(old)
        finally:
            stop.set()
            applying.join(60)
        answer = self.lab.curl("-H", f"Host: {HOST}", f"{CLEAR}/version").stdout
        self.assertEqual(answer, acknowledged[-1])
        self.assertTrue(refused, "nothing was applied while one took over")
        self.assertEqual(halves, [], "weir-l4 alone was changed")

    def test_one_that_would_speak_from_elsewhere_is_refused(self):
        file = self.lab.directory / "elsewhere.yaml"
        text = self.config.read_text()
        file.write_text(text.replace(f"{L7_4}/24", "10.77.0.99/24"))
        self.assertNotEqual(file.read_text(), text)
        pid = self.status()["pid"]
        done = self.lab.run_in("node", *self.lab.l7_command(file, "--take-over"), check=False)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "node.l7.addresses are 10.77.0.99/24.* that runs, .*weir apply -f FILE")
        self.assertEqual(self.status()["pid"], pid)
        self.assertIn("x-service: cart", self.lab.curl("-i", "-H", f"Host: {HOST}", f"{CLEAR}/cart").stdout)
        self.lab.weir("apply", "-f", self.config)  # nobody takes over any more

    def test_nothing_is_changed_while_one_that_has_crashed_is_not_back(self):
        before = self.lab.weir_json("status")["weir-l4"]["revision"] - 1
        self.lab.stop("weir-l7", signal.SIGKILL)
        try:
            for words in (("apply", "-f", self.config), ("rollback", before)):
                done = self.lab.weir(*words, check=False)
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertRegex(done.stderr, "has left the file there.*nothing was changed.*--only l4 changes")
            self.lab.weir("apply", "-f", self.config, "--only", "l4")
        finally:
            self.lab.start_l7(self.config)
        self.lab.weir("apply", "-f", self.config)

    def test_one_that_hangs_is_said_and_keeps_nobody_from_the_other(self):
        daemon = self.lab.processes["weir-l7"]
        daemon.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            said = self.lab.weir("status").stdout
            self.assertLess(time.monotonic() - began, 20)
        finally:
            daemon.send_signal(signal.SIGCONT)
        self.assertIn("weir-l7: weir-l7 at", said)
        self.assertIn("gave no answer", said)
        self.assertIn("weir-l4", said)

    def test_traffic_goes_on_where_the_api_cannot_be_served_yet(self):
        taken = self.lab.start("taken", "node", PYTHON, "-m", "http.server", "--bind", "127.0.0.1", METRICS)
        wait_until("somebody else to listen", lambda: self.lab.listening("node", METRICS))
        old = self.lab.processes["weir-l7"]
        new = self.lab.start("weir-l7.new", "node",
                             *self.lab.l7_command(self.config, "--take-over", "--metrics", METRICS))
        self.lab.processes["weir-l7"] = self.lab.processes.pop("weir-l7.new")
        self.lab.processes["weir-l7.old"] = old
        self.wait_for_end(old)
        wait_until("it to be said", lambda: "but not the API" in self.lab.log("weir-l7.new"), 30)
        for _ in range(20):
            self.assertIn("x-service: cart", self.lab.curl("-i", "-H", f"Host: {HOST}",
                                                           f"{CLEAR}/cart").stdout)
        self.assertFalse(self.serves(new.pid))
        self.lab.stop("taken")
        self.assertIsNotNone(taken.poll())
        wait_until("the API to be served", lambda: self.serves(new.pid), 30)

    def test_no_request_fails_and_no_stream_is_cut(self):
        self.said = {}
        running = threading.Event()
        threads = self.loads(None)
        for thread in threads:
            thread.goes_on = lambda: not running.is_set()
            thread.start()
        ended = []
        try:
            for i in range(UPGRADES):
                old = self.upgrade()
                for k in range(CHANGES // UPGRADES):
                    self.change(i * 1000 + k)
                self.wait_for_end(old)
                ended.append(old.pid)
        finally:
            running.set()
            for thread in threads:
                thread.join()
        for thread in threads:
            print(f"load: {thread.count:8} {thread.name}")
        print("scripts:", json.dumps(self.said))
        self.assertEqual([failure for thread in threads for failure in thread.failures], [])
        for thread in threads:
            self.assertGreater(thread.count, 0, thread.name)
        self.assertEqual(len(set(ended)), UPGRADES)


if __name__ == "__main__":
    main()
