"""Links that carry less than 1,500 bytes: between the balancer and its backends, where tunnels make
packets longer, and between a backend and its client, whose router tells the VIP."""

import socket
import struct

from pathcase import *

NARROW_MTU = 1400
TUNNELS = [("gue", 4, 4), ("gue", 4, 6), ("gue", 6, 4), ("gue", 6, 6), ("ipip", 4, 4), ("ipip", 6, 6)]
HEADERS = {("gue", 4): 28, ("gue", 6): 48, ("ipip", 4): 20, ("ipip", 6): 40}  # by outer family
NODE_NARROW = {4: "10.79.0.1", 6: "fd79::1"}
ROUTER = {4: "10.77.0.50", 6: "fd77::50"}
FAR = {4: "10.78.0.100", 6: "fd78::100"}
BYTES = 1_000_000
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_RECVERR, IP_MTU = 10, 2, 11, 14
IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO, IPV6_RECVERR, IPV6_MTU = 23, 2, 25, 24
SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6 = 2, 3


def address_of(mode, modes):
    return (vip4 if mode[1] == 4 else vip6)(20 + modes.index(mode))


def narrow_backend(family, name):
    return f"10.79.0.1{name[1:]}" if family == 4 else f"fd79::1{name[1:]}"


def download(test, address, **options):
    connection, name = test.open(address, patience=10, **options)
    with connection:
        connection.sendall(b"send %d\n" % BYTES)
        got = test.read(connection, BYTES)
    test.assertEqual(len(got), BYTES, f"from {name}")
    return name


class NarrowBackends(PathCase):
    """The backends hang on a second device of the node, and a second bridge, of 1,400 bytes. They
    answer through the first, which carries more."""

    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.run_in("fabric", "ip", "link", "add", "br1", "mtu", NARROW_MTU, "type", "bridge",
                   "stp_state", "0", "mcast_snooping", "0")
        lab.run_in("fabric", "ip", "link", "set", "br1", "up")
        for host in ("node", *BACKENDS):
            lab.cable(host, "eth1", "fabric", f"{host}n", NARROW_MTU)
            lab.run_in("fabric", "ip", "link", "set", f"{host}n", "master", "br1")
            four, six = ((NODE_NARROW[4], NODE_NARROW[6]) if host == "node" else
                         (narrow_backend(4, host), narrow_backend(6, host)))
            lab.run_in(host, "ip", "address", "add", f"{four}/24", "dev", "eth1")
            lab.run_in(host, "ip", "address", "add", f"{six}/64", "dev", "eth1", "nodad")
        lab.receive_redirected("fabric", "noden")
        for host in BACKENDS:
            lab.run_in(host, "sysctl", "-qw", "net.ipv4.conf.eth1.rp_filter=0")
            lab.decap(host, "unload", "eth0")
            cls.load_decapsulation(host, "eth1", NODE_NARROW.values())
        cls.apply("".join(
            vip_line(f"{m[0]}{m[1]}over{m[2]}-{p.lower()}", address_of(m, TUNNELS), cls.backends(m[2]),
                     p, mode=m[0]) for m in TUNNELS for p in ("TCP", "UDP")))

    @staticmethod
    def backends(family):
        return "[" + ", ".join(f'{{name: {b}, address: "{narrow_backend(family, b)}"}}'
                               for b in BACKENDS) + "]"

    def every_tunnel(self, check):
        for mode in TUNNELS:
            with self.subTest(mode=mode):
                check(mode[0], address_of(mode, TUNNELS), NARROW_MTU - HEADERS[mode[0], mode[2]])

    def test_a_download_completes(self):
        def check(mode, address, _):
            with self.assert_counted(f"redirect_{mode}", 20), self.assert_nothing_dropped():
                download(self, address)
        self.every_tunnel(check)

    def test_an_upload_completes_after_the_balancer_has_named_the_mtu(self):
        def check(mode, address, mtu):
            self.forget_mtus("client")
            level, option = ((socket.IPPROTO_IP, IP_MTU) if "." in address else
                             (socket.IPPROTO_IPV6, IPV6_MTU))
            connection, _ = self.open(address, patience=10)
            with connection, self.assert_counted("tx_too_big", 1), self.assert_nothing_dropped():
                self.exchange(connection, BYTES)
                self.assertEqual(connection.getsockopt(level, option), mtu)
        self.every_tunnel(check)

    def test_a_datagram_that_does_not_fit_is_answered_from_the_vip(self):
        def check(_, address, mtu):
            self.forget_mtus("client")
            connection = self.socket(address, socket.SOCK_DGRAM)
            v4 = "." in address
            level = socket.IPPROTO_IP if v4 else socket.IPPROTO_IPV6
            connection.setsockopt(level, IP_MTU_DISCOVER if v4 else IPV6_MTU_DISCOVER, IP_PMTUDISC_DO)
            connection.setsockopt(level, IP_RECVERR if v4 else IPV6_RECVERR, 1)
            connection.connect((address, PORT))
            connection.send(os.urandom(1500 - (28 if v4 else 48)))
            with self.assertRaises(OSError) as raised:
                connection.recv(2000)
            self.assertEqual(raised.exception.errno, 90, raised.exception)  # EMSGSIZE
            ancillary = connection.recvmsg(2000, 512, socket.MSG_ERRQUEUE)[1]
            _, _, origin, _, _, _, info, _ = struct.unpack_from("=IIBBBBII", b"\0\0\0\0" + ancillary[0][2])
            self.assertEqual(origin, SO_EE_ORIGIN_ICMP if v4 else SO_EE_ORIGIN_ICMP6)
            self.assertEqual(info, mtu)
            sender = ancillary[0][2][16:]  # the offender, a sockaddr
            self.assertEqual(socket.inet_ntop(connection.family, sender[4:8] if v4 else sender[8:24]),
                             address)
            self.assertIn(self.ask_udp(address, data=bytes(mtu - (28 if v4 else 48))), BACKENDS)
        self.every_tunnel(check)

    def forget_mtus(self, host):
        self.lab.run_in(host, "ip", "route", "flush", "cache")
        self.lab.run_in(host, "ip", "-6", "route", "flush", "cache")


class NarrowClient(PathCase):
    """A client behind a router whose link to it carries 1,400 bytes, which the client does not know."""

    MODES = TUNNELS + [("l2", 4, 4), ("l2", 6, 6)]

    @classmethod
    def prepare(cls):
        lab = cls.lab
        for host in ("router", "far"):
            lab.add_host(host)
        lab.attach("router", 1600)
        lab.address("router", ROUTER[4], ROUTER[6])
        lab.cable("far", "eth0", "router", "left", NARROW_MTU)
        lab.run_in("far", "ip", "link", "set", "eth0", "mtu", "1500")
        lab.run_in("router", "ip", "address", "add", "10.78.0.1/24", "dev", "left")
        lab.run_in("router", "ip", "address", "add", "fd78::1/64", "dev", "left", "nodad")
        lab.address("far", FAR[4], FAR[6])
        lab.run_in("router", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        lab.run_in("far", "ip", "route", "add", "default", "via", "10.78.0.1")
        lab.run_in("far", "ip", "-6", "route", "add", "default", "via", "fd78::1")
        lab.run_in("router", "ip", "route", "add", VIPS4, "via", NODE4)
        lab.run_in("router", "ip", "-6", "route", "add", VIPS6, "via", NODE6)
        for host in BACKENDS:
            lab.run_in(host, "ip", "route", "add", "10.78.0.0/24", "via", ROUTER[4], "mtu", "1500")
            lab.run_in(host, "ip", "-6", "route", "add", "fd78::/64", "via", ROUTER[6], "mtu", "1500")
        cls.apply("".join(vip_line(f"{m[0]}{m[1]}over{m[2]}", address_of(m, cls.MODES),
                                   backends_of(m[2]), mode=m[0]) for m in cls.MODES))

    def test_the_routers_complaint_finds_the_backend_that_sends_too_much(self):
        for mode in self.MODES:
            with self.subTest(mode=mode), self.assert_nothing_dropped():
                for host in BACKENDS:
                    self.lab.run_in(host, "ip", "route", "flush", "cache")
                    self.lab.run_in(host, "ip", "-6", "route", "flush", "cache")
                kind = "InDestUnreachs" if mode[1] == 4 else "Icmp6InPktTooBigs"
                before = self.icmp_received(kind)
                owner = download(self, address_of(mode, self.MODES), host="far")
                told = self.icmp_received(kind) - before
                self.assertEqual(set(told), {owner}, told)


if __name__ == "__main__":
    main()
