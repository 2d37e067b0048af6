"""What the tests of the packet path share: backends that own every address of two prefixes and say
who they are, and a client whose sockets the test holds itself."""

import collections
import contextlib
import pathlib
import socket

from labcase import *

HERE = pathlib.Path(__file__).parent
VIPS4, VIPS6 = "203.0.113.0/24", "2001:db8:77::/64"  # routed to the node, owned by all backends
PORT = 7007  # that all backends listen on
STEP_BYTES = 32768  # of an echo at a time, so that no buffer has to hold it all


def vip4(number):
    return f"203.0.113.{number}"


def vip6(number):
    return f"2001:db8:77::{number}"


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def backends_of(family, names=tuple(BACKENDS), extra=""):
    """A list of backends as the configuration spells it. `extra` may speak of {name}."""
    address = weirlab.backend4 if family == 4 else weirlab.backend6
    return "[" + ", ".join(f'{{name: {b}, address: "{address(b)}"{extra.format(name=b)}}}'
                           for b in names) + "]"


def vip_line(name, address, backends, protocol="TCP", port=PORT, mode="ipip", words=""):
    return (f'- {{name: {name}, address: "{address}", port: {port}, protocol: {protocol}, '
            f"forward: {{mode: {mode}}}, backends: {backends}{words}}}\n")


class PathCase(LabCase):
    PORTS = (PORT,)
    CLIENTS = 8  # addresses of the client, by family

    @classmethod
    def start_backends(cls):
        lab = cls.lab
        for name in BACKENDS:
            lab.run_in(name, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0",
                       "net.ipv4.conf.eth0.rp_filter=0", "net.ipv4.conf.all.arp_ignore=1")
            # Answers go to a client whose device carries 1,500 bytes.
            lab.run_in(name, "ip", "route", "change", "10.77.0.0/24", "dev", "eth0", "mtu", "1500",
                       "src", weirlab.backend4(name))
            lab.run_in(name, "ip", "-6", "route", "add", "fd77::/64", "dev", "eth0", "mtu", "1500",
                       "metric", "1")
            lab.run_in(name, "ip", "route", "add", "local", VIPS4, "dev", "lo")
            lab.run_in(name, "ip", "-6", "route", "add", "local", VIPS6, "dev", "lo")
            cls.load_decapsulation(name)
        cls.start_servers()
        cls.client4 = [f"10.77.0.{100 + i}" for i in range(cls.CLIENTS)]
        cls.client6 = [f"fd77::{100 + i}" for i in range(cls.CLIENTS)]
        lines = [f"address add {a}/24 dev eth0" for a in cls.client4[1:]]
        lines += [f"address add {a}/64 dev eth0 nodad" for a in cls.client6[1:]]
        lab.run_in("client", "ip", "-batch", "-", input="\n".join(lines))

    @classmethod
    def load_decapsulation(cls, name, device="eth0", sources=(NODE4, NODE6)):
        cls.lab.decap(name, "load", device, "--mode", "native", "--vip", VIPS4, "--vip", VIPS6,
                      *(word for source in sources for word in ("--source", source)))

    @classmethod
    def start_servers(cls):
        cls.lab.start("echo", "fabric", "python3", HERE / "named_echo.py", "--udp", "--ports",
                      ",".join(map(str, cls.PORTS)),
                      *(f"{b}=/run/netns/{cls.lab.namespace(b)}" for b in BACKENDS))
        wait_until("the servers", lambda: cls.lab.alive("echo") and "ready" in cls.lab.log("echo"), 30)

    @classmethod
    def apply(cls, vips, node="", interfaces="eth0"):
        """Brings the VIPs up and waits until every backend can be reached."""
        cls.lab.weir("apply", "-f", cls.lab.write_config(
            f"version: 1\nnode:\n  interfaces: [{interfaces}]\n  xdpMode: native\n{node}vips:\n{vips}"))
        wait_until("next hops",
                   lambda: cls.lab.weir_json("status")["weir-l4"]["backends_unresolved"] == 0)

    # ---- the client's sockets -----------------------------------------------------------------

    def inside(self, host):
        return self.lab.inside(host)

    def socket(self, address, kind, source=None, host="client", patience=3.0):
        with self.inside(host):
            made = socket.socket(family_of(address), kind)
        self.addCleanup(made.close)
        made.settimeout(patience)
        if source:
            made.bind((source, 0) if isinstance(source, str) else source)
        return made

    def open(self, address, port=PORT, **options):
        """A connection, and the name of the server that it has."""
        connection = self.socket(address, socket.SOCK_STREAM, **options)
        connection.connect((address, port))
        name = b""
        while not name.endswith(b"\n"):
            more = connection.recv(1)
            self.assertTrue(more, f"{address}:{port} closed before it said who it is")
            name += more
        return connection, name.decode().strip()

    def exchange(self, connection, size):
        """Sends so many bytes and reads them back."""
        for start in range(0, size, STEP_BYTES):
            sent = os.urandom(min(STEP_BYTES, size - start))
            connection.sendall(sent)
            self.assertEqual(self.read(connection, len(sent)), sent)

    @staticmethod
    def read(connection, size):
        got = bytearray()
        while len(got) < size and (data := connection.recv(size - len(got))):
            got += data
        return bytes(got)

    def ask_tcp(self, address, port=PORT, size=0, **options):
        connection, name = self.open(address, port, **options)
        with connection:
            self.exchange(connection, size)
        return name

    def ask_udp(self, address, port=PORT, data=b"?", connection=None, **options):
        connection = connection or self.socket(address, socket.SOCK_DGRAM, **options)
        connection.sendto(data, (address, port))
        answer = connection.recv(65536)
        name, _, echoed = answer.partition(b" ")
        self.assertEqual(echoed, data)
        return name.decode()

    def count_answers(self, ask, count, *arguments, **options):
        return collections.Counter(ask(*arguments, **options) for _ in range(count))

    # ---- what was counted ------------------------------------------------------------

    def icmp_received(self, kind):
        """What of a kind the backends' kernels have taken, by backend. `kind` is a word of
        /proc/net/snmp, or of snmp6."""
        counts = collections.Counter()
        for name in BACKENDS:
            if kind.startswith("Icmp6"):
                text = self.lab.run_in(name, "cat", "/proc/thread-self/net/snmp6").stdout
                counts[name] = int(re.search(rf"{kind}\s+(\d+)", text).group(1))
            else:
                text = self.lab.run_in(name, "cat", "/proc/thread-self/net/snmp").stdout
                words, values = (line.split() for line in text.splitlines() if line.startswith("Icmp:"))
                counts[name] = int(values[words.index(kind)])
        return counts

    def verdicts(self):
        return {row["verdict"]: row["packets"] for row in self.lab.weir_json("stats", "--total")["verdicts"]}

    @contextlib.contextmanager
    def assert_counted(self, verdict, least):
        before = self.verdicts()[verdict]
        yield
        self.assertGreaterEqual(self.verdicts()[verdict] - before, least, verdict)

    @contextlib.contextmanager
    def assert_nothing_dropped(self):
        before = self.verdicts()
        yield
        dropped = {name: n - before[name] for name, n in self.verdicts().items()
                   if name.startswith("drop") and n != before[name]}
        self.assertEqual(dropped, {})
