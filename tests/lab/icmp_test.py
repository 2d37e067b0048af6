"""ICMP with real sockets: errors find the backend of their flow, echo requests are answered, hop
limits that are used up and ports and VIPs without service are answered in the VIP's name."""

import ipaddress
import socket
import struct
import time

from pathcase import *

MODES = [("ipip", 4, 4), ("ipip", 4, 6), ("ipip", 6, 4), ("ipip", 6, 6), ("gue", 4, 4), ("gue", 6, 6),
         ("l2", 4, 4), ("l2", 6, 6)]
EMPTY, SILENT = (vip4(70), vip6(70)), (vip4(71), vip6(71))  # without backends: refuses, drops
NOBODY = vip4(200), vip6(200)  # routed to the node as VIPs are, but none
IP_RECVERR, IPV6_RECVERR = 11, 25
ICMP, ICMPV6 = socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6
# Kinds of errors: family, type, code, and what the backend's kernel counts.
ERRORS = [(4, 3, 3, "InDestUnreachs"), (4, 11, 0, "InTimeExcds"), (4, 12, 0, "InParmProbs"),
          (6, 1, 4, "Icmp6InDestUnreachs"), (6, 3, 0, "Icmp6InTimeExcds"),
          (6, 4, 0, "Icmp6InParmProblems")]


def address_of(mode):
    return (vip4 if mode[1] == 4 else vip6)(10 + MODES.index(mode))


def internet_checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF ^ total


def error_about(kind, code, protocol, sender, receiver):
    """An ICMP error that quotes the beginning of a packet, with the eight bytes that are promised.
    `sender` and `receiver` are pairs of address and port."""
    source, destination = (ipaddress.ip_address(end[0]).packed for end in (sender, receiver))
    ports = struct.pack("!HHI", sender[1], receiver[1], 0)
    if len(source) == 16:  # the kernel fills in the checksum
        quoted = struct.pack("!IHBB", 6 << 28, 1000, protocol, 60) + source + destination
        return struct.pack("!BBHI", kind, code, 0, 0) + quoted + ports
    header = struct.pack("!BBHHHBBH", 0x45, 0, 1020, 1, 0x4000, 60, protocol, 0) + source + destination
    quoted = header[:10] + struct.pack("!H", internet_checksum(header)) + header[12:]
    message = struct.pack("!BBHI", kind, code, 0, 0) + quoted + ports
    return message[:2] + struct.pack("!H", internet_checksum(message)) + message[4:]


class Icmp(PathCase):

    @classmethod
    def prepare(cls):
        cls.apply(cls.vips())

    @staticmethod
    def vips():
        lines = "".join(vip_line(f"{m[0]}{m[1]}over{m[2]}-{p.lower()}", address_of(m), backends_of(m[2]),
                                 p, mode=m[0]) for m in MODES for p in ("TCP", "UDP"))
        for family, index in ((4, 0), (6, 1)):
            for p in ("TCP", "UDP"):
                lines += vip_line(f"empty{family}{p.lower()}", EMPTY[index], "[]", p)
                lines += vip_line(f"silent{family}{p.lower()}", SILENT[index], "[]", p,
                                  words=", whenEmpty: drop")
        return lines

    # ---- errors about flows -------------------------------------------------------------------

    def send_error(self, source, vip, message):
        with self.inside("client"):
            raw = socket.socket(family_of(vip), socket.SOCK_RAW, ICMPV6 if ":" in vip else ICMP)
        with raw:
            raw.bind((source, 0))
            raw.sendto(message, (vip, 0))

    def assert_only(self, owner, kind, code, counter, flow, protocol):
        """An error about the flow, from anybody, reaches its backend and no other."""
        vip = flow[0][0]
        for router in (self.client4 if "." in vip else self.client6)[::4]:
            before = self.icmp_received(counter)
            self.send_error(router, vip, error_about(kind, code, protocol, *flow))
            wait_until("the error", lambda: self.icmp_received(counter) != before, 3)
            self.assertEqual(dict(self.icmp_received(counter) - before), {owner: 1})

    def test_errors_that_quote_eight_bytes_reach_the_backend_of_their_flow(self):
        for mode in MODES:
            for family, kind, code, counter in ERRORS:
                if family != mode[1]:
                    continue
                with self.subTest(mode=mode, type=kind), self.assert_nothing_dropped():
                    vip = address_of(mode)
                    datagrams = self.socket(vip, socket.SOCK_DGRAM)
                    datagrams.connect((vip, PORT))
                    datagrams.send(b"?")
                    owner = datagrams.recv(100).split(b" ")[0].decode()
                    flow = (vip, PORT), datagrams.getsockname()[:2]
                    self.assert_only(owner, kind, code, counter, flow, socket.IPPROTO_UDP)
                    connection, owner = self.open(vip)
                    flow = (vip, PORT), connection.getsockname()[:2]
                    self.assert_only(owner, kind, code, counter, flow, socket.IPPROTO_TCP)
                    self.exchange(connection, 1000)  # such errors do not end a connection

    # ---- echo ---------------------------------------------------------------------------------

    def ping(self, address, *arguments, count=3):
        done = self.lab.run_in("client", "ping", "-n", "-c", count, "-i", "0.01", "-W", "1", *arguments,
                               address, check=False)
        return int(re.search(r"(\d+) received", done.stdout).group(1))

    def test_an_echo_request_to_a_vip_is_answered_whatever_its_length(self):
        for address in (vip4(10), vip6(12)):
            for size in (0, 1, 8, 55, 1000, 1472 if "." in address else 1452):
                with self.assert_counted("tx_echo_reply", 3):
                    self.assertEqual(self.ping(address, "-s", size), 3, f"{address}, {size} bytes")

    def test_an_echo_request_to_another_address_is_never_answered_by_us(self):
        answered = self.verdicts()["tx_echo_reply"]
        for address in NOBODY:
            self.assertEqual(self.ping(address), 0, address)
        for address in (NODE4, NODE6):
            self.assertEqual(self.ping(address), 3, f"{address} is the host's own")
        self.assertEqual(self.verdicts()["tx_echo_reply"], answered)

    def test_answers_have_a_rate(self):
        self.apply(self.vips(), "  icmp: {rate: 50/s}\n")
        self.addCleanup(self.apply, self.vips())
        start = time.monotonic()
        with self.assert_counted("drop_icmp_rate", 100):
            done = self.lab.run_in("client", "ping", "-n", "-f", "-c", "400", "-W", "1", vip4(10),
                                   check=False)
        received = int(re.search(r"(\d+) received", done.stdout).group(1))
        self.assertLessEqual(received, 50 * (2 + time.monotonic() - start))
        self.assertGreaterEqual(received, 50)

    def test_echo_can_be_left_unanswered(self):
        self.apply(self.vips(), "  icmp: {echo: false}\n")
        self.addCleanup(self.apply, self.vips())
        self.assertEqual(self.ping(vip4(10)) + self.ping(vip6(12)), 0)

    # ---- what is not forwarded ----------------------------------------------------------------

    def error_for(self, vip, port, hops=64, payload=b"?"):
        """What a connected socket hears of its datagram: errno, ICMP type and code, sender."""
        datagrams = self.socket(vip, socket.SOCK_DGRAM)
        v4 = "." in vip
        level = socket.IPPROTO_IP if v4 else socket.IPPROTO_IPV6
        datagrams.setsockopt(level, IP_RECVERR if v4 else IPV6_RECVERR, 1)
        datagrams.setsockopt(level, socket.IP_TTL if v4 else socket.IPV6_UNICAST_HOPS, hops)
        datagrams.connect((vip, port))
        datagrams.send(payload)
        with self.assertRaises(OSError):
            datagrams.recv(100)
        record = datagrams.recvmsg(100, 512, socket.MSG_ERRQUEUE)[1][0][2]
        number, _, kind, code = struct.unpack_from("=IBBB", record)
        sender = record[20:24] if v4 else record[24:40]
        return number, kind, code, socket.inet_ntop(datagrams.family, sender)

    def test_a_hop_limit_that_is_used_up_is_answered_from_the_vip(self):
        for mode in MODES:
            with self.subTest(mode=mode), self.assert_counted("tx_ttl_exceeded", 2):
                vip = address_of(mode)
                expired = (113, 11, 0, vip) if mode[1] == 4 else (113, 3, 0, vip)  # EHOSTUNREACH
                self.assertEqual(self.error_for(vip, PORT, 1), expired)
                self.assertEqual(self.error_for(vip, PORT, 1, os.urandom(1400)), expired)
                self.assertIn(self.ask_udp(vip), BACKENDS)

    def test_a_port_without_service_is_refused(self):
        for mode in MODES:
            with self.subTest(mode=mode), self.assert_counted("tx_refused", 2):
                self.assert_refused(address_of(mode), PORT + 1)

    def assert_refused(self, vip, port):
        with self.assertRaises(ConnectionRefusedError):
            self.ask_tcp(vip, port)
        refused = (111, 3, 3, vip) if "." in vip else (111, 1, 4, vip)
        self.assertEqual(self.error_for(vip, port), refused)

    def test_a_vip_without_backends_refuses_or_is_silent_as_configured(self):
        for vip in EMPTY:
            with self.assert_counted("tx_refused", 2):
                self.assert_refused(vip, PORT)
        for vip in SILENT:
            with self.assert_counted("drop_no_backend", 2):
                for ask in (self.ask_tcp, self.ask_udp):
                    with self.assertRaises(TimeoutError):
                        ask(vip, patience=0.3)

    def test_the_last_backend_that_goes_takes_the_service_with_it(self):
        vip = vip4(10)
        connection, _ = self.open(vip)
        self.exchange(connection, 1000)
        self.addCleanup(self.apply, self.vips())
        self.apply(self.vips().replace(f'"{vip}"', f'"{vip4(99)}"') + "".join(
            vip_line(f"gone-{p.lower()}", vip, "[]", p) for p in ("TCP", "UDP")))
        self.assert_refused(vip, PORT)
        with self.assertRaises(ConnectionResetError):
            self.exchange(connection, 1000)


if __name__ == "__main__":
    main()
