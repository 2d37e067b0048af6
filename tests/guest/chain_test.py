"""The balancer beside another XDP program on the same device, through libxdp's dispatcher."""

import re
import unittest

from guestcase import BACKENDS, NODE4, VIP4, GuestCase, backend4, wait_until

OTHER, OURS = "xdpfilt_alw_all", "weir_lb"  # the other is xdp-filter's program, which counts
PINGS = 5
ASKED = 3


class Chain(GuestCase):
    """The other program is there first and decides first, as a packet filter does."""

    @classmethod
    def prepare(cls):
        cls.add_vip(f"{VIP4}:80/tcp", "ipip", [backend4(name) for name in BACKENDS])

    def setUp(self):
        self.lab.run_in("node", "xdp-filter", "load", "--mode", "native", "eth0")
        self.lab.weir("load", "eth0", "--mode", "native", "--chain")

    def tearDown(self):
        self.lab.weir("unload", check=False)
        self.lab.run_in("node", "xdp-filter", "unload", "--all", check=False)

    def chained(self):
        """Names of the programs on the device, in order, as libxdp sees them."""
        told = self.lab.run_in("node", "xdp-loader", "status", "eth0").stdout
        return re.findall(r"^ *=> +\d+ +(\w+)", told, re.M)

    def passed_by_the_other(self):
        told = self.lab.run_in("node", "xdp-filter", "status").stdout
        return int(re.search(r"XDP_PASS +(\d+) pkts", told).group(1))

    def ping(self):
        self.lab.run_in("client", "ping", "-c", PINGS, "-i", "0.2", "-W", "5", NODE4)

    def ask(self):
        answers = self.lab.ask("tcp", VIP4, ASKED).split()
        self.assertEqual(len(answers), ASKED)
        self.assertLessEqual(set(answers), set(BACKENDS))

    def test_both_are_in_the_chain_and_both_see_traffic(self):
        self.assertEqual(self.chained(), [OTHER, OURS])
        device = self.lab.weir_json("status")["devices"][0]
        self.assertEqual((device["name"], device["mode"], device["chained"]), ("eth0", "native", True))
        before, passed = self.verdicts(), self.passed_by_the_other()
        self.ask()
        forwarded = self.verdicts()["tx_ipip"] - before.get("tx_ipip", 0)
        self.assertGreaterEqual(forwarded, 3 * ASKED)  # a handshake and a request at least
        self.assertGreaterEqual(self.passed_by_the_other() - passed, forwarded)

    def test_what_the_other_drops_does_not_reach_ours(self):
        self.lab.run_in("node", "xdp-filter", "ip", "--mode", "dst", VIP4)
        before = self.verdicts().get("tx_ipip", 0)
        asked = self.lab.run_in("client", "curl", "--silent", "--max-time", "2", f"http://{VIP4}/",
                                check=False)
        self.assertEqual(asked.returncode, 28, "curl waited in vain")
        self.assertEqual(self.verdicts().get("tx_ipip", 0), before)
        self.lab.run_in("node", "xdp-filter", "ip", "--mode", "dst", "--remove", VIP4)
        self.ask()

    def test_unloading_ours_leaves_the_other(self):
        self.lab.weir("unload")
        self.assertEqual(self.chained(), [OTHER])
        passed = self.passed_by_the_other()
        self.ping()
        self.assertGreaterEqual(self.passed_by_the_other() - passed, PINGS)

    def test_unloading_the_other_leaves_ours(self):
        self.lab.run_in("node", "xdp-filter", "unload", "eth0")
        self.assertEqual(self.chained(), [OURS])
        self.ask()


class Capture(GuestCase):
    """xdpdump traces a loaded program from outside: it sees packets before and after ours."""

    @classmethod
    def prepare(cls):
        cls.add_vip(f"{VIP4}:80/tcp", "ipip", [backend4(name) for name in BACKENDS])
        cls.lab.weir("load", "eth0", "--mode", "native")

    def test_xdpdump_shows_packets_of_a_vip_and_what_became_of_them(self):
        self.lab.start("xdpdump", "node", "xdpdump", "-i", "eth0", "--rx-capture", "entry,exit",
                       "-x", "--load-xdp-mode", "native")
        wait_until("xdpdump to listen", lambda: "listening" in self.lab.log("xdpdump"), 30)
        self.assertIn(self.lab.ask("tcp", VIP4, 1), BACKENDS)
        wait_until("xdpdump to show what was sent out again",
                   lambda: "[TX]" in self.lab.log("xdpdump"), 10)
        self.lab.stop("xdpdump")


if __name__ == "__main__":
    unittest.main()
