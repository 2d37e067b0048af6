"""weir bench l4: what a packet costs in the balancer, by the kernel's test-run and live on a veth."""

import json
import re

import group
import programs
from control import Node, Services
from programs import BENCH
from rows import WEIR, Row, Series

FLOOR = "floor"
FLOWS, NAT_FLOWS = 2 << 20, 1 << 20
# Row of datapath_bench: (id, what, target). Ratios are over "parse + one hash lookup" of the same round.
TEST_RUN = {
    "not a VIP, IPv4": ("not_a_vip", "a packet that is for no VIP", "<= 1.2x"),
    "not a VIP, IPv6": ("not_a_vip6", "the same, IPv6", ""),
    "ACK ipip, IPv4, 1 flow": ("ack_hit", "TCP ACK of a known flow", "<= 1.8x"),
    "ACK ipip, IPv6, 1 flow": ("ack_hit6", "the same, IPv6", "<= 1.9x"),
    "ACK ipip, IPv4, 65536 flows": ("flows_64k", "ACKs of 65,536 known flows in turn", "<= 3.0x"),
    "ACK ipip, IPv6, 65536 flows": ("flows6_64k", "the same, IPv6", ""),
    "ACK ipip, IPv4, 1048576 flows": ("flows_1m", "ACKs of 1,048,576 known flows in turn", "<= 3.5x"),
    "SYN ipip, IPv4, always a new flow": ("syn", "SYNs, each a new flow", "<= 3.5x"),
    "ACK ipip, IPv4, 8192 flows of one VIP": ("vips_1", "ACKs of 8,192 known flows in turn, of one VIP", ""),
    "ACK ipip, IPv4, 8192 flows of as many VIPs": ("vips_8k", "the same, each of a VIP and a backend of its own", ""),
    "ACK gue, IPv4, 1 flow": ("ack_gue", "the ACK of a known flow, GUE", ""),
    "ACK gue, IPv6, 1 flow": ("ack_gue6", "the same, IPv6", ""),
    "ACK l2, IPv4, 1 flow": ("ack_l2", "the ACK of a known flow, MAC rewrite", ""),
    "ACK to L7, IPv4, 1 flow": ("ack_l7", "the same, to weir-l7", ""),
}
NAT = {
    "full NAT, IPv4 to backend, 1 flow": ("nat_there", "full NAT, to the backend", "<= 2.5x"),
    "full NAT, IPv4 reply, 1 flow": ("nat_back", "full NAT, the reply", "<= 2.5x"),
    "full NAT, IPv6 to backend, 1 flow": ("nat_there6", "full NAT to the backend, IPv6", ""),
    "full NAT, IPv6 reply, 1 flow": ("nat_back6", "full NAT, the reply, IPv6", ""),
    "DNAT, IPv4 to backend, 1 flow": ("dnat_there", "NAT that keeps the client's address, to the backend", ""),
    "DNAT, IPv4 reply, 1 flow": ("dnat_back", "the same, the reply", ""),
}
PROTECTIONS = {
    "ACK ipip, IPv4, 1 flow, a list of 100000": ("deny_list", "a VIP's list of 100,000 prefixes"),
    "ACK ipip, IPv4, 1 flow, the node's list of 100000": ("block_list", "the node's list of 100,000 prefixes"),
    "ACK ipip, IPv4, 1 flow, limit per source": ("limit_source", "a limit per source"),
    "ACK ipip, IPv4, 1 flow, limit per VIP": ("limit_vip", "a limit per VIP"),
}
LINE = "floor: parse + lookup, and a line of the flow table's size at random"
KNOWN, GUE = "ACK ipip, IPv4, 1 flow", "ACK gue, IPv4, 1 flow"
LIVE_KINDS = (("1k", "1,024 flows"), ("64k", "65,536 flows"), ("new", "every packet a new flow"))
MEMORY_VIPS, MEMORY_BACKENDS, MEMORY_FLOWS = 100, 1000, "1Mi"


def test_run_rows():
    rows = [Row(f"l4.{name}", what, "ns", name, (FLOOR,), target, more=False)
            for name, what, target in (*TEST_RUN.values(), *NAT.values())]
    rows.append(Row("l4.floor_line", "no balancer: the floor, and one line of a table for 2,097,152 flows at random",
                    "ns", "floor_line", (FLOOR,), more=False))
    rows.append(Row("l4.gue_over_ipip", "GUE over IPIP, the same packet", "x", "gue_over_ipip", (), "<= 1.2",
                    more=False))
    rows += [Row(f"l4.{name}", f"what {what} adds to the ratio of a known flow", "x", name, (), "<= 0.4",
                 more=False) for name, what in PROTECTIONS.values()]
    return rows


def test_run(rounds):
    """One run of the program: each row of it is measured beside its floor, so ratios are fair."""
    def measure(_kind):
        wanted = "|".join("^" + re.sub(r"\W", ".", title) + "/" for title in (*TEST_RUN, *NAT, *PROTECTIONS, LINE))
        found = programs.google_benchmark("datapath_bench", wanted, 0, f"--flows={FLOWS}",
                                          f"--rounds={rounds}", f"--nat={NAT_FLOWS}", timeout=120)
        found = {name.removesuffix("/manual_time"): row for name, row in found.items()}
        numbers, floor = {}, {}
        for title, (name, *_) in (TEST_RUN | NAT | {LINE: ("floor_line",)}).items():
            row = found[title]
            numbers[name], floor[name] = row["estimate_ns"], row["estimate_ns"] / row["ratio"]
        numbers["gue_over_ipip"] = found[GUE]["estimate_ns"] / found[KNOWN]["estimate_ns"]
        for title, (name, _) in PROTECTIONS.items():
            numbers[name] = found[title]["ratio"] - found[KNOWN]["ratio"]
        return {WEIR: numbers, FLOOR: floor}
    return measure


def live_rows():
    rows = []
    for mode in ("ipip", "gue", "l2"):
        rows += [Row(f"l4.live_{mode}_{name}", f"packets through a veth and back, {mode}, {what}", "packets/s",
                     f"{mode}, {what}", (FLOOR,), peer_key="floor: parse, send back")
                 for name, what in LIVE_KINDS]
    return rows


def live(seconds):
    def measure(_kind):
        text = programs.output_of(BENCH / "live_bench", "--seconds", f"{seconds:g}", timeout=60)
        rates = {row["name"]: row["packets_per_s"] for row in json.loads(text)["rows"]}
        return {WEIR: rates, FLOOR: rates}
    return measure


def memory(_kind):
    """Maps of the kernel and the daemon, with so much configured."""
    with Node("benchmem") as node:
        config = Services(MEMORY_VIPS, MEMORY_BACKENDS).yaml(f"l4: {{flows: {MEMORY_FLOWS}}}")
        node.weir("load", "eth0", "--mode", "generic")
        node.weir("apply", "-f", node.write_config(config))
        daemon, maps = node.memory_bytes()
    return {WEIR: {"memory": (daemon + maps) / 1e6}}


class Group(group.Group):
    name = "l4"

    def __init__(self, quick):
        share = 0.1 if quick else 0.5
        self.series = [
            Series("test-run", (WEIR,), test_run(2 if quick else 9), test_run_rows(), 6 if quick else 12),
            Series("live", (WEIR,), live(share), live_rows(), 2.6 if quick else 8),
            Series("memory", (WEIR,), memory,
                   [Row("l4.memory", "100 VIPs, 1,000 backends, a table of 1 Mi flows: maps and daemon", "MB",
                        "memory", (), "<= 150", more=False)], 1.5, once=True),
        ]
