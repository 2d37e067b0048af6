"""Decapsulation on a backend, with real sockets. The client's packets for a VIP go into a TUN device
and leave it in tunnels that tests/lab/tunnel.py makes; the backend has the VIPs on loopback and
answers directly. Every kind of tunnel, XDP and tc; lists; replacement under traffic."""

import contextlib
import json
import os
import pathlib
import re
import threading
import unittest

from labcase import *

HERE = pathlib.Path(__file__).parent
PORT = 7007
START_S = 60  # an interpreter on an emulated machine takes its time
CLIENT = {4: "10.88.0.100", 6: "fd88::100"}
BALANCER = {4: "10.88.0.1", 6: "fd88::1"}  # the outer source; nobody has the address
STRANGER = {4: "10.88.0.66", 6: "fd88::66"}
BACKEND = {4: "10.88.0.11", 6: "fd88::11"}
VIP = {4: "203.0.113.80", 6: "2001:db8:88::80"}
NO_VIP = {4: "203.0.113.99", 6: "2001:db8:88::99"}  # on loopback too, but not listed
KINDS = [(kind, outer, inner) for kind in ("ipip", "gue", "gue0") for outer in (4, 6)
         for inner in (4, 6)]


class DecapCase(unittest.TestCase):
    """A client and a backend on one cable, and weir decap."""

    @classmethod
    def setUpClass(cls):
        need_root()
        cls.lab = weirlab.Lab(f"weirtest{os.getpid()}d")
        cls.addClassCleanup(cls.lab.close)
        cls.lab.remove_leftovers()
        for host in ("client", "backend"):
            cls.lab.add_host(host)
        cls.lab.cable("client", "eth0", "backend", "eth0", 1600)
        cls.lab.address("client", CLIENT[4], CLIENT[6])
        cls.lab.address("backend", BACKEND[4], BACKEND[6])
        for host in ("client", "backend"):  # answers do not come back the way that questions went
            cls.lab.run_in(host, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0",
                           "net.ipv4.conf.eth0.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
        for vips in (VIP, NO_VIP):
            cls.lab.run_in("backend", "ip", "address", "add", f"{vips[4]}/32", "dev", "lo")
            cls.lab.run_in("backend", "ip", "address", "add", f"{vips[6]}/128", "dev", "lo", "nodad")
        link = cls.lab.run_in("backend", "ip", "-br", "link", "show", "dev", "eth0").stdout
        cls.mac = re.search(r"(\w\w:){5}\w\w", link).group(0)
        cls.lab.start("echo", "backend", "python3", HERE / "echo_server.py", PORT, *VIP.values(),
                      *NO_VIP.values())
        wait_until("the echo server", lambda: "ready" in cls.lab.log("echo"), START_S)

    def tearDown(self):
        self.decap("unload", "eth0", check=False)

    # ---- the program --------------------------------------------------------------------------

    def decap(self, *arguments, **options):
        return self.lab.decap("backend", *arguments, **options)

    def load(self, *extra, sources=tuple(BALANCER.values()), vips=tuple(VIP.values())):
        lists = [word for source in sources for word in ("--source", source)]
        lists += [word for vip in vips for word in ("--vip", vip)]
        return self.decap("load", "eth0", *lists, *extra)

    def rows(self):
        return json.loads(self.decap("stats", "eth0", "--json").stdout)["devices"][0]["verdicts"]

    def row(self, verdict):
        return next(row for row in self.rows() if row["verdict"] == verdict)

    def counters(self):
        return {row["verdict"]: row["packets"] for row in self.rows()}

    def status(self):
        return json.loads(self.decap("status", "eth0", "--json").stdout)["devices"][0]

    # ---- traffic ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def tunnel(self, kind, outer, vips=VIP, source=BALANCER, **options):
        """Routes to the VIPs, through a tunnel of this kind."""
        extra = [word for name, value in options.items() for word in (f"--{name}", value)]
        self.lab.start("tunnel", "client", "python3", HERE / "tunnel.py", "tun0", kind, "eth0",
                       source[outer], BACKEND[outer], self.mac, *extra)
        try:
            wait_until("the tunnel", lambda: self.lab.alive("tunnel") and self.lab.run_in(
                "client", "ip", "link", "show", "tun0", check=False).returncode == 0, START_S)
            self.lab.run_in("client", "ip", "link", "set", "tun0", "up", "mtu", "1500")
            self.lab.run_in("client", "ip", "route", "add", f"{vips[4]}/32", "dev", "tun0", "src",
                            CLIENT[4])
            self.lab.run_in("client", "ip", "-6", "route", "add", f"{vips[6]}/128", "dev", "tun0")
            yield
        finally:
            self.lab.stop("tunnel")

    def ask(self, protocol, inner, *extra, vips=VIP):
        return self.lab.run_in("client", "python3", HERE / "echo_client.py", protocol, CLIENT[inner],
                               vips[inner], PORT, *extra, check=False)

    def assert_answered(self, protocol, inner, *extra):
        done = self.ask(protocol, inner, *extra)
        self.assertEqual(done.returncode, 0, f"{protocol}: {done.stdout}{done.stderr}"
                         f"{self.lab.log('tunnel')}{self.counters()}")

    def assert_silent(self, protocol, inner, vips=VIP):
        done = self.ask(protocol, inner, "--count", 2, "--patience", 0.3, vips=vips)
        self.assertNotEqual(done.returncode, 0, "it was answered")


class Tunnels(DecapCase):

    def every_kind(self, mode, hook):
        self.load("--mode", mode)
        self.assertEqual((self.status()["mode"], self.status()["hook"]), (mode, hook))
        for kind, outer, inner in KINDS:
            with self.subTest(kind=kind, outer=outer, inner=inner), self.tunnel(kind, outer):
                before = self.counters()["pass_inner"]
                self.assert_answered("udp", inner)
                self.assert_answered("tcp", inner)
                self.assertGreater(self.counters()["pass_inner"], before + 20)
        dropped = {name: n for name, n in self.counters().items() if n and name.startswith("drop")}
        self.assertEqual(dropped, {})

    def test_every_kind_through_native_xdp(self):
        self.every_kind("native", "xdp")

    def test_every_kind_through_generic_xdp(self):
        self.every_kind("generic", "xdp")

    def test_every_kind_through_tc(self):
        hook = "tcx" if self.has_tcx() else "clsact"
        self.every_kind("tc", hook)

    @staticmethod
    def has_tcx():
        major, minor = (int(n) for n in os.uname().release.split(".")[:2])
        return (major, minor) >= (6, 6)

    def test_tc_takes_segments_that_the_kernel_has_merged(self):
        self.lab.run_in("backend", "ethtool", "-K", "eth0", "gro", "on")
        self.addCleanup(self.lab.run_in, "backend", "ethtool", "-K", "eth0", "gro", "off")
        # The tunnel sends packet by packet: wait a little for the next one to merge it with.
        run("ip", "netns", "exec", self.lab.namespace("backend"), "sh", "-c",
            "echo 2000000 >/sys/class/net/eth0/gro_flush_timeout")
        self.load("--mode", "tc")
        for kind, outer, inner in KINDS:
            with self.subTest(kind=kind, outer=outer, inner=inner), self.tunnel(kind, outer):
                before = self.row("pass_inner")
                self.assert_answered("tcp", inner, "--bytes", 1_000_000, "--patience", 20)
                after = self.row("pass_inner")
                mean = (after["bytes"] - before["bytes"]) / (after["packets"] - before["packets"])
                if kind == "ipip":  # GUE datagrams are not merged without a socket of their own
                    self.assertGreater(mean, 1600, "nothing was merged, so nothing was tested")
        dropped = {name: n for name, n in self.counters().items() if n and name.startswith("drop")}
        self.assertEqual(dropped, {})

    def test_another_gue_port(self):
        self.load("--gue-port", 7777)
        with self.tunnel("gue", 4, port=7777):
            self.assert_answered("udp", 4)
        with self.tunnel("gue", 4):
            self.assert_silent("udp", 4)

    def test_a_congestion_mark_goes_inside(self):
        self.load()
        with self.tunnel("ipip", 4, ecn=3):
            self.assert_silent("udp", 4)  # UDP of an echo client does not know ECN
        self.assertGreater(self.counters()["drop_ecn"], 0)

    def test_a_tagged_frame_keeps_its_tag(self):
        for host, suffix in (("client", "100"), ("backend", "11")):
            made = self.lab.run_in(host, "ip", "link", "add", "link", "eth0", "name", "eth0.9",
                                   "type", "vlan", "id", "9", check=False)
            if made.returncode != 0:
                self.skipTest(f"no VLAN devices here: {made.stderr.strip()}")
            self.addCleanup(self.lab.run_in, host, "ip", "link", "delete", "eth0.9")
            self.lab.run_in(host, "ip", "link", "set", "eth0.9", "up")
            self.lab.run_in(host, "sysctl", "-qw", "net.ipv4.conf.eth0/9.rp_filter=0")
            self.lab.run_in(host, "ip", "address", "add", f"10.89.0.{suffix}/24", "dev", "eth0.9")
        # The answer takes the tagged device, because the client's address is beyond it.
        self.load("--mode", "native")
        with self.tunnel("gue", 4, vlan=9):
            self.lab.run_in("client", "ip", "route", "replace", f"{VIP[4]}/32", "dev", "tun0", "src",
                            "10.89.0.100")
            done = self.lab.run_in("client", "python3", HERE / "echo_client.py", "udp",
                                   "10.89.0.100", VIP[4], PORT, check=False)
            self.assertEqual(done.returncode, 0, f"{done.stdout}{self.counters()}")


class Lists(DecapCase):

    def test_an_unlisted_source_does_not_reach_the_socket(self):
        for mode in ("native", "tc"):
            for kind, outer in (("ipip", 4), ("ipip", 6), ("gue", 4), ("gue", 6)):
                with self.subTest(mode=mode, kind=kind, outer=outer):
                    self.load("--mode", mode)
                    with self.tunnel(kind, outer, source=STRANGER):
                        before = self.counters()["pass_source"]
                        self.assert_silent("udp", 4)
                        self.assertGreaterEqual(self.counters()["pass_source"], before + 2)

    def test_an_unlisted_vip_does_not_reach_the_socket(self):
        for mode in ("native", "tc"):
            for inner in (4, 6):
                with self.subTest(mode=mode, inner=inner):
                    self.load("--mode", mode)
                    with self.tunnel("ipip", 4, vips=NO_VIP):
                        before = self.counters()["pass_vip"]
                        self.assert_silent("udp", inner, vips=NO_VIP)
                        self.assertGreaterEqual(self.counters()["pass_vip"], before + 2)

    def test_foreign_packets_are_dropped_where_that_is_told(self):
        self.load("--foreign", "drop")
        with self.tunnel("ipip", 4, source=STRANGER):
            self.assert_silent("udp", 4)
        self.assertGreaterEqual(self.counters()["drop_source"], 2)

    def test_a_prefix_of_vips(self):
        self.load(vips=("203.0.113.0/24", "2001:db8:88::/64"))
        with self.tunnel("ipip", 4):
            self.assert_answered("udp", 4)
            self.assert_answered("udp", 6)

    def test_loading_again_misses_no_packet(self):
        for mode in ("native", "tc"):
            with self.subTest(mode=mode):
                self.load("--mode", mode)
                with self.tunnel("ipip", 4):
                    results = []
                    asking = threading.Thread(target=lambda: results.append(
                        self.ask("udp", 4, "--count", 3000, "--patience", 1)))
                    asking.start()
                    rounds = 0
                    while asking.is_alive() and rounds < 200:
                        self.load("--mode", mode, vips=(*VIP.values(), f"192.0.2.{rounds % 250}"))
                        rounds += 1
                    asking.join()
                    self.assertEqual(results[0].stdout.strip(), "3000", results[0].stderr)
                    self.assertGreater(rounds, 2)
                    self.assertGreaterEqual(self.counters()["pass_inner"], 3000)

    def test_set_changes_what_is_given_and_nothing_else(self):
        self.load("--gue-port", 7000, "--foreign", "drop")
        self.decap("set", "eth0", "--vip", NO_VIP[4])
        status = self.status()
        self.assertEqual(status["vips"], [f"{NO_VIP[4]}/32"])
        self.assertEqual(sorted(status["sources"]), sorted(BALANCER.values()))
        self.assertEqual((status["gue_port"], status["foreign"]), (7000, "drop"))


class Command(DecapCase):

    def refused(self, *arguments, code=1, words=()):
        done = self.decap(*arguments, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_the_lists_have_to_be_given(self):
        self.refused("load", "eth0", "--vip", VIP[4], words=("--source", "--any-source"))
        self.refused("load", "eth0", "--source", BALANCER[4], words=("--vip", "--any-vip"))
        self.refused("load", "eth0", "--any-source", "--source", BALANCER[4], "--any-vip", code=2,
                     words=("--any-source",))
        self.refused("status", "eth0", words=("eth0", "weir decap load"))

    def test_wrong_words(self):
        lists = ("--source", BALANCER[4], "--vip", VIP[4])
        self.refused("load", "eth7", *lists, words=("eth7", "ip link"))
        self.refused("load", "eth0", *lists, "--mode", "fast", code=2, words=("fast",))
        self.refused("load", "eth0", *lists, "--gue-port", 70000, code=2, words=("70000",))
        self.refused("load", "eth0", "--source", "10.0.0.300", code=2, words=("10.0.0.300",))
        self.refused("load", "eth0", *lists, "--vip", "10.0.0.0/40", code=2, words=("10.0.0.0/40",))
        self.refused("unload", "eth0", words=("eth0",))

    def test_another_xdp_program_is_refused_by_name_and_tc_goes_beside_it(self):
        self.lab.load_program("backend", "eth0", "weir_pass")
        try:
            self.refused("load", "eth0", "--source", BALANCER[4], "--vip", VIP[4],
                         words=("weir_pass", "id ", "--mode tc"))
            self.load("--mode", "tc")
            with self.tunnel("ipip", 4):
                self.assert_answered("tcp", 4)
        finally:
            self.lab.run_in("backend", "ip", "link", "set", "dev", "eth0", "xdp", "off")

    def test_from_xdp_to_tc_and_back_without_taking_it_down(self):
        with self.tunnel("ipip", 6):
            for mode in ("native", "tc", "native"):
                self.load("--mode", mode)
                self.assertEqual(self.status()["mode"], mode)
                self.assert_answered("udp", 6)
        self.refused("load", "eth0", "--source", BALANCER[4], "--vip", VIP[4], "--mode", "generic",
                     words=("native", "unload"))

    def test_a_strict_reverse_path_filter_is_warned_about(self):
        setting = "net.ipv4.conf.eth0.rp_filter"
        self.lab.run_in("backend", "sysctl", "-qw", f"{setting}=1")
        self.addCleanup(self.lab.run_in, "backend", "sysctl", "-qw", f"{setting}=0")
        self.assertIn(f"sysctl -w {setting}=", self.load().stderr)

    def test_a_vip_that_the_host_does_not_have_is_warned_about(self):
        self.assertIn("ip address add 192.0.2.7/32 dev lo", self.load(vips=("192.0.2.7",)).stderr)
        self.assertEqual(self.load().stderr, "")

    def test_nothing_is_left_when_it_is_unloaded(self):
        for mode in ("native", "tc"):
            self.load("--mode", mode)
            self.decap("unload", "eth0")
            self.refused("status", "eth0", words=("eth0",))
            self.assertEqual(json.loads(self.decap("status", "--json").stdout), {"devices": []})
            shown = self.lab.run_in("backend", "ip", "link", "show", "dev", "eth0").stdout
            self.assertNotIn("xdp", shown)


if __name__ == "__main__":
    main()
