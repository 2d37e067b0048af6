"""What the tests of our TCP stack against Linux share: a Linux host with kernel sockets, and our stack
(bench/stack_lab's stack_host) on the other end of its veth."""

import json
import os
import re
import signal
import subprocess
import sys
import unittest

from labcase import need_root
import weirlab
from weirlab import run, wait_until

PROGRAMS = weirlab.BUILD / "bench"
LINUX4, WEIR4 = "10.97.0.2", "10.97.0.1"
LINUX6, WEIR6 = "fd97::2", "fd97::1"
PORT = 9000


class StackCase(unittest.TestCase):
    """One veth for all tests of the class; each starts the stack in the role that it wants."""

    @classmethod
    def setUpClass(cls):
        need_root()
        cls.lab = weirlab.Lab(f"weirstack{os.getpid()}")
        cls.addClassCleanup(cls.lab.close)
        cls.lab.remove_leftovers()
        for host in ("linux", "weir"):
            cls.lab.add_host(host)
        cls.join()
        cls.lab.address("linux", LINUX4, LINUX6)
        cls.lab.run_in("linux", "sysctl", "-qw", "net.ipv4.ip_local_port_range=10000 65535",
                       "net.ipv4.tcp_max_tw_buckets=65536")

    @classmethod
    def join(cls):
        cls.lab.cable("linux", "eth0", "weir", "w0", 1500)
        for feature in ("tso", "gso", "gro"):  # what is captured is what is on the cable
            cls.lab.run_in("linux", "ethtool", "-K", "eth0", feature, "off", check=False)
        # The kernel on our end shall not speak there too.
        cls.lab.run_in("weir", "sysctl", "-qw", "net.ipv6.conf.w0.disable_ipv6=1")

    # ---- our stack ----------------------------------------------------------------------------

    def start_stack(self, role, *options, address=f"{WEIR4}/24"):
        log = self.lab.directory / "stack.log"
        log.unlink(missing_ok=True)
        self.lab.start("stack", "weir", PROGRAMS / "stack_host", role, "--device", "w0", "--address",
                       address, "--port", PORT, "--time-wait", 1, *options)
        self.addCleanup(self.lab.stop, "stack")
        wait_until("our stack to listen",
                   lambda: self.lab.alive("stack") and '"ready"' in self.lab.log("stack"), 30)

    def reports(self):
        # The stack may be in the middle of a line.
        whole = self.lab.log("stack").rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines() if line[:1] == "{"]
        return [line for line in lines if line["event"] == "counters"]

    def counters(self):
        """Of the running stack, now."""
        self.lab.alive("stack")
        before = len(self.reports())
        self.lab.processes["stack"].send_signal(signal.SIGUSR1)
        return wait_until("counters", lambda: self.reports()[before:])[-1]

    def assert_all_gone(self, seconds=10):
        """Connections, half-open ones, TIME-WAIT records and buffers go back to zero."""
        names = ("connections", "half_open", "time_wait", "buffer_chunks", "segments_outstanding")
        left = {}

        def is_empty():
            tcp = self.counters()["tcp"]
            left.update({name: tcp[name] for name in names})
            return not any(left.values())

        try:
            wait_until("everything to be let go", is_empty, seconds, step=0.3)
        except weirlab.LabError:
            self.fail(f"left after {seconds} s: {left}")

    def end_stack(self):
        """The final counters; a crash is a failure here."""
        self.assertEqual(self.lab.stop("stack"), 0, self.lab.log("stack")[-2000:])
        return self.reports()[-1]

    # ---- Linux --------------------------------------------------------------------------------

    def linux(self, *command, **options):
        return self.lab.run_in("linux", *command, **options)

    def inside_linux(self):
        return self.lab.inside("linux")

    def start_linux_server(self, role, port, *options):
        name = f"linux-{role}"
        self.lab.start(name, "linux", PROGRAMS / "kernel_peer", role, "--address", LINUX4, "--port",
                       port, "--json", *options)
        self.addCleanup(self.lab.stop, name)
        wait_until(f"{name} to listen",
                   lambda: self.lab.alive(name) and '"ready"' in self.lab.log(name), 10)

    def kernel_client(self, role, *options, timeout=60):
        done = self.linux(PROGRAMS / "kernel_peer", role, "--json", *options, timeout=timeout)
        return next(event for event in map(json.loads, done.stdout.splitlines())
                    if event["event"] == "report")

    # ---- what was on the cable ----------------------------------------------------------------

    def start_capture(self):
        path = self.lab.directory / "cable.pcap"
        path.unlink(missing_ok=True)
        self.lab.start("capture", "linux", "tcpdump", "-i", "eth0", "-U", "-B", 65536, "-w", path)
        self.addCleanup(self.lab.stop, "capture")
        wait_until("the capture", lambda: "listening on" in self.lab.log("capture"))
        return path

    def end_capture(self):
        """Ends it; a capture that has missed packets proves nothing."""
        self.lab.stop("capture", signal.SIGINT)
        dropped = re.search(r"(\d+) packets dropped by kernel", self.lab.log("capture"))
        if dropped and int(dropped.group(1)) > 0:
            self.skipTest(f"the capture itself lost {dropped.group(1)} packets")

    @staticmethod
    def tshark(path, condition, *fields):
        words = [word for field in fields for word in ("-e", field)]
        # Random bytes are no protocol, whatever somebody else has on these ports.
        for port in (PORT, 7000):
            words += ["-d", f"tcp.port=={port},data"]
        done = run("tshark", "-r", path, "-o", "tcp.check_checksum:TRUE", "-Y", condition, "-T",
                   "fields", *words, timeout=120)
        return [line.split("\t") for line in done.stdout.splitlines()]


def skip_all(reason):
    print(f"SKIPPED: {reason}")
    sys.exit(0)
