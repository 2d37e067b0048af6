"""What the guest's tests share: a small network whose backends take tunnels apart with the kernel's
own devices. It runs inside a guest, where nothing else uses the machine."""

import hashlib
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools" / "lab"))
import weirlab  # noqa: E402 the path comes first
from weirlab import NODE4, NODE6, backend4, backend6, run, wait_until  # noqa: E402,F401

BACKENDS = ["b1", "b2"]
WEIR = weirlab.BUILD / "tools" / "weir" / "weir"
SERVER = pathlib.Path(__file__).with_name("server.py")
GUE_PORT = 6080

if not pathlib.Path("/run/command").exists():  # which tools/guest/init puts there
    sys.exit("tests/guest runs inside a guest: tools/guest/run -- python3 tests/guest/all_test.py")
# Namespaces and map-in-map lookups wait for RCU thousands of times, and each wait is long on an
# emulated processor that gets little of the machine.
pathlib.Path("/sys/kernel/rcu_expedited").write_text("1", encoding="ascii")

VIP4, VIP6 = "203.0.113.80", "2001:db8:77::80"


def has_gue():
    """Whether this build's balancer has the mode `gue`."""
    return "gue" in run(WEIR, "vip", "add", "--help").stdout.partition("--mode")[2].split("--")[0]


class GuestLab(weirlab.Lab):
    """client, node and two backends on one bridge; VIPs are routed to the node."""

    def build(self, impaired=False):
        assert not impaired  # netem takes the impairing host's place here
        run("ip", "netns", "add", self.namespace("fabric"))
        self.run_in("fabric", "ip", "link", "add", "br0", "mtu", "1600", "type", "bridge",
                    "mcast_snooping", "0")
        self.run_in("fabric", "ip", "link", "set", "br0", "up")
        for host in ["client", "node", *BACKENDS]:
            run("ip", "netns", "add", self.namespace(host))
            self.run_in(host, "ip", "link", "set", "lo", "up")
            self.run_in(host, "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0",
                        "net.ipv6.conf.default.accept_dad=0")
            self.attach(host, 1500 if host == "client" else 1600)
        self.address("client", weirlab.CLIENT4, weirlab.CLIENT6)
        self.address("node", NODE4, NODE6)
        for name in BACKENDS:
            self.address(name, backend4(name), backend6(name))
        self.run_in("client", "ip", "route", "add", "203.0.113.0/24", "via", NODE4)
        self.run_in("client", "ip", "-6", "route", "add", "2001:db8:77::/64", "via", NODE6)
        self.receive_redirected("fabric", "node")

    def run_in(self, host, *command, **options):
        # What takes a second elsewhere takes many on an emulated processor beside other work.
        return super().run_in(host, *command, **{"timeout": 240} | options)

    def start_backend(self, name):
        """The VIPs on loopback, the kernel's own tunnel devices, and one server for all of it."""
        for vip, length in ((VIP4, 32), (VIP6, 128)):
            self.run_in(name, "ip", "address", "add", f"{vip}/{length}", "dev", "lo", "nodad")
        self.run_in(name, "sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1",
                    "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
        for module in ("sit", "fou"):
            run("modprobe", module)
        # One device per kind takes packets apart whoever sent them; sit0 comes with its module.
        self.run_in(name, "ip", "link", "add", "ipip", "type", "ipip", "external")
        self.run_in(name, "ip", "link", "add", "ip6tnl", "type", "ip6tnl", "external")
        for device in ("ipip", "ip6tnl", "sit0"):
            self.run_in(name, "ip", "link", "set", device, "up")
        for family in ("-4", "-6"):
            self.run_in(name, "ip", family, "fou", "add", "port", str(GUE_PORT), "gue")
        self.start(f"server-{name}", name, sys.executable, SERVER, "serve", name)

    def ask(self, *arguments, **options):
        """Runs the server's counterpart in the client's namespace; what it printed."""
        return self.run_in("client", sys.executable, SERVER, *arguments, timeout=180,
                           **options).stdout.strip()

    def received(self, host, device):
        """Packets that a device has received."""
        path = f"/sys/class/net/{device}/statistics/rx_packets"
        # A fresh sysfs shows the namespace's own devices.
        script = f"mount -t sysfs sysfs /sys && cat {path}"
        return int(self.run_in(host, "unshare", "--mount", "sh", "-c", script).stdout)


class GuestCase(unittest.TestCase):
    """One network and one daemon for all classes of a boot, since building them takes as long as the
    tests do. Each class begins without VIPs and devices, however the one before has ended."""

    lab = None

    @classmethod
    def setUpClass(cls):
        try:
            if GuestCase.lab is None:
                GuestCase.lab = cls.built()
            cls.clear()
            cls.prepare()
        except BaseException:
            if GuestCase.lab is not None:
                print(f"--- weir-l4\n{cls.lab.log('weir-l4')}", file=sys.stderr)
            raise

    @classmethod
    def clear(cls):
        cls.lab.weir("unload", check=False)  # refused when nothing is loaded
        for vip in cls.lab.weir_json("vip", "list")["vips"]:
            cls.lab.weir("vip", "del", vip["vip"])

    @staticmethod
    def built():
        lab = GuestLab("guest")
        lab.build()
        for name in BACKENDS:
            lab.start_backend(name)
        lab.start_l4()
        for name in BACKENDS:
            wait_until(f"the server on {name}", lambda n=name: lab.listening(n, 80), 30)
            for address in (backend4(name), backend6(name)):
                lab.run_in("node", "ping", "-c1", "-W5", address)
        return lab

    @classmethod
    def prepare(cls):
        """Brings the class's own configuration up."""

    @classmethod
    def add_vip(cls, vip, mode, backends):
        # A small table: an emulated processor takes its time to fill a large one.
        cls.lab.weir("vip", "add", vip, "--mode", mode, "--table-size", "1009")
        for backend in backends:
            cls.lab.weir("backend", "add", vip, backend)

    @classmethod
    def verdicts(cls):
        """Packets by verdict, those that have any."""
        rows = cls.lab.weir_json("stats", "--total")["verdicts"]
        return {row["verdict"]: row["packets"] for row in rows if row["packets"]}


def sha256_of_stream(size):
    """Of what the server sends when asked for so many bytes."""
    block = bytes(range(251)) * 251
    digest = hashlib.sha256()
    while size > 0:
        digest.update(block[:size])
        size -= len(block)
    return digest.hexdigest()
