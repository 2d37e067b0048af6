"""Linux programs as clients of our TCP stack: curl, wrk, h2load, long idle connections, and what port
scanners and packet forgers send. Whatever comes, the stack goes on, and keeps nothing."""

import socket
import time

from labcase import main
from stackcase import *

URL = f"http://{WEIR4}:{PORT}/"
# Flags and oddities that hping3 forges, and the counter that must move by them.
FORGED = [
    ("SYN and FIN together", ["-S", "-F"], None),
    ("no flag at all", [], None),
    ("all flags", ["-S", "-F", "-R", "-P", "-A", "-U", "-X", "-Y"], None),
    ("an ACK of nothing", ["-A"], ("tcp", "resets_sent")),
    ("a RST of nothing", ["-R"], None),
    ("FIN, PSH and URG", ["-F", "-P", "-U"], None),
    ("a wrong checksum", ["-S", "-b"], ("interface", "dropped_checksum")),
    ("a header shorter than a header", ["-S", "-O", "1"], ("tcp", "dropped_malformed")),
    ("a header longer than the segment", ["-S", "-O", "15"], ("tcp", "dropped_malformed")),
    ("a SYN with a closed window", ["-S", "-w", "0"], None),
    ("a SYN with text", ["-S", "-d", "1200"], None),
    ("text without a connection", ["-A", "-P", "-d", "1200"], ("tcp", "resets_sent")),
    ("fragments", ["-S", "-f", "-d", "64"], ("interface", "dropped_fragment")),
    ("UDP", ["--udp"], ("interface", "dropped_udp")),
    ("a protocol that nobody speaks", ["--rawip", "-H", "200"], ("interface", "dropped_protocol")),
]


class StackClients(StackCase):

    def assert_serves(self):
        done = self.linux("curl", "-sS", "--max-time", "20", URL)
        self.assertEqual(done.stdout, "w" * 256)

    def test_curl_reads_a_reply_over_both_families(self):
        self.start_stack("http")
        self.assert_serves()
        self.end_stack()
        self.start_stack("http", address=f"{WEIR6}/64")
        done = self.linux("curl", "-sS", "--max-time", "20", f"http://[{WEIR6}]:{PORT}/")
        self.assertEqual(done.stdout, "w" * 256)
        self.assert_all_gone()

    def test_wrk_and_h2load_see_no_error(self):
        self.start_stack("http")
        done = self.linux("wrk", "-t1", "-c32", "-d2s", URL)
        self.assertNotIn("Socket errors", done.stdout)
        self.assertNotIn("Non-2xx", done.stdout)
        self.assertGreater(int(re.search(r"(\d+) requests in", done.stdout).group(1)), 100)
        done = self.linux("h2load", "--h1", "-n20000", "-c50", "-t1", URL)
        self.assertIn("20000 done, 20000 succeeded, 0 failed, 0 errored, 0 timeout", done.stdout)
        self.assert_all_gone()
        self.end_stack()

    def test_idle_connections_survive_and_answer_afterwards(self):
        self.start_stack("echo")
        report = self.kernel_client("idle", "--peer", f"{WEIR4}:{PORT}", "--connections", 1000,
                                    "--seconds", 3)
        self.assertEqual((report["answered"], report["failures"]), (1000, 0))
        self.assert_all_gone()

    def test_a_shell_like_connection_is_kept_alive_by_its_peers_probes(self):
        self.start_stack("echo", "--request", 1, "--reply", 1)
        with self.inside_linux():
            shell = socket.create_connection((WEIR4, PORT), timeout=10)
        with shell:
            for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1),
                                  (socket.TCP_KEEPCNT, 2)):
                shell.setsockopt(socket.IPPROTO_TCP, option, value)
            shell.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            before = self.counters()["tcp"]["segments_received"]
            time.sleep(4.5)  # two probes without an answer would have ended it
            self.assertGreaterEqual(self.counters()["tcp"]["segments_received"] - before, 3)
            for _ in range(20):
                shell.sendall(b"x")
                self.assertEqual(shell.recv(1), b"w")
        self.assert_all_gone()

    def connect_deaf(self, count):
        """Clients that never read."""
        deaf = []
        with self.inside_linux():
            for _ in range(count):
                client = socket.socket()
                self.addCleanup(client.close)
                deaf.append(client)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.settimeout(10)
                client.connect((WEIR4, PORT))
        return deaf

    def read_some(self, timeout):
        with self.inside_linux(), socket.create_connection((WEIR4, PORT), timeout=timeout) as client:
            read = 0
            while read < 200_000:
                piece = client.recv(65536)
                self.assertTrue(piece, f"the end after {read} bytes")
                read += len(piece)

    def test_clients_that_never_read_do_not_stop_the_others(self):
        self.start_stack("source", "--bytes", 4 << 20, "--pool-mb", 16)
        deaf = self.connect_deaf(400)
        # 16 MiB are 4,096 chunks of 4 KiB, and what is sent may take 3,072.
        wait_until("a pool that they have filled", lambda:
                   self.counters()["tcp"]["buffer_chunks"] > 2500, 20, step=0.3)
        for _ in range(3):
            self.read_some(timeout=10)
        counters = self.counters()["tcp"]
        self.assertGreater(counters["buffer_chunks"], 2500)
        self.assertGreater(counters["writes_short_of_memory"], 0)
        self.assertEqual(counters["evicted_stalled"], 0)
        for client in deaf:
            client.close()
        self.assert_all_gone()
        self.end_stack()

    def test_more_clients_that_never_read_than_there_is_memory_for_give_way(self):
        self.start_stack("source", "--bytes", 4 << 20, "--pool-mb", 16)
        # Of 3,072 chunks the last 512 are given one each; when they are gone, nobody gets his first.
        deaf = self.connect_deaf(900)
        wait_until("a pool that they have emptied", lambda:
                   self.counters()["tcp"]["buffer_chunks"] >= 3072, 20, step=0.3)
        # Six seconds until the first give way, and those who have waited for longer come first.
        for _ in range(3):
            self.read_some(timeout=40)
        self.assertGreater(self.counters()["tcp"]["evicted_stalled"], 0)
        for client in deaf:
            client.close()
        self.assert_all_gone()
        self.end_stack()

    def test_a_port_scanner_sees_open_and_closed_ports_and_leaves_nothing(self):
        self.start_stack("http")
        # What RFC 9293, section 3.10.7, makes of a listener and of no listener. A listener drops what
        # has neither SYN nor ACK.
        silence = r"open\|filtered"
        expected = {
            "-sS": ("open", "closed"), "-sA": ("unfiltered", "unfiltered"), "-sF": (silence, "closed"),
            "-sX": (silence, "closed"), "-sN": (silence, "closed")}
        for scan, (listening, silent) in expected.items():
            done = self.linux("nmap", "-n", "-Pn", scan, "--max-retries", 2, "-p",
                              f"{PORT},{PORT + 1}", WEIR4)
            self.assertRegex(done.stdout, rf"{PORT}/tcp\s+{listening}\s", scan)
            self.assertRegex(done.stdout, rf"{PORT + 1}/tcp\s+{silent}\s", scan)
        done = self.linux("nmap", "-n", "-Pn", "-O", "--max-os-tries", 1, "-p", f"{PORT},{PORT + 1}",
                          WEIR4, timeout=120)
        self.assertIn(f"{PORT}/tcp open", re.sub(r" +", " ", done.stdout))
        self.assert_serves()
        self.assert_all_gone()
        self.end_stack()

    def test_forged_segments_are_counted_and_leave_nothing(self):
        self.start_stack("http")
        for name, words, counter in FORGED:
            with self.subTest(name):
                before = self.counters()
                # It fails where nothing answers, which is right for half of them.
                self.linux("hping3", "-q", "-c", 20, "-i", "u2000", *words,
                           *(["-p", PORT] if "--rawip" not in words else []), WEIR4, check=False)
                after = self.counters()
                self.assertGreaterEqual(after["interface"]["frames_received"] -
                                        before["interface"]["frames_received"], 20)
                if counter:
                    layer, field = counter
                    self.assertGreaterEqual(after[layer][field] - before[layer][field], 15, field)
                self.assert_serves()
        self.assert_all_gone()
        counters = self.end_stack()
        self.assertEqual(counters["port"]["invalid_descriptors"], 0)


if __name__ == "__main__":
    main()
