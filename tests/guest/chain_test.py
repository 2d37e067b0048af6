"""The balancer beside another XDP program on the same device, through libxdp's dispatcher."""

import os
import re
import unittest

from guestcase import BACKENDS, NODE4, VIP4, GuestCase, backend4, wait_until

OTHER, OURS = "xdpfilt_alw_all", "weir_lb"  # the other is xdp-filter's program, which counts
PINGS = 5
ASKED = 3

# Later kernels take no extension that changes packets in the place of a function that does not, and
# the functions of Debian 12's dispatcher (libxdp 1.3.1) do not.
SERIES = tuple(map(int, re.match(r"(\d+)\.(\d+)", os.uname().release).groups()))
REFUSES = SERIES >= (6, 12)


def load_other(case):
    case.lab.run_in("node", "xdp-filter", "load", "--mode", "native", "eth0")
    case.addCleanup(case.lab.run_in, "node", "xdp-filter", "unload", "--all", check=False)


def chained(lab):
    """Names of the programs on the device, in order, as libxdp sees them."""
    told = lab.run_in("node", "xdp-loader", "status", "eth0").stdout
    return re.findall(r"^ *=> +\d+ +(\w+)", told, re.M)


@unittest.skipIf(REFUSES, "this kernel does not take ours into the dispatcher of libxdp 1.3.1")
class Chain(GuestCase):
    """The other program is there first and decides first, as a packet filter does."""

    @classmethod
    def prepare(cls):
        cls.add_vip(f"{VIP4}:80/tcp", "ipip", [backend4(name) for name in BACKENDS])

    def setUp(self):
        load_other(self)
        self.addCleanup(self.lab.weir, "unload", check=False)
        self.lab.weir("load", "eth0", "--mode", "native", "--chain")

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
        self.assertEqual(chained(self.lab), [OTHER, OURS])
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
        self.assertEqual(chained(self.lab), [OTHER])
        passed = self.passed_by_the_other()
        self.ping()
        self.assertGreaterEqual(self.passed_by_the_other() - passed, PINGS)

    def test_unloading_the_other_leaves_ours(self):
        self.lab.run_in("node", "xdp-filter", "unload", "eth0")
        self.assertEqual(chained(self.lab), [OURS])
        self.ask()


@unittest.skipUnless(REFUSES, "this kernel takes ours into the dispatcher")
class RefusedChain(GuestCase):
    def test_the_error_says_why_and_the_other_stays(self):
        load_other(self)
        told = self.lab.weir("load", "eth0", "--mode", "native", "--chain", check=False)
        self.assertEqual(told.returncode, 1)
        self.assertIn("eth0: joining the chain of XDP programs", told.stderr)
        self.assertIn("load without --chain", told.stderr)
        self.assertEqual(chained(self.lab), [OTHER])
        self.assertEqual(self.lab.weir_json("status")["devices"], [])


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
