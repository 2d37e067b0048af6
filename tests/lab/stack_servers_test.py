"""Linux servers behind our stack as a relay: both our ends of TCP at once, accepted and opened. Bytes,
ends, resets and slow readers arrive as they were sent, iperf3 is content, and a capture of the clean
cable shows nothing that tshark's expert would remark on."""

import hashlib
import socket
import struct
import threading
import time

from labcase import main
from stackcase import *

UPSTREAM = 7000
MIB = 1 << 20


class StackServers(StackCase):

    PATIENCE = 60.0  # of one socket, for one more byte

    def start_relay(self, *options, port=UPSTREAM):
        self.start_stack("relay", "--peer", f"{LINUX4}:{port}", *options)

    def serve_once(self, handler, port=UPSTREAM):
        """Accepts one connection and gives it to `handler`, in a thread."""
        with self.inside_linux():
            listener = socket.create_server((LINUX4, port))
        listener.settimeout(20)
        self.addCleanup(listener.close)
        failures = []

        def work():
            try:
                connection, _ = listener.accept()
                listener.close()
                connection.settimeout(self.PATIENCE)
                with connection:
                    handler(connection)
            except OSError as error:
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        self.addCleanup(thread.join, self.PATIENCE)

        def join():
            thread.join(self.PATIENCE)
            self.assertFalse(thread.is_alive())
            self.assertEqual(failures, [])

        return join

    def connect(self):
        with self.inside_linux():
            connection = socket.create_connection((WEIR4, PORT), timeout=20)
        self.addCleanup(connection.close)
        connection.settimeout(self.PATIENCE)
        return connection

    @staticmethod
    def read_all(connection):
        whole = hashlib.sha256()
        size = 0
        while data := connection.recv(1 << 18):
            whole.update(data)
            size += len(data)
        return size, whole.hexdigest()

    def transfer_both_ways(self, size):
        """So many bytes each way at the same time; the server's half ends last."""
        there, back = os.urandom(size), os.urandom(size)
        seen = {}

        def server(connection):
            sender = threading.Thread(target=connection.sendall, args=(back,))
            sender.start()
            seen["there"] = self.read_all(connection)
            sender.join()

        join = self.serve_once(server)
        client = self.connect()
        sender = threading.Thread(target=lambda: (client.sendall(there),
                                                  client.shutdown(socket.SHUT_WR)))
        sender.start()
        seen["back"] = self.read_all(client)
        sender.join()
        join()
        for name, sent in (("there", there), ("back", back)):
            self.assertEqual(seen[name], (size, hashlib.sha256(sent).hexdigest()), name)

    def test_bytes_of_both_directions_arrive_exactly(self):
        self.start_relay()
        self.transfer_both_ways(16 * MIB)
        self.assert_all_gone()
        counters = self.end_stack()
        self.assertEqual(counters["tcp"]["bytes_sent"], 32 * MIB)

    def test_a_half_that_has_ended_does_not_end_the_other(self):
        self.start_relay()
        seen = {}

        def server(connection):
            seen["asked"] = self.read_all(connection)[0]
            time.sleep(0.3)
            connection.sendall(b"a" * MIB)

        join = self.serve_once(server)
        client = self.connect()
        client.sendall(b"q" * 1000)
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(self.read_all(client)[0], MIB)
        join()
        self.assertEqual(seen["asked"], 1000)
        self.assert_all_gone()

    def test_a_reset_of_the_server_and_a_refusal_reach_the_client(self):
        self.start_relay()

        def server(connection):
            connection.recv(10)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        join = self.serve_once(server)
        client = self.connect()
        client.sendall(b"0123456789")
        with self.assertRaises(ConnectionResetError):
            client.recv(1)
        join()
        self.end_stack()
        self.start_relay(port=UPSTREAM + 1)  # nobody listens there
        with self.assertRaises(ConnectionResetError):
            self.connect().recv(1)
        self.assert_all_gone()

    def test_a_slow_reader_holds_the_writer_back_and_loses_nothing(self):
        self.start_relay("--buffer-kb", 256)
        go_on = threading.Event()
        seen = {}

        def server(connection):
            go_on.wait(30)
            seen["read"] = self.read_all(connection)

        join = self.serve_once(server)
        client = self.connect()
        client.setblocking(False)
        sent = hashlib.sha256()
        size, block, last = 0, os.urandom(1 << 16), time.monotonic()
        while time.monotonic() - last < 1.0:  # full: nothing was taken for a second
            try:
                taken = client.send(block)
            except BlockingIOError:
                time.sleep(0.01)
                continue
            sent.update(block[:taken])
            size, last = size + taken, time.monotonic()
            self.assertLess(size, 256 * MIB, "nobody holds the writer back")
        held = self.counters()["tcp"]["buffer_chunks"] * 4096
        self.assertLess(held, 2 * 2 * 256 * 1024 + 16 * 4096)
        self.assertGreater(held, 100 * 1024)
        go_on.set()
        client.setblocking(True)
        client.shutdown(socket.SHUT_WR)
        join()
        self.assertEqual(seen["read"], (size, sent.hexdigest()))
        client.close()
        self.assert_all_gone()

    def test_iperf3_measures_in_both_directions(self):
        self.start_relay()
        self.addCleanup(self.lab.stop, "iperf3")
        for words in ((), ("-R",), ("-P", 4)):
            # One server for each: between two tests of one it does not listen for a while.
            self.lab.start("iperf3", "linux", "iperf3", "-s", "-1", "-B", LINUX4, "-p", UPSTREAM)
            wait_until("iperf3", lambda: self.lab.listening("linux", UPSTREAM))
            done = self.linux("iperf3", "-c", WEIR4, "-p", PORT, "-t", 1, "-J", *words)
            result = json.loads(done.stdout)
            self.assertNotIn("error", result)
            self.assertGreater(result["end"]["sum_received"]["bytes"], MIB)
            self.lab.processes["iperf3"].wait(10)
            self.lab.stop("iperf3")
        self.assert_all_gone()
        self.end_stack()

    def silence_before(self, path, at, stream):
        """For how many seconds nothing had come from the peer."""
        heard = self.tshark(path, f"tcp.stream == {stream} and ip.src != {WEIR4} and "
                                  f"frame.time_epoch < {at}", "frame.time_epoch")
        return float(at) - float(heard[-1][0]) if heard else 0

    def test_tshark_finds_nothing_to_remark_on_a_clean_cable(self):
        self.start_relay()
        path = self.start_capture()
        self.transfer_both_ways(2 * MIB)
        for _ in range(20):
            join = self.serve_once(lambda connection: connection.sendall(connection.recv(100) * 3))
            client = self.connect()
            client.sendall(b"q" * 100)
            self.assertEqual(self.read_all(client)[0], 300)
            client.close()
            join()
        self.assert_all_gone()
        counters = self.end_stack()
        self.end_capture()
        wrong = ("tcp.analysis.lost_segment or tcp.analysis.ack_lost_segment or _ws.malformed or "
                 "tcp.analysis.reused_ports or tcp.checksum.status == 0 or tcp.flags.reset == 1")
        self.assertEqual(self.tshark(path, wrong, "frame.number", "_ws.col.Info"), [])
        again = self.tshark(path, f"tcp.analysis.retransmission and ip.src == {WEIR4}",
                            "frame.time_epoch", "tcp.stream")
        # A machine that lets the peer stand still makes any stack send again, by a time-out or by the
        # probe before it (RFC 8985, section 7.2: not before 1 ms); never by what the peer has said.
        self.assertEqual(counters["tcp"]["fast_retransmits"], 0)
        silent = [self.silence_before(path, *row) for row in again]
        self.assertEqual([seconds for seconds in silent if seconds < 0.001], [])
        by_timer = counters["tcp"]["tail_probes"] + counters["tcp"]["retransmission_timeouts"]
        self.assertLessEqual(len(again), by_timer)
        # What Linux sends again it does by its own timers, since everything came to us in order: its
        # probes are out after two round trips, which a busy machine makes us miss.
        self.assertEqual(counters["tcp"]["out_of_order_segments"], 0)
        self.assertEqual(counters["port"]["receive_overflow"], 0)
        self.assertEqual(counters["interface"]["dropped_checksum"], 0)
        # An ACK that says nothing new costs a frame, and three of them would cost the peer its window.
        twice = self.tshark(path, "tcp.analysis.duplicate_ack_num >= 3", "frame.number", "ip.src")
        self.assertEqual(twice, [])
        twice = self.tshark(path, "tcp.analysis.duplicate_ack", "ip.src")
        print(f"\n{len(twice)} ACKs that say nothing new, {len(again)} segments that we sent again", flush=True)
        self.assertLess(len(twice), 30)
        whole = self.tshark(path, f"tcp.len > 0 and ip.src == {WEIR4}", "tcp.len")
        self.assertGreater(sum(int(row[0]) for row in whole), 4 * MIB, "the capture saw too little")


if __name__ == "__main__":
    main()
