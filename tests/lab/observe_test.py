"""Watching packets with real traffic: what `weir monitor` shows and writes, and that nothing of it
stays behind."""

import json
import signal
import subprocess
import time

from labcase import *


class Watching(LabCase):

    @classmethod
    def prepare(cls):
        cls.lab.weir("apply", "-f", cls.lab.write_config(l4_config()))
        wait_until("next hops", lambda: cls.lab.weir_json("status")["weir-l4"]["backends_unresolved"] == 0)

    # ---- helpers ------------------------------------------------------------------------------

    def weir_command(self, *arguments):
        return self.lab.command_in("node", BUILD / "tools" / "weir" / "weir", "--l4-socket",
                                   self.lab.l4_socket, "--l7-socket", self.lab.l7_socket, *arguments)

    def watch(self, *arguments):
        """Starts `weir monitor` and returns it once it watches."""
        watcher = subprocess.Popen(self.weir_command("monitor", *arguments),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(self.end, watcher)
        self.assertIn(b"weir: watching", watcher.stderr.readline())
        return watcher

    def end(self, watcher):
        if watcher.poll() is None:
            watcher.kill()
            watcher.wait(10)
        watcher.stdout.close()
        watcher.stderr.close()

    def interrupted(self, watcher):
        """What it has written, once it was told to end."""
        time.sleep(0.4)  # so that events under way arrive
        watcher.send_signal(signal.SIGINT)
        out, err = watcher.communicate(timeout=10)
        self.assertEqual(watcher.returncode, 0, err)
        return out, err.decode()

    def events(self, watcher):
        return [json.loads(line) for line in self.interrupted(watcher)[0].splitlines()]

    def has_ring(self):
        # An element of an outer map can be looked up where a map stands in it.
        done = run("bpftool", "map", "lookup", "pinned", self.lab.pins / "lb" / "maps" / "weir_monitor",
                   "key", "0", "0", "0", "0", check=False)
        return "inner_map_id" in done.stdout or "value" in done.stdout

    def request(self, target=None, **options):
        return self.lab.curl("-o", "/dev/null", target or f"http://{VIP_WEB4}/files/1KiB", **options)

    # ---- tests --------------------------------------------------------------------------------

    def test_a_connection_is_shown_line_by_line(self):
        watcher = self.watch()
        self.request()
        out, err = self.interrupted(watcher)
        lines = out.decode().splitlines()
        syn = [line for line in lines if "TCP [S] length 0" in line]
        self.assertEqual(len(syn), 1, lines)
        self.assertRegex(syn[0], r"^\d\d:\d\d:\d\d\.\d{6} eth0 tx_ipip +web4 b\d  "
                         rf"{NODE4} > 10\.77\.0\.1\d IPIP \| {CLIENT4}:\d+ > {VIP_WEB4}:80 TCP \[S\]")
        self.assertIn("packets shown", err)
        self.assertNotIn("lost", err)

    def test_the_filter_lets_only_what_was_asked_for_through(self):
        watcher = self.watch("--vip", f"{VIP_DNS4}:53/udp", "--json")
        self.request()
        self.lab.run_in("client", "dig", "+short", "+tries=1", "TXT", "who.weir.test", f"@{VIP_DNS4}")
        events = self.events(watcher)
        self.assertEqual([(e["vip_name"], e["verdict"]) for e in events], [("dns4", "tx_ipip")])
        watcher = self.watch("--verdict", "tx_refused,drop", "--json")
        self.request()
        self.request(f"http://{VIP_WEB4}:81/", check=False)
        self.assertEqual({e["verdict"] for e in self.events(watcher)}, {"tx_refused"})
        watcher = self.watch("--source", NODE4, "--json")
        self.request()
        self.assertEqual(self.events(watcher), [])

    def test_it_ends_after_as_many_packets_or_seconds_as_were_asked_for(self):
        watcher = self.watch("--count", "3", "--json")
        self.request()
        out, _ = watcher.communicate(timeout=10)
        self.assertEqual(len(out.splitlines()), 3)
        begun = time.monotonic()
        self.lab.weir("monitor", "--seconds", "1")
        self.assertLess(time.monotonic() - begun, 3)

    def test_wireshark_opens_the_capture_and_shows_the_comments(self):
        file = self.lab.directory / "watch.pcapng"
        watcher = self.watch("--pcap", file)
        self.request()
        self.assertEqual(self.interrupted(watcher)[0], b"")
        fields = run("tshark", "-r", file, "-T", "fields", "-e", "frame.comment", "-e", "ip.dst",
                     "-e", "frame.interface_name", "-Y", "tcp.flags.syn == 1").stdout.strip()
        comment, addresses, device = fields.split("\t")
        self.assertRegex(comment, r"^verdict tx_ipip vip web4 backend b\d$")
        self.assertRegex(addresses, rf"^10\.77\.0\.1\d,{VIP_WEB4}$")
        self.assertEqual(device, "eth0")
        about = run("capinfos", "-t", "-T", "-m", file, check=False)
        self.assertEqual(about.returncode, 0, about.stderr)
        self.assertIn("pcapng", about.stdout)

    def test_a_capture_streams_into_tshark(self):
        writer = subprocess.Popen(self.weir_command("monitor", "--pcap", "-", "--count", "2"),
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(self.end, writer)
        reader = subprocess.Popen(["tshark", "-l", "-r", "-"], stdin=writer.stdout, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.assertIn(b"weir: watching", writer.stderr.readline())
        self.request()
        out, _ = reader.communicate(timeout=20)
        self.assertEqual(len(out.splitlines()), 2, out)
        self.assertIn(VIP_WEB4, out)

    def test_only_one_may_watch_and_a_killed_watcher_leaves_no_ring(self):
        wait_until("earlier watchers to go", lambda: not self.has_ring(), 3)
        watcher = self.watch()
        self.assertTrue(self.has_ring())
        second = self.lab.weir("monitor", check=False)
        self.assertEqual(second.returncode, 1)
        self.assertIn("only one can at a time", second.stderr)
        watcher.kill()
        wait_until("the ring to go", lambda: not self.has_ring(), 3)
        self.watch("--count", "1")

    def test_a_killed_daemon_leaves_no_ring_to_the_next_one(self):
        self.watch()
        self.lab.stop("weir-l4", signal.SIGKILL)
        self.assertTrue(self.has_ring())
        self.lab.start_l4()
        self.assertFalse(self.has_ring())
        self.request()

    def test_the_daemon_ends_at_once_while_somebody_watches(self):
        watcher = self.watch()
        begun = time.monotonic()
        self.assertEqual(self.lab.stop("weir-l4"), 0)
        self.assertLess(time.monotonic() - begun, 3)
        watcher.wait(5)
        self.assertFalse(self.has_ring())
        self.lab.start_l4()

    def test_wrong_wishes_are_refused_by_name(self):
        for wish, complaint in ((["--verdict", "drop_foo"], "no verdict 'drop_foo'"),
                                (["--vip", "203.0.113.1:1/tcp"], "no VIP 203.0.113.1:1/tcp")):
            done = self.lab.weir("monitor", *wish, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(complaint, done.stderr)


if __name__ == "__main__":
    main()
