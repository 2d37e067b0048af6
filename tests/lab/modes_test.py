"""Every forwarding mode with real sockets: TCP and UDP, both families on both sides, fragments,
ranges of ports, prefixes, affinity. Mode nat and the L7 tier have tests of their own."""

import socket

from pathcase import *

MODES = [("ipip", 4, 4), ("ipip", 4, 6), ("ipip", 6, 4), ("ipip", 6, 6), ("gue", 4, 4), ("gue", 4, 6),
         ("gue", 6, 4), ("gue", 6, 6), ("l2", 4, 4), ("l2", 6, 6)]  # VIP's family, backends' family
RANGE = vip4(40), vip6(40)
ANY = vip4(41), vip6(41)
PREFIX4, PREFIX6 = "203.0.113.128/28", "2001:db8:77:0:1::/80"
AFFINE = vip4(42), vip6(42)
FRAGMENTED_BYTES = 4000  # three fragments on the client's device of 1,500


def address_of(mode, family):
    """The VIP of one line of MODES."""
    return (vip4 if family == 4 else vip6)(10 + MODES.index(mode))


def mode_vips():
    return "".join(
        vip_line(f"{m[0]}{m[1]}over{m[2]}-{protocol.lower()}", address_of(m, m[1]), backends_of(m[2]),
                 protocol, mode=m[0]) for m in MODES for protocol in ("TCP", "UDP"))


class Modes(PathCase):

    @classmethod
    def prepare(cls):
        cls.apply(mode_vips())

    def every_mode(self, check):
        for mode, vip, backends in MODES:
            with self.subTest(mode=mode, vip=vip, backends=backends), self.assert_nothing_dropped():
                check(mode, address_of((mode, vip, backends), vip))

    def test_tcp_reaches_all_backends_and_carries_data_both_ways(self):
        def check(mode, address):
            with self.assert_counted(f"tx_{mode}", 40 * 5):
                counts = self.count_answers(self.ask_tcp, 40, address, size=1000)
            self.assertEqual(set(counts), set(BACKENDS), counts)
            self.ask_tcp(address, size=1_000_000)
        self.every_mode(check)

    def test_udp_reaches_all_backends(self):
        def check(mode, address):
            with self.assert_counted(f"tx_{mode}", 40):
                counts = self.count_answers(self.ask_udp, 40, address)
            self.assertEqual(set(counts), set(BACKENDS), counts)
        self.every_mode(check)

    def test_fragments_follow_the_flow_and_arrive_whole(self):
        def check(_, address):
            for _ in range(10):
                connection = self.socket(address, socket.SOCK_DGRAM)
                owner = self.ask_udp(address, connection=connection)
                data = os.urandom(FRAGMENTED_BYTES)  # which ask_udp holds against the echo
                self.assertEqual(self.ask_udp(address, data=data, connection=connection), owner)
        self.every_mode(check)

    def test_fragments_can_begin_a_flow(self):
        def check(mode, address):
            with self.assert_counted(f"tx_{mode}", 10 * 4):  # three of them fragments
                for _ in range(10):
                    connection = self.socket(address, socket.SOCK_DGRAM)
                    owner = self.ask_udp(address, data=os.urandom(FRAGMENTED_BYTES),
                                         connection=connection)
                    self.assertEqual(self.ask_udp(address, connection=connection), owner)
        self.every_mode(check)


class Addresses(PathCase):
    PORTS = (PORT, 5000, 5009, 5010, 60000)
    CLIENTS = 32

    @classmethod
    def prepare(cls):
        cls.apply(cls.vips(BACKENDS))

    @staticmethod
    def vips(names):
        lines = ""
        for family, index in ((4, 0), (6, 1)):
            backends = backends_of(family, names)
            for protocol in ("TCP", "UDP"):
                tag = f"{family}{protocol.lower()}"
                lines += vip_line(f"range{tag}", RANGE[index], backends, protocol, "5000-5009")
                lines += vip_line(f"any{tag}", ANY[index], backends, protocol, "any")
                lines += vip_line(f"prefix{tag}", (PREFIX4, PREFIX6)[index], backends, protocol)
                lines += vip_line(f"affine{tag}", AFFINE[index], backends, protocol,
                                  words=", affinity: {clientIP: {timeout: 10m}}")
        return lines

    def setUp(self):
        self.apply(self.vips(BACKENDS))

    def test_a_range_of_ports_has_both_its_ends_and_no_more(self):
        for address in RANGE:
            for port in (5000, 5009):
                self.assertIn(self.ask_tcp(address, port), BACKENDS)
                self.assertIn(self.ask_udp(address, port), BACKENDS)
            with self.assertRaises(ConnectionRefusedError):
                self.ask_tcp(address, 5010)

    def test_any_port(self):
        for address in ANY:
            for port in (PORT, 5010, 60000):
                self.assertIn(self.ask_tcp(address, port), BACKENDS)
                self.assertIn(self.ask_udp(address, port), BACKENDS)

    def test_every_address_of_a_prefix_is_served_and_none_beside_it(self):
        inside4 = [vip4(128), vip4(135), vip4(143)]
        inside6 = [f"2001:db8:77:0:1::{n:x}" for n in (0, 0xabcd)] + ["2001:db8:77:0:1:ffff:ffff:ffff"]
        for address in inside4 + inside6:
            self.assertIn(self.ask_tcp(address, size=1000), BACKENDS)
            self.assertIn(self.ask_udp(address), BACKENDS)
        for address in (vip4(127), vip4(144), "2001:db8:77:0:2::1"):
            with self.assertRaises(OSError, msg=address):
                self.ask_tcp(address, patience=0.3)

    def test_a_client_keeps_its_backend_whatever_its_port(self):
        for address, sources in zip(AFFINE, (self.client4, self.client6)):
            owners = []
            for source in sources:
                counts = self.count_answers(self.ask_tcp, 4, address, source=source)
                self.assertEqual(len(counts), 1, f"{source}: {counts}")
                owners += counts
            self.assertEqual(set(owners), set(BACKENDS), "clients do not spread")

    def test_a_client_keeps_its_backend_when_others_go_and_come_back(self):
        for address, sources in zip(AFFINE, (self.client4, self.client6)):
            before = {source: self.ask_udp(address, source=source) for source in sources}
            for names in (BACKENDS[:3], BACKENDS[1:3], BACKENDS):
                self.apply(self.vips(names))
                for source in sources:
                    name = self.ask_udp(address, source=source)
                    if before[source] in names:
                        self.assertEqual(name, before[source], f"{source} with {names}")
                    else:
                        before[source] = name
                        self.assertIn(name, names)


if __name__ == "__main__":
    main()
