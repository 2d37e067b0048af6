"""The kernel's own tunnel devices take apart what the balancer encapsulates, and real sockets
answer through them."""

import unittest

from guestcase import BACKENDS, VIP4, VIP6, GuestCase, backend4, backend6, has_gue

ASKED = 20


class Ipip(GuestCase):
    MODE = "ipip"
    # Where the outer header's packets come out, by inner and outer family.
    DEVICES = {"4 in 4": "ipip", "6 in 6": "ip6tnl", "6 in 4": "sit0"}

    @classmethod
    def prepare(cls):
        four, six = ([address(name) for name in BACKENDS] for address in (backend4, backend6))
        cls.add_vip(f"{VIP4}:80/tcp", cls.MODE, four)
        cls.add_vip(f"{VIP4}:53/udp", cls.MODE, four)
        cls.add_vip(f"[{VIP6}]:80/tcp", cls.MODE, six)
        cls.add_vip(f"[{VIP6}]:53/udp", cls.MODE, four)
        cls.lab.weir("load", "eth0", "--mode", "native")

    def assert_answered(self, kind, address, tunnel):
        before = [self.lab.received(name, self.DEVICES[tunnel]) for name in BACKENDS]
        answers = self.lab.ask(kind, address, ASKED).split()
        self.assertEqual(len(answers), ASKED)
        self.assertEqual(set(answers), set(BACKENDS), "every backend answers some")
        after = [self.lab.received(name, self.DEVICES[tunnel]) for name in BACKENDS]
        for name, was, now in zip(BACKENDS, before, after):
            self.assertGreaterEqual(now - was, answers.count(name),
                                    f"{name}: {self.DEVICES[tunnel]} received what was answered")

    def test_tcp_over_ipv4_is_answered_through_the_kernels_tunnel(self):
        self.assert_answered("tcp", VIP4, "4 in 4")

    def test_udp_over_ipv4_is_answered_through_the_kernels_tunnel(self):
        self.assert_answered("udp", VIP4, "4 in 4")

    def test_tcp_over_ipv6_is_answered_through_the_kernels_tunnel(self):
        self.assert_answered("tcp", VIP6, "6 in 6")

    def test_udp_over_ipv6_is_answered_by_backends_behind_ipv4(self):
        self.assert_answered("udp", VIP6, "6 in 4")


@unittest.skipUnless(has_gue(), "skipped, because weir vip add has no mode gue")
class Gue(Ipip):
    """GUE variant 1: the inner packet follows the UDP header. The kernel's receiver hands it to the
    tunnel device of the inner family and of the outer."""

    MODE = "gue"


if __name__ == "__main__":
    unittest.main()
