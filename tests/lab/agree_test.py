"""Two nodes with the same file send the same 10,000 tuples to the same backends, whatever each has
been through before; and their digests say so."""

import os
import random
import socket
import struct

import bpf_calls
from labcase import *

TUPLES = 10_000
SEED = 11
TX, REDIRECT = 3, 4


def backends(vip, count):
    return [f"10.77.{vip}.{n}" for n in range(1, count + 1)]


VIPS = [("198.51.100.1", 80, "ipip", backends(1, 3)), ("198.51.100.1", 443, "ipip", backends(2, 40)),
        ("198.51.100.2", 80, "gue", backends(3, 10)), ("198.51.100.3", 80, "ipip", backends(4, 200))]


def config(vips, rng):
    """The order in which VIPs and backends are written means nothing."""
    lines = ["version: 1", "node: {interfaces: [eth0], hashSeed: {text: the-same-on-every-node}}", "vips:"]
    for address, port, mode, servers in rng.sample(vips, len(vips)):
        listed = ", ".join(f"{{name: b{server.replace('.', '-')}, address: {server}, weight: {1 + int(server.split('.')[3]) % 3}}}"
                           for server in rng.sample(servers, len(servers)))
        lines.append(f"- {{name: v{address.split('.')[3]}-{port}, address: {address}, port: {port}, "
                     f"protocol: TCP, forward: {{mode: {mode}}}, "
                     f"backends: [{listed}]}}")
    return "\n".join(lines) + "\n"


def syn(source, source_port, vip, port):
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 1, 0, 64, 6, 0, socket.inet_aton(source),
                     socket.inet_aton(vip))
    total = sum(struct.unpack("!10H", ip))
    total = (total & 0xffff) + (total >> 16)
    ip = ip[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xffff) + ip[12:]
    tcp = struct.pack("!HHIIBBHHH", source_port, port, 1, 0, 0x50, 2, 64000, 0, 0)
    return b"\x02" * 12 + b"\x08\x00" + ip + tcp


class TwoNodes(LabCase):

    @classmethod
    def setUpClass(cls):
        need_root()
        cls.labs = []
        for letter in "ab":
            lab = weirlab.Lab(f"weirtest{os.getpid()}{letter}")
            cls.addClassCleanup(lab.close)
            lab.remove_leftovers()
            lab.add_host("fabric")
            lab.run_in("fabric", "ip", "link", "add", "br0", "mtu", "1600", "type", "bridge")
            lab.run_in("fabric", "ip", "link", "set", "br0", "up")
            lab.add_host("node")
            lab.attach("node", 1600)
            lab.run_in("node", "ip", "address", "add", f"{NODE4}/24", "dev", "eth0")
            lab.run_in("node", "ip", "neigh", "add", "10.77.0.254", "lladdr", "02:00:00:00:00:fe",
                       "dev", "eth0", "nud", "permanent")
            lab.run_in("node", "ip", "route", "add", "10.77.0.0/16", "via", "10.77.0.254")
            lab.receive_redirected("fabric", "node")
            lab.start_l4()
            cls.labs.append(lab)

    def bring_up(self):
        one, other = self.labs
        one.weir("apply", "-f", one.write_config(config(VIPS, random.Random(SEED))))
        # The other one has a past: fewer backends, other ones, a restart.
        past = [(a, p, m, s[1:] + ["10.77.9.9"]) for a, p, m, s in VIPS[:3]]
        other.weir("apply", "-f", other.write_config(config(past, random.Random(SEED + 1))))
        other.stop("weir-l4")
        other.start_l4()
        other.weir("apply", "-f", other.write_config(config(VIPS, random.Random(SEED + 2))))

    def test_they_choose_alike(self):
        self.bring_up()
        digests = [{vip["vip"]: vip["table_digest"] for vip in lab.weir_json("vip", "list")["vips"]}
                   for lab in self.labs]
        self.assertEqual(digests[0], digests[1])
        self.assertEqual(len(set(digests[0].values())), len(VIPS))
        rng = random.Random(SEED)
        frames = []
        for _ in range(TUPLES):
            address, port, _, _ = rng.choice(VIPS)
            source = ".".join(str(rng.randrange(1, 255)) for _ in range(4))
            frames.append(syn(source, rng.randrange(1, 65536), address, port))
        chosen = [self.choices(lab, frames) for lab in self.labs]
        self.assertEqual(chosen[0], chosen[1])
        self.assertEqual(set(chosen[0]), {server for vip in VIPS for server in vip[3]})

    def choices(self, lab, frames):
        """The outer destination of what the pinned program makes of each frame."""
        program = bpf_calls.open_pinned(lab.pins / "lb" / "programs" / "weir_lb")
        out = []
        for frame in frames:
            verdict, sent = bpf_calls.run_once(program, frame)
            self.assertIn(verdict, (TX, REDIRECT))
            out.append(socket.inet_ntoa(sent[30:34]))
        os.close(program)
        return out


main()
