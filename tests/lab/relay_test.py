"""weir_impair_relay between two kernels: what it says about the link is what the ends see."""

import contextlib
import hashlib
import os
import socket
import statistics
import struct
import subprocess
import threading
import time
import unittest

from labcase import *

RELAY = weirlab.BUILD / "tests" / "lab" / "weir_impair_relay"
ADDRESS = {"client": "10.79.0.1", "server": "10.79.0.2"}
PATIENCE_S = 30
IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3  # <linux/in.h>: whole, whatever was learnt of the path


class Relay(unittest.TestCase):
    """client ── left, relay, right ── server; a relay of its own for each test."""

    @classmethod
    def setUpClass(cls):
        need_root()
        cls.lab = weirlab.Lab(f"weirtest{os.getpid()}r")
        cls.addClassCleanup(cls.lab.close)
        cls.lab.remove_leftovers()
        for host in ("client", "relay", "server"):
            cls.lab.add_host(host)
            # Nobody speaks unasked: a test counts frames.
            cls.lab.run_in(host, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1",
                           "net.ipv6.conf.default.disable_ipv6=1")
        cls.lab.cable("client", "eth0", "relay", "left", 1500)
        cls.lab.cable("server", "eth0", "relay", "right", 1500)
        mac = {}
        for host, address in ADDRESS.items():
            cls.lab.run_in(host, "ip", "address", "add", f"{address}/24", "dev", "eth0")
            mac[host] = cls.lab.mac(host)
        for host, other in (("client", "server"), ("server", "client")):
            cls.lab.run_in(host, "ip", "neighbor", "replace", ADDRESS[other], "lladdr", mac[other],
                           "dev", "eth0", "nud", "permanent")

    @contextlib.contextmanager
    def relay(self, *options):
        """Runs a relay; afterwards the yielded dictionary has its counters by direction."""
        process = subprocess.Popen(
            self.lab.command_in("relay", RELAY, *options, "left", "right"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        counters = {}
        try:
            self.assertEqual(process.stdout.readline(), "ready\n")
            yield counters
            process.terminate()
            out, err = process.communicate(timeout=10)
            self.assertEqual(process.returncode, 0, err)
            for row in json_lines(out):
                counters["to_right" if row["from"] == "left" else "to_left"] = row
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()

    @contextlib.contextmanager
    def connection(self):
        """A TCP connection through the relay: the client's socket, the server's socket."""
        with self.lab.inside("server"):
            listener = socket.create_server((ADDRESS["server"], 0))
        with self.lab.inside("client"):
            client = socket.socket()
        with listener, client:
            client.settimeout(PATIENCE_S)
            client.connect(listener.getsockname())
            server, _ = listener.accept()
            with server:
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    # Ends by RST, so that no FIN is repeated into the next test.
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.settimeout(PATIENCE_S)
                yield client, server

    @contextlib.contextmanager
    def datagrams(self):
        """UDP: the client's connected socket, the server's."""
        with self.lab.inside("server"):
            server = socket.socket(type=socket.SOCK_DGRAM)
            server.bind((ADDRESS["server"], 0))
        with self.lab.inside("client"):
            client = socket.socket(type=socket.SOCK_DGRAM)
            client.connect(server.getsockname())
        with client, server:
            server.settimeout(1)
            yield client, server

    def numbers_received(self, server):
        numbers = []
        with contextlib.suppress(TimeoutError):
            while True:
                numbers.append(int.from_bytes(server.recv(2048)[:4], "big"))
        return numbers

    def transfer(self, source, target, size):
        """Moves random bytes and checks them; the seconds that it took."""
        data = os.urandom(size)
        begin = time.monotonic()
        sender = threading.Thread(target=source.sendall, args=(data,))
        sender.start()
        digest = hashlib.sha256()
        received = 0
        while received < size:
            piece = target.recv(1 << 16)
            self.assertTrue(piece, f"the end after {received} bytes")
            digest.update(piece)
            received += len(piece)
        sender.join()
        self.assertEqual(digest.digest(), hashlib.sha256(data).digest())
        return time.monotonic() - begin

    def assert_adds_up(self, row):
        lost = sum(row[name] for name in ("lost_by_chance", "lost_in_burst", "lost_queue",
                                          "lost_mtu", "lost_in_flight_max"))
        self.assertEqual(row["offered"] - lost + row["duplicated"],
                         row["released"] + row["under_way"], row)
        self.assertEqual(row["lost_kernel"] + row["send_failed"], 0, row)

    # ---- what passes ----------------------------------------------------------------------------

    def test_the_round_trip_is_twice_the_delay_within_a_millisecond_each_way(self):
        with self.relay("--delay", "20ms") as counters, self.connection() as (client, server):
            times = []
            for _ in range(20):
                begin = time.monotonic()
                client.send(b"ping")
                self.assertEqual(server.recv(16), b"ping")
                server.send(b"pong")
                self.assertEqual(client.recv(16), b"pong")
                times.append((time.monotonic() - begin) * 1000)
        print(f"round trip at 20 ms each way: {min(times):.2f} to {max(times):.2f} ms, "
              f"median {statistics.median(times):.2f}")
        self.assertGreaterEqual(min(times), 40)
        self.assertLess(min(times), 42)
        for row in counters.values():
            self.assert_adds_up(row)
            self.assertEqual(row["offered"], row["sent"] + row["under_way"])

    def test_a_transfer_at_one_percent_loss_is_exact_both_ways(self):
        size = 8 << 20
        with self.relay("--loss", "1%", "--seed", "7") as counters, \
                self.connection() as (client, server):
            self.transfer(client, server, size)
            self.transfer(server, client, size)
        for row in counters.values():
            self.assert_adds_up(row)
            self.assertAlmostEqual(row["lost_by_chance"] / row["offered"], 0.01, delta=0.005)

    def test_a_transfer_through_everything_at_once_is_exact(self):
        with self.relay("--delay", "1ms", "--rate", "200Mbit", "--loss", "1%", "--burst-loss",
                        "0.2%,40%", "--reorder", "2%,2ms", "--duplicate", "2%", "--corrupt",
                        "0.5%") as counters, self.connection() as (client, server):
            self.transfer(client, server, 4 << 20)
        row = counters["to_right"]
        self.assert_adds_up(row)
        for what in ("lost_by_chance", "lost_in_burst", "reordered", "duplicated", "corrupted"):
            self.assertGreater(row[what], 0, what)

    def test_a_transfer_takes_as_long_as_the_rate_says(self):
        size = 2 << 20
        with self.relay("--rate", "20Mbit"), self.connection() as (client, server):
            seconds = self.transfer(client, server, size)
        ideal = size * 1514 / 1448 * 8 / 20e6
        self.assertGreater(seconds, ideal * 0.95)
        self.assertLess(seconds, ideal * 1.5)

    # ---- what does not --------------------------------------------------------------------------

    def test_the_queue_holds_what_it_may_and_no_more(self):
        # 1000 bytes take 8 ms and a bit; all hundred come within that time.
        with self.relay("--rate", "1Mbit", "--queue", "10") as counters, \
                self.datagrams() as (client, server):
            for i in range(100):
                client.send(i.to_bytes(4, "big") + bytes(996))
            received = self.numbers_received(server)
        self.assertEqual(received[:10], list(range(10)))
        self.assertEqual(len(received) + counters["to_right"]["lost_queue"], 100)
        self.assertLess(len(received), 30)

    def test_the_same_seed_loses_the_same_frames(self):
        def lost(seed):
            with self.relay("--to", "right", "--loss", "10%", "--seed", seed) as counters, \
                    self.datagrams() as (client, server):
                for i in range(200):
                    client.send(i.to_bytes(4, "big"))
                received = self.numbers_received(server)
            self.assertEqual(counters["to_right"]["lost_by_chance"], 200 - len(received))
            self.assertEqual(counters["to_left"]["lost_by_chance"], 0)
            return set(range(200)) - set(received)

        first = lost(3)
        self.assertEqual(first, lost(3))
        self.assertNotEqual(first, lost(4))
        self.assertTrue(5 <= len(first) <= 50, len(first))

    def test_packets_that_are_too_big_are_answered_and_the_sender_adapts(self):
        with self.relay("--mtu", "1300", "--too-big") as counters, \
                self.connection() as (client, server):
            self.transfer(client, server, 1 << 20)
        row = counters["to_right"]
        self.assert_adds_up(row)
        self.assertGreater(row["lost_mtu"], 0)
        self.assertGreater(row["too_big_answers"], 0)

    def test_packets_that_are_too_big_vanish_without_a_word_when_nobody_asked_for_answers(self):
        with self.relay("--mtu", "1300") as counters, self.datagrams() as (client, server):
            client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
            client.send(bytes(1400))
            client.send((5).to_bytes(4, "big"))
            self.assertEqual(self.numbers_received(server), [5])
        self.assertEqual(counters["to_right"]["lost_mtu"], 1)
        self.assertEqual(counters["to_left"]["offered"], 0)

    # ---- what goes wrong ------------------------------------------------------------------------

    def test_unfinished_checksums_are_counted(self):
        self.lab.run_in("client", "ethtool", "-K", "eth0", "tx", "on")
        try:
            with self.relay() as counters, self.datagrams() as (client, server):
                client.send(bytes(4))
                self.assertEqual(self.numbers_received(server), [])  # it is not the relay's to finish
        finally:
            self.lab.run_in("client", "ethtool", "-K", "eth0", "tx", "off")
        self.assertEqual(counters["to_right"]["unfinished_checksums"], 1)
        self.assertEqual(counters["to_left"]["unfinished_checksums"], 0)

    def test_wrong_arguments_are_named(self):
        for words, expected in (
                (("left",), "1 devices were named"),
                (("--delay", "20m", "left", "right"), "--delay: '20m' is not a time"),
                (("--loss", "101%", "left", "right"), "--loss: '101%' is not a probability"),
                (("--loss",), "--loss needs a value"),
                (("--speed", "1", "left", "right"), "there is no option --speed"),
                (("left", "middle"), "there is no device middle")):
            done = self.lab.run_in("relay", RELAY, *words, check=False)
            self.assertIn(expected, done.stderr)
            self.assertIn(done.returncode, (1, 2))
            self.assertEqual(done.stdout, "")


if __name__ == "__main__":
    main()
