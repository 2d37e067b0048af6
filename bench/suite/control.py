"""weir bench control: 10,000 VIPs and 100,000 backends applied to an empty node, one changed, all listed."""

import ipaddress
import json
import signal
import time

import group
import programs
import weirlab
from group import BenchLab
from rows import WEIR, Row, Series

GATEWAY, NODE = "10.255.0.2", "10.255.0.1"
VIPS, BACKENDS = 10_000, 100_000
CHANGES = 10  # small ones, of which a turn has the median


def took(act, *arguments, **options):
    """Milliseconds."""
    began = time.monotonic()
    act(*arguments, **options)
    return 1000 * (time.monotonic() - began)


def median_of(count, act):
    return sorted(took(act, number) for number in range(count))[count // 2]


class Services:
    """VIPs from 198.18.0.0/15 on, of one port each, with backends of their own in 10.0.0.0/9."""

    def __init__(self, vips, backends):
        each, first = backends // vips, int(ipaddress.ip_address("10.0.0.1"))
        vip = int(ipaddress.ip_address("198.18.0.1"))
        self.list = [(str(ipaddress.ip_address(vip + n)),
                      [str(ipaddress.ip_address(first + n * each + k)) for k in range(each)])
                     for n in range(vips)]

    def yaml(self, node="", removed=None):
        lines = ["version: 1", f"node: {{hashSeed: {{text: a-secret-of-the-benchmark}}, {node}}}", "vips:"]
        for n, (address, backends) in enumerate(self.list):
            lines += [f"- name: service-{n}", f"  address: {address}", "  port: 80",
                      "  protocol: TCP", "  forward: {mode: ipip}", "  backends:"]
            lines += [f"  - {{name: b{k}, address: {backend}}}" for k, backend in enumerate(backends)
                      if backend != removed]
        return "\n".join(lines) + "\n"


class Node(BenchLab):
    """A host with weir-l4 on it, whose one device has a gateway that all backends are behind."""

    def prepare(self):
        programs.need(weirlab.BUILD / "l4" / "weir-l4", weirlab.BUILD / "tools" / "weir" / "weir")
        self.pins.mkdir()
        self.add_host("node")
        self.cable("node", "eth0", "node", "far", 1500)
        for words in (f"address add {NODE}/30 dev eth0",
                      f"neigh add {GATEWAY} lladdr 02:00:00:00:00:02 dev eth0 nud permanent",
                      f"route add 10.0.0.0/9 via {GATEWAY}"):
            self.run_in("node", "ip", *words.split())
        self.maps_before = maps_bytes()
        self.daemon = self.start_l4()

    def weir(self, *arguments, timeout=120, **options):
        return super().weir(*arguments, timeout=timeout, **options)

    def restart(self):
        self.stop("weir-l4", signal.SIGKILL)
        self.daemon = self.start_l4(seconds=60.0)

    def memory_bytes(self):
        """What the daemon has resident, and all maps of the kernel that came with it."""
        return weirlab.resident_kb(self.daemon.pid) * 1024, maps_bytes() - self.maps_before


def maps_bytes():
    maps = json.loads(weirlab.run("bpftool", "map", "show", "-j").stdout)
    return sum(int(entry.get("bytes_memlock", 0)) for entry in maps)


def at_scale(is_quick):
    """One node's life: from empty to 10,000 VIPs, small changes, and unless it has to be quick the same file again
    and a restart."""
    services = Services(VIPS, BACKENDS)
    numbers = {}
    with Node("benchctl") as node:
        config = node.write_config(services.yaml())
        node.weir("load", "eth0", "--mode", "generic")
        numbers["cold_apply"] = took(node.weir, "apply", "-f", config)
        if not is_quick:
            numbers["apply_again"] = took(node.weir, "apply", "-f", config)
            config.write_text(services.yaml(removed=services.list[0][1][0]))
            numbers["apply_one_fewer"] = took(node.weir, "apply", "-f", config)
        numbers["vip_list"] = median_of(CHANGES, lambda _: node.weir("vip", "list"))
        by_hand, backends = "198.51.100.1:80/tcp", services.list[0][1]
        node.weir("vip", "add", by_hand)
        for backend in backends:
            node.weir("backend", "add", by_hand, backend)
        numbers["one_backend"] = median_of(CHANGES, lambda n: node.weir(
            "backend", "set", by_hand, backends[0], "--weight", str(2 + n)))
        if not is_quick:
            numbers["restart"] = took(node.restart)
        numbers["memory"] = sum(node.memory_bytes()) / 1e6
    return {WEIR: numbers}


def scale_rows(is_quick):
    def row(key, what, unit, target=""):
        return Row(f"control.{key}", what, unit, key, (), target, more=False)
    return [row("cold_apply", "10,000 VIPs with 100,000 backends applied to an empty node", "ms", "<= 5000"),
            row("vip_list", "weir vip list of 10,000", "ms", "<= 200"),
            row("one_backend", "one backend's weight by hand, in the kernel", "ms", "<= 50"),
            row("memory", "daemon and maps at 10,000 VIPs", "MB", "<= 1000"),
            *([] if is_quick else [row("apply_again", "the same file again", "ms"),
                                   row("apply_one_fewer", "the same file with one backend fewer", "ms"),
                                   row("restart", "kill -9 and start, until it answers", "ms")])]


def maglev(seconds):
    def measure(_kind):
        found = programs.google_benchmark("maglev_bench", "equal_weights/65537/1000|quality", seconds)
        quality = found["quality"]
        return {WEIR: {"build": found["equal_weights/65537/1000"]["cpu_time"],
                       "disruption": quality["disruption"], "spread": 100 * quality["share_spread"],
                       "weights": 100 * quality["weight_error"]}}
    return measure


def maglev_rows():
    def row(key, what, unit, target):
        return Row(f"control.maglev_{key}", what, unit, key, (), target, more=False)
    return [row("build", "a table of 65,537 slots for 1,000 backends", "ms", "<= 2"),
            row("disruption", "slots that move when one of 100 backends goes, over what has to", "x", "<= 2"),
            row("spread", "largest share of 100 equal backends less the smallest, of the mean", "%", "<= 1"),
            row("weights", "largest error of a share by weight, of the whole table", "%", "<= 0.5")]


class Group(group.Group):
    name = "control"

    def __init__(self, quick):
        self.series = [Series("10,000 VIPs", (WEIR,), lambda _kind: at_scale(quick), scale_rows(quick),
                              5.5 if quick else 16, once=quick),
                       Series("maglev", (WEIR,), maglev(0.02 if quick else 0.3), maglev_rows(), 0.2 if quick else 1)]
