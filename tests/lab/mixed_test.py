"""Everything at once against one weir-l7, for a while (WEIR_MIXED_SECONDS, 120): HTTP/1.1, HTTP/2 with and
without TLS, WebSockets, gRPC, uploads, downloads, a slow reader, server-sent events, and beside them
clients who break off at random places.

What is cut on purpose has "cut" in its target. All else has to succeed, the log has to say so, memory
has to stay where it was once it is warm, and in the end nothing may be left.
"""

import random
import re
import statistics
import threading
import time

from h2_test import GRPC, H2C, H2S, HERE, PYTHON, WEBSOCKET, h2_config
from labcase import *

SECONDS = int(os.environ.get("WEIR_MIXED_SECONDS", "120"))
SEED = int(os.environ.get("WEIR_MIXED_SEED", "1"))
HOST = "api.shop.example"
CLEAR, NAMED, TLS = f"http://{VIP_EDGE4}:8080", f"http://{HOST}:8080", f"https://{HOST}"
UPLOAD_BYTES = 500_000
PATIENCE_S = 120  # for one command on a busy machine
DOWNLOAD = "8MiB"
WARM_UP = 0.3  # of the time: pools have reached what they keep
RSS_TOLERANCE = 0.10
IDLE_S = 130  # connections to endpoints are kept for 55 s, and then TIME-WAIT lasts 60 s
# How the log may call what was cut: by the client, or because what it had said until then was not a
# request, or ended too early; or it has stopped reading, until Weir gave it up.
REASONS_OF_CUT = {"ok", "client_reset", "client_timeout", "bad_request"}
LOADED = re.compile(r"(\d+) total, \d+ started, (\d+) done, (\d+) succeeded, 0 failed, 0 errored, 0 timeout")


class Repeated(threading.Thread):
    """Runs one command after another until the time is up; a check that raises is a failure."""

    def __init__(self, name, deadline, once):
        super().__init__(name=name, daemon=True)
        self.deadline, self.once = deadline, once
        self.count, self.failures = 0, []

    def run(self):
        while time.monotonic() < self.deadline and len(self.failures) < 5:
            try:
                self.count += self.once()
            except Exception as error:  # of any kind: it is told, and fails the test
                self.failures.append(f"{self.name}: {error}")


class Mixed(LabCase):

    @classmethod
    def prepare(cls):
        cls.lab.make_certificates()
        cls.config = cls.lab.write_config(h2_config(cls.lab.directory))
        cls.lab.start("node", "b1", "node", HERE / "h2_servers.js", H2C, H2S,
                      cls.lab.directory / "shop.pem", WEBSOCKET)
        cls.lab.start("grpc", "b1", PYTHON, HERE / "grpc_peer.py", "serve", GRPC)
        for port in (H2C, H2S, WEBSOCKET, GRPC):
            wait_until(f"port {port}", lambda p=port: cls.lab.listening("b1", p), 20)
        cls.lab.weir("apply", "-f", cls.config)
        cls.lab.start_l7(cls.config)
        cls.upload = cls.lab.directory / "body"
        cls.upload.write_bytes(os.urandom(UPLOAD_BYTES))
        cls.upload_sum = sha256(cls.upload)
        (cls.lab.directory / "www" / DOWNLOAD).write_bytes(os.urandom(8 << 20))
        cls.download_sum = sha256(cls.lab.directory / "www" / DOWNLOAD)

    # ---- what clients do ----------------------------------------------------------------------

    def h2load(self, requests, *words):
        done = self.lab.run_in("client", "h2load", f"-n{requests}", "-t1", *words, timeout=PATIENCE_S)
        match = LOADED.search(done.stdout)
        if not match or match.groups() != (str(requests),) * 3:
            raise AssertionError(f"h2load {words}: {done.stdout[-800:]}")
        return requests

    def curl(self, version, path, *words):
        """By TLS; returns the body."""
        out = self.lab.directory / f"out-{threading.get_ident()}"
        self.lab.curl("-k", "-f", version, "--resolve", f"{HOST}:443:{VIP_EDGE4}", "-o", out,
                      "--max-time", str(PATIENCE_S), *words, f"{TLS}{path}", timeout=PATIENCE_S + 10)
        return out

    def send_a_file(self, version):
        path = random.choice(("/h2/up", "/h2s/up"))
        reply = json.loads(self.curl(version, path, "-T", self.upload).read_text())
        if (reply["size"], reply["sha256"]) != (UPLOAD_BYTES, self.upload_sum):
            raise AssertionError(f"{path} received {reply}")
        return 1

    def fetch_a_file(self, version):
        if sha256(self.curl(version, f"/users/files/{DOWNLOAD}")) != self.download_sum:
            raise AssertionError("the file came otherwise than it was")
        return 1

    def read_slowly(self, seconds):
        """64 MiB at a pace that takes longer than there is time."""
        done = self.lab.run_in(
            "client", "curl", "-sS", "--http2-prior-knowledge", "--limit-rate", "300K", "--max-time",
            str(seconds), "-o", "/dev/null", "-w", "%{http_code} %{size_download}", "-H",
            f"Host: {HOST}", f"{CLEAR}/cart/files/64MiB?cut", check=False, timeout=seconds + 30)
        status, size = done.stdout.split()
        if status != "200" or done.returncode not in (0, 28) or int(size) < 100_000:
            raise AssertionError(f"{status}, {size} bytes, curl says {done.returncode}")
        return 1

    def hear_events(self, version, seconds):
        done = self.lab.run_in(
            "client", "curl", "-sS", "-N", version, "--max-time", str(seconds), "-H", f"Host: {HOST}",
            f"{CLEAR}/ws/events?cut", check=False, timeout=seconds + 30)
        ids = [int(i) for i in re.findall(r"^id: (\d+)$", done.stdout, re.MULTILINE)]
        # Ten a second, of which a busy machine makes fewer; none is missing.
        if done.returncode != 28 or ids != list(range(1, len(ids) + 1)) or len(ids) < 2 * seconds:
            raise AssertionError(f"{len(ids)} events in {seconds} s, curl says {done.returncode}")
        return len(ids)

    def run_script(self, *command):
        """One of ours that says in a line of JSON what it has done, and what has failed."""
        done = self.lab.run_in("client", *command, check=False, timeout=SECONDS + 120)
        said = json_lines(done.stdout)
        if not said or said[-1]["failures"]:
            raise AssertionError(f"{command[1:3]}: {done.stdout[-2000:]} {done.stderr[-2000:]}")
        self.said[self.name_of(command)] = {k: v for k, v in said[-1].items() if k != "failures"}
        return 1

    @staticmethod
    def name_of(command):
        return command[-1] if command[0] == "node" else pathlib.Path(command[1]).stem

    def loads(self, deadline):
        old = ("--h1", f"--connect-to={VIP_EDGE4}:8080")
        clear = old[1:]
        tls = (f"--connect-to={VIP_EDGE4}:443",)
        upload = ("-d", self.upload)
        random.seed(SEED)
        repeated = {
            "h1 keep-alive, clear": lambda: self.h2load(500, "-c10", *old, f"{NAMED}/cart/a"),
            "h1 keep-alive, TLS": lambda: self.h2load(300, "--h1", "-c10", *tls, f"{TLS}/users/a"),
            "h1 to h2": lambda: self.h2load(200, "-c5", *old, f"{NAMED}/h2/bytes/5000"),
            "h2 over TLS": lambda: self.h2load(300, "-c5", "-m10", *tls, f"{TLS}/h2/bytes/20000"),
            "h2 over TLS to h2 over TLS": lambda: self.h2load(200, "-c3", "-m5", *tls, f"{TLS}/h2s/x"),
            "h2c to h1": lambda: self.h2load(500, "-c5", "-m20", *clear, f"{NAMED}/cart/b"),
            "bodies over h2c": lambda: self.h2load(4, "-c2", "-m2", *clear, *upload, f"{NAMED}/h2/up"),
            "bodies over h1": lambda: self.h2load(4, "-c2", *old, *upload, f"{NAMED}/h2/up"),
            "curl sends, h1": lambda: self.send_a_file("--http1.1"),
            "curl sends, h2": lambda: self.send_a_file("--http2"),
            "curl fetches, h1": lambda: self.fetch_a_file("--http1.1"),
            "curl fetches, h2": lambda: self.fetch_a_file("--http2"),
        }
        node = ("node", HERE / "mixed_client.js", VIP_EDGE4, SECONDS, SEED)
        once = {
            "slow reader": lambda: self.read_slowly(SECONDS),
            "events over h1": lambda: self.hear_events("--http1.1", SECONDS),
            "events over h2": lambda: self.hear_events("--http2-prior-knowledge", SECONDS),
            "gRPC": lambda: self.run_script(PYTHON, HERE / "grpc_peer.py", "load",
                                            f"{VIP_EDGE4}:8080", HOST, SECONDS, SEED),
            "aborts over h1": lambda: self.run_script(PYTHON, HERE / "mixed_aborts.py", VIP_EDGE4,
                                                      SECONDS, SEED),
        } | {verb: lambda v=verb: self.run_script(*node, v)
             for verb in ("websocket1", "websocket2", "reset", "goaway")}
        return [Repeated(name, deadline, action) for name, action in (repeated | once).items()]

    # ---- what is looked at --------------------------------------------------------------------

    def stats(self):
        reply = self.lab.run_in("node", "curl", "-sS", "--unix-socket", self.lab.l7_socket,
                                "http://weir/v1/stats").stdout
        return json.loads(reply)["workers"][0]

    def rss_kib(self):
        status = pathlib.Path(f"/proc/{self.lab.processes['weir-l7'].pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))

    def watch(self, threads):
        """Waits for them all; memory meanwhile, a sample per second with its time."""
        began, samples = time.monotonic(), []
        while any(thread.is_alive() for thread in threads):
            self.lab.alive("weir-l7")
            samples.append((time.monotonic() - began, self.rss_kib()))
            threads[0].join(1) if threads[0].is_alive() else time.sleep(1)
        return samples

    def assert_memory_is_flat(self, samples):
        warm = [kib for at, kib in samples if SECONDS * WARM_UP <= at <= SECONDS]
        middle = statistics.median(warm)
        print(f"RSS: first {samples[0][1]} KiB; warm: least {min(warm)}, median {middle:.0f}, "
              f"most {max(warm)} KiB of {len(warm)} samples")
        # Between the ends of the warm time, so that neither a single moment nor a slow leak passes.
        quarter = max(len(warm) // 4, 1)
        early, late = statistics.median(warm[:quarter]), statistics.median(warm[-quarter:])
        print(f"RSS of the first and the last quarter of that: {early:.0f}, {late:.0f} KiB")
        for kib in (min(warm), max(warm), early, late):
            self.assertLess(abs(kib - middle), middle * RSS_TOLERANCE, samples)

    def assert_log_is_explained(self):
        """Every line that is not of something cut on purpose is an exchange that went well."""
        reasons, unexplained, lines = collections.Counter(), [], 0
        with open(self.lab.directory / "access.log", encoding="utf-8") as log:
            for line in log:
                row = json.loads(line)
                lines += 1
                is_cut = "cut" in row.get("target", "").lower()
                reasons["cut" if is_cut else "whole", row["reason"], row["status"]] += 1
                good = row["reason"] == "ok" and row["status"] in (101, 200, 201, 204)
                if not good and not (is_cut and row["reason"] in REASONS_OF_CUT):
                    unexplained.append(line)
        for (kind, reason, status), count in sorted(reasons.items(), key=str):
            print(f"log: {count:8} {kind} {reason} {status}")
        self.assertEqual(unexplained[:20], [], f"{len(unexplained)} of {lines} lines")
        return lines

    def left(self):
        """What shall be zero at rest, by name."""
        stats = self.stats()
        http, upstream, tcp = stats["http"], stats["upstream"], stats["tcp"]
        return {
            "connections": http["connections"], "exchanges": http["exchanges"],
            "buffers": http["buffers"], "streams": http["h2"]["streams"],
            "upstream busy": upstream["open"] - upstream["idle"],
            "half open": tcp["half_open"],
        }, {
            "upstream open": upstream["open"], "sessions": http["h2"]["sessions"],
            "bytes of sessions": http["h2"]["memory_bytes"], "TCP connections": tcp["connections"],
            "TIME-WAIT": tcp["time_wait"], "chunks": tcp["buffer_chunks"],
            "segments under way": tcp["segments_outstanding"],
        }

    def assert_nothing_is_left(self):
        def names(levels):
            return {name: level for name, level in levels.items() if level != 0}
        for part, seconds in ((0, 40), (1, IDLE_S)):
            try:
                wait_until("rest", lambda p=part: not names(self.left()[p]), seconds, step=0.5)
            except weirlab.LabError:
                self.fail(f"after {seconds} s there is still {names(self.left()[part])}")
        self.assertEqual(self.stats()["generations"], 1)

    def test_nothing_fails_grows_or_stays(self):
        self.said = {}
        threads = self.loads(time.monotonic() + SECONDS)
        for thread in threads:
            thread.start()
        samples = self.watch(threads)
        for thread in threads:
            print(f"load: {thread.count:8} {thread.name}")
        print("scripts:", json.dumps(self.said))
        self.assert_log_is_explained()  # first, since it has the reason
        self.assertEqual([failure for thread in threads for failure in thread.failures], [])
        for thread in threads:
            self.assertGreater(thread.count, 0, thread.name)
        self.assert_nothing_is_left()
        lines = self.assert_log_is_explained()
        http = self.stats()["http"]
        print(f"{http['requests']} requests, {http['requests_h2']} of them over HTTP/2, in "
              f"{http['connections_accepted']} connections; {http['h2']['abuse']}")
        self.assertEqual(http["log_dropped"], 0)
        self.assertEqual(sum(http["reasons"].values()), lines)
        self.assertEqual(sum(http["h2"]["abuse"].values()), 0)
        self.assertEqual(http["buffer_refusals"], 0)
        self.assert_memory_is_flat(samples)
        self.lab.alive("weir-l7")


if __name__ == "__main__":
    main()
