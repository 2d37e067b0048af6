"""weir-l7 on a host of its own, behind weir-l4 on another: packets come in tunnels, replies go straight
to the client."""

import socket
import struct

from labcase import *
from tunnel import ip_header, ones_complement_sum, packed, udp_datagram

EDGE4, EDGE6 = "10.77.0.20", "fd77::20"  # weir-l7's own addresses
DEVICE = "weir-w0"  # what its first worker opens; here a cable into the fabric, without weir-l4's help
TUNNELS = [(mode, vip, outer) for mode in ("ipip", "gue") for vip in (4, 6) for outer in (4, 6)]
SOURCES = f'[{NODE4}, "{NODE6}/128"]'
ETH_P_ALL, IPPROTO_IPIP, IPPROTO_IPV6, SYN, SYN_ACK = 3, 4, 41, 0x02, 0x12
UPLOAD_BYTES = 1 << 20
DEVICE_BYTES, OUTER_BYTES_MAX = 1600, 52  # IPv6, UDP, and GUE's base header, which weir-l4 leaves out
MSS_OPTION = 2


def vip_of(tunnel):
    prefix = "203.0.113." if tunnel[1] == 4 else "2001:db8:77::"
    return f"{prefix}{20 + TUNNELS.index(tunnel)}"


def in_url(address):
    return f"[{address}]" if ":" in address else address


def balancer_config():
    vips = "".join(
        f'- {{name: {mode}{vip}over{outer}, address: "{vip_of((mode, vip, outer))}", port: 80, '
        f"protocol: TCP, forward: {{mode: {mode}}}, "
        f'backends: [{{name: edge, address: "{EDGE4 if outer == 4 else EDGE6}"}}]}}\n'
        for mode, vip, outer in TUNNELS)
    return f"version: 1\nnode: {{interfaces: [eth0], xdpMode: native}}\nvips:\n{vips}"


def edge_config(sources=SOURCES):
    vips = ", ".join(f'"{vip_of(tunnel)}"' for tunnel in TUNNELS)
    return f"""version: 1
node:
  l7: {{workers: 1, addresses: [{EDGE4}/24, "{EDGE6}/64"], tunnelSources: {sources}}}
gateways:
- name: edge
  addresses: [{vips}]
  listeners: [{{name: http, port: 80, protocol: HTTP}}]
  limits: {{bodyBytes: 64Mi}}
services:
  cart: {{endpoints: ["{weirlab.backend4("b1")}:8080"]}}
httpRoutes:
- name: all
  parentRefs: [{{name: edge}}]
  rules:
  - {{name: all, backendRefs: [{{name: cart}}]}}
"""


def syn(source, destination, port):
    """An IP packet that opens a connection to port 80."""
    source, destination = packed(source), packed(destination)
    header = struct.pack("!HHIIBBHHH", port, 80, 1, 0, 5 << 4, SYN, 65535, 0, 0)
    pseudo = source + destination + struct.pack("!IHH", len(header), 0, socket.IPPROTO_TCP)
    checksum = 0xFFFF ^ ones_complement_sum(pseudo + header)
    header = header[:16] + struct.pack("!H", checksum) + header[18:]
    return ip_header(source, destination, socket.IPPROTO_TCP, len(header), 0) + header


class TunnelToL7(LabCase):

    @classmethod
    def start_backends(cls):
        cls.lab.start_nginx("b1")
        wait_until("nginx", lambda: cls.lab.listening("b1", 8080))

    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.add_host("edge")
        lab.cable("edge", DEVICE, "fabric", "edge", DEVICE_BYTES)
        lab.run_in("fabric", "ip", "link", "set", "edge", "master", "br0")
        # The device is weir-l7's alone: the host would speak from the same link-local address.
        lab.run_in("edge", "sysctl", "-qw", f"net.ipv6.conf.{DEVICE}.disable_ipv6=1")
        lab.start_l7(lab.write_config(edge_config(), "edge.yaml"), host="edge")
        lab.weir("apply", "--only", "l4", "-f", lab.write_config(balancer_config()))
        wait_until("next hops", lambda: cls.status("weir-l4")["backends_unresolved"] == 0)

    @classmethod
    def status(cls, daemon):
        return cls.lab.weir_json("status")[daemon]

    def network(self):
        prefix = "network."
        return {row["counter"].removeprefix(prefix): row["value"]
                for row in self.lab.weir_json("stats", "--total")["weir-l7"] if row["counter"].startswith(prefix)}

    def assert_moved(self, before, **wanted):
        """Exactly these of the counters of drops and tunnels. What hosts say to groups of their own, which
        others drop, comes at any time."""
        moved = {name: value - before[name] for name, value in self.network().items()
                 if value != before[name] and name.startswith(("dropped", "decapsulated"))
                 and name != "dropped_destination"}
        self.assertEqual(moved, wanted)

    def get(self, address, *extra, **options):
        return self.lab.curl("-g", *extra, f"http://{in_url(address)}/cart", **options)

    def mac(self, host, device="eth0"):
        return bytes.fromhex(self.lab.mac(host, device).replace(":", ""))

    def packet_socket(self, host):
        with self.lab.inside(host):
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.addCleanup(made.close)
        made.bind(("eth0", ETH_P_ALL))
        made.setblocking(False)
        return made

    def frames(self, capture):
        """What the socket has received since the last call, without what its own host has sent."""
        caught = []
        while True:
            try:
                frame, where = capture.recvfrom(2048)
            except BlockingIOError:
                return caught
            if where[2] != socket.PACKET_OUTGOING:
                caught.append(frame)

    def sources_of(self, frames, address):
        """The MAC addresses that packets of an IP address have come from."""
        wanted = packed(address)
        at = 26 if len(wanted) == 4 else 22
        ether_type = b"\x08\x00" if len(wanted) == 4 else b"\x86\xdd"
        return {f[6:12] for f in frames if f[12:14] == ether_type and f[at:at + len(wanted)] == wanted}

    def mss_of(self, frames, address):
        """What the SYN-ACKs of an IP address say."""
        wanted, found = packed(address), set()
        at, tcp = (26, 34) if len(wanted) == 4 else (22, 54)
        for frame in frames:
            if frame[at:at + len(wanted)] != wanted or frame[tcp + 13] != SYN_ACK:
                continue
            options = frame[tcp + 20:tcp + (frame[tcp + 12] >> 4) * 4]
            while options and options[0] != MSS_OPTION:
                options = options[1 if options[0] == 1 else options[1]:]  # 1: no operation, one byte
            found.add(int.from_bytes(options[2:4], "big"))
        return found

    def test_every_tunnel_brings_requests_and_replies_go_straight_to_the_client(self):
        capture = self.packet_socket("client")
        edge = self.mac("edge", DEVICE)
        for kind, other in (("ipip", "gue"), ("gue", "ipip")):
            before = self.network()
            for tunnel in (t for t in TUNNELS if t[0] == kind):
                with self.subTest(tunnel=tunnel):
                    self.frames(capture)
                    self.assertIn("cart on b1", self.get(vip_of(tunnel)).stdout)
                    frames = self.frames(capture)
                    self.assertEqual(self.sources_of(frames, vip_of(tunnel)), {edge})
                    headers = 40 if tunnel[1] == 4 else 60
                    self.assertEqual(self.mss_of(frames, vip_of(tunnel)),
                                     {DEVICE_BYTES - OUTER_BYTES_MAX - headers})
            after = self.network()
            # SYN, ACK, request, and what ends the connection: four of each.
            self.assertGreaterEqual(after[f"decapsulated_{kind}"] - before[f"decapsulated_{kind}"], 16)
            self.assertEqual(after[f"decapsulated_{other}"], before[f"decapsulated_{other}"])

    def test_an_upload_in_full_segments_is_exact(self):
        source = self.lab.directory / "upload"
        source.write_bytes(os.urandom(UPLOAD_BYTES))
        before = self.network()
        for tunnel in (("gue", 4, 6), ("gue", 6, 6), ("ipip", 6, 4)):
            with self.subTest(tunnel=tunnel):
                name = "".join(map(str, tunnel))
                done = self.lab.curl("-g", "-o", "/dev/null", "-w", "%{http_code}", "-T", source,
                                     f"http://{in_url(vip_of(tunnel))}/cart/upload/{name}")
                self.assertEqual(done.stdout, "201")
                stored = self.lab.directory / "upload-b1" / "cart" / "upload" / name
                self.assertEqual(sha256(stored), sha256(source))
        after = self.network()
        self.assertEqual({n: v for n, v in after.items() if n.startswith("dropped_tunnel") and v != before[n]}, {})

    def send_tunnel(self, source, port, gue=False):
        """As b1, but under any outer source."""
        inner = syn(CLIENT4, vip_of(TUNNELS[0]), port)
        outer_source, destination = packed(source), packed(EDGE4)
        payload, protocol = inner, IPPROTO_IPIP
        if gue:
            payload, protocol = udp_datagram(outer_source, destination, 6080, inner), socket.IPPROTO_UDP
        outer = ip_header(outer_source, destination, protocol, len(payload), 0)
        self.packet_socket("b1").send(self.mac("edge", DEVICE) + self.mac("b1") + b"\x08\x00" + outer + payload)

    def answered_ports(self, capture):
        """The client's ports that a SYN was answered to."""
        vip = packed(vip_of(TUNNELS[0]))
        return {int.from_bytes(f[36:38], "big") for f in self.frames(capture)
                if f[12:14] == b"\x08\x00" and f[26:30] == vip and f[47] == SYN_ACK}

    def test_a_tunnel_from_anyone_else_is_counted_and_dropped(self):
        capture = self.packet_socket("client")
        before = self.network()
        self.send_tunnel(weirlab.backend4("b1"), 1001)
        self.send_tunnel(weirlab.backend4("b1"), 1002, gue=True)
        wait_until("both to be counted", lambda: self.network()["dropped_tunnel_source"] ==
                   before["dropped_tunnel_source"] + 2)
        self.assert_moved(before, dropped_tunnel_source=2)
        self.assertEqual(self.answered_ports(capture), set())
        # The same under a balancer's address: the test can fail.
        self.send_tunnel(NODE4, 1003)
        self.send_tunnel(NODE4, 1004, gue=True)
        answered = set()
        wait_until("answers", lambda: answered.update(self.answered_ports(capture)) or
                   answered == {1003, 1004})

    def test_the_list_changes_without_a_restart(self):
        pid = self.status("weir-l7")["pid"]

        def apply(sources):
            self.lab.weir("apply", "--only", "l7", "-f",
                          self.lab.write_config(edge_config(sources), "edge.yaml"))

        self.addCleanup(apply, SOURCES)
        apply("[]")
        before = self.network()
        self.assertNotEqual(self.get(vip_of(TUNNELS[0]), "--max-time", "0.5", check=False).returncode, 0)
        self.assert_moved(before, dropped_protocol=1)
        apply(f'[{NODE4}]')
        self.assertIn("cart on b1", self.get(vip_of(TUNNELS[0])).stdout)
        v6 = next(t for t in TUNNELS if t[2] == 6)
        before = self.network()
        self.assertNotEqual(self.get(vip_of(v6), "--max-time", "0.5", check=False).returncode, 0)
        self.assertEqual(self.network()["dropped_tunnel_source"], before["dropped_tunnel_source"] + 1)
        self.assertEqual(self.status("weir-l7")["pid"], pid)


if __name__ == "__main__":
    main()
