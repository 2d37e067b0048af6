"""Transfers of our stack and Linux both ways over a cable that loses, reorders and doubles one frame in
ten: byte-exact, and within what RTT and RTO allow. WEIR_STACK_MIB says how much, 16 without it."""

import time

from labcase import main
from stack_servers_test import MIB, UPSTREAM, StackServers
from stackcase import *

SIZE = int(os.environ.get("WEIR_STACK_MIB", 16)) * MIB
LOSS, RTO_S, RTT_S, MSS = 0.10, 0.2, 0.004, 1448


IMPAIR = weirlab.BUILD / "tests" / "lab" / "weir_impair_relay"


class StackLossy(StackServers):

    PATIENCE = 600.0

    @classmethod
    def join(cls):
        """The same two hosts, with the relay between them."""
        cls.lab.add_host("impair")
        cls.lab.cable("linux", "eth0", "impair", "left", 1500)
        cls.lab.cable("impair", "right", "weir", "w0", 1500)
        for host, device in (("linux", "eth0"), ("impair", "left"), ("impair", "right")):
            for feature in ("tso", "gso", "gro"):
                cls.lab.run_in(host, "ethtool", "-K", device, feature, "off", check=False)
        cls.lab.run_in("weir", "sysctl", "-qw", "net.ipv6.conf.w0.disable_ipv6=1")
        cls.lab.start("impair", "impair", IMPAIR, "--delay", f"{RTT_S / 2 * 1000:g}ms", "--loss",
                      f"{LOSS:.0%}", "--reorder", f"{LOSS:.0%}", "--duplicate", f"{LOSS:.0%}", "--seed",
                      1, "left", "right")
        wait_until("the relay", lambda: cls.lab.alive("impair") and "ready" in cls.lab.log("impair"))

    def test_transfers_both_ways_are_exact_and_in_time(self):
        self.start_relay()
        began = time.monotonic()
        self.transfer_both_ways(SIZE)
        took = time.monotonic() - began
        # Each byte crosses the cable twice. At worst every lost segment, or ACK, costs a time-out of
        # its own, and the rest goes one segment to a round trip.
        segments = 2 * SIZE / MSS
        bound = segments * (2 * LOSS * RTO_S + RTT_S)
        print(f"\n{SIZE // MIB} MiB each way in {took:.1f} s, bound {bound:.0f} s", flush=True)
        self.assertLess(took, bound)
        self.assert_all_gone(30)
        counters = self.end_stack()["tcp"]
        self.assertGreater(counters["retransmitted_segments"], segments * LOSS / 4)


def load_tests(loader, tests, pattern):
    """Of the class only what is its own: the clean cable's tests are those of the other script."""
    del loader, tests, pattern
    return unittest.TestSuite([StackLossy("test_transfers_both_ways_are_exact_and_in_time")])


if __name__ == "__main__":
    if not IMPAIR.exists():
        skip_all("weir_impair_relay is not built")
    main()
