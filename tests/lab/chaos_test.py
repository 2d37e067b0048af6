"""The daemon is killed two hundred times at random moments, while a script applies one change after
another and 500 connections transfer data: no connection is lost, and what is in the kernel in the end
is what was last acknowledged."""

import os
import pathlib
import random
import signal
import threading
import time

from labcase import *

HERE = pathlib.Path(__file__).resolve().parent
KILLS = int(os.environ.get("WEIR_CHAOS_KILLS", "200"))
CONNECTIONS = 500
SEED = int(os.environ.get("WEIR_CHAOS_SEED", "7"))
PORT = 8089


class Wishes:
    """Valid configurations, each a random step from the one before. The VIP that carries the
    connections keeps its backends: weights, limits and lists change, others come and go."""

    def __init__(self, rng):
        self.rng, self.others, self.extra = rng, {}, set()
        self.weights = dict.fromkeys(weirlab.BACKENDS, 1)
        self.limit, self.denied, self.draining = 0, 0, None

    def step(self):
        rng = self.rng
        choice = rng.randrange(6)
        if choice == 0:
            self.weights[rng.choice(weirlab.BACKENDS)] = rng.randrange(1, 100)
        elif choice == 1:
            self.limit = rng.choice([0, 100_000, 200_000])
        elif choice == 2:
            self.denied = rng.randrange(4)
        elif choice == 3:
            self.draining = rng.choice([None, *weirlab.BACKENDS])
        elif choice == 4 and self.others:
            self.others.pop(rng.choice(sorted(self.others)))
        else:
            port = rng.randrange(2000, 2040)
            self.others[port] = (rng.choice(["ipip", "l2", "gue"]), rng.randrange(1, 12))

    def text(self):
        def backend(name):
            state = ", state: draining" if name == self.draining else ""
            return (f"{{name: {name}, address: {weirlab.backend4(name)}, "
                    f"weight: {self.weights[name]}{state}}}")

        words = ""
        if self.limit:
            words += f", limits: {{packets: {self.limit}/s}}"
        if self.denied:
            lists = ", ".join(f"192.0.2.{n}" for n in range(self.denied))
            words += f", sources: {{deny: [{lists}]}}"
        lines = ["version: 1", "node: {interfaces: [eth0], xdpMode: native}", "vips:",
                 f"- {{name: live, address: {VIP_L2}, port: {PORT}, protocol: TCP, "
                 f"forward: {{mode: l2}}{words}, "
                 f"backends: [{', '.join(map(backend, weirlab.BACKENDS))}]}}"]
        for port, (mode, count) in sorted(self.others.items()):
            backends = ", ".join(f"{{name: b{n}, address: 10.77.0.{150 + n}}}" for n in range(count))
            lines.append(f"- {{name: other-{port}, address: 198.51.100.1, port: {port}, protocol: TCP, "
                         f"forward: {{mode: {mode}}}, backends: [{backends}]}}")
        return "\n".join(lines) + "\n"


class Chaos(LabCase):

    @classmethod
    def start_backends(cls):
        lab = cls.lab
        lab.start_backends()
        lab.start("echo", "fabric", "python3", HERE / "named_echo.py", "--ports", PORT,
                  *(f"{name}=/run/netns/{lab.namespace(name)}" for name in weirlab.BACKENDS))
        wait_until("the servers", lambda: lab.alive("echo") and "ready" in lab.log("echo"), 60)

    @classmethod
    def prepare(cls):
        cls.wishes = Wishes(random.Random(SEED))
        cls.acknowledged, cls.proposed = None, None
        cls.apply(cls.wishes.text())
        wait_until("next hops",
                   lambda: cls.lab.weir_json("status")["weir-l4"]["backends_unresolved"] == 0)

    @classmethod
    def apply(cls, text):
        """True: the daemon said that it was done."""
        cls.proposed = text
        done = cls.lab.weir("apply", "-f", cls.lab.write_config(text), check=False)
        if done.returncode == 0:
            cls.acknowledged = text
        return done.returncode == 0

    def change_for_ever(self, until, counts):
        while not until.is_set():
            self.wishes.step()
            counts["applied" if self.apply(self.wishes.text()) else "interrupted"] += 1

    def tables(self):
        """What a VIP does with packets, without what one node calls it."""
        reply = self.lab.run_in("node", "curl", "-sS", "--unix-socket", self.lab.l4_socket,
                                "http://weir-l4/v1/vips").stdout
        vips = json.loads(reply)["vips"]
        return sorted((vip["vip"], vip["mode"], vip["table_digest"],
                       [(b["address"], b["weight"], b["state"], b["slots"])
                        for b in sorted(vip["backends"], key=lambda b: b["address"])],
                       vip["sources_denied"], vip["limits"]["packets"]) for vip in vips)

    def state(self):
        """What was asked for, as a file, and what the kernel has of it."""
        return self.lab.weir("export").stdout, self.tables()

    def test_nothing_is_lost(self):
        lab, rng = self.lab, random.Random(SEED + 1)
        lab.start("connections", "client", "python3", HERE / "live_connections.py",
                  "--connections", CONNECTIONS, "--period", 0.25, f"{VIP_L2}:{PORT}")
        wait_until("the connections", lambda: lab.alive("connections") and '"ready"' in
                   lab.log("connections"), 60)
        over, counts = threading.Event(), collections.Counter()
        script = threading.Thread(target=self.change_for_ever, args=(over, counts))
        script.start()
        try:
            for _ in range(KILLS):
                time.sleep(rng.uniform(0, 0.4))
                lab.stop("weir-l4", signal.SIGKILL)
                lab.start_l4()
        finally:
            over.set()
            script.join(60)
        lab.stop("connections", signal.SIGTERM)
        events = json_lines(lab.log("connections"))
        print(f"{KILLS} kills, {dict(counts)}; {events[-1]}")
        self.assertEqual([event for event in events if event["event"] == "broken"], [])
        self.assertGreater(counts["applied"], KILLS // 4)
        self.assertGreater(counts["interrupted"], KILLS // 10)
        found = self.state()
        # A change whose answer was lost may have been made; nothing else may.
        expected = []
        for text in {self.acknowledged, self.proposed}:
            self.assertTrue(self.apply(text))
            expected.append(self.state())
        self.assertIn(found, expected)


main()
