"""Tagged frames: 802.1Q, and 802.1ad around it. Client and backends are on a VLAN, the balancer on
the trunk; kernels without VLAN devices have tests/lab/trunk.bpf.c for them."""

import json
import socket

from pathcase import *

MODES = [("ipip", 4, 4), ("ipip", 6, 6), ("ipip", 6, 4), ("gue", 4, 4), ("gue", 6, 6), ("gue", 4, 6),
         ("l2", 4, 4), ("l2", 6, 6)]
TRUNKS = [("802.1Q", 9, 0), ("802.1ad around 802.1Q", 9, 100)]  # inner id, outer id


def address_of(mode):
    return (vip4 if mode[1] == 4 else vip6)(10 + MODES.index(mode))


class Trunk(PathCase):

    @classmethod
    def prepare(cls):
        cls.pins = cls.lab.pins / "trunk"
        cls.pins.mkdir(parents=True)
        run("bpftool", "prog", "loadall", weirlab.BUILD / "tests" / "lab" / "trunk.bpf.o", cls.pins,
            "pinmaps", cls.pins)
        for host, device in ((h, d) for h in ("client", *BACKENDS)
                             for d in (("fabric", h), (h, "eth0"))):
            cls.keep_tags_in_frames(*device)
        cls.keep_tags_in_frames("fabric", "node")
        cls.attach("client", "egress", "trunk_push")
        for host in ("client", *BACKENDS):
            cls.attach(host, "ingress", "trunk_pop")
        cls.apply("".join(
            vip_line(f"{m[0]}{m[1]}over{m[2]}-{p.lower()}", address_of(m), backends_of(m[2]), p,
                     mode=m[0]) for m in MODES for p in ("TCP", "UDP")))

    @classmethod
    def keep_tags_in_frames(cls, host, device):
        """XDP does not see a tag that travels beside the frame."""
        cls.lab.run_in(host, "ethtool", "-K", device, "txvlan", "off", "tx-vlan-stag-hw-insert", "off")

    @classmethod
    def attach(cls, host, direction, program):
        cls.lab.run_in(host, "tc", "qdisc", "replace", "dev", "eth0", "clsact")
        cls.lab.run_in(host, "tc", "filter", "add", "dev", "eth0", direction, "bpf", "direct-action",
                       "object-pinned", cls.pins / program)

    def set_ids(self, *ids):
        for index, number in enumerate(ids):
            run("bpftool", "map", "update", "pinned", self.pins / "trunk_ids", "key",
                *map(str, index.to_bytes(4, "little")), "value",
                *map(str, number.to_bytes(4, "little")))

    def tagged(self):
        """Frames that got tags, and frames that came with them."""
        rows = json.loads(run("bpftool", "-j", "map", "dump", "pinned",
                              self.pins / "trunk_counters").stdout)
        return [row["formatted"]["value"] for row in rows]

    def every_trunk(self, check):
        for name, *ids in TRUNKS:
            self.set_ids(*ids)
            for mode in MODES:
                with self.subTest(trunk=name, mode=mode):
                    sent, received = self.tagged()
                    with self.assert_nothing_dropped():
                        check(mode[0], address_of(mode))
                    now_sent, now_received = self.tagged()
                    self.assertGreater(now_sent, sent)
                    self.assertEqual(now_sent - sent, now_received - received)

    def test_connections_run_through(self):
        def check(mode, address):
            with self.assert_counted(f"tx_{mode}", 12 * 5):
                counts = self.count_answers(self.ask_tcp, 12, address, size=1000)
            self.assertGreater(len(counts), 1, counts)
            self.ask_tcp(address, size=300_000)
        self.every_trunk(check)

    def test_fragmented_datagrams_run_through(self):
        def check(_, address):
            self.assertIn(self.ask_udp(address, data=os.urandom(4000)), BACKENDS)
        self.every_trunk(check)

    def test_answers_of_the_balancer_come_back_with_the_same_tags(self):
        def check(_, address):
            with self.assertRaises(ConnectionRefusedError):
                self.ask_tcp(address, PORT + 1)
            connection = self.socket(address, socket.SOCK_DGRAM)
            connection.connect((address, PORT + 1))
            connection.send(b"?")
            with self.assertRaises(ConnectionRefusedError):
                connection.recv(100)
            self.lab.run_in("client", "ping", "-c2", "-i0.2", "-W2", address)
        self.every_trunk(check)


if __name__ == "__main__":
    main()
