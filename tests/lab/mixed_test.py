"""Everything at once against one weir-l7, for a while (WEIR_MIXED_SECONDS, 120): HTTP/1.1, HTTP/2 with and
without TLS, WebSockets, gRPC, uploads, downloads, a slow reader, server-sent events, and beside them
clients who break off at random places, endpoints that are sick by turns, and a new configuration every
second.

What is cut on purpose has "cut" in its target. All else has to succeed, the log has to say so, memory
has to stay where it was once it is warm, and in the end nothing may be left.
"""

import random
import statistics
import time

from mixedcase import *

SECONDS = int(os.environ.get("WEIR_MIXED_SECONDS", "120"))
SEED = int(os.environ.get("WEIR_MIXED_SEED", "1"))
WARM_UP = 0.3  # of the time: pools have reached what they keep
RSS_TOLERANCE = 0.10
IDLE_S = 130  # connections to endpoints are kept for 55 s, and then TIME-WAIT lasts 60 s
# How the log may call what was cut: by the client, or because what it had said until then was not a
# request, or ended too early; or it has stopped reading, until Weir gave it up.
MOODY_PORT = 8070
MOODS = ("sick", "broken", "reset", "slow")
REASONS_OF_CUT = {"ok", "client_reset", "client_timeout", "bad_request"}


def mixed_config(directory):
    both = ", ".join(f'"{weirlab.backend4(host)}:{MOODY_PORT}"' for host in ("b3", "b4"))
    return h2_config(directory).replace("httpRoutes:", f"""  moody:
    endpoints: [{both}]
    healthCheck: {{path: /healthz, interval: 500ms, timeout: 500ms, rise: 1, fall: 3, flaps: 0}}
    outlierDetection: {{consecutiveFailures: 3, ejectionTime: 1s}}
httpRoutes:""") + """  - name: moody
    matches: [{path: {prefix: /moody}}]
    retry: {attempts: 3, budgetPercent: 100, on: [connect-failure, reset, 5xx]}
    backendRefs: [{name: moody}]
"""


class Mixed(MixedCase):

    @classmethod
    def configuration(cls):
        return mixed_config(cls.lab.directory)

    @classmethod
    def prepare(cls):
        for host in ("b3", "b4"):
            cls.lab.start(f"moody-{host}", host, PYTHON, HERE / "moody_server.py", MOODY_PORT, host,
                          cls.lab.directory)
            wait_until("a moody endpoint", lambda h=host: cls.lab.listening(h, MOODY_PORT))
        super().prepare()

    # ---- what happens meanwhile ---------------------------------------------------------------

    def flap(self):
        """One endpoint is something else than well for a while, and then both are, are used, and are
        forgiven: who is ill again before that is left out for longer each time."""
        mood = self.lab.directory / f"{random.choice(('b3', 'b4'))}.mood"
        mood.write_text(random.choice(MOODS))
        time.sleep(2)
        mood.write_text("well")
        # Nobody is forgiven any more once there are no requests.
        wait_until("both to be used again", lambda: time.monotonic() > self.deadline or self.both_are_used(),
                   PATIENCE_S, step=0.2)
        return 1

    def both_are_used(self):
        rows = self.api("endpoints")["endpoints"]
        return all(row["usable"] and row["ejections"] == 0 for row in rows if row["service"] == "moody")

    def reload(self):
        self.reloads += 1
        self.change(self.reloads)
        time.sleep(1)
        return 1

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
            "moody endpoints": lambda: self.h2load(50, "-c3", *old, f"{NAMED}/moody"),
            "moods": self.flap,
            "configurations": self.reload,
        }
        node = ("node", HERE / "mixed_client.js", VIP_EDGE4, SECONDS, SEED)
        once = {
            "slow reader": lambda: self.read_slowly(SECONDS),
            "events over h1": lambda: self.hear_events("--http1.1", SECONDS),
            "events over h2": lambda: self.hear_events("--http2-prior-knowledge", SECONDS),
            "gRPC": lambda: self.run_script(SECONDS, PYTHON, HERE / "grpc_peer.py", "load",
                                            f"{VIP_EDGE4}:8080", HOST, SECONDS, SEED),
            "aborts over h1": lambda: self.run_script(SECONDS, PYTHON, HERE / "mixed_aborts.py", VIP_EDGE4,
                                                      SECONDS, SEED),
        } | {verb: lambda v=verb: self.run_script(SECONDS, *node, v)
             for verb in ("websocket1", "websocket2", "reset", "goaway")}
        return [Repeated(name, deadline, action) for name, action in (repeated | once).items()]

    # ---- what is looked at --------------------------------------------------------------------

    def api(self, what):
        return json.loads(self.lab.run_in("node", "curl", "-sS", "--unix-socket", self.lab.l7_socket,
                                          f"http://weir/v1/{what}").stdout)

    def stats(self):
        return self.api("stats")["workers"][0]

    def rss_kib(self):
        return weirlab.resident_kb(self.lab.processes["weir-l7"].pid)

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
        print("".join(unexplained[:20]), end="")
        self.assertEqual(unexplained[:1], [], f"{len(unexplained)} of {lines} lines")
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
        self.said, self.reloads = {}, 0
        self.deadline = time.monotonic() + SECONDS
        threads = self.loads(self.deadline)
        for thread in threads:
            thread.start()
        samples = self.watch(threads)
        for thread in threads:
            print(f"load: {thread.count:8} {thread.name}")
        print("scripts:", json.dumps(self.said))
        failures = [failure for thread in threads for failure in thread.failures]
        print("".join(f"failed: {failure}\n" for failure in failures), end="")
        self.assert_log_is_explained()  # first, since it has the reason
        self.assertEqual(failures, [])
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
