"""Mode nat with real sockets, through routers on both sides:

    client ── near (a router) ── eth0 node eth1 ── far (a router) ── b1, b2

The node forwards nothing by itself. Both families, TCP and UDP, with the client's address kept and
with the node's in its place; ports; bulk; path MTU from either side; a restart under traffic; a
backend that goes; a table that is full."""

import hashlib
import os
import pathlib
import resource
import socket
import unittest

from labcase import *

HERE = pathlib.Path(__file__).parent
CLIENT = {4: "10.90.0.100", 6: "fd90::100"}
NODE_FAR = {4: "10.92.0.1", 6: "fd92::1"}
BACKEND = {"b1": {4: "10.93.1.11", 6: "fd93:1::11"}, "b2": {4: "10.93.2.11", 6: "fd93:2::11"}}
VIP = {4: "203.0.113.80", 6: "2001:db8:77::80"}
PORT, UDP_PORT = 8080, 5353  # on backends
FULL, KEPT, FULL_UDP, KEPT_UDP, BOTH = 80, 81, 53, 54, 90  # on the VIPs
RECORDS = 1024
BULK = 8 << 20
NARROW = 1300


def vip(name, family, port, protocol, snat, backends, backend_port):
    listed = ", ".join(f'{{name: {b}, address: "{BACKEND[b][family]}", port: {backend_port}}}'
                       for b in backends)
    return (f'- {{name: {name}{family}, address: "{VIP[family]}", port: {port}, '
            f"protocol: {protocol}, forward: {{mode: nat, snat: {snat}}}, table: {{size: 251}}, "
            f"backends: [{listed}]}}\n")


def config(both=("b1", "b2"), l4=""):
    text = f"""version: 1
node:
  interfaces: [eth0, eth1]
  xdpMode: native
  l4: {{natFlows: {RECORDS}{l4}}}
vips:
"""
    for family in (4, 6):
        text += vip("full", family, FULL, "TCP", "auto", ["b1"], PORT)
        text += vip("kept", family, KEPT, "TCP", "never", ["b1"], PORT)
        text += vip("fulludp", family, FULL_UDP, "UDP", "always", ["b1"], UDP_PORT)
        text += vip("keptudp", family, KEPT_UDP, "UDP", "never", ["b1"], UDP_PORT)
        text += vip("both", family, BOTH, "TCP", "auto", both, PORT)
    return text


class Connection:
    """A TCP connection of the client's."""

    def __init__(self, test, family, port, patience=5):
        self.socket = test.socket_in("client", family, socket.SOCK_STREAM)
        self.socket.settimeout(patience)
        self.socket.connect((VIP[family], port))
        self.file = self.socket.makefile("rb")

    def ask(self, line, body=b""):
        self.socket.sendall(line.encode() + b"\n" + body)
        answer = self.file.readline().decode().strip()
        if not answer:
            raise ConnectionError("the connection ended")
        return answer

    def get(self, count):
        self.socket.sendall(f"get {count}\n".encode())
        digest, left = hashlib.sha256(), count
        while left:
            part = self.file.read(min(left, 65536))
            if not part:
                raise ConnectionError(f"{left} bytes are missing")
            digest.update(part)
            left -= len(part)
        return digest.hexdigest()

    def close(self):
        self.file.close()
        self.socket.close()


class Nat(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        need_root()
        cls.lab = weirlab.Lab(f"weirtest{os.getpid()}n")
        cls.addClassCleanup(cls.lab.close)
        cls.lab.remove_leftovers()
        cls.build()
        for name in BACKEND:
            cls.lab.start(f"server-{name}", name, "python3", HERE / "nat_server.py", PORT, UDP_PORT)
        cls.lab.start_l4()
        # Without a VIP in mode nat there is no table; the first one brings it to a running balancer.
        cls.lab.weir("load", "eth0", "eth1", "--mode", "native")
        cls.nat_before = cls.lab.weir_json("stats", "--total").get("nat")
        cls.lab.weir("apply", "-f", cls.lab.write_config(config()))
        for name in BACKEND:
            wait_until(f"the server on {name}", lambda n=name: cls.lab.log(f"server-{n}") == "ready\n")
        cls.wait_resolved()

    @classmethod
    def build(cls):
        lab = cls.lab
        for host in ("client", "near", "node", "far", *BACKEND):
            lab.add_host(host)
        cables = [("client", "eth0", "near", "client", "90.0", "90:"),
                  ("node", "eth0", "near", "node", "91.0", "91:"),
                  ("node", "eth1", "far", "node", "92.0", "92:"),
                  ("b1", "eth0", "far", "b1", "93.1", "93:1:"),
                  ("b2", "eth0", "far", "b2", "93.2", "93:2:")]
        for host, device, router, port, net4, net6 in cables:
            lab.cable(host, device, router, port, 1500)
            last = {"client": 100, "node": 1}.get(host, 11)
            for where, name, own in ((host, device, last), (router, port, 254)):
                lab.run_in(where, "ip", "address", "add", f"10.{net4}.{own}/24", "dev", name)
                lab.run_in(where, "ip", "address", "add", f"fd{net6}:{own}/64", "dev", name, "nodad")
            if host != "node":
                lab.run_in(host, "ip", "route", "add", "default", "via", f"10.{net4}.254")
                lab.run_in(host, "ip", "-6", "route", "add", "default", "via", f"fd{net6}:254")
        for router, device in (("near", "node"), ("far", "node")):
            lab.run_in(router, "sysctl", "-qw", "net.ipv4.ip_forward=1",
                       "net.ipv6.conf.all.forwarding=1")
            lab.receive_redirected(router, device)
        for prefix, via in (("203.0.113.0/24", "10.91.0.1"), ("2001:db8:77::/64", "fd91::1")):
            lab.run_in("near", "ip", "route", "add", prefix, "via", via)
        for prefix, via in (("10.90.0.0/24", "10.92.0.1"), ("fd90::/64", "fd92::1")):
            lab.run_in("far", "ip", "route", "add", prefix, "via", via)
        for prefix, via in (("10.93.0.0/16", "10.92.0.254"), ("fd93::/16", "fd92::254")):
            lab.run_in("node", "ip", "route", "add", prefix, "via", via)

    @classmethod
    def wait_resolved(cls):
        wait_until("next hops",
                   lambda: cls.lab.weir_json("status")["weir-l4"]["backends_unresolved"] == 0)

    def apply(self, text):
        self.lab.weir("apply", "-f", self.lab.write_config(text, "changed.yaml"))
        self.wait_resolved()

    def stats(self):
        return self.lab.weir_json("stats", "--total")

    def verdicts(self):
        return {row["verdict"]: row["packets"] for row in self.stats()["verdicts"]}

    # ---- the client's sockets -----------------------------------------------------------------

    def socket_in(self, host, family, kind):
        with self.lab.inside(host):
            made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind)
        self.addCleanup(made.close)
        return made

    def connect(self, family, port, **options):
        connection = Connection(self, family, port, **options)
        self.addCleanup(connection.close)
        return connection

    def ask_by_udp(self, family, port, data):
        asking = self.socket_in("client", family, socket.SOCK_DGRAM)
        asking.settimeout(5)
        asking.connect((VIP[family], port))
        asking.send(data)
        address, source_port, back = asking.recv(65536).split(b" ", 2)
        self.assertEqual(back, data)
        return address.decode(), int(source_port), asking.getsockname()[1]

    # ---- what it sees -------------------------------------------------------------------------

    def test_the_table_comes_with_the_first_vip(self):
        self.assertIsNone(self.nat_before)
        self.assertEqual(self.stats()["nat"]["records_max"], RECORDS)

    def test_full_nat_shows_the_nodes_address_and_a_port_of_the_range(self):
        for family in (4, 6):
            address, port = self.connect(family, FULL).ask("who").split()
            self.assertEqual(address, NODE_FAR[family])
            self.assertTrue(10000 <= int(port) <= 29999, port)
            address, port, _ = self.ask_by_udp(family, FULL_UDP, b"query")
            self.assertEqual(address, NODE_FAR[family])
            self.assertTrue(10000 <= port <= 29999, port)

    def test_without_it_the_backend_sees_the_client(self):
        for family in (4, 6):
            connection = self.connect(family, KEPT)
            address, port = connection.ask("who").split()
            self.assertEqual(address, CLIENT[family])
            self.assertEqual(int(port), connection.socket.getsockname()[1])
            address, port, own = self.ask_by_udp(family, KEPT_UDP, b"query")
            self.assertEqual((address, port), (CLIENT[family], own))

    def test_datagrams_in_fragments_pass_both_ways(self):
        for family in (4, 6):
            for port in (FULL_UDP, KEPT_UDP):
                self.ask_by_udp(family, port, os.urandom(4000))

    def test_bulk_is_exact_both_ways(self):
        sent = os.urandom(BULK)
        block = hashlib.sha512(b"nat").digest() * 1024
        expected = hashlib.sha256(block * (BULK // len(block))).hexdigest()
        for family in (4, 6):
            for port in (FULL, KEPT):
                connection = self.connect(family, port, patience=20)
                self.assertEqual(connection.get(BULK), expected)
                self.assertEqual(connection.ask(f"put {BULK}", sent),
                                 hashlib.sha256(sent).hexdigest())

    def test_addresses_of_full_nat_can_be_chosen(self):
        other = "10.92.0.77"
        self.lab.run_in("node", "ip", "address", "add", f"{other}/24", "dev", "eth1")
        before = self.connect(4, FULL)
        self.assertEqual(before.ask("who").split()[0], NODE_FAR[4])
        self.apply(config(l4=f", snatAddresses: [{other}]"))
        self.addCleanup(self.apply, config())
        self.assertEqual(self.connect(4, FULL).ask("who").split()[0], other)
        self.assertEqual(self.connect(6, FULL).ask("who").split()[0], NODE_FAR[6])
        self.assertEqual(before.ask("still"), "still", "a flow keeps the source that it began with")

    # ---- path MTU -----------------------------------------------------------------------------

    def narrow(self, router, family, prefix, device):
        """The router sends no more than NARROW bytes there, and says so."""
        route = ("ip", "-6", "route") if family == 6 else ("ip", "route")
        self.lab.run_in(router, *route, "add", prefix, "dev", device, "mtu", NARROW)
        self.addCleanup(self.lab.run_in, router, *route, "del", prefix, "dev", device, "mtu", NARROW)

    def forget_paths(self):
        for host in ("client", "b1"):
            self.lab.run_in(host, "ip", "route", "flush", "cache")
            self.lab.run_in(host, "ip", "-6", "route", "flush", "cache")

    def assert_knows_path(self, host, destination):
        route = self.lab.run_in(host, "ip", "route", "get", destination).stdout
        self.assertIn(f"mtu {NARROW}", route, f"{host} was not told")

    def test_a_narrow_link_towards_the_client_is_told_to_the_backend(self):
        for family, bits in ((4, 32), (6, 128)):
            self.narrow("near", family, f"{CLIENT[family]}/{bits}", "client")
            for port in (FULL, KEPT):
                self.forget_paths()
                connection = self.connect(family, port, patience=10)
                seen = connection.ask("who").split()[0]
                connection.get(1 << 20)
                self.assert_knows_path("b1", seen)

    def test_a_narrow_link_towards_the_backend_is_told_to_the_client(self):
        sent = os.urandom(1 << 20)
        for family, bits in ((4, 32), (6, 128)):
            self.narrow("far", family, f"{BACKEND['b1'][family]}/{bits}", "b1")
            for port in (FULL, KEPT):
                self.forget_paths()
                connection = self.connect(family, port, patience=10)
                self.assertEqual(connection.ask(f"put {len(sent)}", sent),
                                 hashlib.sha256(sent).hexdigest())
                self.assert_knows_path("client", VIP[family])

    def test_a_closed_port_is_told_to_the_client(self):
        for family in (4, 6):
            self.lab.stop("server-b2")
            self.addCleanup(self.start_server, "b2")
            self.apply(config(both=("b2",)))
            self.addCleanup(self.apply, config())
            with self.assertRaises(ConnectionRefusedError):
                self.connect(family, BOTH)
            self.doCleanups()

    def start_server(self, name):
        (self.lab.directory / f"server-{name}.log").unlink(missing_ok=True)
        self.lab.start(f"server-{name}", name, "python3", HERE / "nat_server.py", PORT, UDP_PORT)
        wait_until(f"the server on {name}", lambda: self.lab.log(f"server-{name}") == "ready\n")

    # ---- changes ------------------------------------------------------------------------------

    def test_connections_survive_a_restart_of_the_daemon(self):
        held = [self.connect(family, port) for family in (4, 6) for port in (FULL, KEPT)]
        for connection in held:
            connection.ask("before")
        self.lab.stop("weir-l4")
        for connection in held:
            self.assertEqual(connection.ask("without"), "without")
        self.assertEqual(self.connect(4, FULL).ask("new"), "new")
        self.lab.start_l4()
        self.wait_resolved()
        for connection in held:
            self.assertEqual(connection.ask("after"), "after")
        self.assertEqual(self.stats()["nat"]["records_max"], RECORDS)

    def test_a_backend_that_goes_takes_its_connections_and_no_others(self):
        held = [self.connect(4, BOTH, patience=2) for _ in range(24)]
        for connection in held:
            connection.ask("before")
        self.apply(config(both=("b2",)))
        self.addCleanup(self.apply, config())
        lost = 0
        for connection in held:
            try:
                self.assertEqual(connection.ask("after"), "after")
            except OSError:
                lost += 1
        self.assertTrue(0 < lost < len(held), f"{lost} of {len(held)}")
        self.assertGreaterEqual(self.stats()["nat"]["forgotten"], lost)
        for _ in range(8):
            self.assertEqual(self.connect(4, BOTH).ask("new"), "new")

    def test_a_draining_backend_keeps_its_connections_and_gets_no_others(self):
        held = [self.connect(6, BOTH) for _ in range(16)]
        text = config().replace(f'address: "{BACKEND["b1"][6]}", port: {PORT}',
                                f'address: "{BACKEND["b1"][6]}", port: {PORT}, state: draining')
        self.apply(text)
        self.addCleanup(self.apply, config())
        for connection in held:
            self.assertEqual(connection.ask("after"), "after")
        before = self.packets_of("b1", 6)
        for _ in range(8):
            self.connect(6, BOTH).ask("new")
        self.assertEqual(self.packets_of("b1", 6), before)

    def packets_of(self, name, family):
        rows = [row for row in self.stats()["backends"]
                if row["address"] == BACKEND[name][family] and f"]:{BOTH}/" in row["vip"]]
        return rows[0]["new_flows"]

    def test_a_full_table_keeps_what_it_has_and_says_so(self):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limit)
        held, refused = [], 0
        while refused < 3 and len(held) < 2 * RECORDS:
            try:
                held.append(self.connect(4, FULL, patience=0.3))
            except OSError:
                refused += 1
        self.assertEqual(refused, 3)
        self.assertLessEqual(len(held), RECORDS)
        self.assertGreater(len(held), RECORDS // 2)
        for connection in held:
            self.assertEqual(connection.ask("alive"), "alive")
        stats = self.stats()
        self.assertGreaterEqual(stats["nat"]["no_record"], 3)
        self.assertGreaterEqual(stats["nat"]["established"], len(held))
        self.assertGreaterEqual(self.verdicts()["drop_nat_full"], 3)
        text = self.lab.weir("stats").stdout
        self.assertRegex(text, r"drop_nat_full.*no room for another flow")
        self.assertRegex(text, r"no_record +\d+")
        for connection in held:
            connection.close()

    def test_what_is_shown_of_a_vip(self):
        shown = self.lab.weir("vip", "show", f"{VIP[4]}:{KEPT}/tcp").stdout
        self.assertRegex(shown, r"mode +nat")
        self.assertRegex(shown, r"snat +never")
        self.lab.weir("vip", "add", f"{VIP[4]}:99/tcp", "--mode", "nat", "--snat", "always")
        self.addCleanup(self.lab.weir, "vip", "del", f"{VIP[4]}:99/tcp")
        self.assertRegex(self.lab.weir("vip", "show", f"{VIP[4]}:99/tcp").stdout, r"snat +always")
        self.lab.weir("backend", "add", f"{VIP[4]}:99/tcp", BACKEND["b2"][4], "--port", PORT)
        self.wait_resolved()
        self.assertEqual(self.connect(4, 99).ask("by hand"), "by hand")
        refused = self.lab.weir("backend", "add", f"{VIP[4]}:99/tcp", BACKEND["b1"][6], check=False)
        self.assertIn("does not translate between IP versions", refused.stderr + refused.stdout)

    def test_a_device_for_replies_that_is_not_loaded_is_warned_of(self):
        self.apply(config().replace("[eth0, eth1]", "[eth0]"))
        self.addCleanup(self.apply, config())
        warnings = " ".join(self.lab.weir_json("status")["notes"])
        self.assertIn("come in by eth1, where the balancer is not loaded", warnings)


if __name__ == "__main__":
    main()
