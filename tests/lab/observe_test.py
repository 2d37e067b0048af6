"""Looking at packets: what `weir monitor` shows of real traffic, that nothing of it stays behind;
what `weir trace` says of packets of every kind, and that it changes nothing."""

import hashlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time

from labcase import *


VIP_GUARDED, VIP_EMPTY, VIP_SILENT, VIP_STICKY = (f"203.0.113.{n}" for n in (101, 102, 103, 104))
EXTRA = f"""
- {{name: guarded, address: {VIP_GUARDED}, port: 80, protocol: TCP, forward: {{mode: ipip}}, sources: {{deny: [198.51.100.0/24]}}, limits: {{packetsPerSource: 2/s}}, backends: [{{name: b1, address: {weirlab.backend4("b1")}}}]}}
- {{name: empty, address: {VIP_EMPTY}, port: 80, protocol: TCP, forward: {{mode: ipip}}, backends: []}}
- {{name: silent, address: {VIP_SILENT}, port: 80, protocol: TCP, forward: {{mode: ipip}}, whenEmpty: drop, backends: []}}
- {{name: sticky, address: {VIP_STICKY}, port: any, protocol: TCP, forward: {{mode: gue}}, affinity: {{clientIP: {{timeout: 1h}}}}, backends: [{{name: b1, address: {weirlab.backend4("b1")}}}, {{name: b2, address: {weirlab.backend4("b2")}}}]}}
"""
SOURCE = "192.0.2.7"


def frame(destination, payload, protocol=6, source=SOURCE, ttl=64, fragment=0, number=7):
    """A frame with an IPv4 header without checksum, which the balancer does not look at."""
    return b"\2\0\0\0\0\1\2\0\0\0\0\2\x08\0" + struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), number, fragment, ttl, protocol, 0,
        socket.inet_aton(source), socket.inet_aton(destination)) + payload


def tcp(port=80, flags=0x02, source_port=4711, data=b""):
    return struct.pack(">HHIIBBHHH", source_port, port, 1, 1, 0x50, flags, 65535, 0, 0) + data


def capture(frames):
    """A pcap file."""
    return struct.pack("<IHHIIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1) + b"".join(
        struct.pack("<IIII", 0, 0, len(f), len(f)) + f for f in frames)


class Observation(LabCase):

    @classmethod
    def prepare(cls):
        cls.lab.weir("apply", "-f", cls.lab.write_config(l4_config(EXTRA)))
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
        writer = subprocess.Popen(self.weir_command("monitor", "--pcap", "-", "--count", "2",
                                                    "--vip", f"{VIP_WEB4}:80/tcp"),
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

    # ---- trace ----------------------------------------------------------------------------------

    def trace(self, *arguments):
        """The one packet that was asked about."""
        return json.loads(self.lab.weir("trace", *arguments, "--json").stdout)["packets"][0]

    def trace_all(self, frames):
        file = self.lab.directory / "trace.pcap"
        file.write_bytes(capture(frames))
        return json.loads(self.lab.weir("trace", "--pcap", file, "--json").stdout)["packets"]

    def assert_ends(self, packet, verdict, *reasons):
        text = "\n".join(f"{s['step']}: {s['text']}" for s in packet["steps"])
        self.assertEqual(packet["verdict"], verdict, text)
        for reason in reasons:
            self.assertRegex(text, reason)
        self.assertTrue(packet["steps"][-1]["text"].startswith(verdict), text)

    def kernel_state(self):
        """Everything that a packet leaves behind."""
        names = ("weir_flows", "weir_fragments", "weir_vip_limits", "weir_answers", "weir_counters",
                 "weir_flow_counters")
        dumps = [run("bpftool", "map", "dump", "pinned", self.lab.pins / "lb" / "maps" / name).stdout
                 for name in names]
        return [sha256_text(dump) for dump in dumps]

    def test_a_new_flow_is_traced_to_its_backend(self):
        packet = self.trace("--tcp", SOURCE, f"{VIP_WEB4}:80")
        self.assert_ends(packet, "tx_ipip", f"^parsed: {SOURCE}:40000 > {VIP_WEB4}:80 TCP; sound",
                         "flow: not in the flow table", "service: web4 .*by address and port",
                         r"table: hashed by fiveTuple: slot \d+", r"table: the slot leads to b\d",
                         r"backend: b\d \(10.77.0.1\d\), by eth0 to [0-9a-f:]{17}, MTU 1600",
                         "mtu: 40 bytes and 20 of outer headers; 1600 fit")
        self.assertRegex(packet["out"], rf"^{NODE4} > 10.77.0.1\d IPIP \| {SOURCE}:40000 > ")
        self.assertEqual(packet["frame_bytes"], 74)

    def test_what_is_traced_is_what_happens(self):
        for port in range(20001, 20011):
            packet = self.trace("--tcp", f"{CLIENT4}:{port}", f"{VIP_WEB4}:80")
            told = re.search(r"leads to (b\d)", str(packet["steps"])).group(1)
            head = self.lab.curl("--local-port", port, "-o", "/dev/null", "-D", "-",
                                 f"http://{VIP_WEB4}/files/1KiB").stdout
            self.assertIn(f"x-backend: {told}", head)
            known = self.trace("--tcp", f"{CLIENT4}:{port}", f"{VIP_WEB4}:80", "--ack")
            self.assert_ends(known, "tx_ipip", rf"flow: in the flow table: {told} .*, closing, idle",
                             "service: web4 .*by the flow's backend")
            if port > 20003:
                break

    def test_every_kind_of_end_has_its_reason(self):
        v4 = VIP_WEB4
        cases = [
            (frame(VIP_L2, tcp()), "tx_l2", ["service: direct", "mtu: 40 bytes; 1600 fit"]),
            (frame("10.9.9.9", tcp()), "pass_not_a_vip", ["filter: the destination is no service's"]),
            (frame(v4, tcp(81)), "tx_refused", ["address: the destination is a VIP's",
                                                "service: none takes it", "decided: drop_unknown_port",
                                                r"limits: \d+ a second: there is room"]),
            (frame(v4, tcp(), ttl=1), "tx_ttl_exceeded", ["decided: drop_ttl"]),
            (frame(v4, tcp(data=bytes(1580)), fragment=0x4000), "tx_too_big",
             ["1620 bytes and 20 of outer headers; 1600 fit", "decided: drop_too_big"]),
            (frame(v4, tcp(data=bytes(1580))), "drop_too_big", []),
            (frame(v4, tcp()[:10]), "drop_truncated", ["for a service it would end as drop_truncated"]),
            (frame(v4, b"\x08\0" + bytes(6), protocol=1), "tx_echo_reply", []),
            (frame(v4, bytes(64), fragment=100), "drop_fragment", []),
            (frame(v4, bytes(8), protocol=47), "pass_no_ports", []),
            (frame(VIP_EMPTY, tcp()), "tx_refused", ["table: the slot leads to none",
                                                     "decided: drop_no_backend"]),
            (frame(VIP_SILENT, tcp()), "drop_no_backend", ["service: silent"]),
            (frame(VIP_GUARDED, tcp(), source="198.51.100.9"), "drop_source",
             ["lists: the service's list: the source is denied by 198.51.100.0/24"]),
            (frame(VIP_STICKY, tcp(999)), "tx_gue", ["service: sticky .*by a range of ports",
                                                     "hashed by sourceIP"]),
            (b"\2\0\0\0\0\1\2\0\0\0\0\2\x88\xcc" + bytes(46), "pass_not_ip", ["nothing that could be"]),
        ]
        for (wire, verdict, reasons), packet in zip(cases, self.trace_all([c[0] for c in cases])):
            with self.subTest(verdict):
                self.assert_ends(packet, verdict, *reasons)

    def test_packets_of_a_capture_build_on_those_before(self):
        first = frame(VIP_WEB4, tcp(data=bytes(12)), fragment=0x2000, number=99)
        later = frame(VIP_WEB4, bytes(100), fragment=4, number=99)
        quoted = frame(SOURCE, tcp(4711, source_port=80, flags=0x12), source=VIP_WEB4)[14:42]
        error = frame(VIP_WEB4, struct.pack(">BBHHH", 3, 4, 0, 0, 1400) + quoted, protocol=1,
                      source="192.0.2.99")
        packets = self.trace_all([first, later, frame(VIP_WEB4, tcp(flags=0x10)), error])
        backend = re.search(r"kept for (b\d)", str(packets[0]["steps"])).group(1)
        self.assert_ends(packets[1], "tx_ipip", "fragment: a later fragment.*:4711 >",
                         f"flow: in the flow table: {backend}")
        self.assert_ends(packets[2], "tx_ipip", f"flow: in the flow table: {backend}")
        self.assert_ends(packets[3], "tx_ipip", f"icmp: an error about the flow {SOURCE}:4711",
                         f"backend: {backend}")

    def test_a_rate_that_is_used_up_is_told_from_one_that_is_not(self):
        packets = self.trace_all([frame(VIP_GUARDED, tcp(source_port=n)) for n in (1, 2, 3)])
        self.assertEqual([p["verdict"] for p in packets], ["tx_ipip", "tx_ipip", "drop_source_rate"])
        self.assert_ends(packets[2], "drop_source_rate", "limits: 2 a second: used up",
                         "allowed as no rule covers it")
        again = self.trace("--tcp", SOURCE, f"{VIP_GUARDED}:80")
        self.assert_ends(again, "tx_ipip", "limits: 2 a second: there is room")

    def test_tracing_changes_neither_the_flow_table_nor_any_counter(self):
        self.request()
        for _ in range(10):  # neighbours ask for each other now and then, which is counted as well
            received, before = self.packets_received(), self.kernel_state()
            self.trace("--tcp", f"{SOURCE}:1", f"{VIP_WEB4}:80")
            self.trace("--tcp", f"{SOURCE}:1", f"{VIP_WEB4}:81")
            self.trace_all([frame(VIP_WEB4, tcp(data=bytes(12)), fragment=0x2000),
                            frame(VIP_GUARDED, tcp()), frame(VIP_STICKY, tcp())])
            after = self.kernel_state()
            if self.packets_received() == received:
                self.assertEqual(after, before)
                return
        self.fail("packets came in during every one of ten attempts")

    def packets_received(self):
        links = json.loads(self.lab.run_in("node", "ip", "-s", "-j", "link", "show").stdout)
        return {link["ifname"]: link["stats64"]["rx"]["packets"] for link in links}

    def test_wrong_packets_are_refused_with_the_reason(self):
        cut = self.lab.directory / "cut.pcap"
        cut.write_bytes(capture([frame(VIP_WEB4, tcp())])[:-1])
        for arguments, complaint in ((["--pcap", cut], "cut.pcap ends at byte 93, amid a packet"),
                                     (["--packet", "00" * 3401], "packet 1 has 3401 bytes"),
                                     (["--tcp", SOURCE, f"{VIP_WEB4}:80", "--device", "lo"],
                                      "the balancer is not on device 'lo'; it is on eth0")):
            done = self.lab.weir("trace", *arguments, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(complaint, done.stderr)


def sha256_text(text):
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    main()
