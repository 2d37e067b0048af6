"""weir bench services: what Weir replaces. The same services as kube-proxy's rules in iptables-legacy and in
nftables, and in Weir's mode nat: how long they take to load, one change to take effect, connections and packets a
second, as services become many.

              ┌── iptables ──┐
    client ───┼── nft ───────┼─── server (echo, and who says which backend it is)
              └── weir ──────┘└── sink (drops and counts)

Each router has the same three cables and all services. The service that is measured is the one in the middle
of the list, since kube-proxy's rules are read from the front.
"""

import ipaddress
import json
import pathlib

import programs
import sockets
import weirlab
from control import took
from group import BenchLab, LabGroup
from programs import BENCH
from rows import CLIENT_BOUND, WEIR, Row, Series
from weirlab import LabError, run, wait_until

IPTABLES, NFT = "iptables", "nft"
KINDS = (WEIR, NFT, IPTABLES)
PEERS = (NFT, IPTABLES)
NUMBER = {kind: number for number, kind in enumerate(KINDS, start=1)}
SIZES = (1, 100, 1000, 10_000)
QUICK_SIZES = (1000,)
PORTS = 16  # services of one address, by port
FIRST_PORT, ECHO, WHO, DNS = 9000, 8000, 8100, 53
CLIENT, SERVER, SINK = "client", "server", "sink"
WHO_NAMES = ("a", "b")
CORE, CLIENT_CORE = 0, 1
LOST_MAX = 0.01  # of connections or packets, before a turn counts as failed
BUSY = 0.95  # of its core: then the client was the limit
SENDER = pathlib.Path(__file__).with_name("services_sender.py")
# Chains that a file does not name stay, so that all and one are loaded alike.
RESTORE = {IPTABLES: ("iptables-legacy-restore", "--noflush"), NFT: ("nft", "-f")}
# For the peers' sake: entries of closed connections must not fill the table.
TRACKING = ("net.netfilter.nf_conntrack_tcp_timeout_time_wait=1", "net.netfilter.nf_conntrack_tcp_timeout_close=1")


def who(kind, number):
    """Where the server is that says it is the first, or the second."""
    return (f"10.0.{NUMBER[kind]}.{2 + number}", WHO + number)


class Services:
    """So many services of one kind: (address, port, protocol, endpoints). The last two are those that change
    and that take packets."""

    def __init__(self, kind, count):
        base = int(ipaddress.ip_address(f"198.{17 + NUMBER[kind]}.0.1"))
        echo = [(f"10.0.{NUMBER[kind]}.{2 + n}", ECHO) for n in range(3)]
        self.list = [(str(ipaddress.ip_address(base + n // PORTS)), FIRST_PORT + n % PORTS, "tcp", echo)
                     for n in range(count)]
        middle = count // 2
        self.loaded = self.list[middle][:2] if count else None
        vip = str(ipaddress.ip_address(base + (1 << 15)))
        self.list.insert(middle, (vip, WHO, "tcp", [who(kind, 0)]))
        self.list.insert(middle, (vip, DNS, "udp", [(f"10.1.{NUMBER[kind]}.2", DNS)]))
        self.changing, self.packets = middle + 1, middle

    def place(self, index):
        return self.list[index][:2]

    # ---- as kube-proxy writes them ------------------------------------------------------------

    def iptables_chains(self, index, endpoints):
        lines = []
        _, _, protocol, _ = self.list[index]
        for k, (address, port) in enumerate(endpoints):
            left = len(endpoints) - k
            match = f"-m statistic --mode random --probability {1 / left:.10f} " if left > 1 else ""
            lines += [f"-A KUBE-SVC-{index} {match}-j KUBE-SEP-{index}-{k}",
                      f"-A KUBE-SEP-{index}-{k} -s {address}/32 -j KUBE-MARK-MASQ",
                      f"-A KUBE-SEP-{index}-{k} -p {protocol} -j DNAT --to-destination {address}:{port}"]
        return lines

    def iptables(self):
        chains = [":KUBE-SERVICES - [0:0]", ":KUBE-MARK-MASQ - [0:0]"]
        rules = ["-A PREROUTING -j KUBE-SERVICES", "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000"]
        for n, (address, port, protocol, endpoints) in enumerate(self.list):
            chains += [f":KUBE-SVC-{n} - [0:0]"] + [f":KUBE-SEP-{n}-{k} - [0:0]" for k in range(len(endpoints))]
            rules.append(f"-A KUBE-SERVICES -d {address}/32 -p {protocol} -m {protocol} --dport {port} "
                         f"-j KUBE-SVC-{n}")
            rules += self.iptables_chains(n, endpoints)
        return "\n".join(["*nat", *chains, *rules, "COMMIT", ""])

    def iptables_change(self, endpoint):
        """Chains that are named are emptied first, others stay."""
        n = self.changing
        return "\n".join(["*nat", f":KUBE-SVC-{n} - [0:0]", f":KUBE-SEP-{n}-0 - [0:0]",
                          *self.iptables_chains(n, [endpoint]), "COMMIT", ""])

    def nft_chains(self, index, endpoints):
        protocol = self.list[index][2]
        choices = ", ".join(f"{k} : goto endpoint-{index}-{k}" for k in range(len(endpoints)))
        lines = [f" chain endpoint-{index}-{k} {{ ip saddr {address} jump mark-for-masquerade; meta l4proto "
                 f"{protocol} dnat to {address}:{port}; }}" for k, (address, port) in enumerate(endpoints)]
        return lines + [f" chain service-{index} {{ numgen random mod {len(endpoints)} vmap {{ {choices} }}; }}"]

    def nft(self):
        lines = ["table ip kube-proxy {", " chain mark-for-masquerade { mark set mark or 0x4000; }"]
        for n, service in enumerate(self.list):
            lines += self.nft_chains(n, service[3])
        lines += [" map service-ips {", "  type ipv4_addr . inet_proto . inet_service : verdict", "  elements = {"]
        lines += [f"   {address} . {protocol} . {port} : goto service-{n},"
                  for n, (address, port, protocol, _) in enumerate(self.list)]
        lines += ["  }", " }", " chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }",
                  " chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }", "}"]
        return "\n".join(lines) + "\n"

    def nft_change(self, endpoint):
        address, port = endpoint
        n = self.changing
        return (f"flush chain ip kube-proxy endpoint-{n}-0\n"
                f"add rule ip kube-proxy endpoint-{n}-0 ip saddr {address} jump mark-for-masquerade\n"
                f"add rule ip kube-proxy endpoint-{n}-0 meta l4proto tcp dnat to {address}:{port}\n")

    # ---- Weir ---------------------------------------------------------------------------------

    def yaml(self):
        lines = ["version: 1", "node: {interfaces: [in, out, aside], xdpMode: native, l4: {natFlows: 512Ki}}", "vips:"]
        for n, (address, port, protocol, endpoints) in enumerate(self.list):
            if n == self.changing:
                continue  # see add_changing()
            listed = ", ".join(f"{{name: b{k}, address: {a}, port: {p}}}" for k, (a, p) in enumerate(endpoints))
            lines.append(f"- {{name: s{n}, address: {address}, port: {port}, protocol: {protocol.upper()}, "
                         f"forward: {{mode: nat, snat: never}}, table: {{size: 251}}, backends: [{listed}]}}")
        return "\n".join(lines) + "\n"


class ServicesLab(BenchLab):
    """The six hosts. weir-l4 is on the router of its name; the others have what the kernel has."""

    settings = (*BenchLab.settings, "net.ipv4.tcp_max_tw_buckets=262144", "net.ipv4.ip_forward=1")

    def prepare(self):
        self.loaded, self.node = {}, WEIR
        programs.need(BENCH / "kernel_peer", BENCH / "services.bpf.o", weirlab.BUILD / "l4" / "weir-l4")
        for host in (CLIENT, SERVER, SINK, *KINDS):
            self.add_host(host)
        self.pins.mkdir()
        run("bpftool", "prog", "loadall", BENCH / "services.bpf.o", self.pins / "ends", "pinmaps", self.pins / "ends")
        for kind in KINDS:
            self.connect(kind)
        self.start_servers()

    def connect(self, kind):
        """A router's cables: to the client (10.2.N), to the server (10.0.N), to the sink (10.1.N)."""
        number = NUMBER[kind]
        for device, host, net in (("in", CLIENT, 2), ("out", SERVER, 0), ("aside", SINK, 1)):
            self.cable(kind, device, host, kind, 1500)
            offloads = "off" if kind == WEIR else "on"
            for where, name in ((kind, device), (host, kind)):
                self.run_in(where, "ethtool", "-K", name, "tx", offloads, "gro", "on", check=False)
            self.run_in(kind, "ip", "address", "add", f"10.{net}.{number}.1/24", "dev", device)
            for last in (2, 3, 4):
                self.run_in(host, "ip", "address", "add", f"10.{net}.{number}.{last}/24", "dev", kind)
        self.run_in(CLIENT, "ip", "route", "add", f"198.{17 + number}.0.0/16", "via", f"10.2.{number}.1")
        self.run_in(SERVER, "ip", "route", "add", f"10.2.{number}.0/24", "via", f"10.0.{number}.1")
        # The sink answers nobody, so its router has to know where it is.
        mac = self.mac(SINK, kind)
        self.run_in(kind, "ip", "neighbour", "replace", f"10.1.{number}.2", "lladdr", mac, "dev", "aside")
        if kind == WEIR:
            for host in (CLIENT, SERVER):
                self.receive_redirected(host, kind)
            self.run_in(SINK, "bpftool", "net", "attach", "xdpdrv", "pinned",
                        self.pins / "ends" / "services_drop_frame", "dev", kind)
        else:
            self.run_in(SINK, "tc", "qdisc", "add", "dev", kind, "clsact")
            self.run_in(SINK, "tc", "filter", "add", "dev", kind, "ingress", "bpf", "direct-action", "pinned",
                        self.pins / "ends" / "services_drop_packet")

    def start_servers(self):
        """An echo on all addresses, and two that say which of them they are."""
        self.start("echo", SERVER, BENCH / "kernel_peer", "echo", "--core", CORE, "--port", ECHO, "--json")
        for port, name in enumerate(WHO_NAMES, start=WHO):
            self.start(f"who-{name}", SERVER, "python3", "-c",
                       "import socket, sys\n"
                       "with socket.create_server(('', int(sys.argv[1])), backlog=1024) as server:\n"
                       "    while True:\n"
                       "        with server.accept()[0] as one:\n"
                       "            one.sendall(sys.argv[2].encode())\n", port, name)
        for port in (ECHO, WHO, WHO + 1):
            wait_until(f"the server on {port}", lambda p=port: self.listening(SERVER, p))

    # ---- loading and changing -----------------------------------------------------------------

    def ensure(self, kind, services):
        """Loads them unless they are: a series may run without the one that measures that."""
        if self.loaded.get(kind) is not services:
            self.load(kind, services)

    def load(self, kind, services):
        """From nothing to all services; milliseconds. Afterwards they are reached."""
        self.loaded[kind] = None
        self.unload(kind)
        spent = self.load_all(kind, services)
        wait_until(f"{kind}: the first connection", lambda: self.who(services) == "a")
        self.loaded[kind] = services
        return spent

    def load_all(self, kind, services):
        if kind == WEIR:
            file = self.write_config(services.yaml(), "weir.yaml")
            spent = took(self.weir, "apply", "-f", file, timeout=120)
            self.add_changing(services)
            return spent
        text = services.iptables() if kind == IPTABLES else services.nft()
        spent = took(self.run_in, kind, *RESTORE[kind], self.write_config(text, f"{kind}.rules"), timeout=120)
        for setting in TRACKING:  # which are there once NAT is
            self.run_in(kind, "sysctl", "-qw", setting)
        return spent

    def add_changing(self, services):
        """By hand: what a file has is changed in the file."""
        address, port = services.place(services.changing)
        vip = f"{address}:{port}/tcp"
        self.weir("vip", "add", vip, "--mode", "nat", "--snat", "never")
        for endpoint, at in services.list[services.changing][3]:
            self.weir("backend", "add", vip, f"{endpoint}:{at}")

    def unload(self, kind):
        if kind == IPTABLES:
            self.run_in(kind, "iptables-legacy", "-t", "nat", "-F")
            self.run_in(kind, "iptables-legacy", "-t", "nat", "-X")
        elif kind == NFT:
            self.run_in(kind, "nft", "flush", "ruleset", timeout=120)
        else:
            if "weir-l4" not in self.processes:
                self.start_l4()
            # A balancer on its devices, with its tables, and one service: as NAT is in the kernel of the peers.
            none = Services(kind, 0)
            address, port = none.place(none.changing)
            self.weir("vip", "del", f"{address}:{port}/tcp", check=False)
            self.weir("apply", "-f", self.write_config(none.yaml(), "weir.yaml"), timeout=120)

    def change(self, kind, services, name):
        """The one service has the one backend of this name, and had the other."""
        endpoint = address, port = who(kind, WHO_NAMES.index(name))
        vip, vip_port = services.place(services.changing)
        if kind == WEIR:
            old = who(kind, 1 - WHO_NAMES.index(name))
            vip = f"{vip}:{vip_port}/tcp"
            self.weir("backend", "add", vip, f"{address}:{port}")
            self.weir("backend", "del", vip, f"{old[0]}:{old[1]}")
            return
        text = (services.iptables_change if kind == IPTABLES else services.nft_change)(endpoint)
        self.run_in(kind, *RESTORE[kind], self.write_config(text, f"{kind}.change"))

    def who(self, services):
        return sockets.ask(self, CLIENT, *services.place(services.changing), b"", 2.0).decode()

    # ---- load ---------------------------------------------------------------------------------

    def connects(self, services, seconds):
        """Connect, request, reply, close, 32 at a time."""
        address, port = services.loaded
        report = json.loads(self.run_in(
            CLIENT, BENCH / "kernel_peer", "crr", "--core", CLIENT_CORE, "--peer", f"{address}:{port}",
            "--connections", 32, "--seconds", seconds, "--warm-up", 50, "--json", timeout=60).stdout.splitlines()[-1])
        if report["failures"] > LOST_MAX * report["operations"]:
            raise LabError(f"{report['failures']} of {report['operations']} connections failed")
        return {"connects": report["rate_per_s"], CLIENT_BOUND: report["processor"] > BUSY}

    def packets(self, kind, services, seconds):
        """How long a packet takes the one CPU that all of its way is on, and how many that is a second."""
        address, port = services.place(services.packets)
        out = json.loads(self.run_in(
            CLIENT, "taskset", "-c", CORE, "python3", SENDER, self.pins / "ends", kind, self.mac(kind, "in"),
            f"10.2.{NUMBER[kind]}.2", address, port, seconds, timeout=60).stdout)
        if out["arrived"] < (1 - LOST_MAX) * out["sent"]:
            raise LabError(f"{kind}: of {out['sent']} packets {out['arrived']} arrived")
        ns = 1e9 * out["processor_s"] / out["arrived"]
        return {"ns": ns, "packets": 1e9 / ns}


def series_of(group, count, quick):
    """Everything about so many services."""
    services = {kind: Services(kind, count) for kind in KINDS}
    suffix = f"{count}"

    def load(kind):
        return {kind: {"load": group.lab.load(kind, services[kind])}}

    def change(kind):
        """There and, unmeasured, back again."""
        group.lab.ensure(kind, services[kind])

        def seen(name):
            group.lab.change(kind, services[kind], name)
            wait_until(f"{kind}: a change", lambda: group.lab.who(services[kind]) == name, step=0.0)
        spent = took(seen, "b")
        seen("a")
        return {kind: {"change": spent}}

    def connects(kind):
        group.lab.ensure(kind, services[kind])
        return {kind: group.lab.connects(services[kind], 0.25 if quick else 1.0)}

    def packets(kind):
        group.lab.ensure(kind, services[kind])
        return {kind: group.lab.packets(kind, services[kind], 0.25 if quick else 1.0)}

    def row(key, what, unit, more):
        return Row(f"services.{key}_{suffix}", f"{what}, {count:,} services", unit, key, PEERS, more=more)
    return [Series(f"{suffix} services, load", KINDS, load, [row("load", "from none to all", "ms", False)],
                   0.1 + count / 3000 + count ** 2 / 1.2e7),
            Series(f"{suffix} services, change", KINDS, change,
                   [row("change", "one backend changed (Weir: by hand), until a connection gets there", "ms", False)],
                   0.1 + count / 20_000),
            Series(f"{suffix} services, connects", KINDS, connects,
                   [row("connects", "new connections with a request each", "1/s", True)], 0.35 if quick else 1.1),
            Series(f"{suffix} services, packets", KINDS, packets,
                   [row("packets", "UDP of 1,024 flows, one CPU for all", "packets/s", True),
                    row("ns", "the same, processor time of the whole way", "ns", False)], 0.4 if quick else 1.2)]


class Group(LabGroup):
    """Three routers between one client and one server."""

    name = "services"
    setup_s = 1.0

    @staticmethod
    def make_lab():
        return ServicesLab("weirsvc")

    def __init__(self, quick):
        self.series = [series for count in (QUICK_SIZES if quick else SIZES)
                       for series in series_of(self, count, quick)]
