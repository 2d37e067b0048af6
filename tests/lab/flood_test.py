"""A flood of 300,000 SYNs per second at one VIP, while established connections of it and of another
one exchange data: none is lost, also while backends drain and return, for which the flow table is
needed. Memory stays what it was, and the limit of one VIP is none of the other's."""

import json
import time

from pathcase import *

FLOODED, OTHER = vip4(80), vip4(81)
RATE = 300_000  # per second, at the balancer
SENT_PER_S = 340_000
SECONDS = 12
CONNECTIONS = 200  # half of each VIP, each exchanging data ten times a second
NEW_FLOWS = 5_000  # per second, where the flooded VIP has a limit
DAEMON_GROWTH_KB = 2048
MB = 1 << 20


class Flood(PathCase):

    @classmethod
    def prepare(cls):
        lab = cls.lab
        cls.pins = lab.pins / "flood"
        cls.pins.mkdir(parents=True)
        run("bpftool", "prog", "loadall", weirlab.BUILD / "tests" / "lab" / "flood.bpf.o", cls.pins,
            "pinmaps", cls.pins)
        lab.add_host("flooder")
        lab.cable("flooder", "eth0", "node", "eth1", 1600)
        lab.run_in("fabric", "bpftool", "net", "attach", "xdpdrv", "pinned", cls.pins / "flood_dam",
                   "dev", "node", "overwrite")
        cls.mac = lab.mac("node", "eth1")
        cls.configure()

    @classmethod
    def configure(cls, draining="", words=""):
        backends = backends_of(4)
        if draining:
            backends = backends.replace(f'"{weirlab.backend4(draining)}"',
                                        f'"{weirlab.backend4(draining)}", state: draining')
        cls.apply(vip_line("flooded", FLOODED, backends, words=words) +
                  vip_line("other", OTHER, backends), interfaces="eth0, eth1")

    # ---- the flood ----------------------------------------------------------------------------

    def start_connections(self):
        self.lab.start("connections", "client", "python3", HERE / "live_connections.py",
                       "--connections", CONNECTIONS, "--period", "0.1", f"{FLOODED}:{PORT}",
                       f"{OTHER}:{PORT}")
        wait_until("the connections", lambda: self.lab.alive("connections") and '"ready"' in
                   self.lab.log("connections"), 30)
        time.sleep(0.5)
        self.addCleanup((self.lab.directory / "connections.log").unlink)

    def end_connections(self):
        self.assertEqual(self.lab.stop("connections"), 0)
        events = json_lines(self.lab.log("connections"))
        return [event for event in events if event["event"] == "broken"], events[-1]

    def flood(self, meanwhile):
        """Returns what the balancer received per second."""
        before = self.lab.weir_json("stats", f"{FLOODED}:{PORT}/tcp", "--total")["vips"][0]["packets"]
        sender = self.lab.start("flood", "flooder", "python3", HERE / "flood_sender.py",
                                self.pins, "eth0", self.mac, FLOODED, PORT, SENT_PER_S,
                                SECONDS)
        meanwhile()
        self.assertEqual(sender.wait(SECONDS + 30), 0, self.lab.log("flood"))
        self.lab.stop("flood")
        sent = json.loads(self.lab.log("flood").splitlines()[-1])
        after = self.lab.weir_json("stats", f"{FLOODED}:{PORT}/tcp", "--total")["vips"][0]["packets"]
        rate = (after - before) / sent["seconds"]
        print(f"\nflood: {sent['sent'] / sent['seconds']:,.0f}/s sent, {rate:,.0f}/s at the balancer",
              flush=True)
        self.assertGreaterEqual(rate, RATE)

    def held_back(self):
        rows = json.loads(run("bpftool", "-j", "map", "dump", "pinned",
                              self.pins / "flood_counters").stdout)
        return sum(cpu["value"] for cpu in rows[1]["formatted"]["values"])

    # ---- memory -------------------------------------------------------------------------------

    def daemon_kb(self):
        return weirlab.resident_kb(self.lab.processes["weir-l4"].pid)

    def maps_bytes(self):
        pins = (self.lab.pins / "lb" / "maps").iterdir()
        return sum(json.loads(run("bpftool", "-j", "map", "show", "pinned", pin).stdout)["bytes_memlock"]
                   for pin in pins)

    # ---- tests --------------------------------------------------------------------------------

    def drain_one_after_the_other(self):
        for name in (*BACKENDS, ""):
            time.sleep(SECONDS / 8)
            self.configure(draining=name)

    def test_established_connections_of_both_vips_lose_nothing_and_memory_is_flat(self):
        for name in (*BACKENDS, ""):  # what the daemon needs for a change it keeps
            self.configure(draining=name)
        self.start_connections()
        table = self.lab.weir_json("stats", "--total")["flow_table"]
        daemon, maps, held_back = self.daemon_kb(), self.maps_bytes(), self.held_back()
        self.flood(self.drain_one_after_the_other)
        daemon_after, maps_after = self.daemon_kb(), self.maps_bytes()
        table_after = self.lab.weir_json("stats", "--total")["flow_table"]
        broken, end = self.end_connections()
        moved = {name: count - table[name] for name, count in table_after.items()}
        print(f"daemon {daemon:,} kB before, {daemon_after:,} kB after; maps {maps / MB:.1f} MB before, "
              f"{maps_after / MB:.1f} MB after; {self.held_back() - held_back:,} SYNs forwarded; flow "
              f"table: {moved}; exchanges {end['exchanged']}, the slowest {end['slowest_s']} s", flush=True)
        self.assertEqual(broken, [])
        self.assertEqual(end["live"], CONNECTIONS)
        for target, exchanges in end["exchanged"].items():
            self.assertGreater(exchanges, CONNECTIONS / 2 * SECONDS, target)
        self.assertEqual(moved["evicted_established"], 0)
        self.assertGreater(moved["evicted_new"], 1_000_000, "the table was not full, so not tested")
        self.assertGreater(self.held_back() - held_back, RATE * SECONDS / 2)
        self.assertLessEqual(maps_after - maps, 0)
        self.assertLess(daemon_after - daemon, DAEMON_GROWTH_KB)

    def test_a_limit_of_the_flooded_vip_is_none_of_the_other_one(self):
        self.configure(words=f", limits: {{newFlows: {NEW_FLOWS}/s}}")
        self.addCleanup(self.configure)
        self.start_connections()
        counts = collections.Counter()

        def connect():
            end = time.monotonic() + SECONDS - 2
            while time.monotonic() < end:
                counts[self.ask_tcp(OTHER, size=100)] += 1
                time.sleep(0.01)

        held_back, before = self.held_back(), self.verdicts()
        self.flood(connect)
        forwarded, after = self.held_back() - held_back, self.verdicts()
        broken, end = self.end_connections()
        print(f"{forwarded:,} SYNs forwarded, {after['drop_vip_rate'] - before['drop_vip_rate']:,} beyond "
              f"the limit; new connections of the other VIP: {dict(counts)}; exchanges "
              f"{end['exchanged']}, the slowest {end['slowest_s']} s", flush=True)
        self.assertEqual(broken, [])
        self.assertEqual(set(counts), set(BACKENDS))
        self.assertLessEqual(forwarded, NEW_FLOWS * (SECONDS + 2) * 1.1)
        self.assertGreater(after["drop_vip_rate"] - before["drop_vip_rate"], RATE * SECONDS / 2)


if __name__ == "__main__":
    main()
